"""Gradual unfreezing: which decoder layers' LoRA weights are trained, by epoch (the paper: last 8, then last 16)."""

import re

from accelerate.utils import parse_flag_from_env
from transformers import TrainerCallback


LAYER = re.compile(r"\.layers\.(\d+)\.")


def phases_of(texts: list[str]) -> list[tuple[float, int]]:
    """Read `["0:8", "2:16"]`: from epoch 0 the last 8 layers, from epoch 2 the last 16; raises ValueError."""
    try:
        phases = [(float(epoch), int(layers)) for epoch, layers in (text.split(":") for text in texts)]
    except ValueError:
        phases = []
    if not phases or phases != sorted(phases) or phases[0][0] != 0 or any(layers < 1 for _, layers in phases):
        raise ValueError(
            f"unfreeze is {' '.join(texts)}, which names no layers from epoch 0 on: write for example 0:8 2:16."
        )
    return phases


def train_last_layers(model, last: int) -> int:
    """Let only the LoRA weights of the last `last` decoder layers learn; returns how many numbers those are.

    Weights that belong to no decoder layer keep learning. Frozen ones keep their values and their optimizer state:
    an optimizer passes over parameters without a gradient, so nothing decays, and one that wakes up starts afresh.
    """
    layers = {name: layer_of(name) for name, _ in model.named_parameters() if "lora_" in name}
    depth = 1 + max(number for number in layers.values() if number is not None)
    if last > depth:
        raise ValueError(f"unfreeze names the last {last} layers, but the base has {depth}.")
    learning = 0
    for name, parameter in model.named_parameters():
        if name in layers:
            parameter.requires_grad_(layers[name] is None or layers[name] >= depth - last)
            if not parameter.requires_grad:
                parameter.grad = None
            learning += parameter.numel() * parameter.requires_grad
    return learning


def layer_of(name: str) -> int | None:
    found = LAYER.search(name)
    return int(found[1]) if found else None


def is_sharded() -> bool:
    """Say whether accelerate's launcher lays the model in parts over the processes."""
    return any(parse_flag_from_env(f"ACCELERATE_USE_{name}") for name in ("FSDP", "DEEPSPEED"))


class GradualUnfreezing(TrainerCallback):
    """Change the learning layers at a phase's first step; `history` holds (epoch, layers, learning parameters).

    A step comes after the optimizer was made, which therefore knows all layers; a resumed run begins in the phase that
    it was in. Each line of the log says how many parameters learn. Raises ValueError under FSDP, which cannot load the
    optimizer state of layers that have not learned yet, and under DeepSpeed, whose optimizer steps frozen ones too.
    """

    def __init__(self, phases: list[tuple[float, int]]):
        if is_sharded():
            raise ValueError("unfreeze does not go together with FSDP or DeepSpeed: leave one of the two out.")
        self.phases, self.history = phases, []

    def on_step_begin(self, args, state, control, model=None, **_):
        epoch = state.epoch or 0.0
        layers = next(layers for begin, layers in reversed(self.phases) if begin <= epoch + 1e-6)
        if not self.history or self.history[-1][1] != layers:
            self.history.append((epoch, layers, train_last_layers(model, layers)))

    def on_log(self, args, state, control, logs=None, **_):
        if "loss" in logs:
            logs["learning_parameters"] = state.log_history[-1]["learning_parameters"] = self.history[-1][2]

    def on_train_end(self, args, state, control, model=None, **_):
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.requires_grad_(True)
