"""What is looked at before a model is loaded: memory, number format, chat template; each problem is one sentence."""

from pathlib import Path
from typing import NamedTuple

import psutil
import torch
from accelerate import init_empty_weights
from huggingface_hub.errors import GatedRepoError
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig
from trl.chat_template_utils import get_training_chat_template, has_generation_markers

from arguments import require
from base_model import best_dtype, resolve
from unfreezing import is_sharded


# NF4 with double quantisation: 4 bits and about 0.127 for the scales (QLoRA, section 3).
BYTES_4BIT = 0.516
# A learning LoRA parameter in float32: itself, its gradient and Adam's two moments.
BYTES_LEARNING = 16
CGROUP = Path("/sys/fs/cgroup/memory.max")


class Memory(NamedTuple):
    """Bytes that a run cannot do without (weights and adapter), and an estimate of the activations beside them."""

    certain: int
    activations: int


def check_machine(model_args, training) -> None:
    """Raise ValueError when the recipe cannot run on this machine; reads the base's config, not its weights."""
    gpu = torch.cuda.is_available() and not training.use_cpu
    require(gpu or not training.fp16, "fp16 needs a GPU: leave it out, or set dtype: auto.")
    bf16 = model_args.dtype == "bfloat16" or training.bf16
    require(
        not (gpu and bf16) or torch.cuda.is_bf16_supported(),
        "This GPU has no bfloat16: set fp16: true, dtype: float16.",
    )
    parts = training.world_size if is_sharded() else 1
    certain, free = estimate(model_args, training).certain / parts, available(gpu)
    require(
        certain <= free,
        f"{model_args.model_name_or_path} needs {certain / 2**30:.1f} GiB for weights and adapter and "
        f"{free / 2**30:.1f} GiB are free: take a smaller base, or recipe qlora for 4 bits on a GPU.",
    )


def estimate(model_args, training) -> Memory:
    """Estimate the memory of one process; activations after Korthikanti et al. 2022 (arXiv 2205.05198), table 2."""
    config = config_of(model_args)
    with init_empty_weights():
        model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config)  # from_config would give DeepSpeed real weights
    linear = {name: m for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and name != "lm_head"}
    width = dtype_of(model_args).itemsize
    weights = sum(p.numel() for p in model.parameters()) * width
    if model_args.load_in_4bit:
        weights -= sum(m.weight.numel() for m in linear.values()) * (width - BYTES_4BIT)
    targets = [m for name, m in linear.items() if is_target(name, model_args.lora_target_modules)]
    adapter = sum(model_args.lora_r * (m.in_features + m.out_features) for m in targets) * BYTES_LEARNING
    text = config.get_text_config()
    tokens = training.per_device_train_batch_size * (training.max_length or 1024)
    per_layer = tokens * text.hidden_size * width * (1 if training.gradient_checkpointing else 17)
    return Memory(int(weights + adapter), int(per_layer * text.num_hidden_layers))


def config_of(model_args):
    base = model_args.model_name_or_path
    try:
        return AutoConfig.from_pretrained(resolve(base), revision=model_args.model_revision)
    except OSError as error:
        raise ValueError(sentence_of(error, base)) from error


def dtype_of(model_args) -> torch.dtype:
    """Return the type that the weights are loaded in; without one in the recipe, the fastest on this machine."""
    return best_dtype() if model_args.dtype in ("auto", None) else getattr(torch, model_args.dtype)


def is_target(name: str, targets: list[str] | str | None) -> bool:
    """Say whether PEFT would put LoRA on a linear map; without targets it takes the query and value projections."""
    if targets in ("all-linear", ["all-linear"]):
        return True
    return name.rpartition(".")[2] in (targets or ["q_proj", "v_proj"])


def available(gpu: bool) -> int:
    """Return free bytes of this process's GPU, or of this machine or the container it runs in."""
    if gpu:
        return torch.cuda.mem_get_info()[0]
    free = psutil.virtual_memory().available
    limit = CGROUP.read_text().strip() if CGROUP.is_file() else "max"
    return min(free, int(limit)) if limit.isdigit() else free


def check_template(tokenizer, training) -> None:
    """Raise ValueError when assistant_only_loss could not tell replies from the person's words."""
    if not training.assistant_only_loss or has_generation_markers(tokenizer.chat_template or ""):
        return
    try:
        get_training_chat_template(tokenizer)
    except ValueError as error:
        raise ValueError(
            "The base's chat template does not mark the assistant's words with {% generation %}: "
            "give one that does with chat_template_path, for example train/templates/llama2.jinja."
        ) from error


def sentence_of(error: OSError, base: str) -> str:
    if isinstance(error.__cause__, GatedRepoError) or "gated" in str(error):
        return f"The base {base} is gated: accept its terms on https://huggingface.co/{base}, then set HF_TOKEN."
    return f"The base {base} could not be loaded: check its Hub id, its access terms and the network."
