"""Announce and fold what is heavy to read: a reply that goes into death, self-harm, abuse or eating disorders.

What the person has named is not folded when a reply takes it up in a word or two; a reply that goes into it is. Questions
never count: "are you thinking of killing yourself?" must be seen at once.
"""

import html
import json
import re
from collections import Counter
from functools import cache
from pathlib import Path

from folding import read
from interface import word
from rulebook import Index, indexed, load, matches, rules_from, sentences
from texts import text


DATA = Path(__file__).with_name("heavy.json")
COMMA = {"ar": "، ", "zh": "、"}
MUCH = 3  # mentions of one topic from which a reply goes into it
OPEN, CLOSE = '<details class="heavy"><summary>', "</details>"
QUESTION = re.compile(r"[^.!?\n]*[?？]")
WRAPPED = re.compile(rf"{OPEN}.*?</summary>\s*|\s*{CLOSE}", re.DOTALL)


def folded(reply: str, said: list[str], language: str = "en") -> str:
    """The reply, or where it is heavy one line that says so and the reply behind it; `said` are the person's messages."""
    spoken = mentions(" ".join(said))
    heavy = [
        topic
        for topic, count in mentions(QUESTION.sub("", reply)).items()
        if count >= (MUCH if topic in spoken else 1)
    ]
    if not heavy:
        return reply
    named = [word(f"topic_{topic.split()[0].replace('-', '_')}", language) for topic in heavy]
    topics = COMMA.get(language, ", ").join(named)
    return f"{OPEN}{html.escape(text('heavy', language, topics=topics))}</summary>\n\n{reply.rstrip()}\n\n{CLOSE}"


def unfolded(reply: str) -> str:
    """What `folded` was given."""
    return WRAPPED.sub("", reply) if reply.startswith(OPEN) else reply


def mentions(passage: str) -> dict[str, int]:
    book = load()
    words = read(passage, book.lexicon, book.data["emoji"])[-1]
    return Counter(rule.name for rule, *_ in matches(topics(), sentences(words, {})))


@cache
def topics() -> Index:
    entries = json.loads(DATA.read_text(encoding="utf-8"))["topics"]
    rules = [{"rule": topic, "patterns": patterns} for topic, patterns in entries.items()]
    return indexed(rules_from(rules, load().data))
