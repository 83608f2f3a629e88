"""Intervals: what they cover, what pairing and missing values do, and that the same seed gives the same numbers."""

import json

import numpy as np
import pytest

import metrics
import paired


SEED = 20


def test_means_by_hand():
    found = paired.compare_means([1, 2, 3, None], [2, 3, 7, 5], SEED)
    assert (found["base"], found["adapter"], found["difference"], found["n"]) == (2, 4, 2, 3)
    low, high = found["difference_interval_95"]
    assert low < 2 < high


def test_pairing_sees_what_the_spread_between_prompts_would_hide():
    base = np.random.default_rng(1).normal(0, 10, 100)
    low, high = paired.compare_means(base, base + 1, SEED)["difference_interval_95"]
    assert (low, high) == (1, 1)


def test_prompts_of_one_group_are_drawn_together():
    rng = np.random.default_rng(3)
    base, adapter = rng.normal(0, 1, 40).tolist(), rng.normal(0.2, 1, 40).tolist()
    once = paired.compare_means(base, adapter, SEED)["difference_interval_95"]
    thrice = paired.compare_means(base * 3, adapter * 3, SEED, groups=[*range(40)] * 3)["difference_interval_95"]
    alone = paired.compare_means(base * 3, adapter * 3, SEED)["difference_interval_95"]
    assert thrice == pytest.approx(once, abs=1e-4) and alone[1] - alone[0] < 0.7 * (once[1] - once[0])


def test_where_nothing_differs_there_is_no_interval():
    assert paired.compare_means([0] * 235, [0] * 235, SEED)["difference_interval_95"] is None
    assert paired.compare_means([1] * 9, [0] * 9, SEED)["difference_interval_95"] == [-1, -1]


def test_shares_of_passes_are_means_too():
    found = paired.compare_means([True, False, False, True], [True, True, True, True], SEED)
    assert (found["base"], found["adapter"], found["difference"]) == (0.5, 1, 0.5)


@pytest.mark.parametrize("values", [[None, None], [None, 1.0]])
def test_a_number_that_is_not_there_is_none(values):
    found = paired.compare_means([None, None], values, SEED)
    assert (found["base"], found["difference"], found["difference_interval_95"], found["n"]) == (None, None, None, 0)
    json.dumps(found, allow_nan=False)


def test_intervals_of_means_cover_the_truth():
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(200):
        base = rng.exponential(1, 60)
        low, high = paired.compare_means(base, base + rng.normal(0.3, 1, 60), SEED)["difference_interval_95"]
        covered += low <= 0.3 <= high
    assert covered >= 180  # 190 expected; the percentile bootstrap of 60 values is a little short


REPLIES = [
    "I hear how tired you are.",
    "That is a lot to carry. What helps?",
    "Tell me more about your sister.",
    "Rest.",
]
WRITTEN = ["I hear that you are tired.", "That is so much to carry.", "Tell me about your sister.", "Take a rest."]


def test_bleu_is_that_of_the_whole_set():
    found = paired.compare_bleu(REPLIES, WRITTEN, WRITTEN, SEED)
    assert found["base"] == pytest.approx(metrics.bleu(REPLIES, WRITTEN), abs=1e-4)
    assert found["adapter"] == 100
    low, high = found["difference_interval_95"]
    assert 0 < low <= found["difference"] <= high <= 100


def test_a_set_against_itself_differs_by_nothing():
    found = paired.compare_sets(REPLIES * 10, REPLIES * 10, metrics.OF_ALL["distinct_1"], SEED)
    assert (found["difference"], found["difference_interval_95"]) == (0, [0, 0])


def test_intervals_over_halves_are_as_wide_as_those_over_prompts():
    """For a mean, whose spread is known, drawing halves gives what drawing with replacement gives."""
    texts = [" ".join(["word"] * count) for count in np.random.default_rng(3).integers(1, 60, 200)]
    longer = [text + " more" * (number % 7) for number, text in enumerate(texts)]
    lengths = [[len(text.split()) for text in side] for side in (texts, longer)]
    halves = paired.compare_sets(texts, longer, lambda side: np.mean([len(text.split()) for text in side]), SEED)
    means = paired.compare_means(*lengths, SEED)
    assert halves["difference"] == means["difference"]
    assert halves["difference_interval_95"] == pytest.approx(means["difference_interval_95"], abs=0.1)


def test_too_few_words_for_a_sample_is_none():
    found = paired.compare_sets(["I hear you."] * 4, REPLIES, metrics.OF_ALL["distinct_1_of_100"], SEED)
    assert (found["base"], found["difference_interval_95"]) == (None, None)


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(4).normal(0, 1, (2, 50))
    first = paired.compare_means(*values, SEED)
    paired.weights.cache_clear()
    assert paired.compare_means(*values, SEED) == first
    assert paired.compare_means(*values, SEED + 1) != first
