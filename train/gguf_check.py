"""Write a merged model's GGUF, and make sure that it says what the model says."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from gguf_export import export
from merging import PROMPTS, greedy, load


CLOSE = 1e-3  # the largest difference between two logits, which span about 40; the same weights gave 0.0001


def export_checked(folder: Path, file: Path, name: str, replies: list[str]) -> None:
    """Write the merged model in `folder` as a GGUF that says `replies`, the merged model's own.

    Raises ValueError for what cannot be converted, and when the file speaks otherwise.
    """
    export(AutoModelForCausalLM.from_pretrained(folder, dtype="auto"), folder, file, name)
    compare(folder, file, replies)


@torch.inference_mode()
def compare(folder: Path, file: Path, replies: list[str]) -> None:
    """Raise ValueError unless tokens, logits and likeliest replies of the file are the merged model's."""
    tokenizer, again = (
        AutoTokenizer.from_pretrained(folder),
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name),
    )
    model = load(file.parent, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True))
    talks = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    texts = [tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True) for talk in talks]
    ids, theirs = ([one(text, add_special_tokens=False)["input_ids"] for text in texts] for one in (tokenizer, again))
    longest = torch.tensor([max(ids, key=len)])
    apart = (model(longest).logits - load(folder)(longest).logits).abs().max()
    if ids != theirs or apart > CLOSE or greedy(model, tokenizer) != replies:
        raise ValueError(f"{file.name} does not say what the merged model says: nothing was pushed.")
