"""A real study on the tiny base: killed, resumed, refused, stopped early, out of memory; and the recipe it writes."""

import os
import signal
import subprocess
import sys

import optuna
import pytest
import yaml
from filelock import FileLock
from optuna.trial import TrialState

from arguments import parse, run
from conftest import OFFLINE, ROOT, command
from search import ended, main
from search_report import with_values
from search_space import arguments_of, read_space
from sft import build_trainer, load_rows


ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # at this size threads do nothing but wait for each other


SHORT = ["--max_steps", "5", "--max_length", "256"]
SPACE = """
learning_rate: {low: 1e-6, high: 1e-1, log: true}
batch: [2, 4]
lora_dropout: [0.0, 0.1]
"""


@pytest.fixture(scope="module")
def recipe(tiny, tmp_path_factory):
    """The tiny base's arguments as a recipe with comments, one of which is the reason of a value that is searched."""
    names, values = [name.removeprefix("--") for name in tiny[::2]], map(yaml.safe_load, tiny[1::2])
    lines = [f"{name}: {yaml.safe_dump(value).split()[0]}" for name, value in zip(names, values, strict=True)]
    file = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    text = "# For tests\n" + "\n".join(lines) + "\nlora_alpha: 8  # as chosen\n"
    file.write_text(text.replace("learning_rate: 1e-2", "learning_rate: 1.0e-2  # its reason"))
    return file


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    file = tmp_path_factory.mktemp("space") / "space.yaml"
    file.write_text(SPACE)
    return file


def options(recipe, space, folder, trials) -> list[str]:
    where = ["--space", str(space), "--output", str(folder), "--trials", str(trials)]
    return ["--config", str(recipe), *SHORT, *where]


@pytest.fixture(scope="module")
def finished(recipe, space, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    main(options(recipe, space, folder, trials=8))
    return folder


def study_in(folder) -> optuna.Study:
    return optuna.load_study(study_name="search", storage=f"sqlite:///{folder}/study.db")


def outcomes(folder) -> list[tuple]:
    return [(trial.params, trial.value) for trial in study_in(folder).trials if trial.state != TrialState.FAIL]


def test_killed_and_resumed_it_is_the_study_that_was_never_killed(recipe, space, finished, tmp_path):
    command_line = [sys.executable, "train/search.py", *options(recipe, space, tmp_path, trials=4)]
    process = subprocess.Popen(
        command_line, cwd=ROOT, env={**os.environ, **OFFLINE, **ONE_THREAD}, stdout=subprocess.PIPE, text=True
    )
    assert any(line.startswith("Trial 2 of 4") for line in process.stdout)
    while not study_in(tmp_path).get_trials(states=[TrialState.RUNNING]):
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    main(options(recipe, space, tmp_path, trials=4))
    study = study_in(tmp_path)
    assert ended(study) == 4
    killed = next(trial for trial in study.trials if trial.state == TrialState.FAIL)
    assert killed.params == study.trials[killed.number + 1].params
    for (params, value), (wanted, wanted_value) in zip(outcomes(tmp_path), outcomes(finished), strict=False):
        assert params == wanted
        assert value == pytest.approx(wanted_value, rel=1e-4)  # two processes may add in another order


def test_the_best_recipe_gives_the_best_perplexity_again(finished, tmp_path):
    """So a trial starts from the base and a fresh adapter, whatever was trained before it in the same process."""
    more = ["--eval_strategy", "steps", "--eval_steps", "0.2", "--save_strategy", "no", "--output_dir", str(tmp_path)]
    script, training, model_args = parse(["--config", str(finished / "best.yaml"), *more])
    trainer = build_trainer(script, training, model_args, *load_rows(script, training))
    trainer.train()
    last = [entry for entry in trainer.state.log_history if "eval_perplexity" in entry][-1]
    assert last["eval_perplexity"] == pytest.approx(study_in(finished).best_value, rel=1e-6)


def test_the_best_recipe_is_accepted_by_the_trainer(finished, tmp_path):
    short = ["--max_steps", "2", "--output_dir", tmp_path]
    command("train/sft.py", "--config", finished / "best.yaml", *short, **ONE_THREAD)
    assert (tmp_path / "run.json").is_file()


def test_the_best_recipe_keeps_its_comments_but_not_the_reason_of_what_was_replaced(recipe, finished):
    text = (finished / "best.yaml").read_text()
    best = study_in(finished).best_trial
    assert "# For tests" in text and "lora_alpha: 8  # as chosen" in text and "its reason" not in text
    found = yaml.safe_load(text)
    assert found["learning_rate"] == best.params["learning_rate"]
    assert found["gradient_accumulation_steps"] * found["per_device_train_batch_size"] == best.params["batch"]
    assert found["max_steps"] == 5  # said on the command line
    assert not {"space", "trials", "output", "batch"} & set(found)


def test_a_trial_worse_than_the_median_is_stopped_after_its_second_evaluation(finished):
    trials = study_in(finished).trials
    stopped = [trial for trial in trials if trial.state == TrialState.PRUNED]
    assert stopped
    for trial in stopped:
        before = [t for t in trials[: trial.number] if t.state == TrialState.COMPLETE]
        assert len(before) >= 5
        assert 2 <= len(trial.intermediate_values) < 5
    assert all(len(t.intermediate_values) == 5 for t in trials if t.state == TrialState.COMPLETE)


def test_nothing_but_the_study_and_its_reports_is_left(finished):
    names = {"best.yaml", "history.png", "importance.png", "study.db", "study.lock", "trials.csv"}
    assert {file.name for file in finished.iterdir()} == names
    for name in ("history.png", "importance.png"):
        assert (finished / name).read_bytes().startswith(b"\x89PNG")
    assert len((finished / "trials.csv").read_text().splitlines()) == 1 + 8


@pytest.mark.parametrize(
    ("choices", "reason"),
    [("lora_r: [4, 1000000000000]", "out of memory"), ("learning_rate: [1e-2, 1e30]", "the loss is not finite")],
)
def test_what_does_not_fit_into_memory_or_diverges_is_stopped_and_the_study_goes_on(choices, reason, recipe, tmp_path):
    (tmp_path / "space.yaml").write_text(choices)
    main([*options(recipe, tmp_path / "space.yaml", tmp_path, trials=2), "--seed", "23"])  # it draws the bad one first
    impossible = {"1000000000000", "1e30"}
    for trial in study_in(tmp_path).trials:
        (value,) = trial.params.values()
        assert trial.user_attrs.get("stopped") == (reason if str(value) in impossible else None)
    assert {trial.state for trial in study_in(tmp_path).trials} == {TrialState.COMPLETE, TrialState.PRUNED}


@pytest.mark.parametrize("changed", [["--learning_rate", "0.5"], ["--dataset_train_split", "validation"], "space"])
def test_a_study_of_something_else_is_refused(changed, recipe, space, finished, tmp_path):
    arguments = options(recipe, space, finished, trials=9)
    if changed == "space":
        (tmp_path / "space.yaml").write_text(SPACE.replace("0.1]", "0.2]"))
        arguments += ["--space", str(tmp_path / "space.yaml")]
    else:
        arguments += changed
    with pytest.raises(ValueError, match="holds a study of other data, settings or space: choose another --output"):
        main(arguments)
    assert len(study_in(finished).trials) == 8


def test_a_second_process_is_refused(recipe, space, finished):
    with FileLock(finished / "study.lock"), pytest.raises(ValueError, match="Another process is searching in"):
        main(options(recipe, space, finished, trials=9))


SENTENCES = {
    "- 1": "is no search space",
    "learning: [1, 2]": "learning in .* is neither batch nor a field",
    "lora_r: 8": "lora_r is 8: give a list",
    "lora_r: []": "lora_r is \\[\\]: give a list",
    "weight_decay: {low: 0.1}": "weight_decay is {'low': 0.1}: give a list",
    "batch: [3]": "batch is \\[3\\]: list multiples of per_device_train_batch_size, which is 2",
    "batch: [4]\ngradient_accumulation_steps: [1]": "batch decides per_device_train_batch_size and",
}


@pytest.mark.parametrize("text", SENTENCES)
def test_a_space_that_cannot_be_searched_is_one_sentence(text, recipe, tmp_path):
    (tmp_path / "space.yaml").write_text(text)
    script, training, _ = parse(["--config", str(recipe)])
    with pytest.raises(ValueError, match=SENTENCES[text]) as refusal:
        read_space(tmp_path / "space.yaml", script, training)
    assert "\n" not in str(refusal.value)


def test_a_named_schedule_and_a_searched_rate_contradict_each_other(recipe, space):
    script, training, _ = parse(["--config", str(recipe), "--schedule", "paper_ramp"])
    with pytest.raises(ValueError, match="schedule paper_ramp decides the learning rate"):
        read_space(space, script, training)


def test_bad_input_is_one_sentence_and_exit_code_2(recipe, tmp_path, capsys):
    (tmp_path / "space.yaml").write_text("label_smoothing: [2]")
    arguments = options(recipe, tmp_path / "space.yaml", tmp_path / "study", trials=1)
    with pytest.raises(SystemExit) as ending:
        run(lambda: main(arguments), stopped="")
    assert ending.value.code == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("label_smoothing is 2.0: choose")


def test_the_papers_space_is_the_papers(recipe):
    script, training, _ = parse(["--config", str(recipe)])
    space = read_space(ROOT / "train/recipes/search_paper.yaml", script, training)
    assert (space["learning_rate"].low, space["learning_rate"].high) == (1e-5, 5e-5)
    assert space["batch"].choices == (16, 32, 64)
    assert space["lora_dropout"].choices == (0.1, 0.2, 0.3)
    assert space["weight_decay"].choices == (0.01, 0.1)
    assert arguments_of({"batch": 32}, training) == ["--gradient_accumulation_steps", "16"]


def test_values_go_where_the_recipe_has_them():
    text = "# head\na: 1  # why\nlist:\n- x\n- y\n# next\nb: 2  # kept\n"
    written = with_values(text, {"a": 1.0e-5, "list": ["z"], "c": True})
    assert yaml.safe_load(written) == {"a": 1.0e-5, "list": ["z"], "b": 2, "c": True}
    assert "# head" in written and "# kept" in written and "# why" not in written
