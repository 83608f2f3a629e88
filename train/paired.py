"""What two models' replies to the same prompts say about their difference: values, and intervals over prompts.

A prompt's two replies stay together in every draw: what makes one prompt harder than another then takes no part. So do
prompts of one group (answers to one question): they are alike, and drawn one by one they would make intervals too narrow.
An interval is about other prompts of the same kind, not about other training runs.
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from sacrebleu.metrics.bleu import BLEU


RESAMPLES = 10_000
HALVES = 200
DIGITS = 4


def compare_means(
    base: Sequence, adapter: Sequence, seed: int, digits: int = DIGITS, groups: Sequence | None = None
) -> dict:
    """Compare means of one value a prompt (number, bool or None) by the percentile bootstrap (Efron 1979).

    A prompt for which either side has None is left out; n is the number of those that are left. Where no prompt's two
    values differ there is no interval: every draw would say 0, and that is no certainty. Without `groups` each prompt is its own.
    """
    rows = zip(base, adapter, groups or range(len(base)), strict=True)
    pairs = [((before, after), group) for before, after, group in rows if None not in (before, after)]
    if not pairs:
        return comparison(np.nan, np.nan, (np.nan, np.nan), n=0)
    sides = np.array([pair for pair, _ in pairs], float).T
    draws = weights(tuple(group for _, group in pairs), seed)
    before, after = (draws @ side / draws.sum(1) for side in sides)
    interval = middle(after - before) if (sides[0] != sides[1]).any() else (np.nan, np.nan)
    return comparison(*sides.mean(1), interval, n=len(pairs), digits=digits)


def compare_bleu(
    base: list[str], adapter: list[str], references: list[str], seed: int, groups: Sequence | None = None
) -> dict:
    """Compare corpus BLEU, 0 to 100: n-gram hits are summed over the prompts of each draw (Koehn 2004)."""
    counts = [
        np.array([bleu_counts(*pair) for pair in zip(side, references, strict=True)]) for side in (base, adapter)
    ]
    draws = weights(tuple(groups or range(len(references))), seed)
    before, after = (np.array([bleu_of(row) for row in draws @ side]) for side in counts)
    return comparison(*(bleu_of(side.sum(0)) for side in counts), middle(after - before), n=len(references))


def compare_sets(
    base: list[str],
    adapter: list[str],
    of: Callable[[list[str]], float | None],
    seed: int,
    groups: Sequence | None = None,
) -> dict:
    """Compare a number that only a set of replies has, such as distinct-n, by halves of the groups drawn without replacement.

    A bootstrap draws replies twice, which makes any set less varied than it is. The spread over halves is that of the
    whole set (delete-d jackknife with d = n/2, Shao & Wu 1989), taken for normal.
    """
    rng, places = np.random.default_rng(seed), list(places_of(groups or range(len(base))).values())
    halves = [rng.permutation(len(places))[: len(places) // 2] for _ in range(HALVES)]
    picks = [[row for place in half for row in places[place]] for half in halves]
    values, *drawn = (
        [np.nan if (value := of([side[index] for index in pick])) is None else value for side in (base, adapter)]
        for pick in (range(len(base)), *picks)
    )
    spread = 1.96 * np.std([after - before for before, after in drawn])
    difference = values[1] - values[0]
    return comparison(*values, (difference - spread, difference + spread), n=len(base))


def middle(draws: np.ndarray) -> tuple[float, float]:
    """Return the bounds of the middle 95 % of what was drawn, draws without a number left out."""
    known = draws[np.isfinite(draws)]
    return tuple(np.percentile(known, [2.5, 97.5])) if len(known) else (np.nan, np.nan)


def comparison(base: float, adapter: float, interval: tuple[float, float], n: int, digits: int = DIGITS) -> dict:
    """Return the values, their difference (adapter less base), its interval and n; None where there is no number."""
    bounds = [rounded(bound, digits) for bound in interval]
    return {
        "base": rounded(base, digits),
        "adapter": rounded(adapter, digits),
        "difference": rounded(adapter - base, digits),
        "difference_interval_95": None if None in bounds else bounds,
        "n": n,
    }


def rounded(value: float, digits: int) -> float | None:
    return round(float(value), digits) + 0.0 if np.isfinite(value) else None


@cache
def weights(groups: tuple, seed: int) -> np.ndarray:
    """Return how often each draw takes each prompt, whose group is drawn as a whole: RESAMPLES x prompts, float32."""
    number = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    rng, count = np.random.default_rng(seed), len(number)
    drawn = np.stack([np.bincount(rng.integers(0, count, count), minlength=count) for _ in range(RESAMPLES)])
    return drawn[:, [number[group] for group in groups]].astype(np.float32)


def places_of(groups: Sequence) -> dict[object, list[int]]:
    """Return the rows of each group, in the order in which groups come first."""
    places: dict[object, list[int]] = {}
    for row, group in enumerate(groups):
        places.setdefault(group, []).append(row)
    return places


def bleu_counts(reply: str, reference: str) -> list[int]:
    """Return hits and totals of 1- to 4-grams and both lengths: what corpus BLEU is made of."""
    score = BLEU(effective_order=True).corpus_score([reply], [[reference]])
    return [*score.counts, *score.totals, score.sys_len, score.ref_len]


def bleu_of(counts: np.ndarray) -> float:
    hits, totals, lengths = np.split(counts.round().astype(int), [4, 8])
    return BLEU.compute_bleu(hits.tolist(), totals.tolist(), *lengths.tolist(), smooth_method="exp").score
