"""One training among many, for search.py and crossval.py: silent, and without checkpoints."""

import sys

from accelerate.utils.memory import clear_device_cache
from transformers import PrinterCallback
from transformers.utils.logging import disable_progress_bar

from arguments import parse, require
from base_model import BaseUnavailable
from sft import build_trainer


# What a recipe says about checkpoints and reports is for a run that is kept. Early stopping would need checkpoints.
ALONE = [
    *("--save_strategy", "no", "--load_best_model_at_end", "false", "--early_stopping_patience", "0"),
    *("--eval_strategy", "steps", "--logging_strategy", "no", "--report_to", "none", "--disable_tqdm", "true"),
]


def parse_alone(arguments: list[str], more: list[str], also: type) -> tuple:
    """Read recipe and command line as `parse` does, for one training among many; `more` wins over both."""
    parsed = parse([*arguments, *ALONE, *more], also=[also])
    require(parsed[2].world_size == 1, "Many trainings run one after the other in one process: start with python.")
    return parsed


def train(script, training, model_args, rows, held_out, callbacks=()):
    """Train a fresh adapter on the base, loaded anew, and return the trainer; the last step is evaluated too."""
    clear_device_cache(garbage_collection=True)
    disable_progress_bar()
    trainer = build_trainer(script, training, model_args, rows, held_out, callbacks=callbacks)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return trainer


def run(main) -> None:
    """Call main with the command line; bad input ends in a sentence and exit code 2, Ctrl-C in 130."""
    try:
        main(sys.argv[1:])
    except FileNotFoundError as problem:
        print(f"There is no file {problem.filename}: recipes and spaces are in train/recipes.", file=sys.stderr)
        sys.exit(2)
    except (ValueError, BaseUnavailable) as problem:
        print(str(problem).split("\n")[0], file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from what is finished.", file=sys.stderr)
        sys.exit(130)
