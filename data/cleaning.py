"""Steps that make a row fit for training or say in plain words why it is not: each is `row -> row` or `row -> reason`."""

import itertools
import re
from html.parser import HTMLParser

from rows import Row, text_of, words_of


# The paper's rule.
FEWEST_WORDS = 10

# The 98th percentile of therapists' answers is near it; the longest are pasted articles.
LONGEST_REPLY = 600

BLOCKS = {"p", "div", "br", "li", "ul", "ol", "h1", "h2", "h3", "h4", "blockquote", "tr"}
CREDENTIAL = re.compile(r"\b(?:Ph\.?D|Psy\.?D|M\.?D|L\.?M\.?F\.?T|L\.?P\.?C+|LMHC|L\.?C\.?S\.?W|LMSW|MSW|M\.?F\.?T|NCC|CADC|"
                        r"RN|M\.Ed|Ed\.?D|LCPC|LPCC|LCMHC|RCC|CHT|MFTI)\b")  # fmt: skip
ADVERT = re.compile(
    r"(?i)\b(?:(?:contact|call|text|e-?mail|message|reach out to|reach|schedule with|book with|work with) me\b|"
    r"(?:visit|see|check out|on|at) my (?:web ?site|blog|page|profile|channel|you ?tube)|my (?:book|e-?book|practice|office|"
    r"web ?site|podcast|workshop|course|newsletter)\b|free (?:\d+[- ]minute )?(?:phone )?consult(?:ation)?|"
    r"i (?:offer|provide) (?:\w+ ){0,3}(?:sessions|counsell?ing|therapy|coaching|consultations))"
)
REMOVED_CONTACT = re.compile(r"\[(?:URL|EMAIL|PHONE|HANDLE)_\d+\]")
SENTENCE = re.compile(r"(?<=[.!?:])[\"”')\]]*\s+(?=\S)|\n+")


def clean(row: Row) -> Row | str:
    """Run every step in order; a reason from any of them ends it. Expects redacted text (see `privacy`)."""
    for step in STEPS:
        result = step(row)
        if isinstance(result, str):
            return result
        row = result
    return row


def tidy(row: Row) -> Row:
    """Turn HTML, broken encodings and stray spaces into plain text. Runs before redaction, which reads plain text."""
    messages = [{**message, "content": plain_text(message["content"])} for message in row.messages]
    return row._replace(messages=messages, topic=" ".join((row.topic or "").split()) or None)


def plain_text(text: str) -> str:
    if re.search(r"</?[a-zA-Z][^<>]*>|&#?\w+;", text):
        text = _TextOnly(text).text
    if "â€" in text:  # UTF-8 that was once read as Windows-1252
        text = text.encode("cp1252", "ignore").decode("utf-8", "ignore")
    text = re.sub(r"[\u200b-\u200d\u2060\ufeff\u00ad]", "", text)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


class _TextOnly(HTMLParser):
    """Collects the text of an HTML fragment, with a line break wherever a block starts or ends."""

    def __init__(self, html: str):
        super().__init__()
        self.pieces: list[str] = []
        self.hidden = 0
        self.feed(html)
        self.close()

    @property
    def text(self) -> str:
        return re.sub(r"- \n+", "- ", re.sub(r"[ \xa0]*\n[ \xa0\n]*", "\n", "".join(self.pieces)))

    def handle_starttag(self, tag, attrs):
        self.hidden += tag in ("style", "script", "xml")
        # Source line breaks mean nothing in HTML, so paragraphs are set apart by what no source has: our own.
        self.pieces.append("\n- " if tag == "li" else "\n" if tag in BLOCKS else "")

    def handle_endtag(self, tag):
        self.hidden -= tag in ("style", "script", "xml")
        self.pieces.append("\n" if tag in BLOCKS else "")

    def handle_data(self, data):
        if not self.hidden:
            self.pieces.append(re.sub(r"\s+", " ", data))


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
        if body and len(last.split()) <= 12 and signed.search(last):
            reply = reply[: -len(last)].strip()
    return re.sub(re.escape(author), "[NAME_1]", reply, flags=re.IGNORECASE) if author else reply


def without_contacts(row: Row) -> Row | str:
    """Drop sentences of a reply that point at a removed address or number: they lead nowhere, and a model learns them."""
    cleaned = _with_replies(row, _contactless)
    shrunk = any(
        len(after["content"].split()) < len(before["content"].split()) / 2
        for before, after in zip(row.messages, cleaned.messages, strict=True)
    )
    return "a reply that is mostly links or contact details" if shrunk else cleaned


def _contactless(reply: str) -> str:
    if not REMOVED_CONTACT.search(reply):
        return reply
    lines = []
    for line in reply.split("\n"):
        kept = [sentence for sentence in re.split(r"(?<=[.!?])\s+", line) if not REMOVED_CONTACT.search(sentence)]
        lines += [" ".join(kept)] if kept or not line else []
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def does_not_advertise(row: Row) -> Row | str:
    advert = any(message["role"] == "assistant" and ADVERT.search(message["content"]) for message in row.messages)
    return "a reply that advertises its writer" if advert else row


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


def _with_replies(row: Row, change) -> Row:
    return row._replace(messages=[
        {**message, "content": change(message["content"])} if message["role"] == "assistant" else message
        for message in row.messages
    ])  # fmt: skip


STEPS = (
    has_no_empty_turn,
    alternates,
    does_not_advertise,
    without_signature,
    without_contacts,
    without_signature,  # again: an address below it hid it
    has_no_empty_turn,
    is_long_enough,
    is_short_enough,
    is_readable,
)
