"""Merge an adapter into its base, and make sure that the result says what the adapter says."""

import logging
from pathlib import Path

import torch
from peft import PeftConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from base_model import resolve
from preflight import sentence_of
from replies import answer


# Openings of our own, short and long, on which copies of a model are compared word for word.
PROMPTS = [
    "Hi.",
    "I can't switch off after work.",
    "My dog died last week and the flat is so quiet.",
    "I keep fighting with my sister about who looks after our mother, and nobody asks how I am.",
    "What can I do when I can't sleep before an exam?",
    "Everyone at the mosque asks when I will marry, and I don't know what to say any more.",
]
TOKENS = 48
AGREES = (
    f"Checked when it was made: in float32 its likeliest replies to {len(PROMPTS)} prompts, {TOKENS} tokens each, are the "
    "adapter's on its base, word for word."
)

log = logging.getLogger(__name__)


def merge(adapter: Path, folder: Path) -> list[str]:
    """Write the merged model with tokenizer and template into `folder`, and return its replies to PROMPTS.

    Added up in float32 and kept in float16: of the same size as bfloat16 and eight times as fine. On the CPU recipe's
    adapter the likeliest replies to six prompts stayed the adapter's in float16, and none did in bfloat16. Where
    float16 is too coarse or too small for a weight, float32 is kept. Raises ValueError when even that speaks otherwise.
    """
    unmerged, tokenizer = load_unmerged(adapter)
    wanted = greedy(unmerged, tokenizer)
    tokenizer.save_pretrained(folder)
    for dtype in (torch.float16, torch.float32):
        model = load_unmerged(adapter)[0].merge_and_unload()
        if not all(fits(weight, dtype) for weight in model.parameters()):
            continue
        model.to(dtype).save_pretrained(folder)
        if greedy(load(folder), tokenizer) == wanted:
            return wanted
        log.warning("In %s the merged model does not say what the adapter says.", str(dtype).removeprefix("torch."))
    raise ValueError(f"The model merged from {adapter} does not say what the adapter says: nothing was pushed.")


def load_unmerged(adapter: Path):
    config = PeftConfig.from_pretrained(adapter)
    base, revision = config.base_model_name_or_path, config.revision or "main"
    try:
        model = AutoModelForCausalLM.from_pretrained(resolve(base), dtype=torch.float32, revision=revision)
    except OSError as error:
        raise ValueError(sentence_of(error, base)) from error
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token  # Llama 2 has none, and replies are padded
    return PeftModel.from_pretrained(model, adapter).eval(), tokenizer


def fits(weight: torch.Tensor, dtype: torch.dtype) -> bool:
    return bool(weight.abs().max() <= torch.finfo(dtype).max)


def load(folder: Path, **how):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **how).eval()


def greedy(model, tokenizer) -> list[str]:
    """Return the likeliest replies to PROMPTS; in float32 padding and batching do not change them."""
    prompts = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    return answer(model, tokenizer, prompts, TOKENS)
