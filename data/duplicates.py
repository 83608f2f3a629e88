"""Which conversations are the same, or nearly: exact by hash, near by MinHash candidates and their true Jaccard."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rensa import RMinHash, RMinHashLSH

from rows import Row, text_of


# Above it, two conversations differ by a date, a footnote or a converted quote mark; read at the borderline.
NEAR = 0.7

# Above it, two conversations share whole paragraphs: both may stay, but never in two splits.
RELATED = 0.35

PERMUTATIONS = 128
SEED = 20


class Pair(NamedTuple):
    first: int
    second: int
    similarity: float


def words(text: str) -> list[str]:
    return re.findall(r"\w+(?:['’]\w+)*", text.lower())


def shingles(text: str, size: int = 3) -> set[str]:
    """Runs of `size` words; a shorter text is one run, so that it can still equal another."""
    tokens = words(text)
    return {" ".join(tokens[start : start + size]) for start in range(max(1, len(tokens) - size + 1))}


def similarity(first: set[str], second: set[str]) -> float:
    """Jaccard similarity of two sets of shingles: what they share over what either has."""
    return len(first & second) / len(first | second)


def near_pairs(texts: Iterable[str], threshold: float, size: int = 3) -> Iterator[Pair]:
    """Yield each pair whose true similarity reaches `threshold`; the later index comes second.

    MinHash only proposes: a pair below the threshold is never yielded, a pair far above it is hardly ever missed.
    """
    # Enough bands to propose pairs well below the threshold; the true similarity decides.
    index = RMinHashLSH(threshold=threshold / 2, num_perm=PERMUTATIONS, num_bands=_bands(threshold))
    seen: list[set[str]] = []
    for second, text in enumerate(texts):
        runs = shingles(text, size)
        sketch = RMinHash(num_perm=PERMUTATIONS, seed=SEED)
        sketch.update(sorted(runs))
        for first in sorted(index.query(sketch)):
            alike = similarity(seen[first], runs)
            if alike >= threshold:
                yield Pair(first, second, alike)
        index.insert(second, sketch)
        seen.append(runs)


def _bands(threshold: float) -> int:
    """Most bands for low thresholds: with b bands of r rows a pair of similarity s is missed with (1 - s**r)**b."""
    return 32 if threshold >= 0.6 else 64


def repeats(rows: list[Row]) -> dict[int, str]:
    """Map the index of each row that repeats an earlier one to the reason; the first of a kind always stays.

    The whole conversation counts: another answer to the same question is no repeat.
    """
    reasons: dict[int, str] = {}
    first_with: dict[bytes, int] = {}
    for number, row in enumerate(rows):
        first = first_with.setdefault(_fingerprint(row), number)
        if first != number:
            reasons[number] = "the same as an earlier row"
    for pair in near_pairs(map(text_of, rows), NEAR):
        if pair.first not in reasons:
            reasons.setdefault(pair.second, "nearly the same as an earlier row")
    return reasons


def _fingerprint(row: Row) -> bytes:
    return hashlib.sha256(" ".join(words(text_of(row))).encode()).digest()


def merge_related_groups(rows: list[Row]) -> list[Row]:
    """Give rows of different groups that share much text, or ask the same thing, one group, so that no split parts them."""
    parent = {row.group: row.group for row in rows}

    def root(group: str) -> str:
        while parent[group] != group:
            group = parent[group]
        return group

    def join(first: str, second: str) -> None:
        low, high = sorted((root(first), root(second)))
        parent[high] = low

    for pair in near_pairs(map(text_of, rows), RELATED):
        join(rows[pair.first].group, rows[pair.second].group)
    asked: dict[str, str] = {}
    for row in rows:
        opening = words(row.messages[0]["content"])
        if len(opening) >= 8:  # "Hello, how are you?" opens hundreds of unrelated conversations
            join(row.group, asked.setdefault(" ".join(opening), row.group))
    return [row._replace(group=root(row.group)) for row in rows]
