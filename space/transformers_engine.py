"""transformers on a GPU or a CPU: the adapter merged into its base, and one worker that writes all replies."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

import engine
from base_model import best_dtype, cores, resolve
from batching import Worker
from gguf_model import ends_of, revision_of
from prompts import decode, encode


START = 10  # seconds until the first token on a lent GPU, by guess
SLOW = 10  # tokens a second there, by guess


class TransformersEngine:
    """Raises what `from_pretrained` raises when the model cannot be loaded."""

    def __init__(self, base: str, adapter: Path | None, settings, description: str = ""):
        self.description = description
        self.model = load(base, adapter, settings)
        tokenizer = AutoTokenizer.from_pretrained(
            adapter or resolve(base), revision=revision_of(adapter, settings.revision)
        )
        self.tokenizer = tokenizer.backend_tokenizer
        render = partial(tokenizer.apply_chat_template, add_generation_prompt=True, tokenize=False)
        self.prompt = partial(encode, render=render, tokenizer=self.tokenizer)
        self.window = self.model.config.get_text_config().max_position_embeddings
        ends = ends_of(tokenizer.eos_token_id, self.model.generation_config.eos_token_id)
        start = partial(Worker, self.model, engine.SAMPLING, ends, settings.people, engine.SILENCE)
        if engine.ZERO_GPU:
            self.tokens = lent(start)
        else:
            self.tokens = start().tokens
            list(self.stream([{"role": "user", "content": "Hello."}]))  # the first reply of a process is the slowest

    def stream(self, messages: list[dict]) -> Iterator[str]:
        """Yield pieces; raises what broke this reply, or `queue.Empty` after `SILENCE` seconds of nothing."""
        limit = engine.MAX_NEW_TOKENS
        prompt = self.prompt(messages, window=self.window - limit)
        yield from decode(self.tokens(prompt, limit), self.tokenizer)


def load(base: str, adapter: Path | None, settings):
    """Return the model, ready to answer; in four bits its adapter stays beside it, since merging would round it away."""
    dtype = best_dtype()
    four_bit = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    model = AutoModelForCausalLM.from_pretrained(
        resolve(base),
        dtype=dtype,
        use_safetensors=True,  # nothing pickled is ever loaded; a base with nothing else is refused
        revision=revision_of(adapter, settings.revision),
        quantization_config=four_bit if settings.four_bit else None,
    )
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter)
        model = model if settings.four_bit else model.merge_and_unload()  # unmerged, it costs a third of the speed
    if torch.cuda.is_available():
        return (model if settings.four_bit else model.to("cuda")).eval()
    torch.set_num_threads(min(torch.get_num_threads(), cores()))
    return model.eval()


def lent(start):
    """Return what writes a reply on a GPU that is lent for it; written by ZeroGPU's documentation and package, never run there.

    Each call runs in a process of its own, in which no worker lives on: replies are not batched. Raises `NoTimeLeft` where
    the visitor's share is used up, or no GPU came free.
    """
    import gradio
    import spaces

    @spaces.GPU(duration=seconds_asked)
    def tokens(prompt: list[int], limit: int) -> Iterator[int]:
        yield from start().tokens(prompt, limit)

    def if_lent(prompt: list[int], limit: int) -> Iterator[int]:
        try:
            yield from tokens(prompt, limit)
        except gradio.Error as refusal:
            if not re.search("quota|credits|queue", refusal.title):
                raise
            raise engine.NoTimeLeft(refusal.title) from refusal

    return if_lent


def seconds_asked(prompt: list[int], limit: int) -> int:
    """Seconds of a GPU for one reply: a visitor who has fewer left gets none, so no more than a slow reply takes."""
    return START + limit // SLOW
