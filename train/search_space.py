"""A search space: names with their choices or bounds, and how a trial's values reach the recipe."""

from dataclasses import fields
from pathlib import Path

import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from trl import ModelConfig, SFTConfig

from arguments import Arguments, require


BATCH = ("per_device_train_batch_size", "gradient_accumulation_steps")


def read_space(file: Path, script: Arguments, training: SFTConfig) -> dict[str, BaseDistribution]:
    """Return a distribution for each name; raises ValueError for what this recipe could not take."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    require(
        isinstance(content, dict), f"{file} is no search space: give names, each with a list or with low and high."
    )
    known = {"batch"} | {each.name for kind in (Arguments, SFTConfig, ModelConfig) for each in fields(kind)}
    for name in content:
        require(name in known, f"{name} in {file} is neither batch nor a field of TRL's or of train/arguments.py.")
    require(
        not (script.schedule and "learning_rate" in content),
        f"schedule {script.schedule} decides the learning rate: leave it, or learning_rate in {file}, out.",
    )
    if "batch" in content:
        check_batch(content, training.train_batch_size)
    return {name: distribution(name, values) for name, values in content.items()}


def check_batch(content: dict, rows: int) -> None:
    """Raise ValueError for batches that are no multiple of the rows that are in memory at once."""
    require(not set(BATCH) & set(content), f"batch decides {' and '.join(BATCH)}: leave them out of the space.")
    require(
        isinstance(content["batch"], list) and all(isinstance(n, int) and n % rows == 0 for n in content["batch"]),
        f"batch is {content['batch']}: list multiples of per_device_train_batch_size, which is {rows} here.",
    )


def distribution(name: str, values: list | dict) -> BaseDistribution:
    """Return choices as categories, whole bounds as whole numbers, others as floats.

    YAML reads 1e-5 as text: bounds are made numbers here, choices by the parser that the trial's arguments go through.
    """
    if isinstance(values, list) and values and all(isinstance(value, str | int | float) for value in values):
        return CategoricalDistribution(values)
    require(
        isinstance(values, dict) and {"low", "high"} <= set(values) <= {"low", "high", "log", "step"},
        f"{name} is {values}: give a list of numbers or words, or low and high with log or step.",
    )
    if all(isinstance(values[end], int) for end in ("low", "high")):
        return IntDistribution(**values)
    return FloatDistribution(**{**values, "low": float(values["low"]), "high": float(values["high"])})


def arguments_of(values: dict, training: SFTConfig) -> list[str]:
    """Return a trial's values as command-line arguments; words of a list field stand in one choice: "0:8 2:16"."""
    values = dict(values)
    if "batch" in values:
        values["gradient_accumulation_steps"] = values.pop("batch") // training.train_batch_size
    return [part for name, value in values.items() for part in (f"--{name}", *str(value).split())]
