"""Render the adapter's card from model_card.md; every number in it comes from run.json and results.json."""

import json
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from base_model import EMBEDDED


TEMPLATE = Path(__file__).parents[1] / "model_card.md"


def render_model_card(adapter: Path, results: dict | None = None) -> None:
    """Write the card as the adapter's README.md, in place of PEFT's, which names a folder of this machine as base."""
    run = json.loads((adapter / "run.json").read_text(encoding="utf-8"))
    results = results or {}
    card = ModelCard.from_template(
        card_data(run, results),
        template_path=str(TEMPLATE),
        base=run["base"]["id"],
        run=run,
        perplexity=results.get("perplexity"),
        corpus=results.get("corpus"),
    )
    (adapter / "README.md").write_text(str(card), encoding="utf-8")


def card_data(run: dict, results: dict) -> ModelCardData:
    base = run["base"]["id"]
    return ModelCardData(
        language="en",
        # The embedded base is Apache-2.0; another base brings its own terms, which its publisher must fill in.
        license="apache-2.0" if base == EMBEDDED else "other",
        library_name="peft",
        pipeline_tag="text-generation",
        base_model=base,
        base_model_relation="adapter",
        tags=["lora", "sft", "trl", "mental-health", "conversational"],
        model_name="theragen",
        eval_results=eval_results(results),
    )


def eval_results(results: dict) -> list[EvalResult] | None:
    if not results:
        return None
    corpus = results["corpus"]
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type="theragen",
            dataset_name=f"TheraGen corpus, {Path(corpus['name']).parent.name or corpus['name']}",
            dataset_split=corpus["split"],
            metric_type="perplexity",
            metric_value=results["perplexity"]["adapter"],
        )
    ]
