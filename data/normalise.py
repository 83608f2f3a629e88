"""Turn what a source holds into plain text: encodings mended, HTML and Markdown gone, spaces and quotes made regular."""

import re
import string
from html.parser import HTMLParser

import ftfy

from rows import Row


BLOCKS = {"p", "div", "br", "li", "ul", "ol", "h1", "h2", "h3", "h4", "blockquote", "tr"}
# The paper's variant loses all punctuation; what stands between two words or numbers leaves a space: "988/911" stays two numbers.
PARTING = "/\u2026\u2013\u2014"
GONE = str.maketrans(PARTING, " " * len(PARTING), re.sub(r"[_/]", "", string.punctuation))
HTML = re.compile(r"</?[a-zA-Z][^<>]*>|&#?\w+;")
HIDDEN = re.compile(r"(?is)<(style|script|xml)\b[^>]*>.*?</\1\s*>")
MARKED = re.compile(r"<!\[[^<>]*>")  # "<![if !supportLists]>", of a word processor
ZERO_WIDTH = re.compile(r"[\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\u00ad]")
CHARACTERS = ftfy.TextFixerConfig(unescape_html=False, explain=False)  # HTML is read as a whole before

MARKDOWN = [
    (re.compile(r"!?\[([^\[\]]+)\]\((?:https?:|www\.|/)[^()\s]*\)"), r"\1"),  # a link keeps its words
    (re.compile(r"(\*\*|__|~~)(?=\S)(.+?)(?<=\S)\1"), r"\2"),
    (re.compile(r"(?<![\w*])\*(?=[^\s*])([^*\n]+?)(?<=[^\s*])\*(?![\w*])"), r"\1"),
    (re.compile(r"(?m)^[ \t]*#{1,6}[ \t]+(?=\S)"), ""),
    (re.compile(r"(?m)^[ \t]*>[ \t]?"), ""),
    (re.compile(r"(?m)^[ \t]*(?:[-*_][ \t]*){3,}$"), ""),
    (re.compile(r"(?m)^[ \t]*[*•●▪◦‣+][ \t]+(?=\S)"), "- "),
    (re.compile(r"`+([^`\n]+)`+"), r"\1"),
    (re.compile(r"\\([*_~`#>\[\]()])"), r"\1"),
]
MARKDOWN_SIGN = re.compile(r"[*_~`#>\[\\•●▪◦‣]|^[ \t]*\+", re.MULTILINE)


def normalise(row: Row) -> Row:
    """Make every message plain text. Runs before redaction, which reads plain text and needs its capitals."""
    messages = [{**message, "content": plain_text(message["content"])} for message in row.messages]
    return row._replace(messages=messages, topic=" ".join(str(row.topic or "").split()) or None)


def plain_text(text: str) -> str:
    """Return the text without mark-up; case and punctuation stay, curly quotes become straight, lists become "- "."""
    if HTML.search(text):
        text = _TextOnly(text).text
    if not text.isascii():
        text = ZERO_WIDTH.sub("", ftfy.fix_text(text, CHARACTERS))
    if MARKDOWN_SIGN.search(text):
        for pattern, plain in MARKDOWN:
            text = pattern.sub(plain, text)
    if "\n" not in text:
        return " ".join(text.split())
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def as_in_the_paper(row: Row) -> Row:
    """Lower-case every message and strip its punctuation, as the paper did; placeholders lose their brackets too.

    Harmful for a chat model, which learns to answer in the same way: only for those who want the paper's corpus.
    """
    messages = [
        {**message, "content": " ".join(message["content"].lower().translate(GONE).split())}
        for message in row.messages
    ]
    return row._replace(messages=messages)


class _TextOnly(HTMLParser):
    """Collects the text of an HTML fragment, with a line break wherever a block starts or ends."""

    def __init__(self, html: str):
        super().__init__()
        self.pieces: list[str] = []
        html = MARKED.sub("", HIDDEN.sub("", html)).replace("<![", "&lt;![")  # what stands open hides nothing
        # Line breaks in HTML mean nothing beside tags; in text that only holds an entity they are the writer's.
        self.has_tags = bool(re.search(r"<(?:p|div|br|li|ul|ol|h[1-6]|span|a|table|tr)\b", html, re.IGNORECASE))
        self.feed(html)
        self.close()

    @property
    def text(self) -> str:
        return re.sub(r"- \n+", "- ", re.sub(r"[ \xa0]*\n[ \xa0\n]*", "\n", "".join(self.pieces)))

    def handle_starttag(self, tag, attrs):
        self.pieces.append("\n- " if tag == "li" else "\n" if tag in BLOCKS else "")

    def handle_endtag(self, tag):
        self.pieces.append("\n" if tag in BLOCKS else "")

    def handle_data(self, data):
        self.pieces.append(re.sub(r"\s+", " ", data) if self.has_tags else data)
