"""Search a recipe's hyperparameters with Optuna, and write the best recipe.

    python train/search.py --config train/recipes/cpu.yaml --trials 20
    python train/search.py --config train/recipes/cpu.yaml --space my_space.yaml --output build/my_search
    python train/sft.py --config build/search/best.yaml

A trial is the recipe with values from the space (train/recipes/search_paper.yaml says how to write one), a fresh
adapter and five evaluations. The perplexity of the validation split is minimised: the last one, or the lowest where
the recipe keeps its best checkpoint. The same command goes on with a study that was stopped, by kill -9 too, as if it
had not been; more --trials lengthen it, fewer write what it has found so far. A recipe that counts in max_steps gives
larger batches more data: to compare batches over the same data, let it count in num_train_epochs.
"""

import math
import sys
from dataclasses import dataclass, field
from pathlib import Path

import optuna
from accelerate.utils.memory import should_reduce_batch_size
from filelock import FileLock, Timeout
from optuna.trial import TrialState
from transformers import TrainerCallback

from arguments import parse, require, run
from preflight import check_machine
from repeats import parse_alone, train
from run_record import inputs_of
from search_report import line_of, said, write_reports
from search_space import arguments_of, read_space
from sft import load_rows


# Evaluations come at the same shares of every trial, whatever its batch makes of the number of steps.
TRIAL = ["--eval_steps", "0.2", "--scenarios", "0", "--curves", "0"]


@dataclass
class Search:
    """What this script takes beyond a recipe."""

    space: str = field(default="train/recipes/search_paper.yaml", metadata={"help": "file with names and choices"})
    trials: int = field(default=20, metadata={"help": "how many trials the study has when it is finished"})
    output: str = field(default="build/search", metadata={"help": "folder of the study and of what it found"})


def main(arguments: list[str]) -> None:
    options, script, training, model_args = parse(arguments, also=[Search])
    space = read_space(Path(options.space), script, training)
    data = load_rows(*parse_alone(arguments, TRIAL, also=Search)[1:3])
    check_machine(model_args, training)
    inputs = {**inputs_of(*data, script, training, model_args), "space": {name: str(space[name]) for name in space}}
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        study = open_study(folder, inputs)
        while (number := ended(study)) < options.trials:
            # A sampler that lived on would draw its first values again after a restart: each trial has its own.
            study.sampler = optuna.samplers.TPESampler(seed=training.seed + number)
            trial = study.ask(space)
            more = [*TRIAL, *arguments_of(trial.params, training), "--output_dir", str(folder)]
            watch = Watch(trial, training.load_best_model_at_end)
            try_out(parse_alone(arguments, more, also=Search)[1:], data, watch)
            watch.tell(study)
            print(f"Trial {number + 1} of {options.trials}: {line_of(study, trial.number)}", flush=True)
        require(study.get_trials(states=[TrialState.COMPLETE]), "No trial came to its end: see their reasons above.")
        best = said([*arguments, *arguments_of(study.best_params, training)], own=Search)
        write_reports(study, folder, recipe_file(arguments), best)
        print(f"Best recipe and plots in {folder}. Next: python train/sft.py --config {folder}/best.yaml")


def recipe_file(arguments: list[str]) -> Path | None:
    return Path(arguments[arguments.index("--config") + 1]) if "--config" in arguments else None


def locked(folder: Path):
    """Keep the folder for this process until it ends, however it ends; raises ValueError when another one has it."""
    try:
        return FileLock(folder / "study.lock").acquire(timeout=0)
    except Timeout as error:
        raise ValueError(
            f"Another process is searching in {folder}: wait for it, or choose another --output."
        ) from error


def open_study(folder: Path, inputs: dict) -> optuna.Study:
    """Open or begin the folder's study; a trial whose process was killed is marked failed, and is drawn again."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=f"sqlite:///{folder}/study.db",
        study_name="search",
        # Hyperband would need far more than twenty trials to fill its brackets. At the first evaluation nobody is
        # stopped: rates are still warming up.
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2),
        load_if_exists=True,
    )
    if study.user_attrs.get("inputs", inputs) != inputs:
        raise ValueError(f"{folder} holds a study of other data, settings or space: choose another --output.")
    study.set_user_attr("inputs", inputs)
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)
    return study


def ended(study: optuna.Study) -> int:
    """Return how many trials came to an end of their own."""
    return len(study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED]))


class Watch(TrainerCallback):
    """Report a trial's evaluations, stop it when it is worse than the median or not finite, and tell how it ended."""

    def __init__(self, trial: optuna.Trial, keeps_best: bool):
        self.trial, self.keeps_best, self.perplexities, self.stopped = trial, keeps_best, [], None

    def on_evaluate(self, args, state, control, metrics, **_):
        self.perplexities.append(metrics["eval_perplexity"])
        self.trial.report(self.perplexities[-1], step=len(self.perplexities))
        if not math.isfinite(metrics["eval_loss"]):
            self.stopped = "the loss is not finite"
        elif state.global_step < state.max_steps and self.trial.should_prune():
            self.stopped = "worse than the median"
        control.should_training_stop |= self.stopped is not None

    def tell(self, study: optuna.Study) -> None:
        """Call whatever was stopped pruned: Optuna learns from pruned trials, and suggests failed ones again."""
        if self.stopped:
            self.trial.set_user_attr("stopped", self.stopped)
            study.tell(self.trial, state=TrialState.PRUNED)
        else:
            study.tell(self.trial, min(self.perplexities) if self.keeps_best else self.perplexities[-1])


def try_out(settings: tuple, data: tuple, watch: Watch) -> None:
    """Train one trial; one that does not fit into memory is stopped, any other error ends the study."""
    try:
        train(*settings, *data, callbacks=[watch])
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        watch.stopped = "out of memory"


if __name__ == "__main__":
    run(lambda: main(sys.argv[1:]), stopped="Stopped; the same command goes on from what is finished.")
