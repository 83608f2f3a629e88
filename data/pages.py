"""Read guidance pages in Markdown: `# title`, lines that name source and URL, then sections under `##` and `###`."""

import re
from collections.abc import Iterator
from pathlib import Path

from guidance import RULES, Section, rows_of
from recipe import Source
from rows import Reject, Row


def read_pages(source: Source, files: list[Path], folder: Path) -> Iterator[Row | Reject]:
    """Yield each section as a question and its answer; pages with one address, under whatever file name, are one group."""
    for file in files:
        text = file.read_text(encoding="utf-8")
        where = str(file.relative_to(folder))
        address = re.search(r"^\W*URL:\W*(\S+)", text, re.MULTILINE)
        named = re.search(r"^\W*Source:\W*(\w+)", text, re.MULTILINE)
        publisher = RULES["publishers"].get(named[1], named[1]) if named else source.for_file(file.name).publisher
        for section in sections(text, where):
            if not section.paragraphs:
                continue  # a heading that only holds other headings
            yield from rows_of(section, source.name, address[1] if address else where, publisher)


def sections(text: str, where: str) -> Iterator[Section]:
    """Cut a page at its headings; list items that only repeat the page's headings (its menu) are left out."""
    menu = {_plain(match) for match in re.findall(r"^#+ *(.*)$", text, re.MULTILINE)}
    title, heading, start, lines = "", "", 1, []
    for number, line in enumerate(text.splitlines(), 1):
        mark = re.match(r"(#+) *(.*)$", line)
        if not mark:
            if not _is_about_the_page(line) and _plain(line) not in menu:
                lines.append(line)
            continue
        yield Section(title, heading, paragraphs(lines), f"{where}:{start}")
        lines, start, heading = [], number, mark[2].strip()
        if len(mark[1]) == 1:
            title, heading = heading, "About"
    yield Section(title, heading, paragraphs(lines), f"{where}:{start}")


def _plain(line: str) -> str:
    return re.sub(r"\W+", " ", line).strip().lower()


def _is_about_the_page(line: str) -> bool:
    return bool(re.match(r"\W*(?:Source|URL):\W|---+$|\W*View this page as|\W*Download PDF|\W*En español", line))


def paragraphs(lines: list[str]) -> list[str]:
    """Join lines into paragraphs, a list into one paragraph, and mend what the pages' converter did."""
    blocks: list[list[str]] = []
    listing = False
    for line in [mend(line) for line in lines]:
        if not line:
            continue
        item = line.startswith("- ")
        if item and listing:
            blocks[-1].append(line)
        else:
            blocks.append([line])
        listing = item
    return ["\n".join(block) for block in blocks]


def mend(line: str) -> str:
    """Drop footnote marks and part words that lost the space beside a link or a number."""
    line = re.sub(r"^[*•●]\s+", "- ", line.strip().replace("**", ""))
    line = re.sub(r"(?<=[a-z)][.!?])(?:\d{1,3}[A-Z]?)(?=\s|[A-Z]|$)", " ", line)  # "each year.12The"
    line = re.sub(r"(?<=[a-z)])\*+|†", "", line)
    line = re.sub(r"(?<=[a-z])(?=988\b)|(?<=\b988)(?=[A-Z][a-z])", " ", line)
    return " ".join(line.split())
