"""Find people, employers, schools and places finer than a country, by cues, capitals and a list of first names.

names.yaml holds the words. A name is hidden rather than kept when in doubt; words of feeling that are names too ("hope", "grace") need a
cue or a capital where no sentence begins. Names in small letters are found beside a cue only ("my bf jake").
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import yaml

from base_model import BaseUnavailable, resolve
from rows import BadInput


HERE = Path(__file__).parent
WORDS = yaml.safe_load((HERE / "names.yaml").read_text(encoding="utf-8"))
FIRST, AMBIGUOUS, SPARED, COMMON, SMALL, PARTICLES, DOES, IS = (
    frozenset(WORDS[key].split())
    for key in ("first", "ambiguous", "spared", "common", "small", "particles", "does", "is")
)
NO_NAMES = SPARED | COMMON | SMALL
TOWNS = frozenset(town.replace("_", " ") for town in WORDS["towns"].split())
WORDS_TOO = ("buffalo", "cork", "hull", "limerick", "queens", "reading")  # towns only with a capital
KIN, TITLES, ORGANISATIONS, PHRASES = (
    WORDS[key].replace("| ", "|") for key in ("kin", "titles", "organisations", "phrases")
)

WORD = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*")
OPENS = re.compile(r"(?:^|[.!?…:;\n\"“”«(*\[]|\s[-–—~>#])[\s\"“'‘(*]*$")

# Before a name, in small letters or not.
NAMING = re.compile(
    r"(?i)\b(?:my (?:full |real |first |middle |maiden |sur)?names?(?: is|['’]?s)?|names?['’]?s|(?:maiden|first|last|middle|real|full) names? (?:is|was)|your name\?|name[: ]|(?:i(?:['’]m| am)|was) (?:called|named)|called|named|call (?:me|him|her|them)|calls me|"
    r"(?:people|everyone|friends) calls? me|ich hei(?:ß|ss)e|je m['’]appelle|me llamo|mi nombre es|mi chiamo|signed|sincerely|"
    r"on behalf of|and i['’]?m|says? i['’]m)[,:]? +"
)
SELF = re.compile(
    r"(?i)(?:^|[.!?,\n]|\b(?:hi|hey|hello|hiya|so|and|well|ok|btw)\b,?) *(?:this is|it['’]?s(?: me,?)?|it is(?: me,?)?|i['’]?m|i am|its) +(?=\S)"
)
RELATED = re.compile(rf"(?i)\b(?:{KIN})s?,? +(?:(?:is|was) +)?(?:(?:called|named|dr\.?|is|mr\.?|mrs\.?|ms\.?) +)?")
TITLED = re.compile(rf"(?i)\b(?:(?:mr|mrs|ms|dr|prof|sgt|rev|st)\.|{TITLES}\b) +(?=[^\W\d_])")
TITLE_IN_SHORT = re.compile(r"(?i)(?:mr|mrs|ms|dr|prof|sgt|rev|st)\. +$")
GREETED = re.compile(
    r"(?im)(?:^|[.!?\n\"“]) *(?:hi|hello|hey|hiya|dear|good (?:morning|evening|afternoon)|thanks|thank you|sorry|bye|goodnight|oh) *,? +(?=[^\W\d_]+ *(?:[,!.?:\n]|$))"
)
SIGNED = re.compile(
    r"(?:\n|^|[.!?] )[ \t]*(?:[-–—~]+ *|(?:(?:with )?(?:love|regards|best(?: wishes)?|yours|thanks|cheers|xo+)[^\n.!?]{0,25},\s*))(?=[^\W\d_][^\n.!?]{1,30}$)"
)
PLACED = re.compile(
    r"(?i)\b(?:in|from|near|to|left|outside|around|of|reached|fled|visit(?:ed|ing)?|via|between|and|aus|nach|à|en) +$"
)
EMPLOYED = re.compile(
    r"(?i)\b(?:work(?:s|ed|ing)?(?: \w+)? (?:at|for|in|with)|drives? for|(?:job|internship|shift|manager|mechanic|nurse|teacher|chaplain|trainee|employed|teach|volunteer(?:ed)?|intern) (?:\w+ )?(?:at|for)|laid off from|fired (?:from|by)|quit) +(?:the +)?$"
)
INSTITUTION = re.compile(
    rf"\b(?:the +)?(?:[A-ZÀ-Þ][\w'’&.-]{{0,40}} +(?:(?:of|and|&|the|for) +)?){{1,4}}(?i:{ORGANISATIONS})\b(?: +(?:Ltd|Inc|of [A-Z]\w+))?"
    r"|\b(?:University|College|Institute|Church|Bank|School|Hospital|Academy|Hospice) of (?:the )?[A-ZÀ-Þ]\w+(?: [A-ZÀ-Þ]\w+)*"
    r"|\b(?:Escuela|Colegio|Instituto|Universidad|École|Lycée|Université|Universität|Klinikum|Gymnasium)(?: (?:de |la |del |des )?[A-ZÀ-Þ]\w+| Nº ?\d+)+"
)
SMALL_SCHOOL = re.compile(rf"\b(?:at|to|from|attend) ([a-z]+) ((?:{'|'.join(ORGANISATIONS.split('|')[:10])}))\b")
KNOWN_TO_ALL = re.compile(rf"(?i)\b(?:{PHRASES})\b")
WORK_OF_ART = re.compile(
    r"(?i:\b(?:read(?:ing)?|watch(?:ed|ing)?|book|film|movie|song|novel|album|series)\b)(?:,? called)? [\"“']?(?:(?:[A-Z][\w'’]+|of|the|for|and|in|a|to|with)\b[ ,]?){2,}"
)


# The same for text in small letters: they take a third of the time, since they mind case.
IN_SMALL = {
    cue: re.compile(re.sub(r"^\(\?i(m?)\)", lambda flag: f"(?{flag[1]})" if flag[1] else "", cue.pattern))
    for cue in (NAMING, SELF, RELATED, TITLED, GREETED)
}
BEFORE_KIN = 24  # letters: "their younger ", and some
SOMEBODYS = re.compile(
    rf"(?i)\b(?:(?:my|her|his|our|their|ur|your)(?: (?:best|little|big|old|older|younger|baby|step|new|dear|poor|own|girl|boy))?,? (?:{KIN})s?,?|mrs?|ms|miss|dr|prof|coach)\.? $"
)
MY_NAME = re.compile(r"(?i)\bnames?(?: is|['’]?s|:|\?) *$")
LABELLED = re.compile(r"(?m)^[ \t]*([A-ZÀ-Þ][\w'’-]+):[ \t]")  # who speaks, in a script
# Nothing but capitals: a name above an address.
LINE = re.compile(
    rf"(?m)^[ \t?]*((?:[A-ZÀ-Þ][\w'’-]*\.?[ ]){{1,3}}(?:(?:{'|'.join(sorted(PARTICLES))}) ){{0,2}}[A-ZÀ-Þ][\w'’-]+)[ \t]*$"
)
AND_ANOTHER = re.compile(r"[A-ZÀ-Þ][\w'’-]+,? (?:and|&) [A-ZÀ-Þ]")
LIST = re.compile(r",? (?:and|&) |, ")
POSSESSIVE = re.compile(r"['’]s$")


def word_files() -> list[Path]:
    """Our own English texts, whose words in small letters are ordinary ones."""
    return [HERE / "messages/en.jsonl", *sorted((HERE / "dialogues").glob("*.jsonl"))]


@cache
def ordinary() -> frozenset[str]:
    """English words: a capital on one of them is no sign of a name.

    Those in small letters of our own messages and dialogues, and of the embedded base's vocabulary, where names have capitals. Raises
    BadInput where that base cannot be had.
    """
    texts = [file.read_text(encoding="utf-8").replace("\\n", " ") for file in word_files()]
    small = Counter(word for text in texts for word in re.findall(r"(?<![\w'’])[a-z]{2,}(?![\w'’])", text))
    # "my mate tash", and more often "Tash" where no sentence begins: a name, however it was typed once.
    large = Counter(word.lower() for text in texts for word in re.findall(r"(?<=[a-z,] )[A-Z][a-z]+(?![\w'’])", text))
    ours = {word for word, times in small.items() if large[word] < times}
    try:
        vocabulary = json.loads((Path(resolve()) / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    except (BaseUnavailable, OSError) as error:
        raise BadInput(f"The embedded base's word list could not be loaded: {str(error).splitlines()[0]}") from error
    known = {piece[1:] for piece in vocabulary if re.fullmatch("\u0120[a-z]{3,}", piece)}  # \u0120 stands for a space
    return frozenset((ours | known) - FIRST)


class Token(NamedTuple):
    text: str
    start: int
    end: int
    plain: str  # small letters, without the s of a possessive
    capital: bool
    opens: bool  # stands where a sentence begins

    @property
    def bare_end(self) -> int:
        """Where it ends without the s of a possessive."""
        return self.end - (2 if POSSESSIVE.search(self.text) else 0)


Span = tuple[str, int, int]


def tokens_of(text: str) -> Iterator[Token]:
    for match in WORD.finditer(text):
        word, start = match[0], match.start()
        plain = word.lower()
        plain = re.sub(r"['’]s?$", "", plain) if "'" in word or "’" in word else plain
        capital = word[0].isupper()
        opens = capital and OPENS.search(text[max(0, start - 12) : start]) is not None
        yield Token(word, start, match.end(), plain, capital, opens)


def find_names(text: str, known: set[str]) -> list[Span]:
    """Return (kind, start, end) of names, in order, never overlapping; `known` gathers first names for the rest of a conversation."""
    tokens = list(tokens_of(text))
    at = {token.start: place for place, token in enumerate(tokens)}
    spans = [("ORG", *match.span()) for match in INSTITUTION.finditer(text) if is_named(match[0])]
    spans += [
        ("ORG", *match.span(1))
        for match in SMALL_SCHOOL.finditer(text)
        if match[1] not in no_names() and len(match[1]) > 3
    ]
    spans += cued(text, tokens, at)
    spans += capitalised(text, tokens)
    spans += listed(text, tokens, spans)
    for _, start, end in [span for span in spans if span[0] == "PERSON"]:
        words = [word.lower() for word in WORD.findall(text[start:end])]
        known.update(POSSESSIVE.sub("", word) for word in words if len(word) > 2 and word not in SPARED)
    spans += again(tokens, known)
    if not spans:
        return []
    harmless = [match.span() for pattern in (KNOWN_TO_ALL, WORK_OF_ART) for match in pattern.finditer(text)]
    spans = [span for span in spans if not any(first <= span[1] and span[2] <= last for first, last in harmless)]
    return without_overlaps(spans)


def is_named(institution: str) -> bool:
    """Whether it is more than "The Hospital" or "My University"."""
    capitals = [word.lower() for word in institution.split() if word[0].isupper()]
    return any(word not in SMALL and word not in SPARED and word not in ORGANISATIONS.split("|") for word in capitals)


def cued(text: str, tokens: list[Token], at: dict[int, int]) -> Iterator[Span]:
    """Names that something before them announces."""
    yield from labelled(text)
    small = text.lower() if text.isascii() else ""  # else its letters may stand elsewhere
    cues = [(NAMING, True), (SIGNED, True)]
    if any(follows_something(text, token) for token in tokens if is_name(token, False) or is_no_word(token)):
        cues += [(RELATED, False), (TITLED, True), (GREETED, False)]
    for cue, sure in cues:
        for match in occurrences(cue, text, small):
            place = at.get(match.end())
            if place is None:
                continue
            if is_name(tokens[place], sure and cue is not TITLED):
                first = match.start() if cue is TITLED else tokens[place].start
                yield "PERSON", first, end_of(text, tokens, place)
            # In small letters or a word, and said to be a name; or no word at all behind somebody's kin.
            elif (MY_NAME.search(match[0]) and may_be_called(tokens[place])) or (
                cue in (RELATED, TITLED)
                and is_no_word(tokens[place])
                and SOMEBODYS.search(text, max(0, match.start() - BEFORE_KIN), match.end())
            ):
                yield "PERSON", tokens[place].start, small_end(text, tokens, place)
    for match in occurrences(SELF, text, small):
        place = at.get(match.end())
        if place is not None and introduces(text, tokens, place):
            yield "PERSON", tokens[place].start, end_of(text, tokens, place)


def occurrences(cue: re.Pattern, text: str, small: str) -> Iterator[re.Match]:
    return IN_SMALL[cue].finditer(small) if small and cue in IN_SMALL else cue.finditer(text)


def labelled(text: str) -> Iterator[Span]:
    """Who speaks in a script, and lines that are nothing but a name."""
    labels = list(LABELLED.finditer(text))
    some = any(match[1].lower() in FIRST for match in labels)  # then all of them are
    for match in labels:
        word = match[1].lower()
        if word not in NO_NAMES and (some or word not in ordinary()):
            yield "PERSON", *match.span(1)
    for match in LINE.finditer(text):
        if not any(word.lower() in NO_NAMES - PARTICLES for word in WORD.findall(match[1])):
            yield "PERSON", *match.span(1)


def may_be_called(token: Token) -> bool:
    return token.plain not in (SMALL | SPARED if token.capital else NO_NAMES)


def is_no_word(token: Token) -> bool:
    """Whether it is no ordinary word, though typed as one: "my gf minji", "mrs bhatt"."""
    return token.text.isalpha() and token.text.islower() and len(token.text) > 2 and token.plain not in no_names()


def follows_something(text: str, token: Token) -> bool:
    """Whether a cue without punctuation may stand right before it; those are slow to look for."""
    return not token.opens or TITLE_IN_SHORT.search(text[max(0, token.start - 8) : token.start]) is not None


def small_end(text: str, tokens: list[Token], place: int) -> int:
    """A second word in small letters is a surname where no ordinary word could stand."""
    following = tokens[place + 1] if place + 1 < len(tokens) else None
    beside = following and text[tokens[place].end : following.start] == " "
    surname = beside and following.plain not in no_names()
    return following.end if surname else tokens[place].end


def is_name(token: Token, sure: bool) -> bool:
    if token.plain in FIRST:
        return True
    if token.plain in NO_NAMES or (token.text.isupper() and len(token.text) > 1):
        return False
    return token.capital or (sure and token.plain in AMBIGUOUS)


def introduces(text: str, tokens: list[Token], place: int) -> bool:
    """Whether a name comes after "I'm": not in "I'm Nigerian" or "I'm done"."""
    token = tokens[place]
    if token.plain in FIRST:
        return True
    nation = re.search(r"(?:an|ish|ese|ic|ist|ian)$", token.plain)
    return token.capital and token.plain not in SPARED and not nation and not token.text.isupper()


def end_of(text: str, tokens: list[Token], place: int) -> int:
    """Where a name ends that begins at `place`: further capitals, particles and initials belong to it."""
    end = place
    while end + 1 < len(tokens) and end - place < 4:
        following = tokens[end + 1]
        between = text[tokens[end].end : following.start]
        if not re.fullmatch(r"\.? |-|’|'", between) or POSSESSIVE.search(tokens[end].text):
            break
        initial = len(tokens[end].text) == 1
        joins = (
            following.capital and following.plain not in SPARED and (initial or between == " " or not following.opens)
        )
        small = between == " " and is_small_surname(tokens, end)
        particle = following.plain in PARTICLES and end + 2 < len(tokens) and tokens[end + 2].capital
        if not (joins or small or particle):
            break
        end += 1
    return tokens[end].bare_end


def is_small_surname(tokens: list[Token], place: int) -> bool:
    """Whether a word in small letters goes on with a name in small letters: another name, or no word of English, after an initial too."""
    if place + 1 == len(tokens):
        return False
    following = tokens[place + 1]
    begun = tokens[place].text.islower() and (tokens[place].plain in FIRST or len(tokens[place].text) == 1)
    if following.capital or not begun:
        return False
    if len(following.text) == 1 and following.text not in "iu" and place + 2 < len(tokens):  # "benjamin a seiler"
        return tokens[place + 2].plain not in no_names() and not tokens[place + 2].capital
    return following.plain in FIRST or (len(following.plain) > 2 and following.plain not in no_names())


def listed(text: str, tokens: list[Token], spans: list[Span]) -> Iterator[Span]:
    """Names beside a name in a list: "Monjeau, Graves and Reed"."""
    at = {token.start: place for place, token in enumerate(tokens)}
    ends = [end for kind, _, end in spans if kind == "PERSON"]
    while ends:
        end = ends.pop()
        beside = LIST.match(text, end)
        token = tokens[at[beside.end()]] if beside and beside.end() in at else None
        sure = beside and (beside[0] != ", " or AND_ANOTHER.match(text, beside.end()))
        spared = SPARED | COMMON | SMALL if sure else no_names()
        if token and token.capital and not token.text.isupper() and token.plain not in spared:
            last = end_of(text, tokens, at[token.start])
            yield "PERSON", token.start, last
            ends.append(last)


def capitalised(text: str, tokens: list[Token]) -> Iterator[Span]:
    """Runs of capitals where no sentence begins, and first names anywhere; not in headlines, nor in text that is all capitals."""
    place = 0
    while place < len(tokens):
        token = tokens[place]
        if not token.capital and token.plain not in FIRST and token.plain not in TOWNS:
            place += 1
            continue
        employer = token.capital and not token.opens and EMPLOYED.search(text[max(0, token.start - 40) : token.start])
        if not (stands_out(tokens, place) or employer or is_town(text, token)):
            place += 1
            continue
        end = end_of(text, tokens, place)
        run = list(takewhile(lambda one: one.start < end, tokens[place : place + 8]))  # noqa: B023  (used up at once)
        if not is_term(run):
            yield kind_of(text, token), token.start, end
        place += len(run)


def is_term(run: list[Token]) -> bool:
    """Whether capitals belong to ordinary words for the most part, as in "Rational Emotive Behavior Theory"."""
    return run[0].plain not in FIRST and sum(token.plain in no_names() for token in run) > len(run) / 2 > 1


def stands_out(tokens: list[Token], place: int) -> bool:
    token = tokens[place]
    if token.text in FIRST and (
        len(token.text) > 3 or is_small_surname(tokens, place)
    ):  # in small letters, and no word
        return True
    if not token.capital or token.text.isupper():
        return False
    if token.plain in FIRST:
        return True
    if is_headline(tokens, place):
        return False
    if token.opens:
        return begins_a_sentence(token, tokens[place + 1] if place + 1 < len(tokens) else None)
    return token.plain not in no_names() or token.plain in AMBIGUOUS - SPARED


def begins_a_sentence(token: Token, following: Token | None) -> bool:
    """Whether a word with the capital of a sentence is a name: another capital, or what only somebody can do, comes after it."""
    if following is None or (token.plain in NO_NAMES and token.plain not in AMBIGUOUS):
        return False
    beside = following.start == token.end + 1
    surname = beside and following.capital and following.plain not in NO_NAMES
    if token.plain in AMBIGUOUS:
        return surname or following.text in DOES
    acts = following.text in DOES | IS or not beside or POSSESSIVE.search(token.text) is not None
    return len(token.text) > 2 and (surname or (acts and token.plain not in ordinary()))


@cache
def no_names() -> frozenset[str]:
    return NO_NAMES | ordinary()


def is_headline(tokens: list[Token], place: int) -> bool:
    """Most words around it are ordinary ones with capitals too, so that a capital says nothing."""
    near = [token for token in tokens[max(0, place - 5) : place + 6] if len(token.text) > 3]
    return len(near) >= 4 and sum(token.capital and token.plain in no_names() for token in near) > 0.5 * len(near)


def is_town(text: str, token: Token) -> bool:
    return (
        token.plain in TOWNS
        and token.plain not in AMBIGUOUS
        and (token.capital or token.plain not in WORDS_TOO)
        and bool(re.search(r"(?i)\b(?:live[sd]?|living|moved|based|grew up|born|stuck|am|im|i'm|job'?s?|back|home|move) (?:(?:in|from|to|here in) )?$|\b(?:from|in|to) $",
                           text[max(0, token.start - 25) : token.start]))
    )  # fmt: skip


def kind_of(text: str, token: Token) -> str:
    before = text[max(0, token.start - 40) : token.start]
    if EMPLOYED.search(before):
        return "ORG"
    if token.plain in TOWNS or (token.plain not in FIRST and PLACED.search(before)):
        return "PLACE"
    return "PERSON"


def again(tokens: list[Token], known: set[str]) -> Iterator[Span]:
    """Names that this conversation has named before; one that is a word too must have its capital."""
    for token in tokens if known else ():
        if token.plain in known and (token.capital or token.plain in FIRST - AMBIGUOUS):
            if token.opens and token.plain not in FIRST and token.plain in AMBIGUOUS:
                continue
            yield "PERSON", token.start, token.bare_end


def without_overlaps(spans: list[Span]) -> list[Span]:
    """The longer of two that overlap, in the order of the text."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda span: (span[1] - span[2], span[1])):
        if all(span[2] <= other[1] or span[1] >= other[2] for other in kept):
            kept.append(span)
    return sorted(kept, key=lambda span: span[1])
