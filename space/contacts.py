"""Find addresses, names and numbers in a model's reply that are not in helplines.json.

A number or a site that a model makes up may be dead, or worse; only what people have checked may be shown. Any word with a
dot and a letter after it counts as an address, because top-level domains are too many to list.
"""

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise

from helplines import known_numbers, known_sites


APPS = (
    "(?:insta(?:gram)?|twitter|facebook|tiktok|telegram|snap(?:chat)?|discord|whats ?app|skype|kik|reddit|linkedin"
    "|messenger|youtube)"
)
ADDRESS = re.compile(
    r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]+\.[\w.-]+|(?:https?://|www\.)\S+"
    r"|(?<![\w.-])(?:[\w-]{1,63}\.){1,5}(?:com|org|net|gov|edu|io|uk|de|fr|es|au|ca|info|help|health|chat|app|ai)\b(?:/\S*)?"
    r"|(?<![\w.'’-])(?=[\w.-]{0,60}[a-z])(?:[\w-]{2,63}\.){1,5}(?-i:[a-z]{2,24})\b(?:/\S*)?"
    r"|(?<![\w.])[a-z]\.[a-z]{2,24}/\w\S*",
    re.IGNORECASE,
)
HANDLE = re.compile(
    r"(?<![\w.@])@[a-z_][\w.]{2,}|(?<![\w/])[ru]/\w{3,}"
    r"|\b(?:add|follow|find|hit|dm|pm|message|text|contact|reach|join|catch|look) (?:me|us|her|him|them|up)\b"
    rf"[^.!?]{{0,20}}\b(?:on|via|by|under) (?:my )?{APPS}\b"
    rf"|\b(?:{APPS}|dm|pm|inbox|e-?mail|call|phone|ring|text) (?:me|us) "
    r"(?:at|on|under|via|any ?time|whenever|tonight|tomorrow|directly|privately)\b"
    r"|\bmy (?:e-?mail|phone|mobile|cell|number|handle|user ?name|insta\w*|whatsapp|skype|discord|telegram)\b[^.!?]{0,20}\bis\b"
    r"|\b(?:user ?name|handle) is\b",
    re.IGNORECASE,
)
SPELLED = re.compile(  # "helpme dot com", "jo(at)mail", "12 Green Lane"; upper case counts
    r"\b[\w-]{2,40} ?[(\[]? ?\bdot\b ?[)\]]? ?(?:com|org|net|co|gov|edu|io|info|help|uk|de|eu|chat|app|ai|me|us|ca|au|nz|care)\b"
    r"|\w[(\[]at[)\]]\w"
    r"|\b\d{1,5} (?:[A-Z][a-z]+ ){1,3}(?:Street|St|Road|Rd|Avenue|Ave|Lane|Drive|Boulevard|Blvd|Square|Close|Way|Court)\b"
)
VANITY = re.compile(  # "1-800-TALK-NOW"
    r"\b(?:1[-. ]?)?[89]\d\d[-. ](?:[A-Z]{3,}|(?:[A-Z]+-)+[A-Z]+|\d[A-Z]{3,})\b|\b0\d{2,3}[- ][A-Z]{4,}\b"
)
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGIT_WORDS = re.compile(rf"\b(?:(?:oh|{'|'.join(DIGITS)})\b[\s,-]{{0,3}}){{4,}}", re.IGNORECASE)
NUMBER = re.compile(r"[+*]?\(?\d(?:[\d\s().-]*\d)?")
# Digits count as a phone number when long, or when somebody is told to call.
CALLING = re.compile(
    r"\b(?:call|calling|dial|phone|ring|text|texting|sms|whatsapp|hotline|helpline|lifeline|warmline|line|numbers?"
    r"|extension|ext|reach|pressing|desk|nurse|service|code|message)\b[^.!?\d]{0,40}(?:\d[\d ]*(?:,| or| and) )?$",
    re.IGNORECASE,
)
AMOUNT = re.compile(
    r"\s?(?:%|°|€|£|[ap]\.?m\b|(?:of )?(?:euros?|dollars?|pounds?|times|people|persons?|messages?|calls?|e-?mails?|hours?"
    r"|minutes?|seconds?|days?|nights?|weeks?|months?|years?|miles?|kms?|kilomet\w+|steps?|pages?|words?|grams?|kilos?)\b)",
    re.IGNORECASE,
)
MONEY = re.compile(r"[$€£¥]\s?$")
YEAR = re.compile(
    r"\b(?:in|since|from|of|until|by|around|before|after|early|late|summer|spring|winter|autumn) (?:19|20)\d\d$",
    re.IGNORECASE,
)


def unknown_contacts(text: str, allowed: set[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    """What may lead a reader to somebody unchecked, as (rule, span); `allowed` holds more numbers and sites."""
    sites = known_sites() | {site_of(entry) for entry in allowed}
    for match in ADDRESS.finditer(text):
        site = site_of(match.group())
        if "@" in match.group() or not any(site == known or site.endswith(f".{known}") for known in sites):
            yield "contact/address", match.span()
    for pattern in (HANDLE, SPELLED, VANITY):
        yield from (("contact/handle", match.span()) for match in pattern.finditer(text))
    for match in DIGIT_WORDS.finditer(text):
        said = [DIGITS.index(word) for word in re.findall("[a-z]+", match.group().lower().replace("oh", "zero"))]
        if (
            len({later - earlier for earlier, later in pairwise(said)}) > 1
        ):  # counting up or down is a breathing exercise
            yield "contact/number", match.span()
    numbers = known_numbers() | {plain_digits(entry) for entry in allowed}
    for match in NUMBER.finditer(text):
        if not is_harmless(text, match, numbers):
            yield "contact/number", match.span()


def is_harmless(text: str, match: re.Match[str], numbers: set[str]) -> bool:
    """A known number ("988 24 hours a day" too), a year, an amount of something, or digits too few to call."""
    digits = plain_digits(match.group())
    before, after = text[max(0, match.start() - 60) : match.start()], text[match.end() : match.end() + 20]
    if digits in numbers or not (len(digits) >= 7 or (len(digits) >= 3 and CALLING.search(before))):
        return True
    *known, rest = match.group().split()
    if known and plain_digits("".join(known)) in numbers and len(plain_digits(rest)) < 3:
        return True
    return len(digits) < 7 and bool(AMOUNT.match(after) or MONEY.search(before) or YEAR.search(before + digits))


def plain_digits(text: str) -> str:
    return "".join(str(unicodedata.digit(c)) for c in text if c.isdigit())


def site_of(address: str) -> str:
    return re.sub(r"^(?:https?://)?(?:www\.)?|[/?#].*$|[.,;:!?)]+$", "", address.lower())
