"""Training killed at any moment ends as if nothing had happened: same steps, same weights.

THERAGEN_KILLS says how often it is killed. The runs are processes of their own, forks of one that has imported torch
and TRL already: a start costs a second in place of ten.
"""

import json
import multiprocessing
import os
import random
import runpy
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from arguments import parse
from checkpoints import find_checkpoint
from conftest import OFFLINE, ROOT
from sft import build_trainer, load_rows
from unfreezing import GradualUnfreezing, phases_of


KILLS = int(os.environ.get("THERAGEN_KILLS", "3"))
STEPS = 14  # an epoch has 12: the end lies within an epoch, where a loop can run too far
# Dropout draws random numbers at every step: a run that resumes with others ends elsewhere.
SHORT = ["--max_steps", str(STEPS), "--save_steps", "1", "--lora_dropout", "0.1", "--max_length", "512"]


@pytest.fixture(scope="module")
def start(tiny, tmp_path_factory):
    """Return a function that starts train/sft.py on the tiny base; what it prints is in the process's `log`."""
    path = os.pathsep.join(str(ROOT / name) for name in ("space", "data", "train", "tests"))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sft", "test_resume"])
    log = tmp_path_factory.mktemp("log") / "log.txt"

    def start(folder, *more):
        process = context.Process(target=sft, args=([*tiny, *SHORT, "--output_dir", str(folder), *more], log))
        process.start()
        process.log = log
        return process

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**OFFLINE, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}.items():
            patch.setenv(name, value)
        yield start


def sft(arguments: list[str], log: Path) -> None:
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["train/sft.py", *arguments]
    runpy.run_path(str(ROOT / "train/sft.py"), run_name="__main__")


def end(process) -> tuple[int, str]:
    """Wait for a process, and return its exit code and the last line it wrote."""
    process.join(300)
    return process.exitcode, (process.log.read_text().strip().splitlines() or [""])[-1]


@pytest.fixture(scope="module")
def unbroken(start, tmp_path_factory) -> tuple[Path, float]:
    """Return the folder of a run that nothing disturbed, and the seconds it took."""
    folder, began = tmp_path_factory.mktemp("unbroken") / "adapter", time.monotonic()
    assert end(start(folder))[0] == 0
    return folder, time.monotonic() - began


def assert_like(folder: Path, unbroken: Path) -> None:
    runs = [json.loads((each / "run.json").read_text()) for each in (folder, unbroken)]
    assert [runs[0][fact] for fact in ("steps", "tokens_seen")] == [runs[1][fact] for fact in ("steps", "tokens_seen")]
    found, wanted = (load_file(each / "adapter_model.safetensors") for each in (folder, unbroken))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


def test_killed_at_random_moments_it_ends_the_same(start, unbroken, tmp_path):
    chance, folder = random.Random(20), tmp_path / "adapter"
    kills = torn = 0
    while kills < KILLS:
        saved, began = states(folder), time.time()
        # In turn: while one of the next checkpoints is being written, while the adapter is, and anywhere.
        checkpoint = folder / f"checkpoint-{len(saved) + chance.randint(1, 5)}"
        written = (checkpoint, folder / ".part", None)[kills % 3]
        until = began + chance.uniform(0, unbroken[1])
        process = start(folder, "--resume")
        while process.is_alive() and not (is_newer(written, began) if written else time.time() > until):
            time.sleep(0.0005)
        process.kill()
        process.join()
        if process.exitcode == 0:  # it was through before its moment came
            assert_like(folder, unbroken[0])
            shutil.rmtree(folder)
            continue
        assert process.exitcode == -signal.SIGKILL, process.log.read_text()[-2000:]
        kills += 1
        torn += len(list(folder.glob("checkpoint-*"))) - len(states(folder))
        # It went on from the newest whole checkpoint: no other one was written again.
        assert saved.items() <= states(folder).items()
    assert end(start(folder, "--resume"))[0] == 0
    assert_like(folder, unbroken[0])
    assert not list(folder.glob("checkpoint-*"))
    print(f"{kills} kills, {torn} of them while a checkpoint was being written")


def states(folder: Path) -> dict[str, int]:
    """Return when the state of each whole checkpoint was written, in ns."""
    files = folder.glob("checkpoint-*/trainer_state.json")
    return {file.parent.name: file.stat().st_mtime_ns for file in files if file.read_text().endswith("}\n")}


def is_newer(path: Path, began: float) -> bool:
    """Say whether something was written since `began`; what an earlier run left torn was not."""
    try:
        return path.stat().st_mtime > began
    except FileNotFoundError:
        return False


def test_from_the_last_checkpoint_no_step_is_trained(tiny, tmp_path):
    trainer = train(tiny, tmp_path, "--max_steps", "2", "--save_steps", "2")
    resumed = train(tiny, tmp_path, "--max_steps", "2", "--save_steps", "2", checkpoint=2)
    assert resumed.state.global_step == 2
    assert_same(learned(resumed), learned(trainer))


@pytest.fixture(scope="module")
def broken(start, tmp_path_factory) -> Path:
    """Return the folder of a run that was killed with three checkpoints or more."""
    folder = tmp_path_factory.mktemp("broken") / "adapter"
    process = start(folder)
    while len(states(folder)) < 3:
        assert process.is_alive(), process.log.read_text()[-2000:]
        time.sleep(0.01)
    process.kill()
    process.join()
    return folder


@pytest.mark.parametrize("content", [None, "", '{"global_step": 3'])
def test_a_torn_checkpoint_is_passed_over(broken, tmp_path, content):
    folder = shutil.copytree(broken, tmp_path / "adapter")
    names = sorted(states(folder), key=lambda name: int(name.partition("-")[2]))
    state = folder / names[-1] / "trainer_state.json"
    state.unlink() if content is None else state.write_text(content)
    inputs = json.loads((folder / "inputs.json").read_text())
    assert find_checkpoint(folder, inputs, resume=True, overwrite=False) == str(folder / names[-2])
    assert not (folder / names[-1]).exists()


def test_another_run_is_refused_and_left_as_it_was(start, broken):
    before = {file: file.stat().st_mtime_ns for file in broken.rglob("*")}
    code, sentence = end(start(broken, "--resume", "--learning_rate", "0.5"))
    assert (code, "holds a run of other data or settings" in sentence) == (2, True)
    code, sentence = end(start(broken))
    assert (code, "add --resume to go on" in sentence) == (2, True)
    assert {file: file.stat().st_mtime_ns for file in broken.rglob("*")} == before


def test_overwrite_begins_anew(start, unbroken, broken, tmp_path):
    folder = shutil.copytree(broken, tmp_path / "adapter")
    for checkpoint in folder.glob("checkpoint-*"):  # weights that nobody may go on from
        (checkpoint / "adapter_model.safetensors").unlink()
    assert end(start(folder, "--overwrite"))[0] == 0
    assert_like(folder, unbroken[0])


def test_a_finished_run_is_finished(start, unbroken):
    weights = unbroken[0] / "adapter_model.safetensors"
    before = weights.stat().st_mtime_ns
    code, sentence = end(start(unbroken[0], "--resume"))
    assert (code, "holds this run, finished" in sentence) == (0, True)
    code, sentence = end(start(unbroken[0]))
    assert (code, "add --overwrite to train it again" in sentence) == (2, True)
    assert weights.stat().st_mtime_ns == before


def train(tiny, folder, *more, checkpoint=None):
    """Train in this process and return the trainer; the checkpoints stay."""
    script, training, model_args = parse([*tiny, "--output_dir", str(folder), "--save_strategy", "steps", *more])
    trainer = build_trainer(script, training, model_args, *load_rows(script, training))
    trainer.train(resume_from_checkpoint=checkpoint and str(folder / f"checkpoint-{checkpoint}"))
    return trainer


def learned(trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in trainer.model.named_parameters() if "lora_" in name}


def moments(trainer) -> dict[str, dict]:
    """Return the optimizer's state by layer; layers that never learned have none."""
    names = {parameter: name for name, parameter in trainer.model.named_parameters()}
    return {names[parameter]: state for parameter, state in trainer.optimizer.state.items()}


def assert_same(found: dict, wanted: dict) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


# Six steps an epoch: layer 3 learns in all 18, layer 2 from 6 on, layer 1 from 9 to 12, layer 0 never.
UNFREEZE = ["--num_train_epochs", "3", "--per_device_train_batch_size", "4"]
UNFREEZE += ["--unfreeze", "0:1", "1:2", "1.5:3", "2:2"]


@pytest.fixture(scope="module")
def unfrozen(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unfrozen")
    return train(tiny, folder, *UNFREEZE, "--save_steps", "2"), folder


def test_the_optimizer_state_of_frozen_layers_is_untouched(unfrozen):
    steps = {name.split(".layers.")[1][0]: int(state["step"]) for name, state in moments(unfrozen[0]).items()}
    assert steps == {"3": 18, "2": 12, "1": 3}


def test_the_log_says_how_many_parameters_learn(unfrozen):
    trainer = unfrozen[0]
    a_layer = sum(weight.numel() for name, weight in learned(trainer).items() if ".layers.0." in name)
    counts = [entry["learning_parameters"] for entry in trainer.state.log_history if "loss" in entry]
    assert counts == [a_layer] * 6 + [2 * a_layer] * 3 + [3 * a_layer] * 3 + [2 * a_layer] * 6


@pytest.mark.parametrize("step", [8, 10, 12, 18])
def test_resumed_within_a_phase_or_at_its_end(tiny, unfrozen, tmp_path, step):
    trainer, folder = unfrozen
    shutil.copytree(folder / f"checkpoint-{step}", tmp_path / f"checkpoint-{step}")
    resumed = train(tiny, tmp_path, *UNFREEZE, "--save_steps", "50", checkpoint=step)
    assert resumed.state.global_step == trainer.state.global_step
    assert_same(learned(resumed), learned(trainer))
    assert_same(moments(resumed), moments(trainer))


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED"])
def test_unfreezing_is_refused_where_the_model_lies_in_parts(monkeypatch, name):
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(ValueError, match="unfreeze does not go together with FSDP or DeepSpeed"):
        GradualUnfreezing(phases_of(["0:1"]))


def test_early_stopping_ends_at_the_same_step_with_the_same_best_weights(tiny, tmp_path):
    more = ["--max_steps", "40", "--eval_strategy", "steps", "--eval_steps", "1", "--save_steps", "1"]
    more += ["--early_stopping_patience", "2", "--load_best_model_at_end", "true", "--learning_rate", "10"]
    trainer = train(tiny, tmp_path / "unbroken", *more)
    last, best = trainer.state.global_step, trainer.state.best_global_step
    assert best + 2 == last < 40
    for step in (last - 1, last):
        folder = shutil.copytree(tmp_path / "unbroken", tmp_path / str(step))
        if step < last:
            shutil.rmtree(folder / f"checkpoint-{last}")
        resumed = train(tiny, folder, *more, checkpoint=step)
        assert (resumed.state.global_step, resumed.state.best_global_step) == (last, best)
        assert_same(learned(resumed), learned(trainer))
