"""OpenVINO on a CPU, in a process of its own: its steps hold Python's lock, and help must not wait for them.

python space/openvino_engine.py     that process; it reads and writes lines of JSON and ends with its input

Many replies are written at once (continuous batching), and a later turn reads only what is new in it (prefix caching).
"""

import json
import math
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue

import engine
from engine import TooLong
from prompts import encode


FEWEST = 2  # threads: with one, OpenVINO 2026.4.1 divides by zero on CPUs that have AMX, and its process ends
LOADING = 600.0  # seconds for the model to load; while a process starts anew, everybody waits for it
WARM = 3  # tokens: the first two take longer than the next

# Importing openvino sends an event to its vendor, unasked. Where this module is missing it takes a stub of its own.
sys.modules["openvino_telemetry"] = None


class OpenVINOFailed(Exception):
    """Says what went wrong in our words alone."""


class OpenVINOEngine:
    """Asks the process for replies, and starts another one when it has died."""

    def __init__(self, folder: Path, description: str, people: int, threads: int):
        self.description = description
        self.order = {"folder": str(folder), "people": people, "threads": threads}
        self.order |= {"limit": engine.MAX_NEW_TOKENS, "sampling": {**engine.SAMPLING, "top_k": engine.TOP_K}}
        self.numbers, self.lock = count(), threading.Lock()
        self.process, self.replies = self.start()

    def start(self) -> tuple[subprocess.Popen, dict[int, SimpleQueue]]:
        """Return a process that has loaded the model, and where its replies go; raises `OpenVINOFailed` when it cannot."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "encoding": "utf-8"}
        # Nobody can promise what libraries write to the other output, so nobody reads it.
        process = subprocess.Popen([sys.executable, __file__], stderr=subprocess.DEVNULL, **pipes)
        send(process.stdin, self.order)
        giving_up = threading.Timer(LOADING, process.kill)
        giving_up.daemon = True  # or a Space that is told to end would wait for it
        giving_up.start()
        loaded = json.loads(process.stdout.readline() or '{"failed": "process ended"}')
        giving_up.cancel()
        if "failed" in loaded:
            process.kill()
            process.wait()
            raise OpenVINOFailed(f"OpenVINO could not load the model ({loaded['failed']}).")
        replies: dict[int, SimpleQueue] = {}
        threading.Thread(target=self.listen, args=(process, replies), name="openvino", daemon=True).start()
        return process, replies

    def stream(self, messages: list[dict]) -> Iterator[str]:
        """Yield pieces; raises `OpenVINOFailed`, or `queue.Empty` after `SILENCE` seconds of nothing."""
        number, pieces = next(self.numbers), SimpleQueue()
        try:
            self.ask(number, messages, pieces)
            while (piece := pieces.get(timeout=engine.SILENCE)) is not None:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            self.stop(number)

    def ask(self, number: int, messages: list[dict], pieces: SimpleQueue) -> None:
        with self.lock:
            if self.process.poll() is not None:
                self.process, self.replies = self.start()
            self.replies[number] = pieces
            send(self.process.stdin, {"number": number, "messages": messages})

    def stop(self, number: int) -> None:
        """Tell the process, also when the reply is complete: until the next line comes, it holds the last one, with what was said."""
        with self.lock, suppress(OSError):  # it has ended, and with it the reply
            self.replies.pop(number, None)
            send(self.process.stdin, {"number": number})

    def listen(self, process: subprocess.Popen, replies: dict[int, SimpleQueue]) -> None:
        """Hand every piece to whom it belongs; replies that are not over when the process ends have failed."""
        for line in process.stdout:
            said = json.loads(line)
            pieces = replies.get(said["number"]) or SimpleQueue()  # nobody's, where it was stopped meanwhile
            if "piece" in said:
                pieces.put(said["piece"])
            else:
                replies.pop(said["number"], None)
                pieces.put(failure(said["failed"]) if "failed" in said else None)
        process.wait()
        with self.lock:
            for pieces in replies.values():
                pieces.put(OpenVINOFailed("OpenVINO's process has ended."))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def failure(kind: str) -> Exception:
    return TooLong() if kind == TooLong.__name__ else OpenVINOFailed(f"OpenVINO failed ({kind}).")


def send(pipe, message: dict) -> None:
    pipe.write(json.dumps(message) + "\n")
    pipe.flush()


class Model:
    """The process's side: a pipeline and the replies that it is writing."""

    def __init__(self, folder: Path, limit: int, sampling: dict, people: int, threads: int):
        from tokenizers import Tokenizer

        self.pipeline = pipeline_of(folder / "model.gguf", people, threads)
        # OpenVINO's own cuts some texts otherwise than what the model was trained on.
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
        render = partial(template_of(template).render, add_generation_prompt=True, **facts["tokens"])
        self.prompt = partial(
            encode,
            render=lambda messages: render(messages=messages),
            tokenizer=self.tokenizer,
            window=facts["window"] - limit,
        )
        ends = {"eos_token_id": facts["ends"][0], "stop_token_ids": set(facts["ends"])}
        self.config = {"max_new_tokens": limit, **ends, **sampling}
        self.writing: dict[int, tuple] = {}

    def begin(self, number: int, messages: list[dict]) -> None:
        import numpy as np
        from openvino import Tensor
        from openvino_genai import GenerationConfig
        from tokenizers.decoders import DecodeStream

        ids = Tensor(np.array([self.prompt(messages)]))
        seed = random.getrandbits(32)  # it is 0 otherwise, and everybody would draw the same words
        config = GenerationConfig(**self.config, rng_seed=seed)
        self.writing[number] = self.pipeline.add_request(number, ids, config), DecodeStream(skip_special_tokens=True)

    def stop(self, number: int) -> None:
        if number in self.writing:
            self.writing.pop(number)[0].cancel()
            self.pipeline.step()  # takes it off, also when nobody else is there

    def step(self) -> Iterator[dict]:
        """Give everybody a token and yield what is to be told."""
        from openvino_genai import GenerationStatus

        self.pipeline.step()
        for number, (handle, text) in list(self.writing.items()):
            while handle.can_read():
                tokens = [token for output in handle.read().values() for token in output.generated_ids]
                yield {"number": number, "piece": "".join(text.step(self.tokenizer, token) or "" for token in tokens)}
            status = handle.get_status()
            if status != GenerationStatus.RUNNING:
                del self.writing[number]
                failed = {} if status == GenerationStatus.FINISHED else {"failed": "no memory left for it"}
                yield {"number": number, **failed}


def template_of(text: str):
    """Return a chat template as transformers reads it; importing that would load torch, and OpenVINO's reads Llama 2's not."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    ).from_string(text)


def pipeline_of(file: Path, people: int, threads: int):
    """Load a GGUF; its cache takes as many whole gigabytes as the weights do, then the oldest text is forgotten.

    The tokenizer is an empty one, since ours is used: making OpenVINO's took longer than all the rest.
    """
    from openvino_genai import ContinuousBatchingPipeline, SchedulerConfig, Tokenizer

    scheduler = SchedulerConfig()
    scheduler.enable_prefix_caching = True
    scheduler.cache_size = math.ceil(file.stat().st_size / 1e9)
    scheduler.max_num_seqs = people
    return ContinuousBatchingPipeline(
        file, Tokenizer(file.parent), scheduler, "CPU", INFERENCE_NUM_THREADS=max(FEWEST, threads)
    )


def serve(model: Model, asked: SimpleQueue, say: Callable[[dict], None]) -> None:
    """Answer until the input ends; what breaks one reply is told to that person alone."""
    while True:
        for message in arrived(asked, wait=not model.writing):
            if message is None:
                return
            try:
                model.begin(**message) if "messages" in message else model.stop(**message)
            except Exception as error:
                say({"number": message["number"], "failed": type(error).__name__})
        if model.writing:
            for told in model.step():
                say(told)


def arrived(asked: SimpleQueue, wait: bool) -> Iterator[dict | None]:
    """Yield what was asked meanwhile; waits for it where there is nothing else to do."""
    with suppress(Empty):
        yield asked.get(block=wait)
        while True:
            yield asked.get_nowait()


def warmed_up(model: Model) -> Model:
    """Return a model whose first reply is as fast as the next; it also shows that template and weights can be read."""
    model.begin(0, [{"role": "user", "content": "Hello."}])
    for _ in range(WARM):
        list(model.step())
    model.stop(0)
    return model


def read_lines(asked: SimpleQueue) -> None:
    for line in sys.stdin:
        asked.put(json.loads(line))
    asked.put(None)


def main() -> None:
    say = partial(send, os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)  # so that nothing a library prints is taken for an answer
    try:
        order = json.loads(sys.stdin.readline())
        model = warmed_up(Model(**{**order, "folder": Path(order["folder"])}))
    except Exception as error:
        say({"failed": type(error).__name__})
        return
    say({"loaded": True})
    asked: SimpleQueue = SimpleQueue()
    threading.Thread(target=read_lines, args=(asked,), daemon=True).start()
    serve(model, asked, say)


if __name__ == "__main__":
    main()
