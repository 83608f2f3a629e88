"""Cross-validate a recipe: train on all folds but one, measure base and adapter on that one, for each fold.

    python train/crossval.py --config train/recipes/cpu.yaml --folds 5

Folds are made of the rows of the train and the validation split and never cut a group (the corpus's thread, question
or conversation). Held-out rows choose nothing: a recipe's early stopping and best checkpoint are left out.
crossval.json has each metric of each fold, mean and standard deviation, and the paired difference base - adapter with
its standard error, which takes folds as independent: they share training rows, so read it as a scale, not as a test
(Bengio and Grandvalet 2004). A recipe's curves and scenarios add theirs. Stopped, the same command goes on with the
next fold.
"""

import hashlib
import json
import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev

from datasets import concatenate_datasets

from arguments import require, run
from checkpoints import is_run_of
from files import write_json
from preflight import check_machine
from repeats import parse_alone, train
from run_record import inputs_of
from sft import load_rows


# A fresh adapter adds nothing, so what is evaluated before the first step is the base. The last step always is.
FIRST_AND_LAST = ["--eval_on_start", "true", "--eval_steps", "1000000000"]
WHO = ("base", "adapter")
UNITS = ("runtime", "per_second")  # how fast it was measured is no metric


@dataclass
class CrossValidation:
    """What this script takes beyond a recipe."""

    folds: int = field(default=5, metadata={"help": "how many folds"})
    output: str = field(default="build/crossval", metadata={"help": "folder of crossval.json and of each fold"})


def main(arguments: list[str]) -> None:
    options, script, training, model_args = parse_alone(arguments, FIRST_AND_LAST, also=CrossValidation)
    rows = concatenate_datasets(load_rows(script, training))
    require("group" in rows.column_names, f"{script.dataset_name} has no column group: folds would cut conversations.")
    fold_of = assign(rows["group"], options.folds, training.seed)
    check_machine(model_args, training)
    inputs = inputs_of(rows, None, script, training, model_args)
    inputs["fold_of_rows"] = hashlib.sha256(json.dumps(fold_of).encode()).hexdigest()
    folder = ready(Path(options.output), inputs)
    results = []
    for fold in range(options.folds):
        file = folder / f"fold-{fold + 1}" / "metrics.json"
        if not file.is_file():
            where = ["--output_dir", str(file.parent)]
            settings = parse_alone(arguments, [*FIRST_AND_LAST, *where], also=CrossValidation)[1:]
            write_json(file, measure(rows, fold_of, fold, settings))
        results.append(json.loads(file.read_text()))
        print(f"Fold {fold + 1} of {options.folds}: {line_of(results[-1])}", flush=True)
    found = summary(results)
    write_json(folder / "crossval.json", {**inputs, "metrics": found, "folds": results})
    print(table(found))


def assign(groups: list[str], folds: int, seed: int) -> list[int]:
    """Return each row's fold: groups, the largest first and equals in random order, go to the fold with fewest rows.

    Folds differ by no more rows than the largest group has. The order of rows decides nothing.
    """
    sizes = Counter(groups)
    require(
        2 <= folds <= len(sizes), f"folds is {folds}: choose 2 to {len(sizes)}, as the corpus has that many groups."
    )
    names = sorted(sizes)
    random.Random(seed).shuffle(names)
    rows, fold_of = [0] * folds, {}
    for name in sorted(names, key=sizes.get, reverse=True):
        fold_of[name] = rows.index(min(rows))
        rows[fold_of[name]] += sizes[name]
    return [fold_of[name] for name in groups]


def ready(folder: Path, inputs: dict) -> Path:
    """Return the folder for a cross-validation of these inputs; raises ValueError when it holds one of others."""
    note = folder / "inputs.json"
    require(
        not note.is_file() or is_run_of(folder, inputs),
        f"{folder} holds a cross-validation of other data or settings: choose another --output.",
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(note, inputs)
    return folder


def measure(rows, fold_of: list[int], fold: int, settings: tuple) -> dict:
    """Train without one fold and return what the trainer reports on it, before the first step and after the last."""
    learnt = rows.select([row for row, its in enumerate(fold_of) if its != fold])
    held_out = rows.select([row for row, its in enumerate(fold_of) if its == fold])
    state = train(*settings, learnt, held_out).state
    base, adapter = (metrics_at(step, state.log_history) for step in (0, state.global_step))
    return {"rows": len(held_out), "base": base, "adapter": adapter}


def metrics_at(step: int, history: list[dict]) -> dict:
    """Return what the evaluations at a step logged, by names without `eval_`."""
    entries = [entry for entry in history if entry["step"] == step]
    values = {name: value for entry in entries for name, value in entry.items() if name.startswith("eval_")}
    return {name.removeprefix("eval_"): value for name, value in values.items() if not name.endswith(UNITS)}


def summary(folds: list[dict]) -> dict:
    """Return mean and standard deviation (n - 1) over folds, and of base - adapter the mean and its standard error."""
    names = [name for name in folds[0]["base"] if all(name in fold[who] for fold in folds for who in WHO)]
    found = {}
    for name in names:
        base, adapter = ([fold[who][name] for fold in folds] for who in WHO)
        difference = [b - a for b, a in zip(base, adapter, strict=True)]
        found[name] = {
            "base": {"mean": mean(base), "deviation": stdev(base)},
            "adapter": {"mean": mean(adapter), "deviation": stdev(adapter)},
            "difference": {"mean": mean(difference), "standard_error": stdev(difference) / len(folds) ** 0.5},
        }
    return found


def line_of(fold: dict) -> str:
    base, adapter = (fold[who]["perplexity"] for who in WHO)
    return f"{fold['rows']} rows, perplexity of the base {base:.2f}, of the adapter {adapter:.2f}"


def table(found: dict) -> str:
    lines = [f"{'mean ± deviation':<32} {'base':>18} {'adapter':>18} {'base - adapter ± error':>24}"]
    for name, metric in found.items():
        base, adapter, difference = (" ± ".join(f"{x:.3f}" for x in values.values()) for values in metric.values())
        lines.append(f"{name:<32} {base:>18} {adapter:>18} {difference:>24}")
    return "\n".join(lines)


if __name__ == "__main__":
    run(lambda: main(sys.argv[1:]), stopped="Stopped; the same command goes on from what is finished.")
