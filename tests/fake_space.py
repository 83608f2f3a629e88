"""A Space with an engine made of words instead of a model: the page, the queue and the screening are the real ones.

The message decides what the engine does: "slowly" one word every 0.2 s, "break" an exception that quotes the message,
"out of memory" a MemoryError, "hang" nothing for two minutes, "echo" a reply that quotes the message, "story" a reply that is
heavy to read. With FAKE_LOADING it is being loaded for ever.
"""

import os
import sys
import time
from concurrent.futures import Future
from pathlib import Path


SPACE = Path(os.environ.get("FAKE_SPACE") or Path(__file__).parents[1] / "space")  # or a damaged copy of it
sys.path.insert(0, str(SPACE))

import app  # noqa: E402 - after the path above, as the Space itself would find it
import engine  # noqa: E402
import settings  # noqa: E402


class WordEngine:
    description = "words, no model"

    def stream(self, messages):
        message = messages[-1]["content"]
        try:
            for number in range(40):
                if "break" in message and number == 6:
                    raise RuntimeError(f"cannot answer {message}")
                if "out of memory" in message:
                    raise MemoryError
                time.sleep(120 if "hang" in message.split() else 0.2 if "slowly" in message else 0.01)
                sys.stdout.write(f"word {number}\n")
                sys.stdout.flush()
                beginning = "He was murdered in the harbour. " if "story" in message else "I am listening. "
                if "echo" in message:
                    beginning = f"You wrote: {message}. "
                yield beginning if number == 0 else f"word{number} "
        finally:
            sys.stdout.write("closed\n")
            sys.stdout.flush()


if __name__ == "__main__":
    loading = Future()
    if not os.environ.get("FAKE_LOADING"):
        loading.set_result(engine.Loaded(WordEngine()))
    app.serve(loading, settings.read())
