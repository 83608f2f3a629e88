"""Which conversations are the same, or nearly: exact by hash, near by MinHash candidates and their true Jaccard."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from rensa import RMinHash


# Above it, two conversations differ by a date, a footnote or a converted quote mark; read at the borderline.
NEAR = 0.7

# Below it, two answers to one question are different answers, however alike the question makes the whole.
ANSWERED = 0.2

# Above it, two conversations share whole paragraphs: both may stay, but never in two splits.
RELATED = 0.35

PERMUTATIONS = 128
SEED = 20

# A sketch tells the similarity of two texts with a standard deviation of 0.044 at most.
DOUBT = 0.15

# Of more rows that share a band, each is compared with the first and with as many neighbours.
NEIGHBOURS = 32

# Beyond it, two values a band would propose more unrelated pairs than can be looked at.
MANY = 50_000

# Words of a first message; "Hello, how are you?" opens hundreds of unrelated conversations.
LONG_ENOUGH = 8

SAME, NEARLY = "the same as an earlier row", "nearly the same as an earlier row"

Texts = Callable[[int], str]


class Pair(NamedTuple):
    first: int
    second: int
    similarity: float


class Repeats(NamedTuple):
    reasons: dict[int, str]  # by row
    borderline: list[Pair]  # pairs near the threshold, on both sides of it, whose true similarity is known


class Traces(NamedTuple):
    """What a conversation leaves for the search for repeats, so that its text need not be read again."""

    exact: bytes  # 16, of its words
    sketch: bytes  # PERMUTATIONS unsigned 32-bit numbers
    opening: bytes  # 8, of the first message's words; nothing where that is short


def traces(conversations: Sequence[list[dict]]) -> list[Traces]:
    spoken = [[words(message["content"]) for message in messages] for messages in conversations]
    whole = [[word for turn in turns for word in turn] for turns in spoken]
    sketches = sketches_of(whole)
    return [
        Traces(_digest(tokens, 16), sketch.tobytes(), _digest(turns[0], 8) if len(turns[0]) >= LONG_ENOUGH else b"")
        for turns, tokens, sketch in zip(spoken, whole, sketches, strict=True)
    ]


def _digest(tokens: list[str], size: int) -> bytes:
    return hashlib.blake2b(" ".join(tokens).encode(), digest_size=size).digest()


def words(text: str) -> list[str]:
    return re.findall(r"\w+(?:['’]\w+)*", text.lower())


def runs_of(tokens: Sequence[str], size: int = 3) -> list[str]:
    """Runs of `size` words; a shorter text is one run, so that it can still equal another."""
    return [" ".join(tokens[start : start + size]) for start in range(max(1, len(tokens) - size + 1))]


def shingles(text: str) -> frozenset[str]:
    return frozenset(runs_of(words(text)))


def similarity(first: frozenset[str], second: frozenset[str]) -> float:
    """Jaccard similarity of two sets of shingles: what they share over what either has."""
    return len(first & second) / len(first | second)


def sketches_of(texts: Sequence[Sequence[str]]) -> np.ndarray:
    """MinHash of each list of words, as rows of PERMUTATIONS unsigned 32-bit numbers."""
    matrix = RMinHash.digest_matrix_from_token_sets([runs_of(tokens) for tokens in texts], PERMUTATIONS, SEED)
    return np.array(matrix.to_rows(), dtype=np.uint32).reshape(-1, PERMUTATIONS)


def candidates(sketches: np.ndarray, width: int) -> np.ndarray:
    """Pairs of rows that agree in some band of `width` values, each once, the earlier row first.

    A pair of similarity s is missed with a probability of (1 - s**width) ** (PERMUTATIONS // width).
    """
    found = [np.empty(0, np.uint64)]
    for start in range(0, PERMUTATIONS - width + 1, width):
        key = np.zeros(len(sketches), np.uint64)
        for column in sketches[:, start : start + width].T:
            key = (key ^ column) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(29)
        order = np.argsort(key, kind="stable")
        key = key[order]
        first_of_run = np.maximum.accumulate(np.where(np.r_[True, key[1:] != key[:-1]], np.arange(len(key)), 0))
        for step in range(1, NEIGHBOURS):
            same = np.flatnonzero(key[step:] == key[:-step])
            if not len(same):
                break
            found.append(_code(order[same], order[same + step]))
        far = np.flatnonzero(np.arange(len(key)) - first_of_run >= NEIGHBOURS)
        found.append(_code(order[first_of_run[far]], order[far]))
    return _pairs(np.unique(np.concatenate(found)))


def _code(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first.astype(np.uint64) << np.uint64(32) | second.astype(np.uint64)


def _pairs(codes: np.ndarray) -> np.ndarray:
    return np.stack([codes >> np.uint64(32), codes & np.uint64(0xFFFFFFFF)], axis=1).astype(np.int64)


def agreement(sketches: np.ndarray, pairs: np.ndarray, chunk: int = 50_000) -> np.ndarray:
    """The similarity of each pair as its sketches tell it."""
    parts = [pairs[start : start + chunk] for start in range(0, len(pairs), chunk)]
    means = [(sketches[part[:, 0]] == sketches[part[:, 1]]).mean(axis=1, dtype=np.float32) for part in parts]
    return np.concatenate([np.empty(0, np.float32), *means])


def alike(sketches: np.ndarray, texts: Texts, threshold: float, width: int) -> Iterator[tuple[Pair, bool]]:
    """Yield pairs that may reach the threshold, by their later row, and whether the texts themselves were compared.

    The true similarity decides wherever the sketches leave a doubt; a pair below the threshold is yielded too where that is close.
    """
    pairs = candidates(sketches, width)
    told = agreement(sketches, pairs)
    order = np.lexsort((pairs[:, 0], pairs[:, 1]))
    shingles_of = lru_cache(maxsize=4096)(lambda row: shingles(texts(row)))
    for place in order[told[order] >= threshold - DOUBT]:
        (first, second), similar = map(int, pairs[place]), float(told[place])
        doubtful = similar < threshold + DOUBT
        if doubtful:
            similar = similarity(shingles_of(first), shingles_of(second))
        yield Pair(first, second, similar), doubtful


def near_pairs(texts: Sequence[str], threshold: float) -> list[Pair]:
    """The pairs of a list of texts whose similarity reaches the threshold."""
    sketches = sketches_of([words(text) for text in texts])
    return [pair for pair, _ in alike(sketches, texts.__getitem__, threshold, 2) if pair.similarity >= threshold]


def repeats(exact: Sequence[bytes], sketches: np.ndarray, texts: Texts, answers: Texts | None = None) -> Repeats:
    """Find the rows that repeat an earlier one that stays; the first of a kind always stays.

    The whole conversation counts; another answer to the same question is no repeat, however long the question, which
    needs `answers`: what the assistant says in a row.
    """
    reasons: dict[int, str] = {}
    first_with: dict[bytes, int] = {}
    for number, value in enumerate(exact):
        if first_with.setdefault(value, number) != number:
            reasons[number] = SAME
    rest = np.array(sorted(first_with.values()), dtype=np.int64)
    borderline = []
    for (first, second, similar), compared in alike(sketches[rest], lambda row: texts(int(rest[row])), NEAR, 4):
        pair = Pair(int(rest[first]), int(rest[second]), similar)
        if pair.first in reasons or pair.second in reasons:
            continue
        if similar >= NEAR and answers and similarity(*(shingles(answers(row)) for row in pair[:2])) < ANSWERED:
            continue
        if similar >= NEAR:
            reasons[pair.second] = NEARLY
        if compared:
            borderline.append(pair)
    return Repeats(reasons, borderline)


def related_groups(groups: Sequence[str], openings: Sequence[bytes], sketches: np.ndarray, texts: Texts) -> list[str]:
    """Give rows of different groups that share much text, or ask the same thing, one group, so that no split parts them."""
    parent = {group: group for group in groups}
    place = {group: number for number, group in enumerate(parent)}  # a source that is added names no older group anew

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = group = parent[parent[group]]
        return group

    def join(first: str, second: str) -> None:
        low, high = sorted((root(first), root(second)), key=place.__getitem__)
        parent[high] = low

    for pair, _ in alike(sketches, texts, RELATED, 2 if len(groups) <= MANY else 3):
        if pair.similarity >= RELATED:
            join(groups[pair.first], groups[pair.second])
    asked: dict[bytes, str] = {}
    for group, opening in zip(groups, openings, strict=True):
        if opening:
            join(group, asked.setdefault(opening, group))
    return [root(group) for group in groups]


def closest(pairs: Iterable[Pair], most: int = 10) -> tuple[list[Pair], list[Pair]]:
    """Of pairs near the threshold, the most alike that stayed and the least alike that did not."""
    pairs = sorted(pairs, key=lambda pair: (abs(pair.similarity - NEAR), pair))
    return tuple([pair for pair in pairs if (pair.similarity >= NEAR) is dropped][:most] for dropped in (False, True))
