"""Read rules written in plain words and turn them into patterns.

A rule is a row of words a clinician can read, matched against the words of `folding.Passage`:

    want* to (die|be dead)      * ends a word anywhere; ( | ) is a choice; a trailing ? makes a word or choice optional
    tired of .. living          .. skips up to 3 words, ... up to 8; neither crosses a full stop
    {who} {desire} {die}        {name} is a list from "vocabulary"
    ^ stop your medication      ^ is the start of a clause, $ the end of one, # a number

A rule that uses {who}, {oneself}, {their} or {be} is read twice: for the person ("i", "myself") and for somebody else.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache, cached_property, wraps
from itertools import pairwise, product
from math import prod
from pathlib import Path
from threading import RLock
from typing import NamedTuple

from folding import ELISION, Lexicon, Passage, fold


HERE = Path(__file__).parent
GAPS = {"..": "(?:[^ .]+ ){0,3}?", "...": "(?:[^ .]+ ){0,8}?"}
CLAUSE_START = "(?:(?<=[.,] )|(?<= and )|(?<= then )|(?<= so )|(?<= or )|(?<= but ))"
CLAUSE_END = "(?=[.,] |$)"
PARTS = re.compile(r"\{\w+\}|[()|?^$]|\.{2,3}|[^\s()|?^${}]+")
DIGIT = re.compile(r"\d")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
MOST = 200  # matches of one rule that are looked at; hostile text has more, and they add nothing
KEPT = ("just", "even")  # fillers that mean something to some reply rules: "it is just a phase", "get even"
FILLER = "~"  # stands for a word that is dropped from messages and therefore from rules
SLOTS = ("who", "oneself", "their", "be")
Needs = list[frozenset[str]]  # words, their beginnings ("suic*"), "#" for a number, or two words in a row
Places = dict[str, list[int]]  # a word -> the rules that need it
ANYTHING = frozenset([""])  # every sentence has it
NO_WORD: frozenset[str] = frozenset()
MOST_PAIRS = 100  # of words that may follow each other, in one need
FEW = 40  # rules that are tried on every sentence
RARE = 0.0005  # the weight of a word that is not among the frequent ones

# About how people who seek or give support write: the most frequent words first. A rule is looked for where the rarest
# of its words is said.
FREQUENT = (
    ". , i you to and a the that is it of in not your my be have for can with are what do on me this so as but feel like if "
    "how am about know at they when just who there time help from out yourself will may was all get think some want been "
    "people more one we he would them she make up could her feeling good by life or an no really way any work has talk "
    "their things these something find well try other than take go now because need too self then him even had very only "
    "through right should much someone going lot down see day being better friends love hard never understand where "
    "health always us myself anything family into yes job feelings here after did why another over still sometimes live keep "
    "give thing doing does bad best back most relationship person put before said tell say every man own # "
    "kind someone everything off our new real first let enough without while same look times years again old night long "
    "start stop point must wrong end"
)
WEIGHT = {word: 1 / (rank + 5) for rank, word in enumerate(FREQUENT.split())}


class Rule(NamedTuple):
    name: str
    kind: str
    level: str
    subject: str
    soft: bool
    source: str  # begins with the space before its first word: a letter to skip to, where (?<= ) is slow
    needs: Needs  # what it matches holds a word of each set
    across: bool  # what it matches may hold a full stop

    @property
    def pattern(self) -> re.Pattern[str]:
        return compiled(self.source)


class Index(NamedTuple):
    """Many rules, found by the rarest word they need: thousands cost little where none of their words is said."""

    rules: list[Rule]
    within: Places  # the rules to look for in a sentence
    across: Places  # those that look beyond it
    further: list[Needs]  # of each rule, what it needs beside the rarest word


class Sentence:
    """A sentence of a passage, or the whole of it; what it offers to the needs of rules is gathered when first asked for."""

    def __init__(self, text: str):
        self.text = text
        self.parts: list[Sentence] = []  # of a whole passage: they offer, between them, all that it does

    @cached_property
    def keys(self) -> frozenset[str]:
        return frozenset().union(*(part.keys for part in self.parts)) if self.parts else keys_of(self.text)


class Context(NamedTuple):
    """Words around a finding that make it harmless: "you have been telling yourself ...", "does it feel as if ...?"."""

    name: str
    pattern: re.Pattern[str]
    clause: bool  # looked for in the clause of the finding only, not in its whole sentence
    after: bool  # looked for behind the finding
    question: bool  # the sentence must end in a question mark


class Rulebook(NamedTuple):
    rules: Index
    idioms: Index
    lexicon: Lexicon
    data: dict


def once(read: Callable) -> Callable:
    """Like `functools.cache`, but who comes while it is being read waits for that instead of reading it too."""
    known, lock = {}, RLock()

    @wraps(read)
    def waiting(*given):
        if given not in known:
            with lock:
                if given not in known:
                    known[given] = read(*given)
        return known[given]

    waiting.cache_clear = known.clear
    return waiting


@cache
def compiled(source: str) -> re.Pattern[str]:
    """Compile a pattern when it is first looked for: all of them take seconds, for which nobody should wait."""
    return re.compile(source)


@cache
def commonness(need: frozenset[str]) -> float:
    """How often one of these words or pairs is said, against those of another need."""
    return sum(map(weight, need))


@cache
def weight(key: str) -> float:
    return prod(WEIGHT.get(word, RARE) for word in key.split())


def expand(text: str, vocabulary: dict[str, str]) -> str:
    """Put the vocabulary in place of its {names}; an unknown name is a mistake in the rules and raises KeyError."""
    while "{" in text:
        text = re.sub(r"\{(\w+)\}", lambda match: f"({vocabulary[match[1]]})", text)
    return text


class Part(NamedTuple):
    """A part of a rule; `first` and `last` are the words it may begin and end with, none where it is no word, None if unknown."""

    pattern: str
    needs: Needs
    first: frozenset[str] | None
    last: frozenset[str] | None


@cache
def parse_word(word: str) -> Part:
    if word == FILLER:
        return NOTHING
    if word in GAPS:
        return Part(GAPS[word], [], None, None)
    if word in "^$":
        return Part(CLAUSE_START if word == "^" else CLAUSE_END, [], NO_WORD, NO_WORD)
    # Several commas, where fillers between commas were dropped.
    pattern = re.escape(word).replace(r"\*", "[^ .]*").replace(r"\#", r"\d+") + " (?:, )*"
    stem = word.split("*")[0]
    if "#" in word:
        return Part(pattern, [frozenset("#")], None, None)
    if "*" in word:
        return Part(pattern, [frozenset([stem[:4] + "*"])] if len(stem) >= 3 else [], None, None)
    said = frozenset([word])
    return Part(pattern, [said], *((None, None) if word == "," else (said, said)))


NOTHING = Part("", [], NO_WORD, NO_WORD)


def followed(before: Part, after: Part) -> Part:
    if before is NOTHING:
        return after
    needs = before.needs + after.needs
    if before.last and after.first and len(before.last) * len(after.first) <= MOST_PAIRS:
        needs = [*needs, frozenset(f"{one} {other}" for one, other in product(before.last, after.first))]
    first = after.first if before.first == NO_WORD else before.first
    last = before.last if after.last == NO_WORD else after.last
    return Part(before.pattern + after.pattern, needs, first, last)


def parse_choice(parts: list[str | Part]) -> Part:
    """Parse up to the closing bracket (or the end)."""
    options = [NOTHING]
    only_filler = {0: False}
    while parts and parts[0] != ")":
        part = parts.pop(0)
        if part == "|":
            options.append(NOTHING)
            continue
        only_filler[len(options) - 1] = part == FILLER and not options[-1].pattern
        options[-1] = followed(options[-1], parse_part(part, parts))
    # "(so|too tired)" drops the choice that was but a filler; an empty choice written on purpose, "(i|)", stays.
    options = [option for index, option in enumerate(options) if not only_filler.get(index)] or options[:1]
    if len(options) == 1:
        return options[0]
    every = all(option.needs for option in options)
    needs = [frozenset().union(*(min(option.needs, key=commonness) for option in options))] if every else []
    first, last = (
        frozenset().union(*ends) if all(ends) else None
        for ends in ([option.first for option in options], [option.last for option in options])
    )
    return Part(f"(?:{'|'.join(option.pattern for option in options)})", needs, first, last)


def parse_part(part: str | Part, parts: list[str | Part]) -> Part:
    """Parse a word or a bracket, if that was not done before, and the question mark that may follow it."""
    if isinstance(part, Part):
        parsed = part
    elif part == "(":
        parsed = parse_choice(parts)
        parts.pop(0)
    else:
        parsed = parse_word(part)
    if parts and parts[0] == "?":
        parts.pop(0)
        return Part(f"(?:{parsed.pattern})?", [], None, None)
    return parsed


def compile_rule(text: str, vocabulary: dict[str, str], fillers: Iterable[str] = ()) -> tuple[str, Needs]:
    """Turn a rule into a regular expression and what it needs, rarest first; filler words are dropped, as they are from messages."""
    fillers = frozenset(fillers)
    parts = [
        parsed(expand(part, vocabulary), fillers) if part[0] == "{" else FILLER if part in fillers else part
        for part in PARTS.findall(text)
    ]
    rule = parse_choice(parts)
    return rule.pattern, sorted(rule.needs, key=commonness)


@cache
def parsed(text: str, fillers: frozenset[str]) -> Part:
    """Parse a list of words; hundreds of rules name the same ones."""
    return parse_choice([FILLER if part in fillers else part for part in PARTS.findall(text)])


def readings(entry: dict, data: dict) -> list[tuple[str, str, Needs, bool]]:
    """Each pattern of an entry as (subject, pattern, needs, soft); "unsure" ones also match much that is harmless."""
    found, subjects = [], data["subjects"]
    unsure = entry.get("unsure", [])
    for number, text in enumerate([*unsure, *entry["patterns"]]):
        slotted = any(f"{{{slot}}}" in text for slot in SLOTS)
        for subject in ("self", "other") if slotted else (entry.get("subject", "self"),):
            pattern, needs = compile_rule(text, {**data["vocabulary"], **subjects[subject]}, data["fillers"])
            found.append((subject, pattern, needs, entry.get("soft", False) or number < len(unsure)))
    return found


def rules_from(entries: list[dict], data: dict) -> list[Rule]:
    return [
        Rule(
            entry["rule"],
            entry.get("kind", entry["rule"].split("/")[0]),
            entry.get("level", "none"),
            subject,
            soft,
            f" {pattern}",
            needs,
            r"\." in pattern,
        )
        for entry in entries
        for subject, pattern, needs, soft in readings(entry, data)
    ]


def one_slip(word: str) -> set[str]:
    """Every way to mistype a word once."""
    cuts = [(word[:i], word[i:]) for i in range(1, len(word))]  # nobody mistypes the first letter and is understood
    swapped = {a + b[1] + b[0] + b[2:] for a, b in cuts if len(b) > 1}
    dropped = {a + b[1:] for a, b in cuts}
    others = {a + c + rest for (a, b), c in product(cuts, LETTERS) for rest in (b, b[1:])}
    return swapped | dropped | others


def lexicon_from(rules: list[Rule], data: dict) -> Lexicon:
    mentioned = {word for rule in rules for word in re.findall(r"[a-z]+(?= )", rule.source)}
    rewrite = {typed: tuple(plain.split()) for typed, plain in data["rewrite"].items()}
    strong = frozenset(data["strong"])
    words = frozenset(
        mentioned
        | strong
        | set(data["ordinary"])
        | set(data["fillers"])
        | {word for word in rewrite if word.isalpha()}
    )
    squeezed = {re.sub(r"(.)\1+", r"\1", word): word for word in sorted(words) if len(word) > 2}
    squeezed |= {word: word for word in words if word in squeezed}  # "tooo" is rather "to" than "too"
    squeezed |= {re.sub(r"(.)\1+", r"\1", word): word for word in strong}
    slips = {slip: word for word in data["often_mistyped"] for slip in one_slip(word)}
    return Lexicon(
        words=words,
        strong=strong,
        rewrite=rewrite | dict.fromkeys(data["fillers"], ()),
        squeezed=squeezed,
        slips={slip: word for slip, word in slips.items() if slip not in words and slip not in data["not_slips"]},
    )


def read_json(name: str) -> dict:
    return json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))


@once
def load() -> Rulebook:
    """Read rules.json, once."""
    data = read_json("rules")
    rules, idioms = rules_from(data["rules"], data), rules_from(data["idioms"], data)
    return Rulebook(indexed(rules), indexed(idioms), lexicon_from(rules + idioms, data), data)


@once
def reply_data() -> dict:
    """Read reply_rules.json, once, with the filler words that messages lose too."""
    return {**read_json("reply_rules"), "fillers": load().data["fillers"]}


@once
def load_replies() -> Index:
    """The rules for replies."""
    data = reply_data()
    return indexed(rules_from(data["rules"], data))


@once
def spared_in_replies() -> tuple[Index, dict[str, frozenset[str]], frozenset[str]]:
    """What the rules for replies must spare, the words that make a phrase harmless, and every kind of rule."""
    data = reply_data()
    excuses = {name: frozenset(words) for name, words in data["spared_after"].items()}
    kinds = frozenset(rule.kind for rule in load_replies().rules)
    return indexed(rules_from(data["idioms"], data)), excuses, kinds


class Frame(NamedTuple):
    """A manner of speaking that makes what follows it in its sentence no claim or advice of the speaker's own."""

    openings: Index
    endings: list[Rule]  # where the speaker goes over to speaking for himself: "you feel worthless, and you are right"
    clause: bool  # it ends with its clause: "if you feel like a burden, tell me" says nothing about what follows
    trailing: bool  # the frame stands after what it frames: "get over it is an awful thing to hear"
    spares: frozenset[str]  # kinds of rules


@once
def load_frames() -> tuple[list[Frame], dict[str, frozenset[str]]]:
    """The frames, and the words that make a match of a rule harmless from inside it."""
    data = reply_data()
    endings = rules_from([{"rule": "frame/end", "patterns": data["frame_endings"]}], data)
    frames = [
        Frame(
            indexed(rules_from([entry], data)),
            endings,
            entry.get("clause", False),
            entry.get("trailing", False),
            frozenset(entry["spares"]),
        )
        for entry in data["frames"]
    ]
    return frames, {name: frozenset(words) for name, words in data["spared_within"].items()}


@once
def load_contexts() -> tuple[list[Context], dict[str, list[str]]]:
    """The contexts, and which of them each rule heeds ("unless")."""
    data = reply_data()
    contexts = []
    for entry in data["contexts"]:
        for text in entry["patterns"]:
            pattern = compile_rule(text, data["vocabulary"], data["fillers"])[0]
            if not entry.get("after"):
                pattern = f"(?<= ){pattern}(?:(?!i )[^ .]+ ){{0,{entry['words']}}}$"  # "i" begins what the model says
            flags = (entry.get(flag, False) for flag in ("clause", "after", "question"))
            contexts.append(Context(entry["frame"], re.compile(pattern), *flags))
    return contexts, {entry["rule"]: entry.get("unless", []) for entry in data["rules"] + data["rules_with_just"]}


@once
def load_replies_with_just() -> Index:
    """The reply rules for which "just" and "even" are no fillers."""
    data = reply_data()
    fillers = [word for word in data["fillers"] if word not in KEPT]
    return indexed(rules_from(data["rules_with_just"], {**data, "fillers": fillers}))


@once
def lexicon_with_fillers() -> Lexicon:
    lexicon = load().lexicon
    return lexicon._replace(rewrite={typed: plain for typed, plain in lexicon.rewrite.items() if plain})


@once
def lexicon_with_just() -> Lexicon:
    lexicon = load().lexicon
    return lexicon._replace(rewrite={typed: plain for typed, plain in lexicon.rewrite.items() if typed not in KEPT})


def sentences(passage: Passage, known: dict[str, Sentence]) -> list[tuple[int, Sentence]]:
    """The whole passage, then its sentences, each with its start; `known` are those of the same message read before.

    A sentence goes from the full stop before it, which some rules look at, to the end of its own.
    """
    places, start = [(0, passage.text)], 0
    while start < len(passage.text) - 3:
        stop = passage.text.find(" . ", start + 1)
        end = stop + 3 if stop >= 0 else len(passage.text)
        places.append((start, passage.text[start:end]))
        start = end - 3 if stop >= 0 else end
    for _, text in places:
        if text not in known:
            known[text] = Sentence(text)
    where = [(start, known[text]) for start, text in places]
    if len(where) > 2:  # a passage of one sentence may be that sentence
        where[0][1].parts = [sentence for _, sentence in where[1:]]
    return where


def keys_of(text: str) -> frozenset[str]:
    """What a text offers to the needs of rules: its words, their first three and four letters, and its pairs of words."""
    words = text.split()
    spoken = [word for word in words if word != ","] if ", " in text else words
    pairs = [f"{one} {other}" for one, other in pairwise(spoken)]
    keys = {"", *words, *pairs, *[word[:3] + "*" for word in words], *[word[:4] + "*" for word in words]}
    return frozenset(keys | {"#"} if DIGIT.search(text) else keys)


def matches(index: Index, where: list[tuple[int, Sentence]]) -> Iterator[tuple[Rule, int, int]]:
    """Where the rules match in a passage, rule by rule; `where` are its sentences."""
    (_, whole), *parts = where
    found = {
        place: spans_of(index.rules[place].pattern, whole.text) for place in needing(index, index.across, whole.keys)
    }
    within = needing(index, index.within, whole.keys)
    few = len(within) <= FEW
    for shift, sentence in parts if within else ():
        lacks = sentence.keys.isdisjoint
        # Of many rules, those that a sentence can match are found by its words; few are tried one by one.
        for place in within if few else needing(index, index.within, sentence.keys):
            if not few or not any(map(lacks, index.rules[place].needs)):
                spans = spans_of(index.rules[place].pattern, sentence.text)
                found.setdefault(place, []).extend((shift + start, shift + end) for start, end in spans)
    for place in sorted(found):
        yield from ((index.rules[place], *span) for span in found[place][:MOST])


def needing(index: Index, places: Places, keys: frozenset[str]) -> set[int]:
    """The rules that a text with these keys may match."""
    found: set[int] = set()
    for key in keys & places.keys():
        found.update(places[key])
    further, lacks = index.further, keys.isdisjoint
    return {place for place in found if not (further[place] and any(map(lacks, further[place])))}


def spans_of(pattern: re.Pattern[str], text: str) -> list[tuple[int, int]]:
    """Where the pattern matches, without the space it begins with."""
    spans, start = [], 0
    while len(spans) < MOST and (match := pattern.search(text, start)):
        spans.append((match.start() + 1, match.end()))
        start = max(match.start() + 1, match.end() - 1)
    return spans


def indexed(rules: list[Rule]) -> Index:
    index = Index(rules, {}, {}, [rule.needs[1:] for rule in rules])
    for place, rule in enumerate(rules):
        for word in rule.needs[0] if rule.needs else ANYTHING:
            (index.across if rule.across else index.within).setdefault(word, []).append(place)
    return index


@once
def phrasebook() -> tuple[Index, list[Rule], re.Pattern[str], Index]:
    """Read the other languages: rules for spaced scripts and for unspaced ones, what the latter and the former spare."""
    data = read_json("phrases")
    vocabulary = {name: plain_phrase(words) for name, words in data.get("vocabulary", {}).items()}
    spaced, unspaced = phrase_rules(data, vocabulary)
    unless = re.compile("|".join(re.escape(fold(phrase)[0].replace(" ", "")) for phrase in data["unless"]))
    idioms = [
        phrase_rule(f"idiom/{language}", "idiom", "none", phrase, vocabulary)
        for language, phrases in data.get("idioms", {}).items()
        for phrase in phrases
    ]
    return indexed(spaced), unspaced, unless, indexed(idioms)


@once
def reply_phrases() -> tuple[Index, list[Rule]]:
    """What a reply must not say in other languages, as rules for spaced scripts and for unspaced ones."""
    spaced, unspaced = phrase_rules(read_json("reply_phrases"), {})
    return indexed(spaced), unspaced


def phrase_rules(data: dict, vocabulary: dict[str, str]) -> tuple[list[Rule], list[Rule]]:
    spaced, unspaced = [], []
    for language, kinds in data["phrases"].items():
        for kind, phrases in kinds.items():
            level = "imminent" if kind == "overdose" else "risk"
            if language in data["unspaced"]:
                joined = "|".join(re.escape(fold(phrase)[0].replace(" ", "")) for phrase in phrases)
                unspaced.append(Rule(f"{kind}/{language}", kind, level, "self", False, joined, [], True))
                continue
            spaced += [phrase_rule(f"{kind}/{language}", kind, level, phrase, vocabulary) for phrase in phrases]
    return spaced, unspaced


def phrase_rule(name: str, kind: str, level: str, phrase: str, vocabulary: dict[str, str]) -> Rule:
    pattern, needs = compile_rule(plain_phrase(phrase.lstrip("@ ")), vocabulary, load().data["fillers"])
    subject = "other" if phrase.startswith("@") else "self"
    return Rule(name, kind, level, subject, False, f" {pattern}", needs, r"\." in pattern)


@once
def human_questions() -> tuple[Index, list[Rule]]:
    """Ways to ask what it is that answers, in spaced scripts and in unspaced ones: human/language.

    Fillers count in them: "is somebody really there?" asks it, "is somebody there?" does not.
    """
    data = load().data

    def rules(key: str) -> Iterator[tuple[str, tuple[str, Needs]]]:
        for language, patterns in data[key].items():
            for text in patterns:
                yield f"human/{language}", compile_rule(plain_phrase(expand(text, data["vocabulary"])), {})

    spaced = [
        Rule(
            name,
            "human",
            "none",
            "self",
            False,
            f" {pattern}",
            needs,
            r"\." in pattern,
        )
        for name, (pattern, needs) in rules("human_questions")
    ]
    unspaced = [
        Rule(name, "human", "none", "self", False, pattern.replace(" ", ""), [], True)
        for name, (pattern, _) in rules("human_phrases")
    ]
    return indexed(spaced), unspaced


def plain_phrase(text: str) -> str:
    """Do to a phrase what is done to a message: "w" is read as "with" there, whatever its language, "n'ai" as "n ai"."""
    rewrite = load().data["rewrite"]

    def plain(match: re.Match[str]) -> str:
        return rewrite.get(match[0]) or ELISION.sub(r"\1 ", match[0]).replace("'", "")

    return re.sub(r"[\w']+", plain, fold(text)[0])
