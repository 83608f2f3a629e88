"""Speed, memory and loss of training beside `trl sft`'s defaults: same base, rows, LoRA and machine, interleaved.

    python benchmarks/training.py --dataset_name build/embedded/corpus

Each run is a process of its own that takes the same rows in every step (the rate is zero, so that losses can be
compared): the first step warms up, the others are timed. Tokens are those of the conversations, without padding.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser, get_peft_config


ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "train"), str(ROOT / "space")]

from arguments import parse  # noqa: E402
from base_model import EMBEDDED, resolve  # noqa: E402
from loading import load_conversations  # noqa: E402
from sft import build_trainer  # noqa: E402


MALLOC = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=9223372036854775807"
RECIPE = ["--config", str(ROOT / "train/recipes/cpu.yaml"), "--learning_rate", "0", "--warmup_steps", "0"]
WAYS = {
    "trl sft": {"ours": False, "more": []},
    "trl sft, label smoothing": {"ours": False, "more": ["--label_smoothing_factor", "0.1"]},
    "ours": {"ours": True, "more": []},
    "ours, label smoothing": {"ours": True, "more": ["--label_smoothing", "0.1"]},
    "ours, empathy term": {"ours": True, "more": ["--empathy_weight", "0.1"]},
    "ours, no autocast": {"ours": True, "more": ["--bf16", "false"]},
    "ours, default malloc": {"ours": True, "more": [], "malloc": False},
}


class Stopwatch(TrainerCallback):
    """The seconds of every step."""

    def __init__(self):
        self.marks = []

    def on_train_begin(self, *_, **__):
        self.marks.append(time.monotonic())

    def on_step_end(self, *_, **__):
        self.marks.append(time.monotonic())


def trainer_of(way: dict, options, watch: Stopwatch):
    """Build the trainer of one way over the first rows of the corpus; one step takes all of them."""
    rows = load_conversations(options.dataset_name, None, "train").shuffle(seed=20).select(range(options.rows))
    # A step ends with the epoch at the latest: here it takes all rows.
    steps = ["--max_steps", str(options.steps), "--gradient_accumulation_steps", "1000"]
    steps += ["--save_strategy", "no", "--output_dir", options.work]
    if way["ours"]:
        more = [*RECIPE, *steps, "--dataset_name", options.dataset_name, *way["more"]]
        script, training, model_args = parse(more)
        return build_trainer(script, training, model_args, rows, callbacks=[watch]), rows
    return trl_trainer(rows, steps, way["more"], watch), rows


def trl_trainer(rows, steps, more, watch):
    """Build what `trl sft --use_peft` builds: its defaults, but for the LoRA and the template of the recipe."""
    lora = ["--use_peft", "--lora_r", "16", "--lora_alpha", "32", "--lora_dropout", "0"]
    lora += ["--lora_target_modules", "all-linear", "--assistant_only_loss", "true", "--use_cpu", "true"]
    quiet = ["--report_to", "none", "--logging_steps", "1", "--learning_rate", "0"]
    arguments = ["--model_name_or_path", EMBEDDED, *lora, *quiet, *steps, *more]
    training, model_args = TrlParser((SFTConfig, ModelConfig)).parse_args_and_config(arguments)
    folder = resolve(EMBEDDED)
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=model_args.dtype),
        args=training,
        train_dataset=rows.select_columns("messages"),
        processing_class=AutoTokenizer.from_pretrained(folder),
        peft_config=get_peft_config(model_args),
        callbacks=[watch],
    )


def child(options) -> None:
    """Train by one way and print its figures as JSON."""
    watch = Stopwatch()
    trainer, rows = trainer_of(WAYS[options.way], options, watch)
    template = trainer.processing_class
    tokens = sum(len(template.apply_chat_template(m, return_dict=True)["input_ids"]) for m in rows["messages"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    trainer.train()
    seconds = [after - start for start, after in zip(watch.marks[1:], watch.marks[2:], strict=False)]
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print(
        json.dumps(
            {
                "tokens_per_second": tokens / median(seconds),
                "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
                "before_training_gib": before / 2**20,
                "loss": losses[-1],
                "tokens": tokens,
            }
        )
    )


def main(options) -> None:
    runs = {way: [] for way in options.ways}
    for number in range(options.rounds):
        for way in options.ways:
            runs[way].append(run(way, options))
            print(f"round {number + 1}, {way}: {runs[way][-1]}", file=sys.stderr)
    reference = middle(runs[options.ways[0]])
    print("| | tokens/s | × | peak GiB | × | loss |\n|---|---:|---:|---:|---:|---:|")
    for way, found in runs.items():
        each = middle(found)
        speed, memory = (each[name] / reference[name] for name in ("tokens_per_second", "peak_gib"))
        print(
            f"| {way} | {each['tokens_per_second']:.0f} | {speed:.2f} | {each['peak_gib']:.2f} | {memory:.2f} | "
            f"{each['loss']:.4f} |"
        )


def run(way: str, options) -> dict:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    if WAYS[way]["ours"] and WAYS[way].get("malloc", True):
        environment["GLIBC_TUNABLES"] = MALLOC
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, __file__, "--child", "--way", way, "--work", work, "--rows", str(options.rows)]
        command += ["--steps", str(options.steps), "--dataset_name", options.dataset_name]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


def middle(runs: list[dict]) -> dict:
    return {name: median(each[name] for each in runs) for name in runs[0]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset_name", required=True, help="corpus folder")
    parser.add_argument("--rows", type=int, default=16, help="conversations in each step (default: 16)")
    parser.add_argument("--steps", type=int, default=3, help="steps of a run, the first not timed (default: 3)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each way, taken in turn (default: 3)")
    parser.add_argument(
        "--ways", nargs="+", default=list(WAYS), choices=WAYS, help="what to run; the first is the measure"
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    child(options) if options.child else main(options)
