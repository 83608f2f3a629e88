"""Where replies come from: transformers with the adapter merged into its base, one reply at a time."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from base_model import EMBEDDED, BaseUnavailable, best_dtype, resolve


MAX_NEW_TOKENS = 160  # about 120 words: replies are meant to be short
SAMPLING = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.1}
SILENCE = 30.0  # seconds without a new piece after which a reply counts as failed


class Engine(Protocol):
    """Yields pieces of a reply to a conversation; closing the iterator stops the work within one token."""

    description: str

    def stream(self, messages: list[dict]) -> Iterator[str]: ...


class Loaded(NamedTuple):
    """What came of loading: an engine, or the sentence that says what is missing."""

    engine: Engine | None
    reason: str = ""


def load(adapter: str = "", base: str = "") -> Loaded:
    """Load the engine for an adapter (folder or Hub id), or for a base alone; never raises.

    The reason is written for the page: it names what is missing, never where on this machine it was looked for.
    """
    try:
        return Loaded(TransformersEngine(adapter, base))
    except BaseUnavailable as problem:
        return Loaded(None, str(problem))
    except Exception as problem:  # whatever breaks, the page must open and show where help is
        return Loaded(None, f"the model could not be loaded ({type(problem).__name__})")


def base_of(adapter: str, base: str) -> str:
    """Return the base an adapter needs; raises `BaseUnavailable` when it has none or `base` names another one."""
    from peft import PeftConfig

    if not adapter:
        return base or EMBEDDED
    try:
        needed = PeftConfig.from_pretrained(adapter).base_model_name_or_path
    except (ValueError, OSError) as error:
        name = Path(adapter).name
        raise BaseUnavailable(f"there is no adapter named {name} here; check THERAGEN_ADAPTER") from error
    if base and base != needed:
        raise BaseUnavailable(f"the adapter was trained on {needed}, not on {base}; leave THERAGEN_BASE empty")
    return needed


class TransformersEngine:
    """`generate` in one worker thread; a second person waits for the first one's reply to end."""

    def __init__(self, adapter: str = "", base: str = ""):
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        name = base_of(adapter, base)
        folder = resolve(name)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=best_dtype())
        if adapter:  # merged: an unmerged adapter costs a third of the speed
            model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
        self.model = model.to(device).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(adapter or folder)
        tiny = "; a very small demonstration model, which often makes no sense" if name == EMBEDDED else ""
        self.description = f"{name.split('/')[-1]}{' with adapter' if adapter else ', no adapter'}{tiny}"
        self._one_at_a_time = threading.Lock()

    def stream(self, messages: list[dict]) -> Iterator[str]:
        """Yield decoded pieces; raises what `generate` raised, or `queue.Empty` after `SILENCE` seconds of nothing."""
        from transformers import StoppingCriteriaList, TextIteratorStreamer

        with self._one_at_a_time:
            stop, failure = threading.Event(), []
            streamer = TextIteratorStreamer(
                self.tokenizer, skip_prompt=True, timeout=SILENCE, skip_special_tokens=True
            )
            prompt = self.tokenizer.apply_chat_template(
                self.within_window(messages), add_generation_prompt=True, return_tensors="pt", return_dict=True
            ).to(self.model.device)

            def work():
                try:
                    self.model.generate(
                        **prompt,
                        streamer=streamer,
                        max_new_tokens=MAX_NEW_TOKENS,
                        **SAMPLING,
                        stopping_criteria=StoppingCriteriaList([stops_when(stop)]),
                    )
                except Exception as error:  # an exception in a thread is lost otherwise, and the reader waits in vain
                    failure.append(error)
                    streamer.end()

            worker = threading.Thread(target=work, daemon=True)
            worker.start()
            try:
                yield from streamer
            finally:
                stop.set()
                worker.join()
            if failure:
                raise failure[0]

    def within_window(self, messages: list[dict]) -> list[dict]:
        """Drop whole old turns, oldest first, until prompt and reply fit; a system message is never dropped."""
        window = self.model.config.max_position_embeddings - MAX_NEW_TOKENS
        system = [message for message in messages if message["role"] == "system"]
        turns = [message for message in messages if message["role"] != "system"]
        while len(turns) > 1 and self.count(system + turns) > window:
            turns = turns[2:]
        return system + turns

    def count(self, messages: list[dict]) -> int:
        rendered = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return len(self.tokenizer(rendered, add_special_tokens=False)["input_ids"])


def stops_when(event: threading.Event):
    """Return a stopping criterion that is met once the event is set."""
    import torch

    def stopped(input_ids, scores, **_):
        return torch.full((input_ids.shape[0],), event.is_set(), device=input_ids.device, dtype=torch.bool)

    return stopped
