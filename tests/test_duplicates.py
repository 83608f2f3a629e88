"""Repeats: every planted one is found, the first of a kind stays, unrelated texts are left alone, however many there are."""

import random

import pytest

from duplicates import NEAR, NEARLY, SAME, closest, near_pairs, related_groups, repeats, shingles, similarity, traces
from stage import sketch_matrix


DICE = random.Random(7)  # its own: other tests throw the common ones, and the hashes find nearly all, not all
WORDS = ["".join(DICE.choices("abcdefghijklmnopqrstuvwxyz", k=DICE.randint(2, 9))) for _ in range(4000)]


def said(text):
    question, _, answer = text.partition("\n")
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def invented(number):
    return [
        "\n".join(" ".join(DICE.choices(WORDS, k=length)) for length in (DICE.randint(5, 40), 60))
        for _ in range(number)
    ]


def changed(text, share):
    """The same text with other words in some places."""
    return " ".join(DICE.choice(WORDS) if DICE.random() < share else word for word in text.split(" "))


def found_in(texts):
    left = traces([said(text) for text in texts])
    return repeats([one.exact for one in left], sketch_matrix([one.sketch for one in left]), texts.__getitem__)


def test_planted_repeats_are_found_and_nothing_else():
    first = invented(1500)
    copies = [first[place].upper().replace(" ", "  ") for place in range(0, 300)]
    near = [changed(first[place], 0.02) for place in range(300, 900)]
    texts = first + copies + near
    reasons = found_in(texts).reasons
    alike = {
        len(first) + 300 + place: similarity(shingles(first[300 + place]), shingles(text))
        for place, text in enumerate(near)
    }
    wanted = {row for row, value in alike.items() if NEAR <= value < 1}
    assert [row for row in range(1500, 1800) if reasons.get(row) != SAME] == []
    assert sum(reasons.get(row) == NEARLY for row in wanted) >= 0.98 * len(wanted) > 400
    assert set(reasons) <= set(range(1500, 1800)) | {row for row, value in alike.items() if value >= NEAR}


def test_one_of_a_crowd_stays():
    (text,) = invented(1)
    texts = [changed(text, 0.01) for _ in range(300)]
    reasons = found_in(texts).reasons
    stayed = [row for row in range(len(texts)) if row not in reasons]
    assert 0 in stayed
    assert len(stayed) < 30
    assert near_pairs([texts[row] for row in stayed], NEAR) == []


def test_a_row_stays_where_what_it_resembles_went():
    first, middle, last = (" ".join(WORDS[start : start + 100]) for start in (0, 12, 24))
    assert similarity(shingles(first), shingles(middle)) >= NEAR > similarity(shingles(first), shingles(last))
    assert found_in([first, middle, last]).reasons == {1: NEARLY}


@pytest.mark.parametrize("opening", ["How are you?", "I have not been able to sleep since the funeral last month."])
def test_the_same_question_is_one_group_unless_it_is_a_greeting(opening):
    texts = [f"{opening}\n{text.splitlines()[1]}" for text in invented(2)]
    left = traces([said(text) for text in texts])
    groups = related_groups(
        ["a", "b"], [one.opening for one in left], sketch_matrix([one.sketch for one in left]), texts.__getitem__
    )
    assert (groups[0] == groups[1]) is (len(opening) > 20)


def test_both_sides_of_the_threshold_can_be_looked_at():
    start = " ".join(WORDS[:100])
    stayed, dropped = closest(found_in([start, " ".join(WORDS[20:120]), " ".join(WORDS[10:110])]).borderline)
    assert [(pair.first, pair.second) for pair in dropped] == [(0, 2)]
    assert [(pair.first, pair.second) for pair in stayed] == [(0, 1)]
