"""The capacity model: numbers worked by hand, a simulation, what must always hold, and what it refuses."""

import json
import random
import re
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

import capacity
from capacity import allowed_at_once, between, people_of_one, plan, replies_a_second, shares
from conftest import ROOT, command


def crowd(people: int, tokens: float, first: float) -> dict:
    return {"people": people, "tokens_a_second": tokens, "tokens_a_reply": 10, "first_p95": first}


# One reply a second for one person, two for three and more.
SMALL = [crowd(1, 10, 0.5), crowd(3, 20, 1.5)]
LARGE = [crowd(1, 40, 0.3), crowd(8, 200, 1.5), crowd(32, 300, 4.0)]


def mean(parts: list[float]) -> float:
    return sum(n * part for n, part in enumerate(parts))


@pytest.mark.parametrize("at_once, rate", [(1, 1.0), (2, 1.5), (3, 2.0), (9, 2.0)])
def test_speed_lies_on_the_line_between_two_crowds_and_grows_no_more_beyond_the_last(at_once, rate):
    assert replies_a_second(SMALL, at_once) == rate


@pytest.mark.parametrize("target, most", [(0.4, 0), (0.5, 1), (0.9, 1), (1.0, 2), (1.5, 3), (60, 3)])
def test_no_more_replies_at_once_are_allowed_than_were_measured(target, most):
    assert allowed_at_once(SMALL, target) == most


def test_a_larger_crowd_that_was_luckier_does_not_hide_a_slow_one():
    assert allowed_at_once([crowd(1, 10, 0.5), crowd(2, 10, 2.0), crowd(3, 10, 0.5)], 1.0) == 1


@pytest.mark.parametrize("people", [0, 4])
def test_waiting_is_never_guessed(people):
    with pytest.raises(ValueError, match=r"outside what was measured \(1 to 3\)"):
        between(SMALL, people, lambda each: each["first_p95"])


def test_two_people_by_hand():
    """They pause for 2 s. One of two begins each second, one ends each second; the second begins every 2 s, 1.5 end each second."""
    assert shares(SMALL, 2, pause=2.0) == pytest.approx([3 / 7, 3 / 7, 1 / 7])
    assert capacity.messages_an_hour(SMALL, 2, pause=2.0) == pytest.approx(3600 * (3 / 7 * 1 + 1 / 7 * 1.5))
    assert people_of_one(SMALL, target=0.5, pause=2.0) == 1  # with two, one message in three meets another reply


def test_a_plan_by_hand():
    """One reply of a second at most at once, each person alone on a machine: a message every 3 s."""
    found = plan(SMALL, people=5, target=0.5, pause=2.0)
    assert found == {"most": 1, "machines": 5, "fullest": 1, "messages_an_hour": pytest.approx(5 * 1200)}


@given(people=some.integers(1, 200), pause=some.floats(0.5, 500))
def test_littles_law(people, pause):
    """Replies at once are messages a second times seconds a reply: what people do not spend in pauses."""
    parts = shares(LARGE, people, pause)
    a_second = capacity.messages_an_hour(LARGE, people, pause) / 3600
    assert mean(parts) == pytest.approx(people - a_second * pause, rel=1e-6, abs=1e-6)


@settings(max_examples=30)
@given(people=some.integers(1, 2000), target=some.floats(0.3, 10), pause=some.floats(1, 60))
def test_what_must_always_hold(people, target, pause):
    found = plan(LARGE, people, target, pause)
    assert found["machines"] * found["most"] >= people > (found["machines"] - 1) * found["most"]
    assert plan(LARGE, people + 1, target, pause)["machines"] >= found["machines"]
    assert people_of_one(LARGE, target * 1.5, pause) >= found["most"]
    assert people_of_one(LARGE, target, pause * 1.5) >= found["most"]
    faster = [{**each, "tokens_a_second": each["tokens_a_second"] * 2} for each in LARGE]
    assert people_of_one(faster, target, pause) >= found["most"]
    assert found["messages_an_hour"] <= people * 3600 / pause


def simulated(crowds: list[dict], people: int, pause: float, seconds: float) -> float:
    """Replies at once on average, of people one by one: pauses of any length up to twice `pause`, replies of many lengths."""
    dice = random.Random(5)
    paused = [dice.uniform(0, 2 * pause) for _ in range(people)]
    left: list[float] = []  # of each reply under way, as a share of a mean one
    now = area = 0.0
    while now < seconds:
        speed = replies_a_second(crowds, len(left)) / len(left) if left else 0.0
        ends = now + min(left) / speed if left else float("inf")
        then = min(ends, min(paused, default=float("inf")))
        area += len(left) * (then - now)
        left = [part - speed * (then - now) for part in left]
        now = then
        if ends == now:
            left.remove(min(left))
            paused.append(now + dice.uniform(0, 2 * pause))
        else:
            paused.remove(now)
            left.append(dice.choice([0.2, 0.6, 2.2]))
    return area / now


@pytest.mark.parametrize("people, pause", [(10, 30.0), (60, 20.0)])
def test_a_simulation_of_single_people_agrees(people, pause):
    wanted = mean(shares(LARGE, people, pause))
    assert simulated(LARGE, people, pause, seconds=40_000) == pytest.approx(wanted, rel=0.06)


# --- The file of measurements and the command


def test_the_measured_file_says_what_the_log_says():
    log = (ROOT / "LOG.md").read_text(encoding="utf-8")
    measured = json.loads(capacity.MEASURED.read_text(encoding="utf-8"))
    assert f"`{measured['command']}`" in log and measured["gpu"] is None
    one, eight = measured["crowds"]
    assert f"| 1 person, tokens a second | {one['tokens_a_second']} |" in log
    assert f"| 8 people, tokens a second in all | {eight['tokens_a_second']} |" in log
    assert f"| 8 people, first text, 95th percentile | {eight['first_p95']} s |" in log
    assert f"({one['first_p95']} s at none)" in log


def asked(*arguments: object):
    return command("hub/capacity.py", *arguments, check=False)


def test_the_command_of_the_page():
    page = (ROOT / "docs/past_one_machine.md").read_text(encoding="utf-8")
    line = re.search(r"python (hub/capacity.py --people .*)", page)[1]
    said = command(*shlex.split(line)).stdout
    measured = capacity.read_measured(capacity.MEASURED)
    found = plan(measured["crowds"], 500, 2.0, 60.0)
    assert f"{found['most']} people on one machine" in said and f"500 people: {found['machines']} machines" in said
    cost = 1000 * found["machines"] * 0.40 / (found["messages_an_hour"] / 10)
    assert f"1,000 conversations cost {cost:.2f}" in said
    assert "No more than 8 at once were measured" in said


def test_a_gpu_that_was_measured_is_used(tmp_path):
    file = tmp_path / "load.json"
    about = {"machine": "a server", "gpu": "a GPU", "date": "2026-12-01", "command": "python benchmarks/load.py"}
    file.write_text(json.dumps({**about, "crowds": LARGE[::-1]}))
    done = asked("--measured", file, "--gpu-hour", "3", "--first", "1")
    assert done.returncode == 0 and "on a GPU by" in done.stdout and "No more than" not in done.stdout
    wrong = asked("--measured", file, "--hour", "3")
    assert (wrong.returncode, "--gpu-hour" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--gpu-hour", "2"], "was measured without a GPU"),
        (["--first", "0.1"], "One person alone waits 0.33 s"),
        (["--people", "0"], "--people is 0: choose more than 0."),
        (["--pause", "-1"], "--pause is -1"),
        (["--measured", "nowhere.json"], "There is no file nowhere.json"),
        (["--measured", "README.md"], "README.md is not what benchmarks/load.py --json writes"),
    ],
)
def test_what_cannot_be_is_one_sentence(arguments, sentence):
    done = asked(*arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert sentence in done.stderr


@pytest.mark.parametrize(
    "crowds", [[], [crowd(2, 10, 1)], [crowd(1, 0, 1)], [{"people": 1}], "none", [{**SMALL[0], "refused": 1}]]
)
def test_a_file_without_usable_crowds_is_one_sentence(crowds, tmp_path):
    file = tmp_path / "load.json"
    file.write_text(json.dumps({"machine": "", "gpu": None, "date": "", "command": "", "crowds": crowds}))
    done = asked("--measured", file)
    assert (done.returncode, done.stderr.count("\n"), str(file) in done.stderr) == (2, 1, True)


def test_what_the_load_test_writes_is_read(tmp_path):
    file = tmp_path / "load.json"
    load = ["--stub", "--people", "1", "--rounds", "1", "--json", file, "--machine", "a laptop"]
    command("benchmarks/load.py", *load)
    assert [each["people"] for each in capacity.read_measured(file)["crowds"]] == [1]
    said = command("hub/capacity.py", "--measured", file, "--first", "60").stdout
    assert "on a laptop by `python benchmarks/load.py --stub --people 1 --rounds 1" in said
