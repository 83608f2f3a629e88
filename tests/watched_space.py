"""A Space that tells what it remembers: on SIGUSR1 it writes to a file which marked words its objects still hold, and where.

For tests only. Its engine repeats what it is told, its limits of time are short, WATCHED_FLOOD makes a flood of less; the rest is
the real Space.
"""

import gc
import json
import os
import re
import signal
import sys
from collections import Counter
from concurrent.futures import Future
from pathlib import Path


SPACE = Path(__file__).parents[1] / "space"
sys.path.insert(0, str(SPACE))

import app  # noqa: E402 - after the path above, as the Space itself would find it
import engine  # noqa: E402
import guard  # noqa: E402
import hardening  # noqa: E402
import settings  # noqa: E402


MARKED = re.compile(r"marker-\d+-[0-9a-f]{8}")
REPORT = Path(os.environ.get("WATCHED_REPORT", "watched.json"))


class Repeating:
    description = "repeats"

    def stream(self, messages):
        yield "You wrote: "
        yield f"{messages[-1]['content']}. "
        if "break" in messages[-1]["content"]:
            raise ValueError(messages[-1]["content"])
        yield "Thank you."


def marks_in(thing) -> set[str]:
    """The marks in a string, bytes, or in what the garbage collector does not watch because it holds only such."""
    if isinstance(thing, str):
        return set(MARKED.findall(thing))
    if isinstance(thing, bytes | bytearray):
        return set(MARKED.findall(thing.decode("utf-8", "ignore")))
    if isinstance(thing, dict | tuple) and not gc.is_tracked(thing):
        return set().union(*map(marks_in, gc.get_referents(thing)))
    return set()


def remembered() -> dict:
    """How many different marks the process's objects hold, and what kinds of objects hold them."""
    gc.collect()
    found, holders = set(), Counter()
    for thing in gc.get_objects():
        if marks := set().union(*map(marks_in, gc.get_referents(thing))):
            found |= marks
            holders[f"{type(thing).__module__}.{type(thing).__qualname__}"] += 1
    return {"marks": len(found), "holders": holders.most_common(20)}


def report(*_) -> None:
    whole = REPORT.with_suffix(".part")
    whole.write_text(json.dumps(remembered()), encoding="utf-8")
    whole.rename(REPORT)


def main() -> None:
    signal.signal(signal.SIGUSR1, report)
    hardening.FORGET_AFTER, hardening.SWEEP_EVERY, guard.BODY_SECONDS = 2.0, 0.5, 1.0
    guard.FLOOD = int(os.environ.get("WATCHED_FLOOD", guard.FLOOD))
    loading = Future()
    loading.set_result(engine.Loaded(Repeating()))
    app.serve(loading, settings.read())


if __name__ == "__main__":
    main()
