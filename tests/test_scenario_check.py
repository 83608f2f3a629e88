"""Scenarios answered during training: the same ones each time, checked, written and given to trackers."""

from checks import load_scenarios
from files import read_lines
from test_trainer import losses, run


EVERY = ["--eval_strategy", "steps", "--eval_steps", "2", "--scenarios", "3"]


def test_scenarios_are_answered_at_each_evaluation_and_change_no_training(tiny, tmp_path):
    watched = run(tiny, tmp_path / "watched", *EVERY, steps=4)
    rates, rows = (read_lines(tmp_path / f"watched/scenario_{name}.jsonl") for name in ("rates", "replies"))
    assert [line["step"] for line in rates] == [2, 4]
    assert [row["step"] for row in rows] == [2] * 3 + [4] * 3
    assert [row["scenario"] for row in rows[:3]] == [row["scenario"] for row in rows[3:]]
    assert {row["scenario"] for row in rows} <= {scenario["id"] for scenario in load_scenarios()}
    for line in rates:
        failed = [row for row in rows if row["step"] == line["step"] and row["failed"]]
        assert line["all"] == 1 - len(failed) / 3
    logged = [entry for entry in watched.state.log_history if "eval_scenarios/all" in entry]
    assert [entry["eval_scenarios/all"] for entry in logged] == [line["all"] for line in rates]
    assert losses(watched) == losses(run(tiny, tmp_path / "alone", *EVERY[:4], steps=4))
