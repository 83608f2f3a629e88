"""Read PDF leaflets: headings by font size, columns one after the other, no running headers, words whole again."""

import logging
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pdfplumber

from guidance import Section, rows_of
from recipe import Source
from rows import BadInput, Reject, Row


# Larger than running text by this much is a heading.
HEADING = 1.12

# Of the page's height, at the top and at the bottom: where a line that comes back on other pages is no text.
MARGIN = 0.09

BULLET = re.compile(r"^[●•▪◦■‣○–-]\s+")

# Broken font tables, one warning a glyph; the text is read all the same.
logging.getLogger("pdfminer").setLevel(logging.ERROR)


class Line(NamedTuple):
    text: str
    size: float
    bold: bool
    page: int
    left: float
    right: float
    top: float
    in_margin: bool


def read_pdf(source: Source, files: list[Path], folder: Path) -> Iterator[Row | Reject]:
    """Yield each section of each leaflet as a question and its answer; a leaflet is one group."""
    for file in files:
        lines, named = read_lines(file)
        if not lines:
            raise BadInput(f"{file} has no text in it (a scan?): take it out of the source, or run OCR on it first.")
        where = str(file.relative_to(folder))
        publisher = source.for_file(file.name).publisher
        for section in sections(without_running(lines), named, where):
            if section.paragraphs:
                yield from rows_of(section, source.name, where, publisher)


def read_lines(file: Path) -> tuple[list[Line], str]:
    """Return the lines of all pages in reading order, and the title that the file gives itself, if any."""
    lines = []
    try:
        with pdfplumber.open(file) as pdf:
            named = str((pdf.metadata or {}).get("Title") or "")
            for page in pdf.pages:
                upright = page.filter(lambda thing: thing.get("upright", True) and not _is_icon(thing.get("text")))
                words = upright.extract_words(extra_attrs=["size", "fontname"], x_tolerance_ratio=0.18)
                lines += in_columns(words, page)
                page.close()
    except (pdfplumber.utils.exceptions.PdfminerException, ValueError) as error:
        raise BadInput(f"{file} cannot be read as a PDF ({type(error).__name__}).") from error
    return lines, re.sub(r"\s*[|–-]\s*National Institute.*|\s*Fact Sheet\b", "", named).strip()


def _is_icon(text: str | None) -> bool:
    return bool(text) and any("\ue000" <= character <= "\uf8ff" for character in text)


def in_columns(words: list[dict], page) -> list[Line]:
    """Read a two-column stretch down its left side, then its right; a line across both ends the stretch."""
    pieces = [piece for row in _rows(words) for piece in _pieces(row, page)]
    border = _right_column(pieces, page.width)
    ordered: list[Line] = []
    left: list[Line] = []
    right: list[Line] = []
    for piece in pieces:
        if border and piece.left >= border - 3:
            right.append(piece)
        elif border and piece.right <= border:
            left.append(piece)
        else:
            ordered += [*left, *right, piece]
            left, right = [], []
    return [*ordered, *left, *right]


def _rows(words: list[dict]) -> Iterator[list[dict]]:
    row: list[dict] = []
    for word in sorted(words, key=lambda word: (word["bottom"], word["x0"])):
        if row and word["bottom"] - row[0]["bottom"] > 0.4 * row[0]["size"]:
            yield sorted(row, key=lambda word: word["x0"])
            row = []
        row.append(word)
    if row:
        yield sorted(row, key=lambda word: word["x0"])


def _pieces(row: list[dict], page) -> Iterator[Line]:
    """Cut a row where the gap is too wide for a space between words."""
    start = 0
    for number in range(1, len(row) + 1):
        if number < len(row) and row[number]["x0"] - row[number - 1]["x1"] <= 0.9 * row[number]["size"]:
            continue
        part, start = row[start:number], number
        if len(part) == 1 and re.fullmatch(r"\W", part[0]["text"]) and number < len(row):
            start -= 1  # a bullet belongs to what follows, however far
            continue
        middle = part[len(part) // 2]
        height = float(page.height)
        yield Line(
            text=" ".join(word["text"] for word in part),
            size=round(float(middle["size"]), 1),
            bold=bool(re.search(r"(?i)bold|black|heavy|extrabld", middle["fontname"])),
            page=page.page_number,
            left=float(part[0]["x0"]),
            right=float(part[-1]["x1"]),
            top=float(part[0]["bottom"]),
            in_margin=not MARGIN * height < float(part[0]["bottom"]) < (1 - MARGIN) * height,
        )


def _right_column(pieces: list[Line], width: float) -> float | None:
    """Where a right column starts: the place right of the middle third's edge where many lines begin."""
    starts = Counter(round(piece.left) for piece in pieces if 0.35 * width < piece.left < 0.65 * width)
    place, count = max(starts.items(), key=lambda item: item[1], default=(0, 0))
    return place if count >= max(4, len(pieces) / 5) else None


def without_running(lines: list[Line]) -> list[Line]:
    """Drop headers, footers and page numbers: what comes back in the margin of another page, whatever the number in it."""

    def shape(line: Line) -> str:
        return re.sub(r"\d+", "#", line.text)

    pages = Counter(shape for shape, _ in {(shape(line), line.page) for line in lines if line.in_margin})
    return [
        line for line in lines
        if not (line.in_margin and (pages[shape(line)] > 1 or re.fullmatch(r"(?:page )?\d+", line.text, re.IGNORECASE)))
        and not re.search(r"(?:\. ?){5}", line.text)  # a table of contents
    ]  # fmt: skip


def sections(lines: list[Line], named: str, where: str) -> Iterator[Section]:
    """Cut at headings; the title is what the file calls itself, else its largest line."""
    if not lines:
        return
    body = Counter()
    for line in lines:
        body[line.size] += len(line.text)
    size = body.most_common(1)[0][0]
    known = Counter(re.findall(r"[a-z]+", " ".join(line.text for line in lines).lower()))
    title = named or max(lines[:40], key=lambda line: line.size).text
    heading, under, start = "", [], lines[0].page
    for line in lines:
        is_heading = line.size >= size * HEADING or (line.bold and line.text.endswith("?") and line.text[:1].isupper())
        if is_heading and heading and not under and start == line.page:
            heading = f"{heading} {line.text}"  # a heading on two lines
        elif is_heading:
            yield Section(title, heading, paragraphs(under, known), f"{where}:page {start}")
            heading, under, start = line.text, [], line.page
        elif line.size >= size * 0.8:  # footnotes, captions and axis labels are smaller
            under.append(line)
    yield Section(title, heading, paragraphs(under, known), f"{where}:page {start}")


def paragraphs(lines: list[Line], known: Counter) -> list[str]:
    """Join lines into paragraphs and list items, and mend words that were hyphenated at the end of a line."""
    blocks: list[str] = []
    edge = max((line.right for line in lines), default=0)
    for before, line in zip([None, *lines], lines, strict=False):
        text = BULLET.sub("- ", line.text)
        if before is None or text.startswith("- ") or _starts_paragraph(before, line, edge):
            blocks.append(text)
        else:
            blocks[-1] = _joined(blocks[-1], text, known)
    return _lists(blocks)


def _starts_paragraph(before: Line, line: Line, edge: float) -> bool:
    """After a wide gap, or after a line that ended early and before one that begins with a capital."""
    capital = line.text[:1].isupper() or line.text[:1] in "“\"'‘("
    if line.page != before.page or line.top < before.top:
        return capital and before.text.endswith((".", "!", "?", ":"))
    ended_early = before.right < before.left + 0.75 * (edge - before.left)
    return capital and (line.top - before.top > 1.55 * line.size * 1.2 or ended_early)


def _joined(text: str, rest: str, known: Counter) -> str:
    broken = re.search(r"([A-Za-z]+)-$", text)
    first = re.match(r"[a-z]+", rest)
    if broken and first:
        whole = (broken[1] + first[0]).lower()
        return (text[:-1] if known[whole] or len(broken[1]) < 3 else text) + rest
    return text + rest if text.endswith(("—", "/", "-")) else f"{text} {rest}"


def _lists(blocks: list[str]) -> list[str]:
    """Put list items, with or without a bullet, into one paragraph."""
    result: list[str] = []
    for block in blocks:
        after_list = bool(result) and "\n- " in f"\n{result[-1]}"
        bare_item = len(block) < 120 and not block.endswith((".", "!", "?", ":")) and bool(result)
        introduced = bool(result) and (after_list or result[-1].endswith(":"))
        if block.startswith("- ") or (bare_item and introduced):
            item = block if block.startswith("- ") else f"- {block}"
            if after_list:
                result[-1] += f"\n{item}"
                continue
            block = item
        result.append(block)
    return result
