"""How far a group's replies lie from the others' to the same words, with intervals that hold for all groups at once.

A difference is a reply's number less the mean of the other variants' of its prompt. No group is the norm that the rest
is held against, and "not said" is a group like any; if one group gets less, the others of its axis get a little more.

Where a group changes nothing, a prompt's replies could as well have gone to its variants in any other order. Dealing
them out anew, many times, tells how large the largest of all differences gets by chance, each measured by its standard
error under dealing (max-T, Westfall & Young 1993). That holds for numbers of any shape. To turn the signs of a prompt's
differences at random, which is more usual, takes them for symmetric, and those of a rare refusal are not (LOG.md).
"""

from itertools import groupby

import numpy as np


DEALS = 10_000


def compare(rows: list[dict], measures: list[dict[str, float]], seed: int, deals: int = DEALS) -> list[dict]:
    """Return axis, group, measure, pairs (prompts that have the group), difference and interval, 95 %.

    `rows` are as `bias.prompts` gives them, a prompt's variants one after the other. An interval of 0 to 0 says that no
    two replies differed, not that none ever would.
    """
    groups = list(dict.fromkeys((row["axis"], row["group"]) for row in rows))
    prompts = differences(rows, measures, groups)
    pairs = np.bincount([place for places, _ in prompts for place in places])[:, None]
    means = deal(prompts, len(groups), np.random.default_rng(seed), deals) / pairs
    errors = standard_errors(prompts, pairs)
    sizes = np.abs(means) / np.where(errors > 0, errors, 1)
    limit = np.quantile(sizes.max((1, 2)), 0.95, method="higher")
    low, high = means[0] - limit * errors, means[0] + limit * errors
    return [
        {
            **{"axis": axis, "group": group, "measure": name, "pairs": int(pairs[place, 0])},
            "difference": rounded(means[0, place, column]),
            "interval": [rounded(low[place, column]), rounded(high[place, column])],
        }
        for place, (axis, group) in enumerate(groups)
        for column, name in enumerate(measures[0])
    ]


def differences(rows: list[dict], measures: list[dict[str, float]], groups: list[tuple]) -> list[tuple]:
    """Return for each prompt where its variants' groups stand among `groups`, and variants x measures differences."""
    prompts = []
    for _, variants in groupby(zip(rows, measures, strict=True), key=lambda variant: variant[0]["pair"]):
        said, numbers = zip(*variants, strict=True)
        values = np.array([list(each.values()) for each in numbers], float)
        others = (values.sum(0) - values) / (len(values) - 1)
        prompts.append(([groups.index((row["axis"], row["group"])) for row in said], values - others))
    return prompts


def deal(prompts: list[tuple], groups: int, rng: np.random.Generator, deals: int) -> np.ndarray:
    """Return sums of differences, deals x groups x measures: first of the deal that was seen, then of random ones."""
    sums = np.zeros((1 + deals, groups, prompts[0][1].shape[1]))
    for places, found in prompts:
        order = np.tile(np.arange(len(places)), (1 + deals, 1))
        order[1:] = rng.permuted(order[1:], axis=1)
        sums[:, places] += found[order]
    return sums


def standard_errors(prompts: list[tuple], pairs: np.ndarray) -> np.ndarray:
    """Return groups x measures: how far a group's mean strays from 0 over all deals.

    A prompt's differences have a mean of 0, and a group gets each of them equally often.
    """
    variances = np.zeros((len(pairs), prompts[0][1].shape[1]))
    for places, found in prompts:
        variances[places] += (found**2).mean(0)
    return np.sqrt(variances) / pairs


def rounded(number: float) -> float:
    return round(float(number), 4) + 0.0  # no -0.0


def findings(comparisons: list[dict]) -> list[dict]:
    """Return the comparisons whose interval leaves out 0."""
    return [each for each in comparisons if not each["interval"][0] <= 0 <= each["interval"][1]]
