"""One training among many, for search.py and crossval.py: silent, and without checkpoints."""

from accelerate.utils.memory import clear_device_cache
from transformers import PrinterCallback
from transformers.utils.logging import disable_progress_bar

from arguments import parse, require
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
