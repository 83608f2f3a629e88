"""Train a LoRA adapter on a conversation corpus with TRL's SFTTrainer.

    python train/sft.py --config train/recipes/cpu.yaml
    python train/sft.py --config train/recipes/cpu.yaml --resume        # go on after Ctrl-C
    python train/sft.py --config train/recipes/cpu.yaml \\
        --dataset_name build/public/corpus --output_dir build/public/adapter

Every field of TRL's SFTConfig and ModelConfig can stand in the recipe or on the command line, which wins.
"""

import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint
from trl import (
    ModelConfig,
    ScriptArguments,
    SFTConfig,
    SFTTrainer,
    TrlParser,
    get_peft_config,
    get_quantization_config,
)

from base_model import BaseUnavailable, best_dtype, resolve
from loading import load_conversations
from run_record import check_same_inputs, inputs_of, write_adapter


@dataclass
class Arguments(ScriptArguments):
    resume: bool = field(default=False, metadata={"help": "go on from the last checkpoint in output_dir, if any"})
    base_id: str = field(
        default=None, metadata={"help": "Hub id that adapter_config.json names when the base is a local folder"}
    )


class StopOnCtrlC(TrainerCallback):
    """Finish the step, leave a checkpoint and stop; a second Ctrl-C ends the process at once."""

    def __init__(self):
        self.stopped = False
        signal.signal(signal.SIGINT, self._stop)

    def _stop(self, *_):
        self.stopped = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def on_step_end(self, args, state, control, **_):
        control.should_save |= self.stopped
        control.should_training_stop |= self.stopped


def main(script: Arguments, training: SFTConfig, model_args: ModelConfig) -> None:
    rows = load_conversations(script.dataset_name, script.dataset_config, script.dataset_train_split)
    inputs = inputs_of(rows, script, training, model_args)
    model, tokenizer = load_model(model_args, script.base_id)
    checkpoint = find_checkpoint(script, training, inputs)
    stop = StopOnCtrlC()
    trainer = SFTTrainer(
        model=model,
        args=training,
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=get_peft_config(model_args),
        callbacks=[stop],
    )
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=checkpoint)
    if stop.stopped and trainer.state.global_step < trainer.state.max_steps:
        raise KeyboardInterrupt(f"Stopped after step {trainer.state.global_step}; --resume goes on from there.")
    write_adapter(trainer, inputs, seconds=time.monotonic() - started)
    print(f"Adapter in {training.output_dir}. Next: python train/score.py --adapter {training.output_dir}")


def load_model(model_args: ModelConfig, base_id: str | None):
    """Load base and tokenizer; the model carries the name that PEFT writes into adapter_config.json."""
    base = model_args.model_name_or_path
    require(base_id or not Path(base).is_dir(), f"{base} is a folder of this machine: add --base_id with its Hub id.")
    dtype = best_dtype() if model_args.dtype == "auto" else getattr(torch, model_args.dtype)
    folder = resolve(base)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            revision=model_args.model_revision,
            dtype=dtype,
            attn_implementation=model_args.attn_implementation,
            quantization_config=get_quantization_config(model_args),
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, revision=model_args.model_revision)
    except OSError as error:
        raise ValueError(
            f"The base {base} could not be loaded: check its Hub id, its access terms and the network."
        ) from error
    model.name_or_path = base_id or base
    return model, tokenizer


def find_checkpoint(script: Arguments, training: SFTConfig, inputs: dict) -> str | None:
    """Return the checkpoint to go on from, refusing to mix runs of different inputs in one folder."""
    folder = Path(training.output_dir)
    checkpoint = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    if checkpoint:
        require(script.resume, f"{folder} holds an unfinished run: add --resume to go on, or remove the folder.")
    check_same_inputs(folder, inputs, resuming=checkpoint is not None)
    return checkpoint


def require(condition: object, sentence: str) -> None:
    if not condition:
        raise ValueError(sentence)


if __name__ == "__main__":
    try:
        main(*TrlParser((Arguments, SFTConfig, ModelConfig)).parse_args_and_config())
    except FileNotFoundError as problem:
        print(f"There is no file {problem.filename}: the recipes are in train/recipes.", file=sys.stderr)
        sys.exit(2)
    except (ValueError, BaseUnavailable) as problem:
        print(str(problem).split("\n")[0], file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as stop:
        print(stop if stop.args else "Stopped before the first step; nothing was written.", file=sys.stderr)
        sys.exit(130)
