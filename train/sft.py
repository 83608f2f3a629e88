"""Train a LoRA adapter on a conversation corpus with TRL's SFTTrainer.

    python train/sft.py --config train/recipes/cpu.yaml
    python train/sft.py --config train/recipes/cpu.yaml --resume        # go on after Ctrl-C or a crash
    python train/sft.py --config train/recipes/cpu.yaml \\
        --dataset_name build/public/corpus --output_dir build/public/adapter
    accelerate launch --num_processes 2 train/sft.py --config train/recipes/paper.yaml

Every field of TRL's SFTConfig and ModelConfig and of train/arguments.py can stand in the recipe or on the command
line, which wins.
"""

import time
from pathlib import Path

from accelerate import PartialState
from transformers import AutoModelForCausalLM, AutoTokenizer, EarlyStoppingCallback, set_seed
from trl import SFTConfig, get_peft_config, get_quantization_config

from arguments import Arguments, parse, run
from base_model import resolve
from callbacks import ScenarioCheck, StopOnCtrlC
from checkpoints import find_checkpoint, is_finished, is_run_of, remove_checkpoints
from curves import Curves
from loading import load_conversations
from preflight import check_machine, check_template, dtype_of, sentence_of
from run_record import inputs_of, write_adapter
from trainer import SupportTrainer
from unfreezing import GradualUnfreezing, phases_of


def main(script: Arguments, training: SFTConfig, model_args) -> None:
    rows, held_out = load_rows(script, training)
    inputs = inputs_of(rows, held_out, script, training, model_args)
    folder = Path(training.output_dir)
    if script.resume and not script.overwrite and is_run_of(folder, inputs) and is_finished(folder):
        PartialState().print(f"{folder} holds this run, finished: nothing is left to do.")
        return
    check_machine(model_args, training)
    checkpoint = on_first_process(find_checkpoint, folder, inputs, script.resume, script.overwrite)
    stop = StopOnCtrlC()
    trainer = build_trainer(script, training, model_args, rows, held_out, callbacks=[stop])
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=checkpoint)
    if stop.stopped and trainer.state.global_step < trainer.state.max_steps:
        raise KeyboardInterrupt(f"Stopped after step {trainer.state.global_step}; --resume goes on from there.")
    write_adapter(trainer, inputs, seconds=time.monotonic() - started)
    if trainer.is_world_process_zero():
        remove_checkpoints(folder)
        print(f"Adapter in {folder}. Next: python train/score.py --adapter {folder}")
    trainer.accelerator.wait_for_everyone()  # a launcher ends the others when one ends badly, even now
    trainer.accelerator.end_training()


def load_rows(script: Arguments, training: SFTConfig):
    """Return the rows to learn from and, when the recipe evaluates or draws curves, the held-out ones."""
    rows = load_conversations(script.dataset_name, script.dataset_config, script.dataset_train_split)
    wanted = training.eval_strategy != "no" or script.curves
    held_out = (
        load_conversations(script.dataset_name, script.dataset_config, script.dataset_test_split) if wanted else None
    )
    return rows, held_out


def build_trainer(
    script: Arguments, training: SFTConfig, model_args, rows, held_out=None, callbacks=()
) -> SupportTrainer:
    """Load the base and put it, a fresh adapter and the recipe's callbacks into a trainer; raises ValueError."""
    set_seed(training.seed)  # TRL draws the adapter's first weights before the trainer sets it
    training.restore_callback_states_from_checkpoint = True  # or a resumed run forgets how patient it has been
    model, tokenizer = load_model(model_args, script.base_id, training.chat_template_path)
    check_template(tokenizer, training)
    callbacks = list(callbacks)
    if script.unfreeze:
        callbacks.append(GradualUnfreezing(phases_of(script.unfreeze)))
    if script.early_stopping_patience:
        callbacks.append(EarlyStoppingCallback(script.early_stopping_patience))
    peft_config = get_peft_config(model_args)
    if model_args.model_revision != "main":
        peft_config.revision = model_args.model_revision  # of the base; whoever loads the adapter finds it there
    trainer = SupportTrainer(
        model=model,
        args=training,
        train_dataset=rows.select_columns("messages"),
        eval_dataset=held_out.select_columns("messages") if training.eval_strategy != "no" else None,
        processing_class=tokenizer,
        peft_config=peft_config,
        callbacks=callbacks,
        label_smoothing=script.label_smoothing,
        empathy_weight=script.empathy_weight,
        schedule=script.schedule,
    )
    if script.scenarios:
        trainer.add_callback(ScenarioCheck(trainer, script.scenarios))
    if script.curves:
        trainer.add_callback(Curves(trainer, held_out["messages"], script.curves))
    return trainer


def load_model(model_args, base_id: str | None, template: str | None = None):
    """Load base and tokenizer; the model carries the name that PEFT writes into adapter_config.json."""
    base = model_args.model_name_or_path
    folder = resolve(base)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            revision=model_args.model_revision,
            dtype=dtype_of(model_args),
            attn_implementation=model_args.attn_implementation,
            quantization_config=get_quantization_config(model_args),
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, revision=model_args.model_revision)
    except OSError as error:
        raise ValueError(sentence_of(error, base)) from error
    if template:
        tokenizer.chat_template = Path(template).read_text(encoding="utf-8")
    model.name_or_path = base_id or base
    return model, tokenizer


def on_first_process(function, *arguments):
    """Let one process look at the disk first: what it changes there, or refuses, the others must find as it left it."""
    state = PartialState()
    if not state.is_main_process:
        state.wait_for_everyone()
    try:
        return function(*arguments)
    finally:  # main_process_first leaves the others waiting when the first one raises
        if state.is_main_process:
            state.wait_for_everyone()


if __name__ == "__main__":
    run(lambda: main(*parse()), stopped="Stopped before the first step; nothing was written.")
