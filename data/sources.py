"""Read each kind of source into raw records; what cannot be used is a reject with its place and reason."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from documents import markdown_sections, pdf_sections


class Record(NamedTuple):
    """One raw conversation. `group` is what a split must not cut; `where` is a file and line or row."""

    messages: list[dict[str, str]]
    group: str
    where: str
    topic: str | None = None


class Reject(NamedTuple):
    where: str
    reason: str
    text: str = ""


class SourceError(Exception):
    """A source that cannot be read at all; the message is one sentence."""


def conversations(files: list[Path]) -> Iterator[Record | Reject]:
    """Our own dialogues: JSON lines of id, topic and messages."""
    for place, row in json_lines(files):
        if isinstance(row, Reject):
            yield row
        else:
            yield Record(row["messages"], row["id"], place, row["topic"])


def esconv(files: list[Path]) -> Iterator[Record | Reject]:
    """ESConv: `dialog` turns by `usr` and `sys`; one speaker's consecutive turns become one, edges are trimmed."""
    for place, row in json_lines(files):
        if isinstance(row, Reject):
            yield row
            continue
        messages: list[dict[str, str]] = []
        for turn in row["dialog"]:
            role = "user" if turn["speaker"] == "usr" else "assistant"
            if messages and messages[-1]["role"] == role:
                messages[-1]["content"] += " " + turn["text"].strip()
            else:
                messages.append({"role": role, "content": turn["text"].strip()})
        start = 1 if messages and messages[0]["role"] == "assistant" else 0
        end = len(messages) - (1 if messages and messages[-1]["role"] == "user" else 0)
        yield Record(messages[start:end], place, place, row["problem_type"])


def json_lines(files: list[Path]) -> Iterator[tuple[str, dict | Reject]]:
    for file in files:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                place = f"{file.name}:{number}"
                try:
                    yield place, json.loads(line)
                except json.JSONDecodeError:
                    yield place, Reject(place, "broken JSON line", line.strip()[:200])


COUNSEL_CHAT = ("questionID", "questionTitle", "questionText", "topic", "answerText")


def counsel_chat(files: list[Path]) -> Iterator[Record | Reject]:
    """counsel-chat: a question and one of its answers a row; columns that name the counsellor are never read."""
    csv.field_size_limit(10_000_000)  # one answer holds pasted images
    for file in files:
        with file.open(encoding="utf-8", newline="") as opened:
            rows = csv.DictReader(opened)
            if missing := [name for name in COUNSEL_CHAT if name not in (rows.fieldnames or [])]:
                raise SourceError(
                    f"{file} has no column {missing[0]!r}; counsel-chat needs {', '.join(COUNSEL_CHAT)}."
                )
            for row in rows:
                yield answer(row, f"{file.name}:{rows.line_num}")


def answer(row: dict[str, str], place: str) -> Record | Reject:
    if not (row["answerText"] or "").strip():
        return Reject(place, "no answer", row["questionTitle"])
    title, question = row["questionTitle"].strip(), (row["questionText"] or "").strip()
    # Many questions repeat their title word for word, often as their first sentence.
    asked = question if question.startswith(title) else f"{title}\n\n{question}".strip()
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": row["answerText"].strip()}]
    return Record(messages, f"question {row['questionID']}", place, row["topic"] or None)


def markdown_pages(files: list[Path]) -> Iterator[Record | Reject]:
    """Public guidance as Markdown pages: each heading becomes a question, the text under it the answer."""
    for file in files:
        yield from questions(markdown_sections(file.read_text(encoding="utf-8")), file)


def guideline_pdfs(files: list[Path]) -> Iterator[Record | Reject]:
    """Guidelines as PDF: headings told by their size, then like the pages; SourceError for a PDF without text."""
    for file in files:
        sections = pdf_sections(file)
        if not sections:
            raise SourceError(f"{file} holds no text: it may be a scan; run text recognition on it or leave it out.")
        yield from questions(sections, file)


def questions(sections: list[tuple[str, str, str]], file: Path) -> Iterator[Record | Reject]:
    """Turn (title, heading, text) into question and answer; what is no advice to anybody is a reject."""
    for number, (title, heading, text) in enumerate(sections, 1):
        place = f"{file.name}#{number}"
        if reason := no_advice(heading, text):
            yield Reject(place, reason, f"{heading}\n{text}"[:300])
        else:
            asked = heading if heading.endswith("?") or heading == title else f"{title}: {heading}"
            messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": text}]
            yield Record(messages, f"page {title.lower()}", place, title)


def no_advice(heading: str, text: str) -> str:
    if NOT_CONTENT.search(heading):
        return "front or back matter"
    words = f"{heading} {text}".split()
    if sum(len(word) == 1 and word not in "aAI-•&" for word in words) > 0.04 * len(words) or PICTURE.search(text):
        return "words of a picture"
    if not any(re.search(r"^(?!- ).*\w+(?:\W+\w+){7,}.*[.!]", line) for line in text.splitlines()):
        return "navigation or a list without a sentence"
    return ""


NOT_CONTENT = re.compile(
    r"^(?:about (?:nimh|samhsa|the )|acknowledge?ments?|contents|table of contents|references|reprints|sources?|disclaimer)\b"
    r"|more information|learn more|health information|last reviewed|\b(?:updates|news|publications|statistics|grants?)\b"
    r"|federal resources|research|clinical trials?|join a study|health hotlines|multimedia|social media|share\b|funding",
    re.I,
)
PICTURE = re.compile(r"\b\d{1,3}[A-H]\b")  # numbers of the panels in an illustrated guide

READERS = {
    "conversations": conversations,
    "counsel_chat": counsel_chat,
    "esconv": esconv,
    "guideline_pdfs": guideline_pdfs,
    "markdown_pages": markdown_pages,
}
