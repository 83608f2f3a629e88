"""Notice when somebody may be in danger, and stop a model from saying something harmful.

The rules need the standard library only; where NumPy is, a learned tier (learned.py) may raise what they found.

    >>> screen("I'm not suicidal, I just don't want to live anymore").level
    'risk'
    >>> [finding.kind for finding in screen_reply("You should stop taking your medication.")]
    ['medication']

Nothing here logs, prints, stores or sends what it reads: of an earlier turn only the verdict is remembered. What counts as danger is data: rules.json, phrases.json and
reply_rules.json beside this file, in plain words (rulebook.py explains the notation).
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

import learned
from contacts import unknown_contacts
from encoded import CODE, turned
from folding import Passage, passage, plain_passage, read, read_tokens
from hits import DENIAL, LEVELS, RISK, Hit, escalate, read_hits
from rulebook import (
    KEPT,
    Index,
    Rule,
    Sentence,
    human_questions,
    lexicon_with_fillers,
    lexicon_with_just,
    load,
    load_contexts,
    load_frames,
    load_replies,
    load_replies_with_just,
    matches,
    reply_phrases,
    sentences,
    spared_in_replies,
)


BUT = re.compile(
    r"\b(?:but|though|although|however|except|unless|until|yet|if|when|because|cos|cause|pero|mais|aber|mas|ma|maar|ale|ama|но|але|لكن|بس"
    r"|ولی|اما|लेकिन|पर|lekin|par|لیکن|مگر|nhưng|tapi|kaso|kundi)\b|কিন্তু|但|可是|不过|でも|けど|지만|근데|그런데|แต่",
    re.IGNORECASE,
)
OF_A_LANGUAGE = re.compile(r"/[a-z]{2}(?:-latin)?$")  # the rules of other languages are named so
CALM_TURNS = 3  # this many quiet turns after a clear denial bring a raised level down
NO_WORDS: frozenset[str] = frozenset()
RECENT = 5  # earlier turns that are read together with the newest
REMEMBERED = 4096  # verdicts: without them every message would have all earlier ones read again
SECRET = os.urandom(32)  # of this process; without it nobody can ask whether a certain text was written
verdicts: dict[bytes, tuple[Hit, ...]] = {}
JOINED = 160  # characters of earlier turns read together with the newest: "i want to" / "die"


class Finding(NamedTuple):
    rule: str
    span: tuple[int, int]  # in the turn as it was typed
    subject: str  # "self" or "other"
    kind: str
    turn: int
    soft: bool = False  # of a reply: said in harmless ones too, so that it takes a second sign


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
    alone = [turn_hits(turn) for turn in turns]
    together = []
    for index, found in enumerate(alone):
        recent = [hit for earlier in alone[max(0, index - RECENT) : index] for hit in earlier]
        together.append(escalate(found + crossing_hits(turns, index), recent))
    return together


def turn_hits(turn: str) -> list[Hit]:
    """What one turn says by itself, remembered under a keyed hash of it."""
    name = blake2b(turn.encode("utf-8", "surrogatepass"), key=SECRET, digest_size=16).digest()
    known = verdicts.get(name)
    if known is None:
        known = tuple(both_tiers(turn))
        if len(verdicts) >= REMEMBERED:
            verdicts.clear()
        verdicts[name] = known
    return list(known)


def both_tiers(turn: str) -> list[Hit]:
    """What the rules find, and what the learned tier adds where they see no danger."""
    hits = read_hits(turn)
    if highest(hits) >= RISK:
        return hits
    found = learned.danger(but_for_denials(turn, hits))
    if found is None or not found.counts:
        return hits
    return [
        *hits,
        Hit(f"learned/{found.language}", *found.span, found.subject, found.kind, RISK, soft=False, denied=False),
    ]


def but_for_denials(turn: str, hits: list[Hit]) -> str:
    """The turn with what it plainly denies blanked out: the learned tier hears "hurt myself" in "I don't hurt myself" too.

    A turn with a "but" is left whole: what follows may be about the same. So is "I don't want to die", which may be a cry for help.
    """
    if not BUT.search(turn):
        for hit in hits:
            if hit.rule == DENIAL or (hit.denied and OF_A_LANGUAGE.search(hit.rule)):
                turn = turn[: hit.start] + " " * (hit.end - hit.start) + turn[hit.end :]
    return turn


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


def asks_if_human(text: str) -> str:
    """The language in which the person asks what is talking to them, or ""; the answer is then given by code."""
    book, (spaced, unspaced) = load(), human_questions()
    for lexicon in (book.lexicon, lexicon_with_fillers()):
        for words in read(text, lexicon, book.data["emoji"]):
            glued = "" if text.isascii() else passage(words.tokens, space="").text.strip()
            asked = [rule for rule, _, _ in matches(spaced, sentences(words, {}))]
            asked += [rule for rule in unspaced if glued and rule.pattern.search(glued)]
            if asked:
                return asked[0].name.split("/")[-1]
    return ""


def screen_reply(text: str, allowed: Iterable[str] = ()) -> list[Finding]:
    """What a model's reply says that it must not; an empty list means it may be shown.

    `allowed` holds further numbers and sites that may stand in it. An error is a finding: what cannot be judged is not
    shown.
    """
    try:
        contacts = (Finding(rule, span, "self", "contact", 0) for rule, span in unknown_contacts(text, set(allowed)))
        findings = [*said_wrongly(text), *contacts]
        if any(not finding.soft for finding in findings):
            return findings
        if (found := learned.harm(text)) is None:  # nobody to ask: a soft sign is enough
            return findings
        if found.counts or (findings and found.probability >= learned.LIKELY):
            return findings or [Finding(f"learned/{found.kind}", found.span, "self", found.kind, 0)]
        return []
    except Exception as error:
        return [Finding(f"error/{type(error).__name__}", (0, 0), "self", "error", 0)]


def said_wrongly(text: str) -> Iterator[Finding]:
    """What the rules find in a reply: as it stands, in another language, in code, backwards or by a cipher."""
    book = load()
    tokens = read_tokens(text, book.lexicon, book.data["emoji"])[-1]
    words, known = plain_passage(tokens, book.lexicon), {}
    yield from said_in_english(text, words, known, load_replies())
    if any(token.word in KEPT for token in tokens):
        words_with_just = plain_passage(tokens, lexicon_with_just())
    else:
        words_with_just = words
    yield from said_in_english(text, words_with_just, known, load_replies_with_just())
    yield from said_elsewise(text, words, known)
    yield from (Finding("encoded/code", match.span(), "self", "encoded", 0) for match in CODE.finditer(text))
    if meant := turned(text, book.lexicon.words):
        for finding in said_wrongly(meant):
            yield finding._replace(rule="encoded/turned", span=(0, len(text)))


def said_in_english(text: str, words: Passage, known: dict[str, Sentence], rules: Index) -> Iterator[Finding]:
    where = sentences(words, known)
    if not (found := list(matches(rules, where))):
        return
    spared, spared_after, kinds = spared_in_replies()
    spared_within = load_frames()[1]
    idioms = [(rule.kind, first, last) for rule, first, last in matches(spared, where)]
    frames = list(framed(words, where))
    for rule, start, end in found:
        excuses = spared_after.get(rule.name, spared_after.get(rule.kind, NO_WORDS))
        within = spared_within.get(rule.name, NO_WORDS)
        if not (
            # An idiom named after a kind spares that kind alone.
            any(
                (first <= start < last or first < end <= last) and (whose == rule.kind or whose not in kinds)
                for whose, first, last in idioms
            )
            or not within.isdisjoint(words.text[start:end].split())
            or not excuses.isdisjoint(words_before(words.text, start))
            or in_frame(rule.kind, start, frames)
            or in_context(rule, words, start, end, text)
        ):
            yield Finding(rule.name, words.span(start, end), "self", rule.kind, 0, rule.soft)


def said_elsewise(text: str, words: Passage, known: dict[str, Sentence]) -> Iterator[Finding]:
    spaced, unspaced = reply_phrases()
    negators = {"no", *load().data["negators"]}
    spans = [
        (rule, words.span(start, end))
        for rule, start, end in matches(spaced, sentences(words, known))
        if negators.isdisjoint(words_before(words.text, start)[-2:])
    ]
    if not text.isascii():
        glued = passage(words.tokens, space="")
        spans += [
            (rule, glued.span(*match.span())) for rule in unspaced for match in rule.pattern.finditer(glued.text)
        ]
    yield from (Finding(rule.name, span, "self", rule.kind, 0) for rule, span in spans)


def words_before(text: str, start: int) -> list[str]:
    """The last five words of the clause before a hit; "why not" advises, where "not" and "why" alone excuse."""
    clause = re.split(r"[.,] ", text[max(0, start - 80) : start])[-1]
    return re.sub(r"\bwhy not ", "", clause).split()[-5:]


def framed(words: Passage, where: list[tuple[int, Sentence]]) -> Iterator[tuple[frozenset[str], int, int]]:
    """Stretches that report, ask or deny something, and the kinds of rules that do not count there.

    "You've been telling yourself you're worthless" is no insult, "Have you tried to kill yourself?" no encouragement. A
    stretch goes from its opening to the end of the sentence, or to where the speaker speaks for himself again.
    """
    for frame in load_frames()[0]:
        for _, start, end in matches(frame.openings, where):
            if frame.trailing:
                yield frame.spares, words.text.rfind(". ", 0, start), end
                continue
            stops = (words.text.find(mark, end - 2) for mark in (". ", ", ")[: 1 + frame.clause])
            stop = min((place for place in stops if place >= 0), default=len(words.text))
            breaks = [
                match.start() + 1
                for ending in frame.endings
                if (match := ending.pattern.search(words.text, end - 3, stop))
            ]
            yield frame.spares, start, min([stop, *breaks])


def in_frame(kind: str, start: int, frames: list[tuple[frozenset[str], int, int]]) -> bool:
    return any(kind in spares and first <= start < last for spares, first, last in frames)


def in_context(rule: Rule, words: Passage, start: int, end: int, text: str) -> bool:
    """Whether what stands around a finding makes it harmless: said by somebody else, asked, denied."""
    contexts, unless = load_contexts()
    heeded = unless.get(rule.name, ())
    if not heeded:
        return False
    before = words.text[max(0, start - 120) : start]
    sentence = before[max(0, before.rfind(" . ")) :]
    clause = f" {sentence.split(', ')[-1].lstrip()}"
    after = words.text[end - 1 : end + 60].split(" . ")[0] + " "
    asked = re.match(r"[^.!?\n]*\?", text[words.span(start, end)[1] :]) is not None
    return any(
        frame.pattern.search(after if frame.after else clause if frame.clause else sentence)
        for frame in contexts
        if frame.name in heeded and (asked or not frame.question)
    )
