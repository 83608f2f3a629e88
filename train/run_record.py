"""What a training run leaves behind: the adapter, and run.json, which says how it came to be."""

import hashlib
import importlib.metadata
import json
import platform
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from pathlib import Path

import torch
from transformers.trainer_pt_utils import get_model_param_count

from base_model import EMBEDDED, GGUF_SHA256
from card import render_model_card
from files import write_json


LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "tokenizers")
# Values that may differ between a run and its resumption without making it another run.
PLACE_ONLY = {"resume", "overwrite", "resume_from_checkpoint", "output_dir", "logging_dir", "run_name", "disable_tqdm"}
SECRET = {"hub_token", "push_to_hub_token"}  # run.json is published


def inputs_of(rows, held_out, script, training, model_args) -> dict:
    """Describe everything that decides the outcome of a run: data, chosen values and the base's weights."""
    settings = {**chosen(script), **chosen(model_args), **chosen(training)}
    return {
        "data": {"name": script.dataset_name, "rows": len(rows), "sha256": fingerprint(rows)},
        "processes": training.world_size,
        "held_out": {"rows": len(held_out), "sha256": fingerprint(held_out)} if held_out else None,
        "base": {
            "id": model_args.model_name_or_path,
            "revision": model_args.model_revision,
            "weights": f"Q4_1 GGUF {GGUF_SHA256}, dequantised" if model_args.model_name_or_path == EMBEDDED else "Hub",
        },
        "settings": json.loads(json.dumps(settings, default=str)),
    }


def chosen(arguments) -> dict:
    """Return the fields of a dataclass that differ from its defaults, those that only say where to write left out."""
    values = {each.name: getattr(arguments, each.name) for each in fields(arguments) if each.default is not MISSING}
    defaults = {each.name: each.default for each in fields(arguments)}
    return {key: value for key, value in values.items() if value != defaults[key] and key not in PLACE_ONLY | SECRET}


def fingerprint(rows) -> str:
    """Return the sha256 over all messages in order; the same conversations give the same value on any machine."""
    digest = hashlib.sha256()
    for messages in rows["messages"]:
        digest.update(json.dumps(messages, sort_keys=True).encode())
    return digest.hexdigest()


def write_adapter(trainer, inputs: dict, seconds: float) -> None:
    """Put adapter, tokenizer and run.json into the output folder, run.json last: its presence means complete.

    All processes must call it, because weights that lie in parts are put together by all; the first one writes.
    """
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not trainer.is_world_process_zero():
        return
    folder = Path(trainer.args.output_dir)
    part = folder / ".part"
    trainer.model.save_pretrained(part, state_dict=weights, save_embedding_layers=False)
    trainer.processing_class.save_pretrained(part)
    for file in part.iterdir():
        file.replace(folder / file.name)
    part.rmdir()
    write_json(folder / "run.json", record(trainer, inputs, seconds))
    render_model_card(folder)


def record(trainer, inputs: dict, seconds: float) -> dict:
    """Return the run's facts: `tokens_seen` counts every token read, `trainable_parameters` the adapter's."""
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    return {
        **inputs,
        "version": importlib.metadata.version("theragen"),
        "seed": trainer.args.seed,
        "steps": trainer.state.global_step,
        "tokens_seen": int(history[-1]["num_tokens"]) if history else None,
        "final_training_loss": history[-1]["loss"] if history else None,
        "trainable_parameters": get_model_param_count(trainer.model, trainable_only=True),
        "dtype": str(trainer.model.dtype).removeprefix("torch."),
        "seconds": round(seconds, 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware(),
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def hardware() -> dict:
    """Return what the run used, without anything that names the machine or its owner."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {"machine": platform.machine(), "threads": torch.get_num_threads(), "gpus": gpus}
