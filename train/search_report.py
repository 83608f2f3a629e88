"""What a study found: a line for each trial, the best recipe, a table and two plots."""

import warnings
from dataclasses import fields
from pathlib import Path

import optuna
import yaml
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.visualization.matplotlib import plot_optimization_history, plot_param_importances
from trl import ModelConfig, SFTConfig, TrlParser

from arguments import Arguments
from files import write, write_text


def line_of(study: optuna.Study, number: int) -> str:
    trial = study.trials[number]
    values = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in trial.params.items()
    )
    stopped = trial.user_attrs.get("stopped")
    ending = f"stopped, {stopped}" if stopped else f"perplexity {trial.value:.2f}, best {study.best_value:.2f}"
    return f"{values}: {ending}, {trial.duration.total_seconds():.0f} s"


def write_reports(study: optuna.Study, folder: Path, recipe: Path | None, values: dict) -> None:
    """Write best.yaml, trials.csv and two plots; `values` are what the best trial has beyond or against the recipe."""
    best = study.best_trial
    where = f"trial {best.number} on {recipe}" if recipe else f"trial {best.number}"
    head = f"# Found by train/search.py: validation perplexity {best.value:.3f} in {where}.\n"
    text = head + with_values(recipe.read_text(encoding="utf-8") if recipe else "", values)
    write_text(folder / "best.yaml", text)
    columns = ("number", "state", "value", "duration", "params", "user_attrs")
    write(folder / "trials.csv", lambda part: study.trials_dataframe(columns).to_csv(part, index=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        history = plot_optimization_history(study, target_name="validation perplexity").figure
        # What decides whether a trial is among the best quarter: the default tenth is two of twenty trials.
        importance = plot_param_importances(study, PedAnovaImportanceEvaluator(target_quantile=0.25)).figure
    for name, figure in (("history", history), ("importance", importance)):
        write(
            folder / f"{name}.png",
            lambda part, figure=figure: figure.savefig(part, format="png", dpi=150, bbox_inches="tight"),
        )


def said(arguments: list[str], own: type) -> dict:
    """Return what the command line says beside the recipe, typed as a recipe would have it; `own` is the script's."""
    parser, unsaid = TrlParser((own, Arguments, SFTConfig, ModelConfig)), object()
    parser.set_defaults(**dict.fromkeys(vars(parser.parse_args([])), unsaid))
    config = arguments.index("--config") if "--config" in arguments else len(arguments)
    values = vars(parser.parse_args(arguments[:config] + arguments[config + 2 :]))
    own_names = {each.name for each in fields(own)}
    return {name: value for name, value in values.items() if value is not unsaid and name not in own_names}


def with_values(text: str, values: dict) -> str:
    """Put values into a recipe's text; comments stay, but for those beside a replaced value, which were its reason."""
    lines, new = text.splitlines(), dict(values)
    root = yaml.compose(text)
    for key, value in reversed(root.value if root else []):
        if key.value in new:
            end = value.end_mark.line + (value.end_mark.column > 0)  # a list in lines ends where the next key begins
            lines[key.start_mark.line : end] = [yaml.safe_dump({key.value: new.pop(key.value)}).rstrip()]
    if new:
        lines += ["", "# Not in the recipe", yaml.safe_dump(new, sort_keys=False).rstrip()]
    result = "\n".join(lines) + "\n"
    assert yaml.safe_load(result) == {**(yaml.safe_load(text) or {}), **values}
    return result
