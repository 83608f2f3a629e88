"""Does the empathy term help? Replies of two adapters to the same held-out prompts, by a measure that trained neither.

    python train/sft.py --config train/recipes/cpu.yaml --dataset_name C --output_dir A
    python train/sft.py --config train/recipes/cpu.yaml --dataset_name C --output_dir B --empathy_weight 0.3
    python benchmarks/empathy.py --epitome DATA/corpus/epitome --corpus C --adapters A B

The measure is train/epitome.py; its own worth on unseen posts is printed.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch


ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "train"), str(ROOT / "space")]

from curves import choose  # noqa: E402
from epitome import MECHANISMS, features, fit, labelled_pairs, levels_of  # noqa: E402
from loading import load_conversations  # noqa: E402
from metrics import measure  # noqa: E402
from paired import compare_means  # noqa: E402
from replies import answer  # noqa: E402
from score import load_adapter  # noqa: E402


FOLDS, SEED = 5, 20


def report_worth(inputs: torch.Tensor, levels: torch.Tensor, posts: list[str]) -> None:
    """Print the rank correlation with the labels on posts that the measure has not seen (folds by post)."""
    folds = np.array([hash_of(post) % FOLDS for post in posts])
    found = torch.zeros(len(posts), len(MECHANISMS))
    for fold in range(FOLDS):
        unseen = torch.tensor(folds == fold)
        found[unseen] = levels_of(fit(inputs[~unseen], levels[~unseen]), inputs[unseen])
    for column, name in enumerate(MECHANISMS):
        rank = spearman(found[:, column], levels[:, column])
        print(f"The measure on {len(posts)} pairs, {FOLDS} folds by post: {name} Spearman {rank:.2f}")
    print(f"All three together: Spearman {spearman(found.sum(1), levels.sum(1)):.2f}")


def spearman(one, other) -> float:
    """Return the correlation of ranks, the mean rank for equal values."""
    ranks = []
    for values in (one, other):
        _, place, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
        ranks.append((counts.cumsum() - (counts - 1) / 2)[place])
    return float(np.corrcoef(*ranks)[0, 1])


def hash_of(text: str) -> int:
    return int.from_bytes(text.encode()[:64]) % 1_000_003


def replies_of(adapter: Path, rows, count: int, batch: int) -> tuple[list[str], list[str], list[str]]:
    """Return the last thing the person said, the adapter's greedy reply and the written one."""
    model, tokenizer, _ = load_adapter(adapter, None)
    talks = choose(tokenizer, rows["messages"], count, argparse.Namespace(seed=SEED, max_length=512))
    prompts = sorted((talk[:-1] for talk in talks), key=lambda talk: sum(len(m["content"]) for m in talk))
    replies = [
        reply
        for at in range(0, len(prompts), batch)
        for reply in answer(model, tokenizer, prompts[at : at + batch], 64)
    ]
    written = {str(talk[:-1]): talk[-1]["content"] for talk in talks}
    return [prompt[-1]["content"] for prompt in prompts], replies, [written[str(prompt)] for prompt in prompts]


def main(options: argparse.Namespace) -> None:
    posts, responses, levels = labelled_pairs(options.epitome)
    inputs = features(posts, responses)
    report_worth(inputs, levels, posts)
    model = fit(inputs, levels)
    rows = load_conversations(options.corpus, None, options.split)
    shown = []
    for adapter in options.adapters:
        said, replies, written = replies_of(adapter, rows, options.prompts, options.batch)
        shown.append(levels_of(model, features(said, replies)))
        values = measure(replies, written)
        parts = ", ".join(f"{name} {shown[-1][:, column].mean():.3f}" for column, name in enumerate(MECHANISMS))
        rest = ", ".join(
            f"{name} {values[name]:.3f}" for name in ("replies_asking", "repetition", "words", "distinct_2")
        )
        print(f"{adapter} on {len(replies)} prompts: {parts}, together {shown[-1].sum(1).mean():.3f}; {rest}")
    compare(*shown)


def compare(before: torch.Tensor, after: torch.Tensor) -> None:
    """Print the difference of means with a paired bootstrap interval over prompts."""
    sides = [torch.cat([levels, levels.sum(1, keepdim=True)], 1) for levels in (before, after)]
    for column, name in enumerate((*MECHANISMS, "together")):
        found = compare_means(*(side[:, column].tolist() for side in sides), SEED)
        low, high = found["difference_interval_95"]
        print(f"Second less first, {name}: {found['difference']:+.3f} (95 % interval {low:+.3f} to {high:+.3f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epitome", type=Path, required=True, help="folder with EPITOME's three *-reddit.csv")
    parser.add_argument("--corpus", required=True, help="corpus folder")
    parser.add_argument("--split", default="test", help="held-out split (default: test)")
    parser.add_argument("--adapters", type=Path, nargs=2, required=True, help="without and with the term")
    parser.add_argument("--prompts", type=int, default=200, help="how many prompts to answer (default: 200)")
    parser.add_argument("--batch", type=int, default=25, help="prompts answered together (default: 25)")
    main(parser.parse_args())
