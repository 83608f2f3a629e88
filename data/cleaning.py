"""Steps that make a row fit for training or say in plain words why it is not: each is `row -> row` or `row -> reason`."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import yaml

from privacy import leads_to_help
from rows import Row, text_of, words_of
from unsafe import needs_help, reply_problem


# The paper's rule.
FEWEST_WORDS = 10

# The 98th percentile of therapists' answers is near it; the longest are pasted articles.
LONGEST_REPLY = 600

# What is asked of a language model; shorter texts it guesses wrongly.
ENOUGH_TO_TELL = 20

RULES = yaml.safe_load(Path(__file__).with_name("quality.yaml").read_text(encoding="utf-8"))


def whatever_its_capitals(pattern: str) -> Callable[[str], bool]:
    """Return what looks for a pattern in small letters; a search that minds case in small letters takes a third of one that does not."""
    in_small, in_any = re.compile(pattern), re.compile(pattern, re.IGNORECASE)
    return lambda text: bool(in_small.search(text.lower()) if text.isascii() else in_any.search(text))


UNFIT = [(entry["reason"], whatever_its_capitals("|".join(entry["patterns"]))) for entry in RULES["reasons"]]
names_help = whatever_its_capitals(RULES["help"].replace("| ", "|"))
ENGLISH = frozenset(RULES["english"].split())

CREDENTIAL = re.compile(r"\b(?:Ph\.?D|Psy\.?D|M\.?D|L\.?M\.?F\.?T|L\.?P\.?C+|LMHC|L\.?C\.?S\.?W|LMSW|MSW|M\.?F\.?T|NCC|CADC|"
                        r"RN|M\.Ed|Ed\.?D|LCPC|LPCC|LCMHC|RCC|CHT|MFTI)\b")  # fmt: skip
REMOVED_CONTACT = re.compile(r"\[(?:URL|EMAIL|PHONE|HANDLE)_\d+\]")
NAME_ALONE = re.compile(r"\W*\[PERSON_\d+\]\W*")
CUT_OFF = re.compile(
    r"(?i)(?:[,;(]|\b(?:and|or|but|because|the|a|an|to|of|with|for|if|that|which|your|my|in|is|are))$"
)


def clean(row: Row) -> Row | str:
    """Run every step in order; a reason from any of them ends it. Expects redacted text (see `privacy`)."""
    for step in STEPS:
        result = step(row)
        if isinstance(result, str):
            return result
        row = result
    return row


def has_no_empty_turn(row: Row) -> Row | str:
    if not row.messages:
        return "no turns"
    return row if all(message["content"].strip() for message in row.messages) else "an empty turn"


def alternates(row: Row) -> Row | str:
    roles = [message["role"] for message in row.messages]
    if set(roles) - {"user", "assistant"}:
        return "a role other than user and assistant"
    if roles[0] != "user":
        return "does not start with the user"
    if any(first == second for first, second in itertools.pairwise(roles)):
        return "roles do not alternate"
    return row if roles[-1] == "assistant" else "does not end with a reply"


def without_signature(row: Row) -> Row:
    """Drop what signs a reply, a short last line or sentence with its writer's name or credentials, and the full name."""
    return _with_replies(row, lambda reply: _unsigned(reply, row.author))


def _unsigned(reply: str, author: str) -> str:
    names = re.findall(r"\w{3,}", author)
    signed = re.compile("|".join([CREDENTIAL.pattern, *(rf"\b{re.escape(name)}\b" for name in names)]))
    for border in ("\n", r"(?<=[.!?])\s+|\s+(?=~)"):  # a last line, then a last sentence
        *body, last = re.split(border, reply)
        only_a_name = border == "\n" and NAME_ALONE.fullmatch(last)
        if body and len(last.split()) <= 12 and (only_a_name or signed.search(last)) and not leads_to_help(last):
            reply = reply[: -len(last)].strip()
    return re.sub(rf"\b{re.escape(author)}\b", "[NAME_1]", reply, flags=re.IGNORECASE) if author else reply


def without_contacts(row: Row) -> Row | str:
    """Drop sentences of a reply that point at a removed address or number: they lead nowhere, and a model learns them."""
    cleaned = _with_replies(row, _contactless)
    shrunk = any(
        len(after["content"].split()) < len(before["content"].split()) / 2
        for before, after in zip(row.messages, cleaned.messages, strict=True)
    )
    return "a reply that is mostly links or contact details" if shrunk else cleaned


# "Call 988 or visit [URL_1]" keeps its first half.
LED_TO = re.compile(
    r"(?:,? (?:or|and))?(?: (?:visit|see|go to|call|text|e-?mail|at|via|on)){0,3} \(?\[(?:URL|EMAIL|PHONE|HANDLE)_\d+\]\)?"
)


def _contactless(reply: str) -> str:
    if not REMOVED_CONTACT.search(reply):
        return reply
    lines = []
    for line in reply.split("\n"):
        sentences = re.split(r"(?<=[.!?])\s+", line)
        sentences = [LED_TO.sub("", one) if leads_to_help(one) else one for one in sentences]
        kept = [sentence for sentence in sentences if not REMOVED_CONTACT.search(sentence)]
        lines += [" ".join(kept)] if kept or not line else []
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def is_fit_to_be_said(row: Row) -> Row | str:
    """Refuse replies that advertise, insult, blame or speak as a language model; quality.yaml says what counts."""
    replies = replies_of(row)
    for reason, is_said in UNFIT:
        if is_said(replies):
            return reason
    return row


def is_finished(row: Row) -> Row | str:
    return "a reply that breaks off" if CUT_OFF.search(row.messages[-1]["content"].rstrip()[-10:]) else row


def is_long_enough(row: Row) -> Row | str:
    return row if words_of(row) >= FEWEST_WORDS else f"fewer than {FEWEST_WORDS} words"


def is_short_enough(row: Row) -> Row | str:
    longest = max(len(message["content"].split()) for message in row.messages if message["role"] == "assistant")
    return row if longest <= LONGEST_REPLY else f"a reply of more than {LONGEST_REPLY} words"


def is_readable(row: Row) -> Row | str:
    """Refuse text that a converter broke; a handful of joined words in a long text may stay."""
    text = text_of(row)
    if "\ufffd" in text:
        return "characters lost in an earlier conversion"
    joined = re.findall(
        r"[a-z][.!?)]?[A-Z][a-z]", re.sub(r"\b(?:Mc|Mac|De|La|You|Face|Tik|Linked|Med)[A-Z]", "", text)
    )
    return "words or sentences run together" if len(joined) > 2 + len(text.split()) / 150 else row


def is_english(row: Row) -> Row | str:
    """Refuse other languages. Function words tell English at once; what has few of them a language model is asked about."""
    words = text_of(row).lower().split()
    if len(words) <= ENOUGH_TO_TELL or sum(word in ENGLISH for word in words) >= len(words) / 7:
        return row
    from py3langid import classify  # here, since its model takes a second to load and most builds never ask it

    return row if classify(" ".join(words[:200]))[0] == "en" else "not in English"


def is_safe(row: Row) -> Row | str:
    """Refuse what the Space would not show: unsafe replies, and answers to a person in danger that name no help.

    By rules only: the learned tier of screening takes a hundred times as long.
    """
    for message in row.messages:
        kind = reply_problem(message["content"]) if message["role"] == "assistant" else None
        if kind:
            return f"an unsafe reply: {kind}"
    if names_help(replies_of(row)):  # asked first: it costs a tenth of the other question
        return row
    in_danger = any(needs_help(message["content"]) for message in row.messages if message["role"] == "user")
    return "somebody in danger is answered without any help" if in_danger else row


def replies_of(row: Row) -> str:
    return "\n".join(message["content"] for message in row.messages if message["role"] == "assistant")


def _with_replies(row: Row, change) -> Row:
    return row._replace(messages=[
        {**message, "content": change(message["content"])} if message["role"] == "assistant" else message
        for message in row.messages
    ])  # fmt: skip


STEPS = (
    has_no_empty_turn,
    alternates,
    is_fit_to_be_said,
    without_signature,
    without_contacts,
    without_signature,  # again: an address below it hid it
    has_no_empty_turn,
    is_long_enough,
    is_short_enough,
    is_readable,
    is_finished,
    is_english,
    is_safe,
)
