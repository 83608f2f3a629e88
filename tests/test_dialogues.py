"""Our own dialogues: form, variety and safe words, measured over the whole set."""

import itertools
import json
import re
from collections import Counter

from nltk.util import ngrams

from conftest import ROOT
from duplicates import near_pairs


DIALOGUES = [
    json.loads(line)
    for file in sorted((ROOT / "data/dialogues").glob("*.jsonl"))
    for line in file.read_text(encoding="utf-8").splitlines()
]
REPLIES = [turn["content"] for each in DIALOGUES for turn in each["messages"] if turn["role"] == "assistant"]


def words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())


def test_at_least_400():
    assert len(DIALOGUES) >= 400


def test_form():
    assert len({each["id"] for each in DIALOGUES}) == len(DIALOGUES)
    for each in DIALOGUES:
        roles = [turn["role"] for turn in each["messages"]]
        assert 6 <= len(roles) <= 16, each["id"]
        assert roles == ["user", "assistant"] * (len(roles) // 2), each["id"]


def test_most_replies_are_short():
    lengths = [len(words(reply)) for reply in REPLIES]
    assert sum(length < 80 for length in lengths) > 0.9 * len(lengths)
    assert max(lengths) <= 110


def test_distinct_2_over_any_10000_words():
    spoken = [word for reply in REPLIES for word in words(reply)]
    for start in range(0, max(1, len(spoken) - 9_999), 100):
        pairs = list(ngrams(spoken[start : start + 10_000], 2))
        assert len(set(pairs)) / len(pairs) >= 0.55


def test_no_opening_is_a_habit():
    openings = Counter(tuple(words(reply)[:5]) for reply in REPLIES)
    assert openings.most_common(1)[0][1] <= 0.03 * len(REPLIES)


def test_no_two_dialogues_are_alike():
    texts = ["\n".join(turn["content"] for turn in each["messages"]) for each in DIALOGUES]
    assert list(near_pairs(texts, 0.5)) == []


FORBIDDEN = re.compile(
    r"\d{3}[- ]?\d{3,}|\b\d+ ?(?:mg|milligrams?)\b|commit(?:ted)? suicide|https?:|\bwww\."
    r"|\byou have (?:depression|anxiety|ptsd|bipolar|ocd|adhd)|\bI(?:'m| am) (?:a therapist|human|a person)\b",
    re.I,
)


def test_no_number_dose_diagnosis_or_claim():
    assert [reply for reply in REPLIES if FORBIDDEN.search(reply)] == []


def test_what_is_compared_is_not_empty():
    assert all(len(list(itertools.islice(each["messages"], 2))) == 2 for each in DIALOGUES)
