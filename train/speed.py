"""How long a person would wait: seconds to the first words and to the whole reply, by the Space's own engine."""

import time
from pathlib import Path

import numpy as np
from tqdm import tqdm
from transformers import set_seed

from engine import Engine, load
from gguf_model import revision_of
from run_record import hardware
from settings import Settings


def response_times(prompts: list[list[dict]], base: str, adapter: Path, seed: int) -> dict:
    """Return p50 and p95 in seconds for base and adapter, one person at a time, on this machine as busy as it is.

    The engine's own reply limit holds (160 tokens), and each side has its own chat template. Times differ from run to
    run, so they stay out of results.json.
    """
    if not prompts:
        return {}
    sides = {
        "base": Settings(base=base, revision=revision_of(adapter, ""), engine="transformers"),
        "adapter": Settings(adapter=str(adapter), engine="transformers"),
    }
    times = {side: timed(load(which).engine, prompts, side, seed) for side, which in sides.items()}
    return {"prompts": len(prompts), "hardware": hardware(), **times}


def timed(engine: Engine, prompts: list[list[dict]], side: str, seed: int) -> dict[str, dict[str, float]]:
    found = []
    list(engine.stream(prompts[0]))  # the first reply of a process pays for what the others find done
    for prompt in tqdm(prompts, f"Response time of the {side}", unit="reply"):
        set_seed(seed)
        started = time.perf_counter()
        pieces = [(time.perf_counter() - started, piece) for piece in engine.stream(prompt)]
        found.append((next((at for at, piece in pieces if piece.strip()), pieces[-1][0]), pieces[-1][0]))
    return {
        name: {f"p{share}": round(float(np.percentile(column, share)), 3) for share in (50, 95)}
        for name, column in zip(("first_words", "whole_reply"), zip(*found, strict=True), strict=True)
    }
