"""Score an adapter against its base on held-out conversations: perplexity with an interval, and replies to read.

    python train/score.py --adapter build/embedded/adapter --corpus build/embedded/corpus

Writes results.json and replies.md beside the adapter's folder, and the adapter's card (README.md) from model_card.md.
"""

import argparse
import sys
from pathlib import Path

import torch
from peft import PeftConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from base_model import BaseUnavailable, best_dtype, resolve
from card import render_model_card
from loading import load_conversations
from perplexity import compare, negative_log_likelihoods
from replies import side_by_side
from run_record import write_json


SEED = 20


def main(options: argparse.Namespace) -> None:
    set_seed(SEED)
    rows = load_conversations(options.corpus, options.config, options.split)
    rows = rows.select(range(min(options.limit or len(rows), len(rows))))
    model, tokenizer, base = load_adapter(options.adapter, options.base)

    print(f"Perplexity of base and adapter on {len(rows)} held-out conversations; next: {options.replies} replies.")
    adapter_scores = negative_log_likelihoods(model, tokenizer, rows["messages"], "adapter")
    with model.disable_adapter():
        base_scores = negative_log_likelihoods(model, tokenizer, rows["messages"], "base")
    results = {
        "adapter": options.adapter.name,
        "base": base,
        "corpus": {"name": str(options.corpus), "config": options.config, "split": options.split, "rows": len(rows)},
        "perplexity": compare(base_scores, adapter_scores, seed=SEED),
        "seed": SEED,
    }
    conversations = rows.select(range(min(options.replies, len(rows))))["messages"]
    page = side_by_side(model, tokenizer, conversations, seed=SEED)

    folder = options.adapter.parent
    (folder / "replies.md").write_text(page, encoding="utf-8")
    write_json(folder / "results.json", results)
    render_model_card(options.adapter, results)
    report(results["perplexity"], folder)


def load_adapter(adapter: Path, base: str | None):
    """Load base and adapter as one model; raises ValueError when `base` is not the one the adapter was trained on."""
    if not (adapter / "adapter_config.json").is_file():
        raise ValueError(f"There is no adapter in {adapter}: train one with python train/sft.py.")
    trained_on = PeftConfig.from_pretrained(adapter).base_model_name_or_path
    if base and base != trained_on:
        raise ValueError(f"The adapter in {adapter} was trained on {trained_on}, not on {base}: leave --base out.")
    dtype = best_dtype()
    try:
        model = AutoModelForCausalLM.from_pretrained(resolve(trained_on), dtype=dtype)
    except OSError as error:
        raise ValueError(
            f"The base {trained_on} could not be loaded: check its access terms and the network."
        ) from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # The adapter in the base's own type: mixed types would be cast at every layer.
    model = PeftModel.from_pretrained(model, adapter, autocast_adapter_dtype=False).to(device).eval()
    return model, AutoTokenizer.from_pretrained(adapter), trained_on


def report(perplexity: dict, folder: Path) -> None:
    low, high = perplexity["difference_interval_95"]
    print(
        f"Perplexity: base {perplexity['base']:.2f}, adapter {perplexity['adapter']:.2f}, "
        f"difference {perplexity['difference']:+.2f} (95 % interval {low:+.2f} to {high:+.2f}).\n"
        f"Replies to read: {folder / 'replies.md'}. Next: make space"
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--adapter", type=Path, required=True, help="folder that train/sft.py wrote")
    parser.add_argument("--corpus", required=True, help="corpus folder or Hub id")
    parser.add_argument("--config", help="corpus configuration (none: the published one)")
    parser.add_argument("--split", default="test", help="held-out split (default: test)")
    parser.add_argument("--limit", type=int, help="score only the first N conversations (none: all)")
    parser.add_argument("--replies", type=int, default=12, help="how many sample replies to write (default: 12)")
    parser.add_argument("--base", help="fail unless the adapter was trained on this base")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main(parse_options())
    except (ValueError, BaseUnavailable) as problem:
        print(str(problem).split("\n")[0], file=sys.stderr)
        sys.exit(2)
