"""Training and scoring by their real commands on the embedded base: what moves, what is recorded, how they fail."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import chdir

import pytest
import torch
from safetensors.torch import load_file

import learned
import score
import sft
from arguments import parse
from arguments import run as run_script
from base_model import EMBEDDED, cache_folder
from conftest import OFFLINE, ROOT, command
from perplexity import Score, compare


RECIPE = ["train/sft.py", "--config", "train/recipes/cpu.yaml"]


def test_lora_weights_moved(loop):
    weights = load_file(loop / "adapter/adapter_model.safetensors")
    second_halves = [tensor for name, tensor in weights.items() if "lora_B" in name]
    assert len(second_halves) == 30 * 7  # seven linear maps in each of thirty layers
    assert all(torch.count_nonzero(tensor) > 0 for tensor in second_halves)  # they start at zero


def test_adapter_names_a_base_that_strangers_can_load(loop):
    config = json.loads((loop / "adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == EMBEDDED


def test_nothing_beside_the_adapter_names_a_folder_of_this_machine(loop):
    for file in (loop / "adapter").glob("*"):
        assert file.suffix == ".safetensors" or str(cache_folder()) not in file.read_text(encoding="utf-8")


def test_run_record_says_how_it_came_to_be(loop):
    run = json.loads((loop / "adapter/run.json").read_text())
    assert run["steps"] == 2
    assert run["tokens_seen"] > 500
    assert run["seed"] == 20
    assert run["data"]["rows"] > 80
    assert set(run["versions"]) >= {"torch", "transformers", "trl", "peft", "datasets"}
    assert run["seconds"] > 0
    assert not list((loop / "adapter").glob("checkpoint-*"))


def test_results_and_card_agree(loop):
    perplexity = json.loads((loop / "results.json").read_text())["perplexity"]
    card = (loop / "adapter/README.md").read_text()
    assert f"| base + adapter | {perplexity['adapter']:.2f} |" in card
    assert "More Information Needed" not in card
    low, high = perplexity["difference_interval_95"]
    assert low <= perplexity["difference"] <= high
    assert 1 < perplexity["adapter"] < 100


def test_replies_stand_side_by_side(loop):
    page = (loop / "report.html").read_text()
    assert page.count("written in the corpus") == 4
    assert json.loads((loop / "times.json").read_text())["adapter"]["first_words"]["p50"] > 0


STRANGER = """
import sys
from datasets import load_dataset
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

adapter, corpus = sys.argv[1:]
model = AutoPeftModelForCausalLM.from_pretrained(adapter)
tokenizer = AutoTokenizer.from_pretrained(adapter)
row = load_dataset(corpus)["test"][0]
kind = dict(add_generation_prompt=True, return_tensors="pt", return_dict=True)
prompt = tokenizer.apply_chat_template(row["messages"][:1], **kind)
reply = model.generate(**prompt, max_new_tokens=8, do_sample=False)
print(len(reply[0]) - prompt["input_ids"].shape[1], sorted(row))
assert not {"base_model", "screening", "sources", "engine"} & set(sys.modules)
"""


def test_a_stranger_loads_adapter_and_corpus(loop, tmp_path):
    """A process of its own that imports nothing of ours; the base comes from a Hub cache, by its Hub id."""
    environment = {**os.environ, **OFFLINE, "HF_HUB_CACHE": str(cache_folder())}
    done = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER, loop / "adapter", loop / "corpus"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[0]) > 0
    assert "'messages'" in done.stdout


def ends(capsys, script: str, *arguments: object) -> tuple[int, str]:
    """How a script ends on bad input, in this process since importing takes a new one seconds: exit code, and what it said.

    Two tests below start the command itself.
    """
    mains = {"train/sft.py": lambda given: sft.main(*parse(given)), "train/score.py": scored}
    with chdir(ROOT), pytest.raises(SystemExit) as ended:
        run_script(lambda: mains[script](list(map(str, arguments))), stopped="")
    return ended.value.code, capsys.readouterr().err


def scored(arguments: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learned, "BUDGET", learned.BUDGET)  # main changes it
        score.main(score.parse_options(arguments))


def test_ctrl_c_leaves_a_checkpoint_and_resume_goes_on(loop, tmp_path, capsys):
    out = tmp_path / "adapter"
    run = [*RECIPE, "--max_steps", "3", "--gradient_accumulation_steps", "1", "--max_length", "256"]
    run += ["--dataset_name", loop / "corpus", "--output_dir", out]
    process = subprocess.Popen(
        [sys.executable, *map(str, run)], cwd=ROOT, env={**os.environ, **OFFLINE}, stderr=subprocess.PIPE, text=True
    )
    wait_for_first_step(process)
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=120)[1]
    assert process.returncode == 130, rest
    assert "--resume goes on from there" in rest
    assert list(out.glob("checkpoint-*"))
    assert not (out / "run.json").exists()

    code, said = ends(capsys, *run)
    assert (code, "add --resume to go on" in said.splitlines()[-1]) == (2, True)
    code, said = ends(capsys, *run, "--resume", "--learning_rate", "0.1")
    assert (code, "other data or settings" in said.splitlines()[-1]) == (2, True)

    command(*run, "--resume")
    assert json.loads((out / "run.json").read_text())["steps"] == 3


def wait_for_first_step(process, seconds: float = 120) -> None:
    end, seen = time.monotonic() + seconds, ""
    while "'loss'" not in seen and "1/3" not in seen and time.monotonic() < end:
        seen += process.stderr.read(1)
    assert time.monotonic() < end, seen[-2000:]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train/sft.py", "--config", "train/recipes/none.yaml"], "There is no file train/recipes/none.yaml"),
        (["train/sft.py", "--output_dir", "build/none", "--use_cpu", "true"], "No corpus is named"),
        ([*RECIPE, "--dataset_name", "build/no-such-corpus"], "There is no corpus in build/no-such-corpus"),
        (["train/score.py", "--adapter", "build/none", "--corpus", "build/none"], "There is no corpus in build/none"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, sentence, capsys):
    code, said = ends(capsys, *arguments)
    assert code == 2
    assert sentence in said.strip().splitlines()[-1]
    assert "Traceback" not in said


def test_a_base_that_is_nowhere_is_one_sentence(loop, tmp_path):
    base = [
        "--model_name_or_path",
        "no/such-base",
        "--dataset_name",
        loop / "corpus",
        "--output_dir",
        tmp_path / "out",
    ]
    done = command(*RECIPE, *base, check=False)
    assert (done.returncode, "The base no/such-base could not be loaded" in done.stderr) == (2, True)
    assert not (tmp_path / "out").exists()


def test_a_config_that_the_corpus_lacks_is_one_sentence(loop):
    options = ["train/score.py", "--adapter", loop / "adapter", "--corpus", loop / "corpus", "--config", "full"]
    done = command(*options, check=False)
    assert (done.returncode, "has no config full" in done.stderr.strip().splitlines()[-1]) == (2, True)


def test_unknown_recipe_key_fails(tmp_path, capsys):
    recipe = tmp_path / "typo.yaml"
    recipe.write_text((ROOT / "train/recipes/cpu.yaml").read_text() + "learning_rat: 1e-3\n")
    code, said = ends(capsys, "train/sft.py", "--config", recipe)
    assert code == 2
    assert "learning_rat" in said.strip().splitlines()[-1]


def test_adapter_of_another_base_is_refused(loop, capsys):
    options = ["train/score.py", "--adapter", loop / "adapter", "--corpus", loop / "corpus", "--base", "other/base"]
    code, said = ends(capsys, *options)
    assert code == 2
    assert said.strip().splitlines()[-1].endswith(f"was trained on {EMBEDDED}, not on other/base: leave --base out.")


def test_perplexity_weighs_tokens_not_conversations():
    # 2 tokens at 1 nat each and 8 at 0 nats: 2 nats over 10 tokens.
    scores = [Score(2.0, 2), Score(0.0, 8)]
    assert compare(scores, scores, seed=1)["base"] == pytest.approx(math.exp(0.2), abs=1e-4)


def test_bootstrap_is_paired_and_repeatable():
    base = [Score(float(number), 10) for number in range(10, 40)]
    better = [Score(score.nll - 1, 10) for score in base]
    first, second = (compare(base, better, seed=3) for _ in range(2))
    assert first == second
    assert first["difference_interval_95"][1] < 0  # unpaired, the spread between conversations would hide it
