"""Two processes on the CPU learn what one learns with the same rows a step; accelerate reads the configs for GPUs.

`accelerate launch` runs this file as a script, which trains the cases below and then runs train/sft.py; pytest trains
them in its own process. Starting two processes is what takes the time, so they are started once.
"""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from safetensors.torch import load_file

from arguments import parse
from conftest import OFFLINE, ROOT
from sft import build_trainer, load_rows


CONFIGS = sorted((ROOT / "train/recipes/accelerate").glob("*.yaml"))
ROWS_A_STEP = 4
STEPS = ["--max_steps", "4"]
EVALUATE = ["--eval_strategy", "steps", "--eval_steps", "2"]
CASES = {
    "plain": [*STEPS, *EVALUATE],
    "packing": [*STEPS, *EVALUATE, "--packing", "true"],
    "smoothing and empathy": [*STEPS, "--label_smoothing", "0.1", "--empathy_weight", "0.2"],
    # Which parameters learn changes under the eyes of DDP: from one layer to three, then to two.
    "unfreezing": ["--num_train_epochs", "3", "--unfreeze", "0:1", "1:3", "2:2", "--gradient_accumulation_steps", "2"],
}


def train_all(tiny: list[str], folder: Path, processes: int) -> dict:
    """Train every case and return what is to be alike."""
    rows = ["--per_device_train_batch_size", str(ROWS_A_STEP // processes), "--output_dir", str(folder)]
    return {name: outcome([*tiny, *rows, "--save_strategy", "no", *more]) for name, more in CASES.items()}


def outcome(arguments: list[str]) -> dict:
    script, training, model_args = parse(arguments)
    rows, held_out = load_rows(script, training)
    if held_out:
        held_out = held_out.select(range(7))  # odd: the last batch is one process's alone
    trainer = build_trainer(script, training, model_args, rows, held_out)
    trainer.train()
    history = trainer.state.log_history
    return {
        "losses": [entry["loss"] for entry in history if "loss" in entry],
        "perplexities": [entry["eval_perplexity"] for entry in history if "eval_perplexity" in entry],
        "tokens": [entry["num_tokens"] for entry in history if "num_tokens" in entry],
        "weights": {n: p.detach().clone() for n, p in trainer.model.named_parameters() if "lora_" in n},
    }


@pytest.fixture(scope="module")
def one(tiny, tmp_path_factory) -> dict:
    return train_all(tiny, tmp_path_factory.mktemp("one"), processes=1)


@pytest.fixture(scope="module")
def two(tiny, tmp_path_factory) -> Path:
    """Return the folder of outcomes.pt, which holds what two processes made of the cases, and of their `adapter`."""
    folder = tmp_path_factory.mktemp("two")
    config = ROOT / "train/recipes/accelerate/two_processes_cpu.yaml"
    launch = ["-m", "accelerate.commands.launch", "--config_file", config, "--main_process_port", "0"]
    path = os.pathsep.join(str(ROOT / name) for name in ("space", "data", "train", "tests"))
    done = subprocess.run(
        [sys.executable, *map(str, [*launch, __file__, folder, *tiny])],
        cwd=ROOT,
        env={**os.environ, **OFFLINE, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def train_in_two(folder: Path, tiny: list[str]) -> None:
    torch.set_num_threads(1)
    outcomes = train_all(tiny, folder, processes=2)
    if os.environ["RANK"] == "0":
        torch.save(outcomes, folder / "outcomes.pt")
    rows = ["--per_device_train_batch_size", str(ROWS_A_STEP // 2)]
    sys.argv = ["train/sft.py", *tiny, *rows, *STEPS, "--save_steps", "2", "--output_dir", str(folder / "adapter")]
    runpy.run_path(str(ROOT / "train/sft.py"), run_name="__main__")


@pytest.mark.parametrize("case", CASES)
def test_two_processes_learn_what_one_learns(one, two, case):
    found, wanted = torch.load(two / "outcomes.pt")[case], one[case]
    assert found["losses"] == pytest.approx(wanted["losses"], abs=1e-4)
    assert found["perplexities"] == pytest.approx(wanted["perplexities"], rel=1e-4)
    assert found["tokens"] == wanted["tokens"]
    for name, weight in wanted["weights"].items():
        torch.testing.assert_close(found["weights"][name], weight, rtol=0, atol=1e-4)


def test_the_command_writes_one_adapter_and_nothing_beside_it(one, two):
    found = load_file(two / "adapter/adapter_model.safetensors")
    wanted = {name.replace(".default", ""): weight for name, weight in one["plain"]["weights"].items()}
    assert found.keys() == wanted.keys()
    for name, weight in wanted.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-4)
    assert json.loads((two / "adapter/run.json").read_text())["processes"] == 2
    tokenizer = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    adapter = {"adapter_model.safetensors", "adapter_config.json", "README.md"}
    assert {file.name for file in (two / "adapter").iterdir()} == {*tokenizer, *adapter, "inputs.json", "run.json"}


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_accelerate_knows_each_key(file):
    config = load_config_from_file(str(file))
    options = vars(launch_command_parser().parse_args(["train/sft.py"]))
    assert config.num_processes == 2
    assert {*config.fsdp_config, *config.deepspeed_config} <= options.keys()  # the launcher passes over unknown ones


if __name__ == "__main__":
    train_in_two(Path(sys.argv[1]), sys.argv[2:])
