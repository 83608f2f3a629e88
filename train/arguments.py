"""What a recipe or the command line may say beyond TRL's SFTConfig and ModelConfig."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from transformers.integrations import get_available_reporting_integrations
from trl import ModelConfig, ScriptArguments, SFTConfig, TrlParser

from base_model import BaseUnavailable
from schedules import CORNERS
from unfreezing import phases_of


@dataclass
class Arguments(ScriptArguments):
    """Fields of ScriptArguments and these; the splits are the corpus's own names."""

    dataset_test_split: str = field(
        default="validation", metadata={"help": "split that evaluations during training use"}
    )
    base_id: str = field(
        default=None, metadata={"help": "Hub id that adapter_config.json names when the base is a local folder"}
    )
    resume: bool = field(default=False, metadata={"help": "go on from the newest whole checkpoint, if any"})
    overwrite: bool = field(default=False, metadata={"help": "start anew where output_dir holds another run"})
    label_smoothing: float = field(default=0.0, metadata={"help": "share of probability spread over the vocabulary"})
    empathy_weight: float = field(default=0.0, metadata={"help": "weight of the empathy term (train/empathy.py)"})
    schedule: str = field(
        default=None, metadata={"help": "named learning rates in place of lr_scheduler_type", "choices": list(CORNERS)}
    )
    unfreeze: list[str] = field(
        default=None, metadata={"help": "EPOCH:LAYERS ..., LoRA of the last LAYERS learns from EPOCH on: 0:8 2:16"}
    )
    early_stopping_patience: int = field(
        default=None, metadata={"help": "stop after this many evaluations without a better one"}
    )
    scenarios: int = field(default=0, metadata={"help": "how many scenarios to answer and check at each evaluation"})
    curves: int = field(
        default=0, metadata={"help": "how many held-out prompts to answer at each epoch for BLEU, ROUGE and the rest"}
    )


def parse(arguments: list[str] | None = None, also: list[type] | None = None) -> tuple:
    """Read recipe and command line, which wins; raises ValueError or FileNotFoundError before anything is loaded.

    `also` adds dataclasses of a script's own; they come first in what is returned.
    """
    parsed = TrlParser((*(also or []), Arguments, SFTConfig, ModelConfig)).parse_args_and_config(arguments)
    check(*parsed[-3:])
    return parsed


def run(main: Callable[[], None], stopped: str) -> None:
    """Run a script's main: bad input is one sentence and exit code 2, Ctrl-C exit code 130 and `stopped`.

    What main itself says when it is stopped goes before `stopped`.
    """
    try:
        main()
    except FileNotFoundError as problem:
        sentence, code = f"There is no file {problem.filename}: recipes and spaces are in train/recipes.", 2
    except (ValueError, BaseUnavailable) as problem:
        sentence, code = str(problem).split("\n")[0], 2
    except KeyboardInterrupt as stop:
        sentence, code = str(stop) or stopped, 130
    else:
        return
    sys.stderr.write(f"{sentence}\n")
    sys.exit(code)


def check(script: Arguments, training: SFTConfig, model_args: ModelConfig) -> None:
    """Raise ValueError, one sentence, for values that could not give an adapter of this project."""
    require(script.dataset_name, "No corpus is named: give one with --dataset_name, or a recipe with --config.")
    require(model_args.use_peft, "use_peft is false: an adapter is what this trains, so set it to true.")
    require(
        not training.label_smoothing_factor,
        "label_smoothing_factor costs a forward pass in TRL: say label_smoothing, which does the same.",
    )
    require(not training.trust_remote_code, "trust_remote_code is true: code of a hub is never run here.")
    require(training.loss_type == "nll", f"loss_type is {training.loss_type}: only nll is trained here.")
    for name in ("label_smoothing", "empathy_weight"):
        require(
            0 <= getattr(script, name) < 1, f"{name} is {getattr(script, name)}: choose 0 or more and less than 1."
        )
    template = training.chat_template_path
    require(not template or Path(template).is_file(), f"There is no chat template in {template}.")
    if script.unfreeze:
        phases_of(script.unfreeze)
    for name in ("scenarios", "curves"):
        require(getattr(script, name) >= 0, f"{name} is {getattr(script, name)}: choose 0 (off) or how many prompts.")
    for tracker in set(training.report_to) - set(get_available_reporting_integrations()):
        raise ValueError(f"report_to names {tracker}, whose package is not here: install it, or say report_to: none.")
    evaluates = training.eval_strategy != "no"
    require(
        evaluates or not (script.early_stopping_patience or script.scenarios),
        "early_stopping_patience and scenarios need evaluations: set eval_strategy to steps or epoch.",
    )
    if script.early_stopping_patience:
        require(training.load_best_model_at_end, "early_stopping_patience needs load_best_model_at_end: true.")
    base = model_args.model_name_or_path
    require(base, "No base model is named: give one with --model_name_or_path, or a recipe with --config.")
    local = Path(base).is_dir()
    require(script.base_id or not local, f"{base} is a folder of this machine: add --base_id with its Hub id.")


def require(condition: object, sentence: str) -> None:
    if not condition:
        raise ValueError(sentence)
