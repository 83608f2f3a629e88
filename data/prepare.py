"""What is done to each thing that was read, whoever else was read: private first, then clean, then measured. Pure."""

import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from cleaning import clean, has_no_empty_turn, is_long_enough
from duplicates import PERMUTATIONS, traces
from ner import find_people
from normalise import as_in_the_paper, normalise, plain_text
from privacy import Finding, redact, redact_conversation, redact_label
from rows import Post, Reject, Row, joined, text_of
from tokens import Count, counter, windows


Item = Row | Post | Reject

# With --paper, after everything else: a turn of nothing but points is no turn any more, a lone dash no word.
AS_IN_THE_PAPER = (as_in_the_paper, has_no_empty_turn, is_long_enough)


class Settings(NamedTuple):
    base: str
    max_tokens: int
    paper: bool = False
    ner: bool = False
    invented: tuple[str, ...] = ()  # sources that no real person is in: nothing is taken out of them


# One row for each thing that was read. `reason` is null where it was kept; `text` is null where `messages` are not.
STAGED = pa.schema(
    {
        "source": pa.string(),
        "where": pa.string(),
        "fate": pa.string(),  # kept, post or dropped
        "reason": pa.string(),
        "text": pa.string(),  # redacted, of what was dropped and of posts
        "messages": pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
        "topic": pa.string(),
        "group": pa.string(),
        "windows": pa.list_(
            pa.struct({"id": pa.string(), "start": pa.int32(), "end": pa.int32(), "n_tokens": pa.int32()})
        ),
        "removed": pa.list_(pa.string()),  # the kind of each piece of personal data that was taken out
        # Of what is kept, for the search for repeats (`duplicates.Traces`).
        "exact": pa.binary(),
        "sketch": pa.binary(4 * PERMUTATIONS),
        "opening": pa.binary(),
    }
)


def prepare(items: Sequence[Item], settings: Settings) -> pa.Table:
    """Return what becomes of each item as one row of a table, in order.

    Personal data goes first, so that not even a rejected text keeps it. Nothing here depends on other items: any number of
    machines may share them out.
    """
    items = [normalise(item) if isinstance(item, Row) else item._replace(text=plain_text(item.text)) for item in items]
    people = people_in(items) if settings.ner else [None] * len(items)
    staged = [_private_and_clean(item, seen, settings) for item, seen in zip(items, people, strict=True)]
    kept = [entry for entry in staged if entry["fate"] == "kept"]
    count = counter(settings.base)
    sizes = count([entry["messages"] for entry in kept]) if kept else []
    for entry, size in zip(kept, sizes, strict=True):
        _cut(entry, size, settings.max_tokens, count)
    kept = [entry for entry in kept if entry["fate"] == "kept"]
    for entry, left in zip(kept, traces([entry["messages"] for entry in kept]), strict=True):
        entry |= left._asdict()
    return pa.Table.from_pylist(staged, schema=STAGED)


def people_in(items: Sequence[Item]) -> list[list]:
    """Names that the model sees in the turns of each row, or in the one text of posts and rejects."""
    turns = [
        [message["content"] for message in item.messages] if isinstance(item, Row) else [item.text] for item in items
    ]
    found = iter(find_people([text for texts in turns for text in texts]))
    return [[next(found) for _ in texts] for texts in turns]


def _private_and_clean(item: Item, people: list | None, settings: Settings) -> dict:
    if not isinstance(item, Row):
        text, findings = redact(item.text, people[0] if people else ())
    if isinstance(item, Reject):
        return _dropped(item, item.reason, text)
    if isinstance(item, Post):
        label, more = redact_label(str(item.label or ""))
        return _staged(
            item, "post", text=text, topic=label or None, removed=[found.kind for found in [*findings, *more]]
        )
    row, findings = (item, []) if item.source in settings.invented else _private(item, people)
    removed = [found.kind for turn in findings for found in turn]
    result = clean(row)
    for step in AS_IN_THE_PAPER if settings.paper else ():
        result = result if isinstance(result, str) else step(result)
    if isinstance(result, str):
        return _dropped(item, result, text_of(row), removed=removed)
    # A group is published as a hash: of a question as it was asked, whoever knows a name could confirm it.
    group = result.group or f"{item.source}:{row.messages[0]['content']}"
    kept = {"messages": result.messages, "topic": result.topic, "group": group}
    return _staged(item, "kept", **kept, removed=removed)


def _private(item: Row, people: list | None) -> tuple[Row, list[list[Finding]]]:
    known: set[str] = set()
    messages, findings = redact_conversation(item.messages, people, known)
    topic, more = redact_label(item.topic or "", known)
    return item._replace(messages=messages, topic=topic or None), [*findings, more]


def _staged(item: Item, fate: str, **values) -> dict:
    return {"source": item.source, "where": item.where, "fate": fate, **values}


def _dropped(item: Item, reason: str, text: str, **values) -> dict:
    return _staged(item, "dropped", reason=reason, text=text, **values)


def _cut(entry: dict, size: int, most: int, count: Count) -> None:
    found = windows(entry["messages"], size, most, count)
    if not found:
        reason = f"an exchange of more than {most} tokens"
        entry |= {"fate": "dropped", "reason": reason, "text": joined(entry["messages"]), "messages": None}
        return
    entry["windows"] = [
        {**window._asdict(), "id": id_of(entry["source"], entry["messages"][window.start : window.end])}
        for window in found
    ]


def id_of(source: str, messages: list[dict]) -> str:
    content = json.dumps([source, messages], ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
