"""Cut documents into (title, heading, text) sections: Markdown by its marks, PDF by the size of its letters."""

import re
from collections import Counter
from pathlib import Path

import pdfplumber


Section = tuple[str, str, str]
HEADING_RATIO = 1.14  # of the body's size; smaller differences are captions and notes
MARGIN = 0.07  # of the page's height at top and bottom: running headers, footers and page numbers


def markdown_sections(text: str) -> list[Section]:
    """Return the sections of a page; the lines that name source and address, and everything above the title, are left out."""
    title, heading, lines, sections = "", "", [], []
    for line in [*text.splitlines(), "# "]:
        if mark := re.match(r"#+\s*(.*)", line):
            body = paragraphs(lines)
            if heading and body:
                sections.append((title, heading, body))
            title, heading, lines = title or mark[1].strip(), mark[1].strip(), []
        elif not re.match(r"\W*(?:Source|URL)\W*:", line) and line.strip() != "---":
            lines.append(line)
    return sections


def pdf_sections(file: Path) -> list[Section]:
    """Return the sections of a PDF in reading order, or an empty list when it holds no text."""
    with pdfplumber.open(file) as pdf:
        lines = [line for page in pdf.pages for line in page_lines(page)]
    if not lines:
        return []
    repeated = {text for text, count in Counter(text for _, text in lines).items() if count > 2}
    body_size = Counter({size: 0 for size, _ in lines})
    for size, text in lines:
        body_size[size] += len(text)
    body = body_size.most_common(1)[0][0]
    return by_size([(size / body, text) for size, text in lines if text not in repeated])


def by_size(lines: list[tuple[float, str]]) -> list[Section]:
    title, heading, text, sections, in_heading = "", "", [], [], False
    for ratio, line in [*lines, (HEADING_RATIO, "")]:
        is_heading = (ratio >= HEADING_RATIO and not re.fullmatch(r"[\W\d]*.?", line)) or not line
        if is_heading and in_heading and line:  # a heading over two lines
            heading += " " + line
        elif is_heading:
            if heading and (body := paragraphs(rejoin(text))):
                sections.append((title or heading, heading, body))
            title, heading, text = title or heading, line, []
        elif ratio > 0.85:  # smaller print is notes and sources
            text.append(line)
        in_heading = is_heading
    return sections


def page_lines(page) -> list[tuple[float, str]]:
    """Return (size, text) of a page's lines, the left column before the right one."""
    words = [word for word in page.extract_words(extra_attrs=["size"], use_text_flow=False) if in_body(word, page)]
    middle = page.width / 2
    crossing = sum(word["x0"] < middle < word["x1"] for word in words)
    columns = [words]
    if len(words) > 60 and crossing < 0.004 * len(words):
        columns = [[w for w in words if w["x1"] <= middle + 2], [w for w in words if w["x1"] > middle + 2]]
    return [line for column in columns for line in column_lines(column)]


def in_body(word: dict, page) -> bool:
    return MARGIN * page.height < word["top"] and word["bottom"] < (1 - MARGIN) * page.height


def column_lines(words: list[dict]) -> list[tuple[float, str]]:
    lines: list[list[dict]] = []
    for word in sorted(words, key=lambda word: (round(word["bottom"]), word["x0"])):
        if lines and abs(lines[-1][-1]["bottom"] - word["bottom"]) < 3:
            lines[-1].append(word)
        else:
            lines.append([word])
    return [(round(max(word["size"] for word in line), 1), " ".join(word["text"] for word in line)) for line in lines]


def rejoin(lines: list[str]) -> list[str]:
    """Undo line ends: hyphenated words are joined, a bullet starts a new line.

    >>> rejoin(["Talk to some-", "one you", "trust.", "• Rest", "well"])
    ['Talk to someone you trust.', '- Rest well']
    """
    joined: list[str] = []
    for line in lines:
        line = re.sub(r"^[•·▪●◦»\uf0b7]\s*", "- ", line.strip())
        if not joined or line.startswith("- "):
            joined.append(line)
        elif re.search(r"[a-z]-$", joined[-1]) and line[:1].islower():
            joined[-1] = joined[-1][:-1] + line
        else:
            joined[-1] += " " + line
    return joined


def paragraphs(lines: list[str]) -> str:
    """Join non-empty lines, links and emphasis reduced to their words."""
    text = "\n".join(line.strip() for line in lines if line.strip())
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"\*\*|__|^[*+] ", lambda mark: "- " if mark[0] in ("* ", "+ ") else "", text, flags=re.M)
