"""Which split a group of rows belongs to: 80 % train, 10 % validation, 10 % test, never a group in two of them."""

import hashlib
from collections.abc import Iterable

from rows import BadInput


SHARES = {"test": 0.1, "validation": 0.1}
SPLITS = ("train", "validation", "test")


def split_groups(groups: Iterable[str], seed: int) -> dict[str, str]:
    """Map each group to its split by a hash of seed and group alone.

    Neither the order of rows nor other groups matter, so a row stays in its split when sources are added. Where a small
    set leaves validation or test empty, the group whose hash comes nearest to that split's share moves there; that
    is the only case in which other groups matter.
    """
    places = sorted((_place(group, seed), group) for group in set(groups))
    if len(places) < len(SPLITS):
        raise BadInput(f"{len(places)} groups of rows cannot be split into {', '.join(SPLITS)}: give more data.")
    splits = {group: _split_at(place) for place, group in places}
    for number, split in ((-1, "train"), (0, "test"), (1, "validation")):
        if split not in splits.values():
            splits[places[number][1]] = split
    return splits


def _place(group: str, seed: int) -> float:
    """A number in [0, 1) that looks random and never changes."""
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def _split_at(place: float) -> str:
    end = 0.0
    for split, share in SHARES.items():
        end += share
        if place < end:
            return split
    return "train"
