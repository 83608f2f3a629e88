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
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import islice, product
from pathlib import Path
from typing import NamedTuple

from folding import ELISION, Lexicon, Passage, fold


HERE = Path(__file__).parent
GAPS = {"..": "(?:[^ .]+ ){0,3}?", "...": "(?:[^ .]+ ){0,8}?"}
CLAUSE_START = "(?:(?<=[.,] )|(?<= and )|(?<= then )|(?<= so )|(?<= or )|(?<= but ))"
CLAUSE_END = "(?=[.,] |$)"
PARTS = re.compile(r"[()|?^$]|\.{2,3}|[^\s()|?^$]+")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
MOST = 200  # matches of one rule that are looked at; hostile text has more, and they add nothing
KEPT = ("just", "even")  # fillers that mean something to some reply rules: "it is just a phase", "get even"
FILLER = "~"  # stands for a word that is dropped from messages and therefore from rules
SLOTS = ("who", "oneself", "their", "be")
NO_WORDS: frozenset[str] = frozenset()


class Part(NamedTuple):
    """A rule, or a piece of one, as a regular expression, and the words without which it cannot match.

    Words are those of the passage, or the first three or four letters of one with a star.
    """

    pattern: str
    needs: list[frozenset[str]]  # the passage must hold a word of each set
    first: frozenset[str] | None  # a match begins with one of these; None: with any word
    empty: bool  # whether it matches no words at all


EMPTY = Part("", [], NO_WORDS, True)


class Rule(NamedTuple):
    name: str
    kind: str
    level: str
    subject: str
    soft: bool
    pattern: re.Pattern[str]
    needs: Sequence[frozenset[str]] = ()  # as in Part
    first: frozenset[str] | None = None


class Index(NamedTuple):
    """Many rules, found by the words they need: thousands cost little where none of their words is said."""

    rules: list[Rule]
    places: dict[str, list[int]]  # a needed word -> the rules that may match where it stands; "" -> those without


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


def expand(text: str, vocabulary: dict[str, str]) -> str:
    """Put the vocabulary in place of its {names}; an unknown name is a mistake in the rules and raises KeyError."""
    while "{" in text:
        text = re.sub(r"\{(\w+)\}", lambda match: f"({vocabulary[match[1]]})", text)
    return text


def parse_word(word: str) -> Part:
    if word == FILLER:
        return Part("", [], NO_WORDS, True)
    if word in GAPS:
        return Part(GAPS[word], [], None, True)
    if word in "^$":
        return Part(CLAUSE_START if word == "^" else CLAUSE_END, [], NO_WORDS, True)
    spelled = re.escape(word).replace(r"\*", "[^ .]*").replace(r"\#", r"\d+")
    stem = word.split("*")[0]
    first = (
        None
        if "#" in word or ("*" in word and len(stem) < 3)
        else frozenset([word if stem == word else stem[:4] + "*"])
    )
    # several commas, where fillers between them were dropped
    return Part(f"{spelled} (?:, )*", [first] if first else [], first, False)


def parse_choice(parts: list[str]) -> Part:
    """Parse up to the closing bracket (or the end)."""
    options = [EMPTY]
    only_filler = {0: False}
    while parts and parts[0] != ")":
        part = parts.pop(0)
        if part == "|":
            options.append(EMPTY)
            continue
        only_filler[len(options) - 1] = part == FILLER and not options[-1].pattern
        options[-1] = followed_by(options[-1], parse_part(part, parts))
    # "(so|too tired)" drops the choice that was but a filler; an empty choice written on purpose, "(i|)", stays.
    options = [option for index, option in enumerate(options) if not only_filler.get(index)] or options[:1]
    if len(options) == 1:
        return options[0]
    needs = [NO_WORDS.union(*(min(o.needs, key=len) for o in options))] if all(o.needs for o in options) else []
    return Part(
        f"(?:{'|'.join(option.pattern for option in options)})",
        needs,
        either(*(option.first for option in options)),
        any(option.empty for option in options),
    )


def followed_by(before: Part, after: Part) -> Part:
    first = either(before.first, after.first) if before.empty else before.first
    return Part(before.pattern + after.pattern, before.needs + after.needs, first, before.empty and after.empty)


def either(*firsts: frozenset[str] | None) -> frozenset[str] | None:
    return None if None in firsts else NO_WORDS.union(*firsts)


def parse_part(part: str, parts: list[str]) -> Part:
    """Parse a word or a bracket and the question mark that may follow it."""
    if part == "(":
        parsed = parse_choice(parts)
        parts.pop(0)
    else:
        parsed = parse_word(part)
    if parts and parts[0] == "?":
        parts.pop(0)
        return Part(f"(?:{parsed.pattern})?", [], parsed.first, True)
    return parsed


def compile_rule(text: str, vocabulary: dict[str, str], fillers: Iterable[str] = ()) -> Part:
    """Turn a rule into a regular expression; filler words are dropped, as they are from messages."""
    return parse_choice([FILLER if part in fillers else part for part in PARTS.findall(expand(text, vocabulary))])


def readings(entry: dict, data: dict) -> list[tuple[str, Part]]:
    """Each pattern of an entry with its subject."""
    found, subjects = [], data["subjects"]
    for text in entry["patterns"]:
        slotted = any(f"{{{slot}}}" in text for slot in SLOTS)
        for subject in ("self", "other") if slotted else (entry.get("subject", "self"),):
            found.append((subject, compile_rule(text, {**data["vocabulary"], **subjects[subject]}, data["fillers"])))
    return found


def rules_from(entries: list[dict], data: dict) -> list[Rule]:
    return [
        Rule(
            entry["rule"],
            entry.get("kind", entry["rule"].split("/")[0]),
            entry.get("level", "none"),
            subject,
            entry.get("soft", False),
            *searched(parsed),
        )
        for entry in entries
        for subject, parsed in readings(entry, data)
    ]


def searched(parsed: Part) -> tuple[re.Pattern[str], list[frozenset[str]], frozenset[str] | None]:
    """What a Rule keeps of what was parsed; a rule that could match nothing is looked for everywhere."""
    return re.compile(f"(?<= ){parsed.pattern}"), parsed.needs, None if parsed.empty else parsed.first


def one_slip(word: str) -> set[str]:
    """Every way to mistype a word once."""
    cuts = [(word[:i], word[i:]) for i in range(1, len(word))]  # nobody mistypes the first letter and is understood
    swapped = {a + b[1] + b[0] + b[2:] for a, b in cuts if len(b) > 1}
    dropped = {a + b[1:] for a, b in cuts}
    others = {a + c + rest for (a, b), c in product(cuts, LETTERS) for rest in (b, b[1:])}
    return swapped | dropped | others


def lexicon_from(rules: list[Rule], data: dict) -> Lexicon:
    mentioned = {word for rule in rules for word in re.findall(r"[a-z]+(?= )", rule.pattern.pattern)}
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


@cache
def load() -> Rulebook:
    """Read rules.json, once."""
    data = read_json("rules")
    rules, idioms = rules_from(data["rules"], data), rules_from(data["idioms"], data)
    return Rulebook(indexed(rules), indexed(idioms), lexicon_from(rules + idioms, data), data)


@cache
def reply_data() -> dict:
    """Read reply_rules.json, once, with the filler words that messages lose too."""
    return {**read_json("reply_rules"), "fillers": load().data["fillers"]}


@cache
def load_replies() -> tuple[Index, Index, dict[str, list[str]]]:
    """The rules for replies, what they must spare, and the words that make a phrase harmless."""
    data = reply_data()
    return indexed(rules_from(data["rules"], data)), indexed(rules_from(data["idioms"], data)), data["spared_after"]


class Frame(NamedTuple):
    """A manner of speaking that makes what follows it in its sentence no claim or advice of the speaker's own."""

    openings: list[Rule]
    endings: list[Rule]  # where the speaker goes over to speaking for himself: "you feel worthless, and you are right"
    clause: bool  # it ends with its clause: "if you feel like a burden, tell me" says nothing about what follows
    trailing: bool  # the frame stands after what it frames: "get over it is an awful thing to hear"
    spares: frozenset[str]  # kinds of rules


@cache
def load_frames() -> tuple[list[Frame], dict[str, frozenset[str]]]:
    """The frames, and the words that make a match of a rule harmless from inside it."""
    data = reply_data()
    endings = rules_from([{"rule": "frame/end", "patterns": data["frame_endings"]}], data)
    frames = [
        Frame(
            rules_from([entry], data),
            endings,
            entry.get("clause", False),
            entry.get("trailing", False),
            frozenset(entry["spares"]),
        )
        for entry in data["frames"]
    ]
    return frames, {name: frozenset(words) for name, words in data["spared_within"].items()}


@cache
def load_contexts() -> tuple[list[Context], dict[str, list[str]]]:
    """The contexts, and which of them each rule heeds ("unless")."""
    data = reply_data()
    contexts = []
    for entry in data["contexts"]:
        for text in entry["patterns"]:
            pattern = compile_rule(text, data["vocabulary"], data["fillers"]).pattern
            if not entry.get("after"):
                pattern = f"(?<= ){pattern}(?:(?!i )[^ .]+ ){{0,{entry['words']}}}$"  # "i" begins what the model says
            flags = (entry.get(flag, False) for flag in ("clause", "after", "question"))
            contexts.append(Context(entry["frame"], re.compile(pattern), *flags))
    return contexts, {entry["rule"]: entry.get("unless", []) for entry in data["rules"] + data["rules_with_just"]}


@cache
def load_replies_with_just() -> Index:
    """The reply rules for which "just" and "even" are no fillers."""
    data = reply_data()
    return indexed(
        rules_from(data["rules_with_just"], {**data, "fillers": [w for w in data["fillers"] if w not in KEPT]})
    )


@cache
def lexicon_with_fillers() -> Lexicon:
    lexicon = load().lexicon
    return lexicon._replace(rewrite={typed: plain for typed, plain in lexicon.rewrite.items() if plain})


@cache
def lexicon_with_just() -> Lexicon:
    lexicon = load().lexicon
    return lexicon._replace(rewrite={typed: plain for typed, plain in lexicon.rewrite.items() if typed not in KEPT})


def places_of(passage: Passage) -> dict[str, list[int]]:
    """Where each word begins in the passage's text and, for rules like `suicid*`, its first three and four letters."""
    places: dict[str, list[int]] = {}
    for token, place in zip(passage.tokens, passage.offsets, strict=True):
        for key in {token.word, token.word[:3] + "*", token.word[:4] + "*"}:
            places.setdefault(key, []).append(place)
    return places


def matches(rule: Rule, passage: Passage, places: dict[str, list[int]]) -> Iterator[tuple[int, int]]:
    """Where the rule matches in the passage's text; cheap where a word that it needs or begins with is missing."""
    if any(places.keys().isdisjoint(need) for need in rule.needs):
        return
    if rule.first is None:
        found = (match.span() for match in rule.pattern.finditer(passage.text))
    else:
        found = matches_at(
            rule.pattern, passage.text, sorted({place for word in rule.first for place in places.get(word, ())})
        )
    yield from islice(found, MOST)


def matches_at(pattern: re.Pattern[str], text: str, places: list[int]) -> Iterator[tuple[int, int]]:
    """What finditer would give, when it is known where matches begin."""
    end = 0
    for place in places:
        if place >= end and (match := pattern.match(text, place)):
            end = match.end()
            yield match.span()


def indexed(rules: list[Rule]) -> Index:
    """File each rule under the words of that need which the fewest rules share: "toaster", not "you"."""
    shared = Counter(word for rule in rules for need in rule.needs for word in need)
    places: dict[str, list[int]] = {}
    for place, rule in enumerate(rules):
        rarest = min(rule.needs, key=lambda need: sum(shared[word] for word in need), default=("",))
        for word in rarest:
            places.setdefault(word, []).append(place)
    return Index(rules, places)


def likely(index: Index, words: Iterable[str]) -> list[Rule]:
    """The rules, in their order, of which at least one needed word is among the words."""
    found = {place for word in words for place in index.places.get(word, ())}
    return [index.rules[place] for place in sorted(found.union(index.places.get("", ())))]


@cache
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


@cache
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
                unspaced.append(Rule(f"{kind}/{language}", kind, level, "self", False, re.compile(joined)))
                continue
            spaced += [phrase_rule(f"{kind}/{language}", kind, level, phrase, vocabulary) for phrase in phrases]
    return spaced, unspaced


def phrase_rule(name: str, kind: str, level: str, phrase: str, vocabulary: dict[str, str]) -> Rule:
    parsed = compile_rule(plain_phrase(phrase.lstrip("@ ")), vocabulary, load().data["fillers"])
    subject = "other" if phrase.startswith("@") else "self"
    return Rule(name, kind, level, subject, False, *searched(parsed))


@cache
def human_questions() -> tuple[Index, list[Rule]]:
    """Ways to ask what it is that answers, in spaced scripts and in unspaced ones: human/language.

    Fillers count in them: "is somebody really there?" asks it, "is somebody there?" does not.
    """
    data = load().data

    def rules(key: str) -> Iterator[tuple[str, Part]]:
        for language, patterns in data[key].items():
            for text in patterns:
                yield f"human/{language}", compile_rule(plain_phrase(expand(text, data["vocabulary"])), {})

    spaced = [
        Rule(name, "human", "none", "self", False, *searched(parsed)) for name, parsed in rules("human_questions")
    ]
    unspaced = [
        Rule(name, "human", "none", "self", False, re.compile(parsed.pattern.replace(" ", "")))
        for name, parsed in rules("human_phrases")
    ]
    return indexed(spaced), unspaced


def plain_phrase(text: str) -> str:
    """Do to a phrase what is done to a message: "w" is read as "with" there, whatever its language, "n'ai" as "n ai"."""
    rewrite = load().data["rewrite"]

    def plain(match: re.Match[str]) -> str:
        return rewrite.get(match[0]) or ELISION.sub(r"\1 ", match[0]).replace("'", "")

    return re.sub(r"[\w']+", plain, fold(text)[0])
