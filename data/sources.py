"""Where a source's files are, and the readers of conversations: our dialogues, counsel-chat, ESConv."""

import csv
from collections.abc import Iterator
from pathlib import Path

from httpx2 import HTTPError
from huggingface_hub import snapshot_download
from pyarrow.lib import ArrowException

from pages import read_pages
from pdf_text import read_pdf
from recipe import Source
from rows import BadInput, Post, Reject, Row, question_and_answer
from tables import (
    NO_RECORD,
    is_whole,
    json_lines,
    read_epitome,
    read_lines,
    read_pairs,
    read_posts,
    read_threads,
    titled,
)
from transcripts import ROLES, as_messages, read_annomi, read_sessions


# Who it is stands in no reason: reasons are printed on the card.
NEITHER = "a speaker who neither seeks nor gives support"

PROJECT = Path(__file__).parents[1]


def locate(source: Source, local: Path | None) -> tuple[Path, list[Path]]:
    """Return a source's folder and its files: our own folder, DIR/<local> with --local DIR, else from the Hub."""
    if source.folder:
        folder, patterns = PROJECT / source.folder, source.files
    elif local and source.local:
        folder, patterns = local / source.local, source.files
    elif source.hub:
        folder, patterns = _download(source), source.hub_files
    elif source.kaggle:
        folder, patterns = _download_from_kaggle(source), source.files
    else:
        raise BadInput(f"Source {source.name} is on no hub: give --local DIR with its files in DIR/{source.local}.")
    if not folder.is_dir():
        raise BadInput(f"Source {source.name} is missing: there is no folder {folder}.")
    files = list(dict.fromkeys(file for pattern in patterns for file in sorted(folder.glob(pattern))))
    if not any(file.stat().st_size for file in files):
        raise BadInput(f"Source {source.name} is empty: no file with text in {folder} fits {', '.join(patterns)}.")
    if lacking := [pattern for pattern in patterns if not any(folder.glob(pattern))]:
        raise BadInput(f"Source {source.name} is not whole: {folder} has no {lacking[0]}, which the recipe names.")
    return folder, files


def _download(source: Source) -> Path:
    try:
        folder = snapshot_download(
            source.hub, repo_type="dataset", revision=source.revision, allow_patterns=list(source.hub_files)
        )
    except (
        HTTPError,
        OSError,
        ValueError,
    ) as error:  # the Hub's own errors are the first two; a name that is none the last
        raise BadInput(
            f"Source {source.name} could not be had from the Hub ({source.hub}): check the network, or give --local DIR "
            f"with its files in DIR/{source.local}."
        ) from error
    return Path(folder)


def _download_from_kaggle(source: Source) -> Path:
    try:
        from kagglehub import dataset_download
    except ImportError as error:
        raise BadInput(f"Source {source.name} is on Kaggle: pip install -e '.[collect]'.") from error
    try:
        return Path(dataset_download(source.kaggle))
    except Exception as error:  # kagglehub lets everything through: its own errors, HTTP's, the archive's
        raise BadInput(
            f"Source {source.name} could not be had from Kaggle ({source.kaggle}: {type(error).__name__}): check KAGGLE_API_TOKEN and "
            f"the network, or give --local DIR with its files in DIR/{source.local}."
        ) from error


def read(source: Source, folder: Path, files: list[Path]) -> Iterator[Row | Post | Reject]:
    """Yield what a source holds as rows or posts, and what cannot be read as rejects that name file and line."""
    if source.reader not in READERS:
        raise BadInput(f"Source {source.name} wants reader {source.reader}: there are {', '.join(READERS)}.")
    try:
        yield from READERS[source.reader](source, files, folder)
    except (UnicodeError, csv.Error, ArrowException, OSError) as error:
        raise BadInput(
            f"Source {source.name} cannot be read ({type(error).__name__}: {' '.join(str(error).split())}): check its files in "
            f"{folder}, their encoding among other things."
        ) from error


def read_dialogues(source: Source, files: list[Path], folder: Path) -> Iterator[Row | Reject]:
    """One conversation a line: {"id", "topic", "messages": [{"role", "content"}, …]}."""
    for where, line, value in json_lines(files, folder):
        try:
            messages = [{"role": turn["role"], "content": turn["content"].strip()} for turn in value["messages"]]
            yield Row(source.name, where, messages, value.get("topic"), f"{source.name}:{value['id']}")
        except (TypeError, KeyError, AttributeError):
            yield Reject(source.name, where, "a line that is no JSON object with id and messages", line)


def read_esconv(source: Source, files: list[Path], folder: Path) -> Iterator[Row | Reject]:
    """One conversation a line; the seeker is the user. Turns by one speaker in a row are one message."""
    for where, line, value in json_lines(files, folder):
        try:
            turns = [(turn["speaker"], turn["text"].strip()) for turn in value["dialog"]]
        except (TypeError, KeyError, AttributeError):
            yield Reject(source.name, where, "a line that is no JSON object with a dialog", line)
            continue
        if any(str(speaker).lower() not in ROLES for speaker, _ in turns):
            yield Reject(source.name, where, NEITHER, line)
            continue
        yield Row(source.name, where, as_messages(turns), value.get("problem_type"), f"{source.name}:{where}")


def read_counsel_chat(source: Source, files: list[Path], folder: Path) -> Iterator[Row | Reject]:
    """One answer a CSV row; therapists' names and pages are taken over only to be removed. All answers to a question are one group."""
    csv.field_size_limit(2**24)
    for file in files:
        with file.open(encoding="utf-8", newline="") as opened:
            table = csv.DictReader(opened)
            missing = {"questionID", "questionTitle", "questionText", "answerText"} - set(table.fieldnames or ())
            if missing:
                raise BadInput(f"{file} lacks the column {sorted(missing)[0]}: it is no counsel-chat CSV.")
            for number, record in enumerate(table, 1):
                where = f"{file.relative_to(folder)}:row {number}"
                if not is_whole(record):
                    yield Reject(source.name, where, NO_RECORD, "")
                    continue
                question = titled(record["questionTitle"] or "", record["questionText"] or "")
                # The Hub's CSV says topic, the official export topics, with commas and no space.
                topic = ", ".join((record.get("topics") or record.get("topic") or "").split(","))
                messages = question_and_answer(question, record["answerText"] or "")
                # One column holds the name alone, the other a whole profile that starts with it.
                author = (record.get("therapistName") or record.get("therapistInfo") or "").strip().split("\n")[0]
                group = f"{source.name}:{record['questionID']}"
                yield Row(source.name, where, messages, topic, group, author.split(",")[0])


READERS = {
    "dialogues": read_dialogues,
    "counsel-chat": read_counsel_chat,
    "esconv": read_esconv,
    "annomi": read_annomi,
    "sessions": read_sessions,
    "pairs": read_pairs,
    "epitome": read_epitome,
    "pages": read_pages,
    "pdf": read_pdf,
    "threads": read_threads,
    "posts": read_posts,
    "lines": read_lines,
}
