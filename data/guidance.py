"""Sections of a page or leaflet become questions and answers: what to ask, what to leave out, where to cut."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from rows import Reject, Row, question_and_answer


# An answer of more words is cut at paragraph borders: a reader of a chat, and the base's context, want no more.
LONGEST_ANSWER = 300

# What is left under a heading when its list of links is gone; no answer to anything.
SHORTEST_ANSWER = 20

RULES = yaml.safe_load(Path(__file__).with_name("headings.yaml").read_text(encoding="utf-8"))
IMPERATIVES = set(RULES["imperatives"].split())
QUESTION = re.compile(
    r"(?i)^(?:what|who|whom|whose|when|where|why|which|how|is|are|am|do|does|did|can|could|should|will|would|has|have)\b"
)


class Section(NamedTuple):
    """A heading and the paragraphs under it; the title is the page's, and what the section is about."""

    title: str
    heading: str
    paragraphs: list[str]
    where: str


def rows_of(section: Section, source: str, group: str, publisher: str) -> Iterator[Row | Reject]:
    """Yield one row for each part of a section, its publisher named at the end, or the reason why it gives none."""
    text = "\n\n".join(section.paragraphs)
    reason = unfit(section)
    if reason:
        yield Reject(source, section.where, reason, f"{section.heading}\n{text}")
        return
    question = as_question(section.heading, section.title)
    parts: list[str] = []
    for part in cut(section.paragraphs):
        if parts and min(len(part.split()), len(parts[-1].split())) < SHORTEST_ANSWER:
            parts[-1] += f"\n\n{part}"  # too short to stand alone; often it says where help is
        else:
            parts.append(part)
    for number, part in enumerate(parts):
        asked = f"{question} I know the basics already." if number else question
        answer = f"{part}\n\nSource: {publisher}." if publisher else part
        yield Row(source, section.where, question_and_answer(asked, answer), section.title or None, group)


def unfit(section: Section) -> str | None:
    """Say in plain words why a section is no answer to anything, or None."""
    for entry in RULES["skip"]:
        if any(re.search(pattern, section.heading, re.IGNORECASE) for pattern in entry["patterns"]):
            return entry["reason"]
    text = " ".join(section.paragraphs)
    if not section.heading:
        return "text under no heading"
    if sum(len(paragraph.split()) > LONGEST_ANSWER for paragraph in section.paragraphs):
        return f"a paragraph of more than {LONGEST_ANSWER} words"
    if len(text.split()) < SHORTEST_ANSWER:
        return f"fewer than {SHORTEST_ANSWER} words under a heading"
    if not re.search(r"[a-z)”\"’][.!?](?:\s|$)", text):
        return "a list without a sentence"
    return None


def cut(paragraphs: list[str]) -> list[str]:
    """Join paragraphs into parts of at most LONGEST_ANSWER words; a list stays with the line that introduces it."""
    parts: list[list[str]] = [[]]
    for number, paragraph in enumerate(paragraphs):
        size = sum(len(text.split()) for text in parts[-1])
        following = paragraphs[number + 1 : number + 2] if paragraph.endswith(":") else []
        if parts[-1] and size + sum(len(text.split()) for text in [paragraph, *following]) > LONGEST_ANSWER:
            parts.append([])
        parts[-1].append(paragraph)
    return ["\n\n".join(part) for part in parts]


def as_question(heading: str, title: str) -> str:
    """Turn a heading into what a person would ask, e.g. "Symptoms" under "Depression", "Limit alcohol", "Grief"."""
    heading = re.sub(r"^(?:\d+|[ivx]+)[.)]\s+", "", heading).strip(" :")
    topic = in_sentence(title)
    if heading.endswith("?") or (QUESTION.match(heading) and len(heading.split()) > 2 and not heading.endswith(".")):
        return _ask(heading, topic)
    for pattern, question in RULES["about_topic"].items():
        if topic and re.search(pattern, heading, re.IGNORECASE):
            return question.format(topic=topic)
    plain = in_sentence(heading.rstrip("."))
    if heading.endswith("."):
        return f"Is it true that {plain}?"
    if plain.split()[0].lower() in IMPERATIVES:
        return f"How can I {plain}?"
    if not topic or _shares_a_word(plain, topic):
        return f"What should I know about {plain}?"
    return f"I am reading about {topic}. What should I know about {plain}?"


def _ask(heading: str, topic: str) -> str:
    how = re.match(r"(?i)how to (.+)", heading.rstrip("?"))
    if how:
        return f"How can I {how[1]}?"
    return heading if heading.endswith("?") else f"I am reading about {topic}. {heading}?"


def in_sentence(heading: str) -> str:
    """Write a heading as the middle of a sentence: capitals go, except in abbreviations and after a first capital."""
    words = re.sub(r"\s*\|.*", "", heading).split()
    return " ".join(word if _keeps_capitals(word, heading) else word.lower() for word in words)


def _keeps_capitals(word: str, heading: str) -> bool:
    letters = re.sub(r"[^A-Za-z]", "", word)
    abbreviation = len(letters) > 1 and letters.isupper() and not heading.isupper()
    mixed = bool(re.search(r"[a-z][A-Z]", word))
    return abbreviation or mixed or letters in ("I", "II", "American", "Americans", "Black", "Indian", "Alaska", "Native",
                                                "Hispanic", "Latino", "Asian", "Lifeline", "Veterans")  # fmt: skip


def _shares_a_word(first: str, second: str) -> bool:
    long = [{word[:6].lower() for word in re.findall(r"\w{4,}", text)} for text in (first, second)]
    return bool(long[0] & long[1])
