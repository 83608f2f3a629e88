"""Notice when somebody may be in danger, and stop a model from saying something harmful. Standard library only.

    >>> screen("I'm not suicidal, I just don't want to live anymore").level
    'risk'
    >>> [finding.kind for finding in screen_reply("You should stop taking your medication.")]
    ['medication']

Nothing here logs, prints, stores or sends what it reads. What counts as danger is data: rules.json, phrases.json and
reply_rules.json beside this file, in plain words (rulebook.py explains the notation).
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from folding import fold, passage, read
from helplines import known_numbers, known_sites
from hits import LEVELS, RISK, Hit, escalate, read_hits
from rulebook import compile_rule, load, load_replies, matches, words_of


CALM_TURNS = 3  # this many quiet turns after a clear denial bring a raised level down
RECENT = 5  # earlier turns that are read together with the newest
JOINED = 160  # characters of earlier turns read together with the newest: "i want to" / "die"
# An address or a number in a model's reply; digits count as a phone number when long, or when somebody is told to call.
# Any word with a dot and a small letter after it is an address: top-level domains are too many to list.
ADDRESS = re.compile(
    r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]+\.[\w.-]+|(?:https?://|www\.)\S+"
    r"|(?<![\w.-])(?:[\w-]{1,63}\.){1,5}(?:com|org|net|gov|edu|io|uk|de|fr|es|au|ca|info|help|health|chat|app|ai)\b(?:/\S*)?"
    r"|(?<![\w.'’-])(?=[\w.-]{0,60}[A-Za-z])(?:[\w-]{2,63}\.){1,5}(?-i:[a-z]{2,24})\b(?:/\S*)?|(?<![\w.])[a-z]\.[a-z]{2,24}/\w\S*",
    re.IGNORECASE,
)
SOCIAL = (
    r"(?:insta(?:gram)?|twitter|facebook|tiktok|telegram|snap(?:chat)?|discord|whats ?app|skype|kik|reddit|linkedin|messenger|youtube)"
)
HANDLE = re.compile(
    r"(?<![\w.@])@[A-Za-z_][\w.]{2,}|(?<![\w/])[ru]/\w{3,}"
    rf"|\b(?:add|follow|find|dm|pm|message|text|contact|reach|join|catch|look) (?:me|us|her|him|them|up)\b[^.!?]{{0,20}}\b(?:on|via|by|under) (?:my )?{SOCIAL}\b"
    rf"|\b(?:{SOCIAL}|dm|pm|inbox|e-?mail|call|phone|ring|text) (?:me|us) (?:at|on|under|via|any ?time|whenever|tonight|tomorrow|directly|privately)\b"
    r"|\bmy (?:e-?mail|phone|mobile|cell|number|handle|user ?name|insta\w*|whatsapp|skype|discord|telegram)\b[^.!?]{0,20}\bis\b"
    r"|\b(?:user ?name|handle) is\b",
    re.IGNORECASE,
)
SPELLED_OUT = re.compile(
    r"\b[\w-]{2,40} ?[(\[]? ?\bdot\b ?[)\]]? ?(?:com|org|net|co|gov|edu|io|info|help|uk|de|eu|chat|app|ai|me|us|ca|au|nz|care|example)\b"
    r"|\w[(\[]at[)\]]\w|\b\d{1,5} (?:[A-Z][a-z]+ ){1,3}(?:Street|St|Road|Rd|Avenue|Ave|Lane|Drive|Boulevard|Blvd|Square|Close|Way|Court|Terrace)\b",
)
VANITY = re.compile(r"\b(?:1[-. ]?)?[89]\d\d[-. ](?:[A-Z]{3,}|(?:[A-Z]+-)+[A-Z]+|\d[A-Z]{3,})\b|\b0\d{2,3}[- ][A-Z]{4,}\b")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGIT_WORDS = re.compile(rf"\b(?:(?:oh|{'|'.join(DIGITS)})\b[\s,-]{{0,3}}){{4,}}", re.IGNORECASE)
UNIT = re.compile(
    r"\s?(?:%|°|€|£|[ap]\.?m\b|(?:of )?(?:euros?|dollars?|pounds?|bucks|quid|times|people|persons?|messages?|calls?|e-?mails?|hours?|minutes?|seconds?"
    r"|days?|nights?|weeks?|months?|years?|miles?|kms?|kilomet\w+|steps?|pages?|words?|followers|likes|grams?|kilos?|customers|patients|students|texts)\b)",
    re.IGNORECASE,
)
MONEY = re.compile(r"[$€£¥]\s?$")
YEAR = re.compile(r"\b(?:in|since|from|of|until|by|around|before|after|early|late|summer|spring|winter|autumn) (?:19|20)\d\d$", re.IGNORECASE)
QUOTED = re.compile(r"[\"“][^\"“”]{3,300}[\"”]|‘[^‘’]{3,300}’|(?<!\w)'[^\n]{3,300}?'(?!\w)")
QUOTABLE = ("claims", "ending", "diagnosis")  # words offered to the person, or somebody's words, are no claim of the model's
NUMBER = re.compile(r"[+*]?\(?\d(?:[\d\s().-]*\d)?")
CALLING = re.compile(
    r"\b(?:call|calling|dial|phone|ring|text|texting|sms|whatsapp|hotline|helpline|lifeline|warmline|line|numbers?|extension|ext|reach|pressing|desk|nurse|service|code|message)\b"
    r"[^.!?\d]{0,40}$",
    re.IGNORECASE,
)


class Finding(NamedTuple):
    rule: str
    span: tuple[int, int]  # in the turn as it was typed
    subject: str  # "self" or "other"
    kind: str
    turn: int


class Screening(NamedTuple):
    level: str  # of the conversation as it stands
    findings: list[Finding]
    now: str  # of the newest turn: whether it calls for help of its own


def screen(turns: str | Sequence[str]) -> Screening:
    """Judge a person's own messages, oldest first; a string is one message.

    The level is that of the whole conversation: once raised it stays, until a clear denial and several calm turns. Any
    error comes out as "risk" with a rule "error/...", because a broken screen must show help, not hide it.
    """
    try:
        hits = conversation_hits([turns] if isinstance(turns, str) else list(turns))
        findings = [
            Finding(hit.rule, (hit.start, hit.end), hit.subject, hit.kind, turn)
            for turn, found in enumerate(hits)
            for hit in sorted(found, key=lambda hit: (-hit.level, hit.start))
            if hit.level
        ]
        return Screening(LEVELS[standing_level(hits)], findings, LEVELS[highest(hits[-1])] if hits else "none")
    except Exception as error:
        newest = 0 if isinstance(turns, str) or not isinstance(turns, Sequence) else max(0, len(turns) - 1)
        return Screening("risk", [Finding(f"error/{type(error).__name__}", (0, 0), "self", "error", newest)], "risk")


def highest(hits: list[Hit]) -> int:
    return max((hit.level for hit in hits), default=0)


def standing_level(hits: list[list[Hit]]) -> int:
    standing, calm, denied = 0, 0, False
    for found in hits:
        level = highest(found)
        denial = any((hit.denied and hit.level) or hit.kind == "denial" for hit in found)
        calm = calm + 1 if not level and not denial else 0
        denied = (denied or denial) and level < RISK
        standing = max(standing, level)
        if calm >= CALM_TURNS and (denied or standing < RISK):
            standing = 0
    return standing


def conversation_hits(turns: list[str]) -> list[list[Hit]]:
    """What each turn says, alone and together with the turns before it."""
    alone = [read_hits(turn) for turn in turns]
    together = []
    for index, found in enumerate(alone):
        recent = [hit for earlier in alone[max(0, index - RECENT) : index] for hit in earlier]
        together.append(escalate(found + crossing_hits(turns, index), recent))
    return together


def crossing_hits(turns: list[str], index: int) -> list[Hit]:
    """Hits that begin in an earlier turn and end in this one: "i want to" / "die"."""
    before = " ".join(turn.rstrip(" .…\n") for turn in turns[max(0, index - RECENT) : index])[-JOINED:]
    if not before or not turns[index]:
        return []
    shift = len(before) + 1
    return [
        hit._replace(start=0, end=min(hit.end - shift, len(turns[index])))
        for hit in read_hits(f"{before} {turns[index][:JOINED]}")
        if hit.start < shift < hit.end and hit.level >= RISK
    ]


def asks_if_human(text: str) -> bool:
    """Whether the person asks what is talking to them; the answer is then given by code."""
    book = load()
    words = read(text, book.lexicon, book.data["emoji"])[-1]
    if any(phrase in passage(words.tokens, space="").text for phrase in book.data["human_phrases"]):
        return True
    return any(pattern.search(words.text) for pattern in human_patterns())


@cache
def human_patterns() -> list[re.Pattern[str]]:
    data = load().data
    return [
        re.compile(f"(?<= ){compile_rule(fold(text)[0], data['vocabulary'])[0]}") for text in data["human_questions"]
    ]


def screen_reply(text: str, allowed: Iterable[str] = ()) -> list[Finding]:
    """What a model's reply says that it must not; an empty list means it may be shown.

    `allowed` holds further numbers and sites that may stand in it. An error is a finding: what cannot be judged is not
    shown.
    """
    try:
        return [*said_wrongly(text), *unknown_contacts(text, set(allowed))]
    except Exception as error:
        return [Finding(f"error/{type(error).__name__}", (0, 0), "self", "error", 0)]


def said_wrongly(text: str) -> Iterator[Finding]:
    book, (rules, idioms, spared_after) = load(), load_replies()
    quoted = [match.span() for match in QUOTED.finditer(text)]
    for words in read(text, book.lexicon, book.data["emoji"])[-1:]:
        known = words_of(words)
        spared = [(rule.kind, *span) for rule in idioms for span in matches(rule, words, known)]
        for rule in rules:
            for start, end in matches(rule, words, known):
                first, last = words.span(start, end)
                if (
                    not is_spared(rule.kind, start, end, spared)
                    and not follows_guard(words.text[max(0, start - 80) : start], spared_after.get(rule.kind))
                    and not (rule.kind in QUOTABLE and any(opens < first and last <= ends for opens, ends in quoted))
                ):
                    yield Finding(rule.name, (first, last), "self", rule.kind, 0)


def is_spared(kind: str, start: int, end: int, spared: list[tuple[str, int, int]]) -> bool:
    """Whether an idiom reaches into the hit; "spared/..." is for every kind, "medication/..." for that kind alone."""
    return any(
        whose in ("spared", kind) and (first <= start < last or first < end <= last) for whose, first, last in spared
    )


def follows_guard(before: str, guard: re.Pattern[str] | None) -> bool:
    """Whether one of the last five words of the clause before a hit makes it harmless: "if", "not", "you think"."""
    words = re.split(r"[.,] ", before)[-1].split()[-5:]
    return bool(guard and guard.search(f" {' '.join(words)} "))


def unknown_contacts(text: str, allowed: set[str]) -> Iterator[Finding]:
    numbers = known_numbers() | {re.sub(r"\D", "", entry) for entry in allowed}
    sites = known_sites() | {site_of(entry) for entry in allowed}
    for match in ADDRESS.finditer(text):
        site = site_of(match.group())
        if "@" in match.group() or not any(site == known or site.endswith(f".{known}") for known in sites):
            yield Finding("contact/address", match.span(), "self", "contact", 0)
    for pattern in (HANDLE, SPELLED_OUT, VANITY):
        yield from (Finding("contact/handle", match.span(), "self", "contact", 0) for match in pattern.finditer(text))
    for match in DIGIT_WORDS.finditer(text):
        said = [DIGITS.index(word) for word in re.findall(r"[a-z]+", match.group().lower().replace("oh", "zero"))]
        if len({after - before for before, after in pairwise(said)}) > 1:  # counting up or down is a breathing exercise
            yield Finding("contact/number", match.span(), "self", "contact", 0)
    for match in NUMBER.finditer(text):
        if not is_harmless_number(text, match, numbers):
            yield Finding("contact/number", match.span(), "self", "contact", 0)


def is_harmless_number(text: str, match: re.Match[str], numbers: set[str]) -> bool:
    """A known number ("988 24 hours a day" too), a year, an amount of something, or digits too few to call."""
    digits = plain_digits(match.group())
    before, after = text[max(0, match.start() - 60) : match.start()], text[match.end() : match.end() + 20]
    if digits in numbers or not (len(digits) >= 7 or (len(digits) >= 3 and CALLING.search(before))):
        return True
    *known, rest = re.split(r"\s+", match.group().strip())
    if known and plain_digits("".join(known)) in numbers and len(plain_digits(rest)) < 3:
        return True
    return len(digits) < 7 and bool(UNIT.match(after) or MONEY.search(before) or (YEAR.search(before + digits)))


def plain_digits(text: str) -> str:
    return "".join(str(unicodedata.digit(c)) for c in text if c.isdigit())


def site_of(address: str) -> str:
    return re.sub(r"^(?:https?://)?(?:www\.)?|[/?#].*$|[.,;:!?)]+$", "", address.lower())
