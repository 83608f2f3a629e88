"""The bias audit: prompts that differ in one word about the person, measures of replies, and what counts as a finding."""

import json
import re
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

import bias
from conftest import ROOT
from duplicates import near_pairs
from group_differences import compare, findings
from screening import Screening


CASES = [json.loads(line) for line in (ROOT / "tests/cases/bias/replies.jsonl").read_text().splitlines()]
PAIRS = bias.load_pairs()
ROWS = bias.prompts(PAIRS)
MEASURED = {"help": bias.offers_help, "refusal": bias.refuses, "warmth": bias.warmth}
# An even number, and for five groups in threes a multiple of five: 10 does for all.
BALANCED = 10


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['measure']}: {case['reply'][:40]}")
def test_a_measure_finds_what_it_is_named_after(case):
    assert bool(MEASURED[case["measure"]](case["reply"])) == case["found"]


def test_each_axis_has_at_least_40_prompts_and_all_its_groups():
    assert len({pair["id"] for pair in PAIRS}) == len(PAIRS)
    axes = Counter(pair["axis"] for pair in PAIRS)
    assert axes.keys() == bias.terms()["groups"].keys() and min(axes.values()) >= 40
    for axis, groups in bias.terms()["groups"].items():
        assert {row["group"] for row in ROWS if row["axis"] == axis} == {*groups, bias.NOT_SAID}
    assert min(map(int, bias.terms()["groups"]["age"])) >= 18
    assert len(ROWS) <= 900


@pytest.mark.parametrize("per_axis", [None, BALANCED, 2 * BALANCED])
def test_groups_are_met_equally_often(per_axis):
    rows = bias.prompts(PAIRS, per_axis)
    for axis in bias.terms()["groups"]:
        assert len(set(Counter(row["group"] for row in rows if row["axis"] == axis).values())) == 1, axis


def test_groups_meet_each_other_equally_often():
    for axis, groups in bias.terms()["groups"].items():
        met = Counter(
            pair for each in PAIRS if each["axis"] == axis for pair in combinations(sorted(each["groups"]), 2)
        )
        assert len(met) == len(groups) * (len(groups) + 1) / 2
        assert max(met.values()) - min(met.values()) <= 1, axis  # disability: 40 is no multiple of what would divide


def test_variants_differ_in_one_slot_and_nothing_else():
    for pair in PAIRS:
        before, slot, after = re.fullmatch(r"([^\[\]{}|]*)\[([^\[\]]*)\]([^\[\]{}|]*)", pair["text"]).groups()
        assert len(re.findall(r"\{(\w+)\}", slot)) == 1, pair["id"]
        texts = [row["prompt"] for row in ROWS if row["pair"] == pair["id"]]
        assert len(set(texts)) == len(texts) == len(set(pair["groups"])) >= 3, pair["id"]
        assert all(text.startswith(before) and text.endswith(after) for text in texts), pair["id"]


def test_every_variant_is_written_correctly():
    for text in (row["prompt"] for row in ROWS):
        assert not re.search(r"\s\s|^\s|\s$|\s[,.;:!?]|[,.;:]{2}|[\[\]{}|]", text), text
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text.replace("an hour", ""), re.I), text
        written_small = text[0].islower()  # as people type on a phone
        assert written_small or not re.search(r"[.!?] [a-z]", text), text


def test_no_two_prompts_tell_the_same():
    texts = [bias.render(pair, bias.NOT_SAID) for pair in PAIRS]
    assert near_pairs(texts, 0.6) == []
    openings = Counter(tuple(text.lower().split()[:3]) for text in texts)
    assert openings.most_common(1)[0][1] <= 0.03 * len(texts)
    lengths = sorted(len(text.split()) for text in texts)
    assert lengths[0] <= 20 and lengths[-1] >= 40


def test_difference_by_hand():
    rows = [{"axis": "age", "pair": pair, "group": group} for pair in "pq" for group in ("22", "45", "78")]
    measures = [{"words": words} for words in (10, 20, 60, 30, 30, 30)]
    found = {each["group"]: each for each in compare(rows, measures, seed=1, deals=50)}
    # In p 10 - 40, 20 - 35 and 60 - 15, in q nothing; the mean of the two.
    assert [found[group]["difference"] for group in ("22", "45", "78")] == [-15, -7.5, 22.5]
    assert found["22"]["pairs"] == 2


def made_up_rows(prompts: int = 24) -> list[dict]:
    groups = {"faith": ["none", "one", "other", "third"], "age": ["22", "45", "78"]}
    return [
        {"axis": axis, "pair": f"{axis}-{number}", "group": group}
        for axis, named in groups.items()
        for number in range(prompts)
        for group in named
    ]


def made_up_measures(rows: list[dict], kind: str, rng: np.random.Generator) -> list[dict[str, float]]:
    """Replies to one prompt are alike, and the group changes nothing."""
    of_prompt = {row["pair"]: rng.normal(size=3) for row in rows}
    numbers = np.array([of_prompt[row["pair"]] for row in rows]) + rng.normal(size=(len(rows), 3))
    shapes = {"normal": numbers, "long tail": np.exp(numbers), "often": numbers > 0.5, "rare": numbers > 2.6}
    return [dict(zip("abc", map(float, each), strict=True)) for each in shapes[kind]]


@pytest.mark.parametrize("kind", ["normal", "long tail", "often", "rare"])
def test_where_groups_change_nothing_something_is_found_in_5_of_100_sets(kind):
    rows, sets = made_up_rows(), 200
    found = sum(
        bool(findings(compare(rows, made_up_measures(rows, kind, np.random.default_rng(seed)), seed, deals=400)))
        for seed in range(sets)
    )
    # Of 200, more than 19 come by chance twice in a thousand times. Rare numbers tie, which makes findings rarer.
    assert found <= 19
    assert found >= 3 or kind == "rare"


def test_an_effect_is_found_where_it_is():
    rows = made_up_rows()
    measures = made_up_measures(rows, "normal", np.random.default_rng(7))
    for row, measured in zip(rows, measures, strict=True):
        measured["b"] -= 2 * (row["group"] == "other")
    found = findings(compare(rows, measures, seed=7, deals=1000))
    assert {(each["axis"], each["measure"]) for each in found} == {("faith", "b")}
    (other,) = [each for each in found if each["group"] == "other"]
    assert other["interval"][0] < -2 < other["interval"][1] < 0


def test_the_same_replies_are_no_difference_and_two_prompts_tell_nothing():
    rows, few = made_up_rows(), made_up_rows(prompts=2)
    for each in compare(rows, [{"words": 30.0}] * len(rows), seed=1, deals=100):
        assert (each["difference"], each["interval"]) == (0, [0, 0])
    # Both times the shortest of three by chance: once in nine.
    assert findings(compare(few, shorter_for_22(few), seed=1, deals=1000)) == []
    assert {each["group"] for each in findings(compare(rows, shorter_for_22(rows), seed=1, deals=1000))} >= {"22"}


def shorter_for_22(rows: list[dict]) -> list[dict[str, float]]:
    return [{"words": 10.0 * (row["group"] != "22")} for row in rows]


def replies_to(rows: list[dict], group: str) -> list[str]:
    kind = "That sounds so lonely. Is there a friend you could ring? What was the worst of it?"
    return ["I'm sorry, but I can't help with that." if row["group"] == group else kind for row in rows]


@pytest.fixture
def no_screening(monkeypatch):
    monkeypatch.setattr(bias, "screen", lambda text: Screening("risk" if "deaf" in text else "none", [], "none"))


def test_an_audit_finds_what_training_brought_in(no_screening):
    rows = bias.prompts(PAIRS, 2 * BALANCED)
    base, adapter = replies_to(rows, "nobody"), replies_to(rows, "Muslim")
    result = bias.audit(rows, base, adapter, seed=20)
    assert result == bias.audit(rows, base, adapter, seed=20)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert (result["pairs"], result["rendered"], result["base"]["refusal"]) == (6 * 20, len(rows), 0)
    assert result["found_in_base"] == []
    told = {
        (each["group"], each["measure"]): each["difference"] for each in result["found"] if each["axis"] == "faith"
    }
    assert told["Muslim", "refusal"] == 1 and told["Muslim", "help"] == -1 and told["Muslim", "warmth"] == -1
    assert {each["axis"] for each in result["found"]} == {"faith"}
    assert result["found_in_change"] == result["found"]  # the base makes no difference at all
    most = next(each for each in result["largest"] if (each["axis"], each["measure"]) == ("faith", "refusal"))
    assert most["base"]["difference"] == 0 and most["adapter"] == {"group": "Muslim", "difference": 1}
    # Ten of the twenty prompts on disability have a deaf variant, and the others of the same prompt get no card.
    assert (result["screening"]["differ"], result["screening"]["of"]) == (10, 120)
    assert "deaf" in {each["group"] for each in result["screening"]["found"]}
