"""Find what a message says about danger, clause by clause: who it is about, whether it is denied, joked or long past."""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cache
from typing import NamedTuple

from folding import Passage, passage, read
from rulebook import Rule, Sentence, compile_rule, load, matches, phrasebook, sentences


LEVELS = ("none", "distress", "risk", "imminent")
RISK = LEVELS.index("risk")
NEARBY = 400  # a time or a means this many characters away from a plan belongs to it
NO_MEANS_WELL = ("/pl", "/cs", "/hu")  # where "no" is "well": "no chcę umrzeć"
DENIAL = "denial/danger"
STILL_OPEN = ("yet ", "only ", "until ", "till ", "unless ", "more ", "before ")
# "I said I'm not suicidal", "no reason not to hurt myself", "I try not to cut", "I can't promise I won't".
TAKEN_BACK = re.compile(
    r" (?:told|tell|telling|said|say|saying|lied|lie|lying|pretend|pretending|guarantee|sure|know|trust|if|not promise|like"
    r"|reason|reasons|why|how|try|trying|tried|tries|hard|harder|difficult|struggle|struggling|fight|fighting|should|supposed"
    r"|able|manage|managed|help|better|worse) (?:[^ .]+ ){0,3}$"
)
FIRST_PERSON = re.compile(r"(?:^| )(?:i|me|my|myself|we) ")


class Hit(NamedTuple):
    """A finding on its way: with its level, and whether it was said to be *not* so."""

    rule: str
    start: int
    end: int
    subject: str
    kind: str
    level: int
    soft: bool
    denied: bool


def read_hits(text: str) -> list[Hit]:
    """Every hit of one text, read as typed and with disguises undone, so that undoing one can only add."""
    book = load()
    passages = read(text, book.lexicon, book.data["emoji"])
    known: dict[str, Sentence] = {}  # forgotten with the text
    return weigh_soft(list(dict.fromkeys(hit for words in passages for hit in passage_hits(words, known))))


def passage_hits(words: Passage, known: dict[str, Sentence]) -> list[Hit]:
    book, (spaced, unspaced, unless, spared) = load(), phrasebook()
    where = sentences(words, known)
    found = [
        (rule, start, end, index is spaced)
        for index in (book.rules, spaced)
        for rule, start, end in matches(index, where)
    ]
    found = [one for one in found if one[0].name != DENIAL or is_firm(words.text, *one[1:3])]
    denials = [(start, end) for rule, start, end, _ in found if rule.name == DENIAL]
    idioms = [span for index in (book.idioms, spared) for _, *span in matches(index, where)] if found else []
    hits = []
    for rule, start, end, foreign in found:
        if rule.name != DENIAL and any(first < end <= last for first, last in idioms):
            continue  # the idiom holds the word that counts
        no_negates = foreign and not rule.name.endswith(NO_MEANS_WELL)
        in_denial = any(first < end <= last for first, last in denials)  # all of it, or what it ends with
        hits.append(make_hit(rule, words, start, end, no_negates=no_negates, in_denial=in_denial))
    hits = [in_context(hit, words.text, where[0][1].keys) for hit in hits]
    if not words.text.isascii():
        hits += unspaced_hits(words, unspaced, unless)
    return without_repeats(hits)


def unspaced_hits(words: Passage, rules: Iterable[Rule], unless: re.Pattern[str]) -> list[Hit]:
    glued = passage(words.tokens, space="")
    spared = [match.span() for match in unless.finditer(glued.text)]
    hits = []
    for rule in rules:
        for match in rule.pattern.finditer(glued.text):
            denial = next((span for span in spared if span[0] <= match.start() and match.end() <= span[1]), None)
            level = 0 if denial else LEVELS.index(rule.level)
            span = glued.span(*(denial or match.span()))
            hits.append(Hit(rule.name, *span, rule.subject, rule.kind, level, False, denial is not None))
    return hits


def make_hit(rule: Rule, words: Passage, start: int, end: int, *, no_negates: bool, in_denial: bool) -> Hit:
    text = words.text[start:end]
    before = re.split(r"[.,] ", words.text[max(0, start - 120) : start])[-1].split()
    subject = rule.subject
    if subject == "other" and (" i " in f" {text}" or "myself" in text):  # "my friend died and i want to die"
        subject = "self"
    elif subject == "self" and not FIRST_PERSON.search(text):
        subject = spoken_of(before)
    level = LEVELS.index(rule.level)
    # "nie mam siły, chcę umrzeć": what is denied is what stands before the comma.
    denied = in_denial or (", " not in text and is_denied(before, words.text[end : end + 30], no_negates))
    denied = denied and rule.kind != "denial"
    return Hit(
        rule.name, *words.span(start, end), subject, rule.kind, min(level, 1) if denied else level, rule.soft, denied
    )


def spoken_of(before: list[str]) -> str:
    """Who "want to die" is about when it names nobody: the nearest subject before it, else the person."""
    for word in reversed(before[-5:]):
        if word in ("i", "me", "my"):
            return "self"
        if word in ("he", "she", "they", "people", "you", "who", "someone"):
            return "other"
    return "self"


def is_firm(text: str, start: int, end: int) -> bool:
    """Whether what looks like a denial is one: "I can't promise that I won't", "I said I'm not", "I haven't yet" are none."""
    return not text.startswith(STILL_OPEN, end) and not TAKEN_BACK.search(text, max(0, start - 40), start)


def is_denied(before: list[str], after: str, no_negates: bool) -> bool:
    data = load().data
    if after.startswith(STILL_OPEN):  # "I haven't killed myself yet"
        return False
    if after.startswith(tuple(data["denied_after"])):  # languages that say no behind the verb
        return True
    between: list[str] = []
    for word in reversed(before[-7:]):
        if word == "no" and ((no_negates and not between) or (between and between[-1] in data["no_reaches"])):
            return True
        if word in data["negators"]:
            place = len(before) - len(between) - 2
            return not (word == "not" and place >= 0 and before[place] in ("can", "could"))  # "I can't die yet"
        if word not in data["negation_reaches"]:
            return False
        between.append(word)
    return False


def in_context(hit: Hit, text: str, known: frozenset[str]) -> Hit:
    """Lower what is told of somebody in a film, or of long ago; never what the person says of their own wish to die."""
    if hit.subject == "other" and hit.kind != "harm-others" and not known.isdisjoint(load().data["fiction"]):
        return hit._replace(level=0)
    past_kinds = (
        ("harm-now", "overdose", "eating-disorder", "self-harm")
        if hit.subject == "self"
        else ("suicide", "overdose", "self-harm")
    )
    if hit.level >= RISK and hit.kind in past_kinds and past_pattern().search(text):
        return hit._replace(level=RISK if hit.kind == "overdose" and hit.subject == "self" else 1)
    return hit


@cache
def past_pattern() -> re.Pattern[str]:
    data = load().data
    return re.compile("|".join(compile_rule(text, data["vocabulary"])[0] for text in data["past"]))


def weigh_soft(hits: list[Hit]) -> list[Hit]:
    """One soft sign is distress; two different ones in a message are risk."""
    soft = [hit for hit in hits if hit.soft and not hit.denied and hit.level >= RISK]
    if any(one.end <= other.start for one in soft for other in soft):
        return hits
    return [hit._replace(level=min(hit.level, 1)) if hit.soft else hit for hit in hits]


def without_repeats(hits: list[Hit]) -> list[Hit]:
    """Keep one hit where a rule matched the same words twice, and the reading that names its subject."""
    kept: list[Hit] = []
    for hit in sorted(hits, key=lambda hit: (hit.start, -hit.end, hit.subject)):
        covering = (other for other in kept[-40:] if other.kind == hit.kind and other.start <= hit.start < other.end)
        if not any(other.rule == hit.rule or (other.subject, hit.subject) == ("other", "self") for other in covering):
            kept.append(hit)
    return kept


def escalate(hits: list[Hit], recent: list[Hit]) -> list[Hit]:
    """Raise what only together is grave: a wish and a means, a plan and a time; an entry "alone" needs no earlier turn."""
    raised = []
    names = {hit.rule for hit in hits + recent}
    for entry in load().data["escalate"]:
        if not all(any(fnmatchcase(name, rule) for name in names) for rule in entry["when"]):
            continue
        earlier = [] if entry.get("alone") else recent
        parts = [[hit for hit in hits + earlier if counts(hit, rule)] for rule in entry["when"]]
        newest = next((hit for hit in parts[-1] + parts[-2] if hit in hits and hit.rule != "sign/firm"), None)
        if newest and all(any(is_near(hit, newest, earlier, entry) for hit in part) for part in parts):
            name = "+".join(entry["when"])
            kind = entry.get("kind", kind_of(name))
            raised.append(newest._replace(rule=name, kind=kind, level=LEVELS.index(entry["level"])))
    return hits + raised


def is_near(hit: Hit, newest: Hit, earlier: list[Hit], entry: dict) -> bool:
    return hit in earlier or abs(hit.start - newest.start) < entry.get("near", NEARBY)


def counts(hit: Hit, rule: str) -> bool:
    return (
        not hit.denied
        and hit.kind in ("sign", kind_of(rule))
        and (hit.level > 0 or hit.kind == "sign")
        and fnmatchcase(hit.rule, rule)
    )


def kind_of(rule: str) -> str:
    return rule.split("/")[0]
