"""What readers yield, what cleaning steps take and give back, and the one error a build ends with."""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class BadInput(Exception):
    """A build cannot go on; the message is one sentence for the person who started it."""


def run(main: Callable[..., None], *arguments: object, extra: str = "") -> None:
    """Run a script's main: what it cannot go on without is one sentence on stderr and exit code 2.

    A missing library counts as such where `extra` names the extra of the project that installs it.
    """
    try:
        main(*arguments)
    except BadInput as problem:
        sentence = str(problem)
    except OSError as problem:  # a full disk, a folder that nobody may write to
        sentence = f"{problem.filename or 'A file'} could not be read or written: {problem.strerror or type(problem).__name__}."
    except ImportError as problem:
        if not extra:
            raise
        sentence = f"{problem.name} is not installed: pip install -e '.[{extra}]'"
    else:
        return
    sys.stderr.write(f"{sentence}\n")
    sys.exit(2)


class Row(NamedTuple):
    """One conversation on its way into the corpus; `where` names the file and line or row it came from."""

    source: str
    where: str
    messages: list[dict]
    topic: str | None = None
    group: str = ""
    author: str = ""  # who wrote the replies, so that the name can be taken out of them; never written anywhere


class Reject(NamedTuple):
    """One thing that was read and left out; `reason` is plain words, counted in the report."""

    source: str
    where: str
    reason: str
    text: str


class Post(NamedTuple):
    """A person's own words with no supportive reply: for screening tests and prompts, never trained on, never published."""

    source: str
    where: str
    text: str
    label: str | None = None


def file_of(where: str) -> str:
    return where.rsplit(":", 1)[0].rsplit("/", 1)[-1]


def words_of(row: Row) -> int:
    return sum(len(message["content"].split()) for message in row.messages)


def text_of(row: Row) -> str:
    return joined(row.messages)


def joined(messages: list[dict]) -> str:
    return "\n".join(message["content"] for message in messages)


def sha256_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def question_and_answer(question: str, answer: str) -> list[dict]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
