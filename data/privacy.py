"""Take out what identifies a person: e-mail, phone, web address, handle, IP, card, bank and social-security numbers.

Names, places and employers are not found yet: they need a model or a gazetteer, not a pattern.
"""

import ipaddress
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import yaml


class Finding(NamedTuple):
    kind: str
    span: tuple[int, int]  # in the original text


CRISIS = yaml.safe_load(Path(__file__).with_name("crisis_lines.yaml").read_text(encoding="utf-8"))

KEYPAD = {letter: digit for digit, letters in enumerate(["ABC", "DEF", "GHI", "JKL", "MNO", "PQRS", "TUV", "WXYZ"], 2)
          for letter in letters}  # fmt: skip

# Endings that are also words of a sentence (it, in, me, so, us) are left out: "with.In" is a missing space, not a site.
TLD = r"(?:com|org|net|edu|gov|mil|int|info|biz|io|app|uk|ca|eu|de|fr|nl|es|pl|se|ch|ie|au|nz|tv|ly|gl|COM|ORG|NET)"
HOST = rf"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+{TLD}\b"
TOLL_FREE = r"(?:\+?1[-. ]?)?\(?8(?:00|33|44|55|66|77|88)\)?[-. ]"


def redact(text: str) -> tuple[str, list[Finding]]:
    """Replace each identifying piece by a placeholder such as [EMAIL_1]; the same value gets the same number.

    Numbers of help lines stay, and a retired one becomes the line that replaced it: nobody may lose the way to help.
    """
    return _redact(text, defaultdict(dict))


def redact_conversation(messages: list[dict]) -> tuple[list[dict], list[list[Finding]]]:
    """Redact every turn; one value keeps one placeholder through the whole conversation, whoever says it."""
    numbers: dict[str, dict[str, int]] = defaultdict(dict)
    redacted = [_redact(message["content"], numbers) for message in messages]
    contents = [{**message, "content": text} for message, (text, _) in zip(messages, redacted, strict=True)]
    return contents, [findings for _, findings in redacted]


def _redact(text: str, numbers: dict[str, dict[str, int]]) -> tuple[str, list[Finding]]:
    findings = find(text)
    pieces, end = [], 0
    for kind, (start, stop) in findings:
        pieces += [text[end:start], _placeholder(kind, text[start:stop], numbers)]
        end = stop
    return "".join([*pieces, text[end:]]), findings


def find(text: str) -> list[Finding]:
    """Return what would be replaced, in order, never overlapping; of two kinds at one place the stricter one wins."""
    taken: list[Finding] = []
    for kind, pattern, valid in RULES:
        for match in pattern.finditer(text):
            start, stop = match.span()
            free = all(stop <= other.span[0] or start >= other.span[1] for other in taken)
            if free and valid(match[0], text[max(0, start - 25) : start]):
                taken.append(Finding(kind, (start, stop)))
    return sorted((found for found in taken if found.kind != "help line"), key=lambda found: found.span)


def _placeholder(kind: str, value: str, numbers: dict[str, dict[str, int]]) -> str:
    if kind == "retired help line":
        return CRISIS["retired"][_dialled(value)]
    key = _dialled(value) if kind == "PHONE" else re.sub(r"\s", "", value).lower()
    return f"[{kind}_{numbers[kind].setdefault(key, len(numbers[kind]) + 1)}]"


def _digits(value: str) -> str:
    return re.sub(r"\D", "", value)


def _dialled(value: str) -> str:
    """Digits as dialled: letters by the keypad, no extension, a leading 1 where a toll-free number lacks it."""
    value = re.split(r"(?i)\s*(?:x|ext|\()(?=[\s.:]*\d+\)?$)", value)[0]
    digits = "".join(str(KEYPAD.get(character.upper(), character)) for character in value)
    digits = re.sub(r"\D", "", digits)
    return f"1{digits}" if re.fullmatch(r"8(?:00|33|44|55|66|77|88)\d{7}", digits) else digits


def _is_kept_line(value: str, before: str) -> bool:
    return _dialled(value) in CRISIS["keep"]


def _is_retired_line(value: str, before: str) -> bool:
    return _dialled(value) in CRISIS["retired"]


def _is_kept_site(value: str, before: str) -> bool:
    host = re.sub(r"^https?://", "", value.lower()).removeprefix("www.").split("/")[0]
    return host in CRISIS["keep_sites"]


def _is_phone(value: str, before: str) -> bool:
    number = re.split(r"(?i)\s*(?:x|ext)", value)[0]
    digits, groups = _digits(number), re.findall(r"\d+", number)
    if not 7 <= len(digits) <= 15 or len(set(digits)) == 1 or all(len(group) == 1 for group in groups):
        return False
    if number.startswith(("+", "00", "(")):
        return True
    if len(groups) == 1:  # a bare run of digits is a phone number only where somebody says so, or as in 0712345678
        cue = re.search(r"(?i)\b(call|text|phone|tel|telephone|number|cell|mobile|whatsapp|fax|reach)\b", before)
        return bool(cue) or (len(digits) in (10, 11) and digits[0] in "01")
    return not _is_other_number(number, groups)


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


def _always(value: str, before: str) -> bool:
    return True


PHONE = re.compile(
    r"(?<![\w.@/#$£€%-])(?:\+\d{1,3}[ .-]?|00\d{1,3}[ .-])?(?:\(\+?\d{1,5}\)[ .-]?)?\d(?:[ .\-–/]{0,2}\(?\d\)?){5,14}"
    r"(?:\s*(?:x|ext\.?|extension)\s*\d{1,6})?(?![\w%]|[.,-]\d)"
)
TOLL_FREE_WORD = re.compile(
    rf"(?<![\w-]){TOLL_FREE}(?=[\d-]*[A-Z])(?:[A-Z0-9]{{3}}[-. ][A-Z0-9]{{4,5}}|[A-Z]{{6,9}})\b(?: \([\d-]{{4,8}}\))?"
)

# In this order: what stands first claims its place. Each pattern is checked at the start and the end of a text.
RULES: list[tuple[str, re.Pattern, Callable[[str, str], bool]]] = [
    ("EMAIL", re.compile(r"(?<![\w.+-])[\w.+-]+@(?:[\w-]+\.)+[A-Za-z]{2,24}\b"), _always),
    ("help line", re.compile(rf"(?<![\w@./-])(?:https?://)?{HOST}(?:/[^\s<>\"')\]]*)?"), _is_kept_site),
    ("URL", re.compile(r"(?i)\bhttps?://[^\s<>\"')\]]*[^\s<>\"')\].,;:!?]"), _always),
    ("URL", re.compile(rf"(?<![\w@./-])(?:www\.[\w-]+(?:\.[\w-]+)+|{HOST})(?:/[^\s<>\"')\]]*[^\s<>\"')\].,;:!?])?"),
     _always),
    ("IBAN", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b"), _is_iban),
    ("CARD", re.compile(r"(?<![\w.-])\d(?:[ -]?\d){11,18}(?![\w-])"), _passes_luhn),
    ("ID", re.compile(r"(?<![\w-])\d{3}[- ]\d{2}[- ]\d{4}(?![\w-])"), _is_ssn),
    ("IP", re.compile(r"(?<![\w.:])(?:\d{1,3}\.){3}\d{1,3}(?![\w:]|\.\d)"), _is_ip),
    ("IP", re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])"), _is_ip),
    *[(kind, pattern, valid) for pattern in (TOLL_FREE_WORD, PHONE) for kind, valid in (
        ("help line", _is_kept_line), ("retired help line", _is_retired_line))],
    ("PHONE", TOLL_FREE_WORD, _always),
    ("PHONE", PHONE, _is_phone),
    ("HANDLE", re.compile(r"(?<![\w@./])@(?=[\w.]*[A-Za-z])\w[\w.]{0,28}\w"), _always),
    ("HANDLE", re.compile(r"(?<![\w/])/?u/[A-Za-z0-9_-]{3,20}\b"), _always),
]  # fmt: skip
