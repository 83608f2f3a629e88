"""Take out what identifies a person: contacts, numbers that name one person, addresses, dates of birth, and names (names.py)."""

import ipaddress
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml
from stdnum import verhoeff
from stdnum.es import dni
from stdnum.gb import nhs
from stdnum.pl import pesel

import helplines
from names import FIRST, TITLES, WORDS, again, find_names, tokens_of


class Finding(NamedTuple):
    kind: str
    span: tuple[int, int]  # in the original text


# What a text must hold for a rule to be tried on it at all.
DIGIT, DOTTED = r"\d", r"\w\.[\w-]"
PLACEHOLDER = re.compile(r"\[([A-Z]+)_(\d{1,9})\]")
KEPT = ("help line", "placeholder")  # claim their place, and stay

Spans = Sequence[tuple[str, int, int]]  # kind, start, end

CRISIS = yaml.safe_load(Path(__file__).with_name("crisis_lines.yaml").read_text(encoding="utf-8"))


def _host(address: str) -> str:
    return re.sub(r"^https?://", "", address.lower()).removeprefix("www.").split("/")[0]


KEYPAD = {letter: digit for digit, letters in enumerate(["ABC", "DEF", "GHI", "JKL", "MNO", "PQRS", "TUV", "WXYZ"], 2)
          for letter in letters}  # fmt: skip

# Endings that are also words of a sentence (it, in, me, so, us) are left out: "with.In" is a missing space, not a site.
TLD = r"(?:com|org|net|edu|gov|mil|int|info|biz|io|app|uk|ca|eu|de|fr|nl|es|pl|se|ch|ie|au|nz|tv|ly|gl|COM|ORG|NET)"
HOST = rf"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+{TLD}\b"
TOLL_FREE = r"(?:\+?1[-. ]?)?\(?8(?:00|33|44|55|66|77|88)\)?[-. ]"


def redact(text: str, people: Spans = ()) -> tuple[str, list[Finding]]:
    """Replace each identifying piece by a placeholder such as [EMAIL_1]; the same value gets the same number.

    Numbers of help lines stay, and a retired one becomes the line that replaced it: nobody may lose the way to help.
    """
    return _redact(text, _taken([text]), set(), people)


def redact_label(label: str, known: set[str] = frozenset()) -> tuple[str, list[Finding]]:
    """Redact what a source calls a text ("Sleep Problems"): its capitals are a headline's, so a name is one that is `known` or a first name."""
    return _redact(
        label, _taken([label]), {*known, *FIRST}, (), names=lambda text, known: again([*tokens_of(text)], known)
    )


def redact_conversation(
    messages: list[dict], people: list[Spans] | None = None, known: set[str] | None = None
) -> tuple[list[dict], list[list[Finding]]]:
    """Redact every turn; one value keeps one placeholder through the whole conversation, whoever says it.

    `people` are names in each turn that another finder saw (ner.py); `known` gathers the first names that were found.
    """
    known = set() if known is None else known
    people = people or [()] * len(messages)

    def redacted_by(numbers: dict[str, dict[str, int]]) -> list[tuple[str, list[Finding]]]:
        return [
            _redact(message["content"], numbers, known, seen) for message, seen in zip(messages, people, strict=True)
        ]

    texts = [message["content"] for message in messages]
    redacted = redacted_by(_taken(texts))
    # Said again, or first said before anything told that it is a name: "i think amy hates me", then "my sister Amy".
    if any(known.intersection(token.plain for token in tokens_of(text)) for text, _ in redacted if known):
        redacted = redacted_by(_taken(texts))
    contents = [{**message, "content": text} for message, (text, _) in zip(messages, redacted, strict=True)]
    return contents, [findings for _, findings in redacted]


def _taken(texts: Sequence[str]) -> dict[str, dict[str, int]]:
    """Numbers by kind and value, to be gone on with: placeholders that a source brings along stay, and are nobody else's."""
    numbers: dict[str, dict[str, int]] = defaultdict(dict)
    for kind, number in sorted(
        {match.groups() for text in texts for match in PLACEHOLDER.finditer(text)}, key=lambda one: int(one[1])
    ):
        numbers[kind][f"[{kind}_{number}]"] = int(number)
    return numbers


def _redact(
    text: str, numbers: dict[str, dict[str, int]], known: set[str], people: Spans, names: Callable = find_names
) -> tuple[str, list[Finding]]:
    findings = find(text, known, people, names)
    pieces, end = [], 0
    for kind, (start, stop) in findings:
        pieces += [text[end:start], _placeholder(kind, text[start:stop], numbers)]
        end = stop
    return "".join([*pieces, text[end:]]), findings


def find(text: str, known: set[str] | None = None, people: Spans = (), names: Callable = find_names) -> list[Finding]:
    """Return what would be replaced, in order, never overlapping; of two kinds at one place the stricter one wins.

    `known` are first names that were said before; those of this text are added.
    """
    taken: list[Finding] = []
    signs = {sign for sign in SIGNS if re.search(sign, text)}
    for kind, sign, pattern, valid in RULES:
        if sign not in signs:
            continue
        for match in pattern.finditer(text):
            start, stop = match.span("value") if "value" in pattern.groupindex else match.span()
            if _is_free(taken, start, stop) and valid(text[start:stop], text[max(0, start - 25) : start]):
                taken.append(Finding(kind, (start, stop)))
    for kind, start, stop in [*names(text, set() if known is None else known), *people]:
        if _is_free(taken, start, stop):
            taken.append(Finding(kind, (start, stop)))
    return sorted((found for found in taken if found.kind not in KEPT), key=lambda found: found.span)


def _is_free(taken: list[Finding], start: int, stop: int) -> bool:
    return all(stop <= other.span[0] or start >= other.span[1] for other in taken)


def _placeholder(kind: str, value: str, numbers: dict[str, dict[str, int]]) -> str:
    if kind == "retired help line":
        return CRISIS["retired"][_dialled(value)]
    key = _dialled(value) if kind == "PHONE" else re.sub(r"\s", "", value).lower()
    if kind == "PERSON":  # "Sam" and "Sam Lee" are one person
        key = re.sub(rf"(?i)^(?:{TITLES})\b\.?\s*", "", value).split(" ")[0].lower()
    given = numbers[kind]
    if key not in given:
        given[key] = next(reversed(given.values()), 0) + 1
    return f"[{kind}_{given[key]}]"


def _digits(value: str) -> str:
    return re.sub(r"\D", "", value)


def _dialled(value: str) -> str:
    """Digits as dialled: letters by the keypad, no extension, a leading 1 where a toll-free number lacks it."""
    value = re.split(r"(?i)\s*(?:x|ext|\()(?=[\s.:]*\d+\)?$)", value)[0]
    digits = "".join(str(KEYPAD.get(character.upper(), character)) for character in value)
    digits = re.sub(r"\D", "", digits)
    return f"1{digits}" if re.fullmatch(r"8(?:00|33|44|55|66|77|88)\d{7}", digits) else digits


def _is_kept_line(value: str, before: str) -> bool:
    return _dialled(value) in HELP_NUMBERS


def _is_called(value: str, before: str) -> bool:
    return bool(CALLED.search(before))


def leads_to_help(text: str) -> bool:
    """Whether a text names a line of help, by its number or its page."""
    return bool(SHORT.search(text)) or any(
        valid(match[0], "")
        for kind, _, pattern, valid in RULES
        if kind == "help line"
        for match in pattern.finditer(text)
    )


def _is_retired_line(value: str, before: str) -> bool:
    return _dialled(value) in CRISIS["retired"]


def _is_kept_site(value: str, before: str) -> bool:
    return _host(value) in HELP_SITES


def _is_phone(value: str, before: str) -> bool:
    number = re.split(r"(?i)\s*(?:x|ext)", value)[0]
    digits, groups = _digits(number), re.findall(r"\d+", number)
    if not 7 <= len(digits) <= 15 or len(set(digits)) == 1 or all(len(group) == 1 for group in groups):
        return False
    if number.startswith(("+", "00", "(")):
        return True
    if len(groups) == 1:  # a bare run of digits is a phone number only where somebody says so, or as in 0712345678
        return bool(CALLED.search(before)) or (len(digits) in (10, 11) and digits[0] in "01")
    return bool(CALLED.search(before)) or not _is_other_number(number, groups)


def _is_other_number(number: str, groups: list[str]) -> bool:
    date = re.fullmatch(r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4})", number)
    years = len(groups) == 2 and all(re.fullmatch(r"(?:1[5-9]|20)\d\d", group) for group in groups)
    thousands = re.fullmatch(r"[1-9]\d{0,2}(?: \d{3})+", number) and len(groups) < 4
    decimal = re.fullmatch(r"\d+\.\d+", number)
    return bool(date or years or thousands or decimal)


def _passes_luhn(value: str, before: str) -> bool:
    digits = [int(digit) for digit in _digits(value)]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return 12 <= len(digits) <= 19 and len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_iban(value: str, before: str) -> bool:
    plain = re.sub(r"\s", "", value)
    return 15 <= len(plain) <= 34 and int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def _is_ssn(value: str, before: str) -> bool:
    area, group, serial = re.findall(r"\d+", value)
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def _is_ip(value: str, before: str) -> bool:
    try:
        return bool(ipaddress.ip_address(value)) and value != "::"
    except ValueError:
        return False


def _is_national(value: str, before: str) -> bool:
    """Tell whether a number without a cue passes the checksum of a country that has one worth its name."""
    digits = _digits(value)
    return (
        (len(digits) == 8 and dni.is_valid(value))
        or (len(digits) == 11 and pesel.is_valid(digits))
        or (len(digits) == 12 and " " in value and verhoeff.is_valid(digits))  # Aadhaar
        or (len(digits) == 10 and len(value) == 12 and nhs.is_valid(digits))
    )


def _has_digits_or_plate(value: str, before: str) -> bool:
    return len(_digits(value)) >= 4 or bool(re.fullmatch(r"[A-Z]{2}\d{2} ?[A-Z]{3}", value))


def _always(value: str, before: str) -> bool:
    return True


# Every line that the Space shows, and some more.
LINES = [line for country in helplines.countries() for line in helplines.lines(country)]
HELP_NUMBERS = {
    *CRISIS["keep"],
    *helplines.known_numbers(),
    *(_dialled(phone) for line in LINES for phone in line["phones"]),
}
SHORT = re.compile(rf"(?<![\w.-])(?:{'|'.join(CRISIS['short'])})(?![\w-])")
HELP_SITES = {*CRISIS["keep_sites"], *(_host(line[key]) for line in LINES for key in ("url", "chat_url") if line[key])}

# Before digits that may be a telephone number or not.
CALLED = re.compile(
    r"(?i)\b(call|text|phone|tel|telephone|number|cell|mobile|whatsapp|fax|reach|desk|ring|contact|answering|messages?|dial|sms)\b"
)

# "116 123 24/7": hours are no part of a number.
NO_HOURS = r"(?![ .\-–/(]{1,3}(?:24[/ -]7|24 ?(?:hours?|hrs?|h)|365 days|7 days)\b)"
PHONE = re.compile(
    r"(?<![\w.@/#$£€%-])(?:\+\d{1,3}[ .-]?|00\d{1,3}[ .-])?(?:\(\+?\d{1,5}\)[ .-]?)?\d(?:"
    rf"{NO_HOURS}[ .\-–/]{{0,2}}\(?\d\)?){{5,14}}"
    r"(?:\s*(?:x|ext\.?|extension)\s*\d{1,6})?(?![\w%]|[.,-]\d)"
)
TOLL_FREE_WORD = re.compile(
    rf"(?<![\w-]){TOLL_FREE}(?=[\d.-]*[A-Za-z])(?:[A-Z0-9]{{3}}[-. ][A-Z0-9]{{4,5}}|[A-Z]{{6,9}}|\d{{3}}[-.]?[A-Za-z]{{4}})\b(?: ?\([\d-]{{4,8}}\))?"
)

ADDRESSED = re.compile(r"(?i)\bhttps?://[^\s<>\"')\]]*[^\s<>\"')\].,;:!?]")

DATE = (
    r"(?:\d{1,2}(?:st|nd|rd|th)?[ ./-](?:of )?(?:\d{1,2}|[A-Z][a-z]{2,8})[ ./,-]+(?:\d{4}|\d{2}\b)|\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|"
    r"[A-Z][a-z]{2,8} \d{1,2}(?:st|nd|rd|th)?,? \d{4})"
)
CAPITALS = r"(?:(?:[NSEW]\.? )?[A-ZÀ-Þ][\w'’.-]{0,40}[ ]){1,3}"
POSTCODE = r"(?:[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}|[A-Z]{2},? \d{5}(?:-\d{4})?|\d{5}(?= [A-Z]))"
AREA = rf"(?:,? *(?:(?:Apt|Apartment|Unit|Suite|Flat|Floor|Room)\.? *#?\w+))?(?:,? *\n?(?:[A-ZÀ-Þ][\w'’-]+ ?){{1,3}},? *{POSTCODE})?"
ID_CUE = (
    r"(?:nhs|ni|nino|ssn|social(?: security| insurance)?|sin|aadhaa?r|pan|tfn|medicare|medicaid|passport|driv\w+['’]?s? licen[cs]e|licen[cs]e|policy|claim|"
    r"case|reference|ref|patient|hospital|mrn|student|employee|badge|member(?:ship)?|account|acct|plate|registration|reg|dni|nie|pesel|cpf|insurance|tax|visa file|file|"
    r"booking|prisoner|inmate|matriculation|roll|id)"
)

# Kind, what must be in the text at all, pattern, check. In this order: what stands first claims its place. Each pattern is checked at the start and the end of a text; where it has a
# group "value", that alone is replaced.
RULES: list[tuple[str, str, re.Pattern, Callable[[str, str], bool]]] = [
    ("placeholder", r"\[", PLACEHOLDER, _always),
    *[(kind, DIGIT, pattern, valid) for pattern in (TOLL_FREE_WORD, PHONE) for kind, valid in (
        ("help line", _is_kept_line), ("retired help line", _is_retired_line))],
    ("help line", DIGIT, SHORT, _is_called),
    ("help line", "://", ADDRESSED, _is_kept_site),
    ("EMAIL", "@", re.compile(r"(?<![\w.+-])[\w.+-]+@(?:[\w-]+\.)+[A-Za-z]{2,24}\b"), _always),
    ("EMAIL", r"(?i)dot", re.compile(rf"(?i)(?<![\w+-])[\w+-]{{1,40}}(?:(?: dot |\.)[\w+-]{{1,40}}){{0,4}} ?(?:\(at\)|\[at\]| at ) ?[\w-]{{1,40}}(?:(?: dot | ?\(dot\) ?)[\w-]{{1,40}})*(?: dot | ?\(dot\) ?){TLD}\b"), _always),
    ("help line", DOTTED, re.compile(rf"(?<![\w@./-])(?:https?://)?{HOST}(?:/[^\s<>\"')\]]*)?"), _is_kept_site),
    ("URL", "://", ADDRESSED, _always),
    ("URL", DOTTED, re.compile(rf"(?<![\w@./-])(?:www\.[\w-]+(?:\.[\w-]+)+|{HOST})(?:/[^\s<>\"')\]]*[^\s<>\"')\].,;:!?])?"),
     _always),
    ("IBAN", DIGIT, re.compile(r"(?ai)\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b"), _is_iban),
    ("CARD", DIGIT, re.compile(r"(?<![\w.-])\d(?:[ -]?\d){11,18}(?![\w-])"), _passes_luhn),
    ("ID", DIGIT, re.compile(r"(?<![\w-])\d{3}[- ]\d{2}[- ]\d{4}(?![\w-])"), _is_ssn),
    ("ID", DIGIT, re.compile(r"(?i)\b(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]\b"), _always),
    ("ID", DIGIT, re.compile(rf"(?i)\b{ID_CUE}\b(?: (?:card|file))?(?: ?(?:number|num|no|nr|#|id|ref|says|is|was|key|code|called|plate)\b\.?|[:#])*[ :#]*(?P<value>[A-Z]{{2}}\d{{2}} ?[A-Z]{{3}}\b|(?:[A-Z]{{1,5}}[-/ ]?)?\d[\w/-]*(?: ?[-/]?[A-Z]*\d[\w/-]*){{0,4}}(?: [A-Z]\b)?|[A-Z]{{3,5}} ?\d{{5,6}} ?[A-Z0-9]{{2}} ?\w{{3,6}})"), _has_digits_or_plate),
    ("ID", DIGIT, re.compile(r"(?<![\w-])(?:\d{8}[- ]?[A-Z]|\d{11}|\d{4} \d{4} \d{4}|\d{3} \d{3} \d{4})(?![\w-])"), _is_national),
    ("IP", DIGIT, re.compile(r"(?<![\w.:])(?:\d{1,3}\.){3}\d{1,3}(?![\w:]|\.\d)"), _is_ip),
    ("IP", DIGIT, re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])"), _is_ip),
    ("BIRTH", DIGIT, re.compile(rf"(?i:\b(?:born|dob|d\.o\.b\.?|date of birth|birth ?date|birthday)\b)[^.!?\n\d]{{0,20}}?(?P<value>{DATE})"), _always),
    ("BIRTH", DIGIT, re.compile(rf"(?<=[a-z], )(?P<value>{DATE})(?=, |\.$)"), _always),
    ("ADDRESS", DIGIT, re.compile(rf"(?:\b(?:Flat|Apt|Apartment|Unit|Room|Suite) ?#?\w+,? )?\b\d+[a-zA-Z]?,? {CAPITALS}(?i:{WORDS['streets']})\b\.?{AREA}"), _always),
    ("ADDRESS", DIGIT, re.compile(rf"\b(?:P\.? ?O\.? Box|Post ?box|Unit|Box) \d+(?: Box \d+)?{AREA}"), _always),
    ("ADDRESS", DIGIT, re.compile(r"(?<![\w-])[A-ZÀ-Þ][\w-]{0,40}(?:straße|strasse|weg|platz|allee|gasse|damm|ring|straat|laan|gatan|vägen|katu|tie) \d+[a-z]?(?:,? \d{4,5} [A-ZÀ-Þ]\w+)?"), _always),
    ("ADDRESS", DIGIT, re.compile(r"(?i)\b\d+ ?[a-z]?(?: bis)?,? (?:(?:rue|boulevard|chemin|impasse|quai) (?:(?:de|des|du|la|le|les|d['’]|l['’]) ?){0,3}\w|(?:avenue|place|cours) (?:(?:de|des|du|la|le|les|d['’]|l['’]) ?){0,3}(?-i:[A-ZÀ-Þ]))\w+"), _always),
    ("ADDRESS", DIGIT, re.compile(r"\b(?:[Cc]alle|[Aa]venida|[Pp]laza|[Vv]ia|[Rr]ua|[Uu]l\.) (?:(?:de|del|la|los|das|dos) )*[A-ZÀ-Þ]\w+(?: [A-ZÀ-Þ]\w+)*,? (?:n[º°.] ?)?\d+\w?"), _always),
    ("ADDRESS", "", re.compile(rf"\b{CAPITALS}(?:Street|Road|Avenue|Lane|Drive|Close|Crescent|Terrace|Boulevard|Ave|Rd)\b"), _always),
    ("ADDRESS", DIGIT, re.compile(r"\b[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}\b"), _always),
    ("PHONE", DIGIT, TOLL_FREE_WORD, _always),
    ("PHONE", DIGIT, PHONE, _is_phone),
    ("HANDLE", "@", re.compile(r"(?<![\w@./])@(?=[\w.]*[A-Za-z])\w[\w.]{0,28}\w"), _always),
    ("HANDLE", "u/", re.compile(r"(?<![\w/])/?u/[A-Za-z0-9_-]{3,20}\b"), _always),
    ("HANDLE", r"[_#\d]|\w\.[\w.#-]", re.compile(r"(?i)\b(?:insta(?:gram)?|ig|snap(?:chat)?|tik ?tok|twitter|discord|signal|telegram|kik|twitch|steam|xbox|psn|user ?name|handle)\b[ ,:]*(?:(?:handle|name|is|its|it['’]s|i['’]?m|i am|me|as|my)\b[ :]*){0,3}(?P<value>[A-Za-z][\w.#-]*[_.#\d][\w.#-]*\w|_[\w.]+_?|\w+_)(?![\w@])"), _always),
]  # fmt: skip

SIGNS = {sign for _, sign, _, _ in RULES}
