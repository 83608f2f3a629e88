"""Empathy as EPITOME's raters saw it: a measure fitted on their labelled pairs, for whoever has the data.

EPITOME (Sharma et al. 2020, arXiv 2009.08441) labels replies to posts by three mechanisms, 0 (none) to 2 (strong). Its data
has no licence, so neither it nor anything fitted on it is shipped. The measure reads a post and a reply as sentence
vectors; on posts that it has not seen its sum has a rank correlation of 0.6 with the raters' (benchmarks/empathy.py).
It was fitted on Reddit posts and says what such replies have in common, not whether a person felt understood.
"""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from arguments import require
from sentence_vectors import sentence_vectors


MECHANISMS = ("emotional-reactions", "interpretations", "explorations")


def measure_of(folder: Path) -> Callable[[list[str], list[str]], list[float]]:
    """Fit the measure on EPITOME's three *-reddit.csv and return it: posts, replies -> sums of three levels, 0 to 6.

    Raises ValueError when a file is missing, VectorsUnavailable without sentence vectors.
    """
    posts, responses, levels = labelled_pairs(folder)
    model = fit(features(posts, responses), levels)
    return lambda posts, replies: levels_of(model, features(posts, replies)).sum(1).tolist()


def labelled_pairs(folder: Path) -> tuple[list[str], list[str], torch.Tensor]:
    """Return posts, responses and levels (pairs x 3, 0 to 2) in one order."""
    tables = []
    for name in MECHANISMS:
        require(
            (folder / f"{name}-reddit.csv").is_file(),
            f"There is no {name}-reddit.csv in {folder}: empathy needs EPITOME's three files, or leave --epitome out.",
        )
        with (folder / f"{name}-reddit.csv").open(newline="", encoding="utf-8") as file:
            tables.append({(row["sp_id"], row["rp_id"]): row for row in csv.DictReader(file)})
    keys = sorted(tables[0])
    levels = torch.tensor([[int(table[key]["level"]) for table in tables] for key in keys])
    return [tables[0][k]["seeker_post"] for k in keys], [tables[0][k]["response_post"] for k in keys], levels


def features(posts: list[str], replies: list[str]) -> torch.Tensor:
    """Return what the measure sees: the reply's vector, its product with the post's, its length and question marks.

    In float64: in float32 two runs of the fit were a ten-thousandth apart.
    """
    post, reply = sentence_vectors(posts), sentence_vectors(replies)
    shape = torch.tensor([[np.log1p(len(text.split())), text.count("?")] for text in replies]).float()
    return torch.cat([reply * 10, post * reply * 100, shape], 1).double()


def fit(inputs: torch.Tensor, levels: torch.Tensor) -> torch.nn.Linear:
    """Fit one softmax over three levels for each mechanism, with ridge, by L-BFGS to its one minimum.

    Stopped early, two runs on vectors that differ in their last digits would end in two places.
    """
    model = torch.nn.Linear(inputs.shape[1], 3 * len(MECHANISMS), dtype=inputs.dtype)
    torch.nn.init.zeros_(model.weight)
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=3000, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        logits = model(inputs).unflatten(1, (len(MECHANISMS), 3))
        loss = (
            torch.nn.functional.cross_entropy(logits.flatten(0, 1), levels.flatten())
            + 1e-3 * model.weight.square().sum()
        )
        loss.backward()
        return loss

    optimizer.step(closure)
    return model


@torch.no_grad()
def levels_of(model: torch.nn.Linear, inputs: torch.Tensor) -> torch.Tensor:
    """Return the expected level (rows x 3, 0 to 2)."""
    return torch.softmax(model(inputs).unflatten(1, (len(MECHANISMS), 3)), -1) @ torch.arange(3.0, dtype=inputs.dtype)
