"""Render a model's card from model_card.md; every number in it comes from run.json and results.json."""

import json
import re
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from base_model import EMBEDDED


TEMPLATE = Path(__file__).parents[1] / "model_card.md"

# Terms of the bases that the recipes name; for any other base the card points at the base's own page.
LICENSES = {
    EMBEDDED: "apache-2.0",
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": "apache-2.0",
    "meta-llama/Llama-2-7b-chat-hf": "llama2",
}
# The Hub's own words: "merge" is for several models mixed into one; a base with its adapter added is a fine-tune of it.
RELATIONS = {"adapter": "adapter", "merged": "finetune", "gguf": "quantized"}
LIBRARIES = {"adapter": "peft", "merged": "transformers", "gguf": None}

# Metrics that the Hub knows by name; the others keep ours.
HUB_METRICS = {"perplexity": "perplexity", "bleu": "bleu", "rouge1": "rouge", "rouge2": "rouge", "rougeL": "rouge"}
LABELS = {
    "bleu": "BLEU (0 to 100)",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "distinct_1": "distinct-1",
    "distinct_2": "distinct-2",
    "distinct_1_of_100": "distinct-1 of 100 words",
    "distinct_2_of_100": "distinct-2 of 100 word pairs",
    "words": "words per reply",
    "replies_asking": "replies with a question",
    "sentences_asking": "sentences that are a question",
    "repetition": "repeated 4-grams",
    "ended": "replies that came to an end",
    "empathy": "empathy, fitted (0 to 6)",
}
PARTS = {
    "perplexity": "perplexity",
    "replies": "the replies",
    "scenarios": "the scenarios",
    "bias": "differences between groups of people",
    "safety": "the safety checks",
}
REQUIRED = ("language", "license", "pipeline_tag", "base_model", "base_model_relation", "tags")


class Edition(NamedTuple):
    """One thing that is published: the adapter, its base with it merged in, or that as a GGUF file; and how it is called.

    `address` is what loads it; `made_from` the repository it was made from, for an adapter the base.
    """

    kind: str = "adapter"
    address: str = "build/embedded/adapter"
    made_from: str | None = None
    license: str | None = None
    dataset: str | None = None
    warnings: tuple[str, ...] = ()
    plots: tuple[str, ...] = ()
    file: str = ""
    checked: str = ""


def render_model_card(adapter: Path, results: dict | None = None) -> None:
    """Write the card as the adapter's README.md, in place of PEFT's, which names a folder of this machine as base."""
    run = json.loads((adapter / "run.json").read_text(encoding="utf-8"))
    (adapter / "README.md").write_text(str(render(run, results or {}, Edition())), encoding="utf-8")


def render(run: dict, results: dict, edition: Edition) -> ModelCard:
    """Return the card of an edition; raises ValueError when its head would not survive being read back."""
    scenarios, judge = results.get("scenarios", {}), results.get("judge")
    card = ModelCard.from_template(
        card_data(run, results, edition),
        template_path=str(TEMPLATE),
        edition=edition,
        base=run["base"]["id"],
        run=run,
        corpus=results.get("corpus"),
        dtype=results.get("dtype"),
        perplexity=results.get("perplexity"),
        replies=results.get("replies"),
        measures=rows(results.get("replies", {}).get("measures", {})),
        scenarios=scenarios,
        levels={level: rows(parts) for level, parts in scenarios.get("levels", {}).items()},
        dimensions=rows(scenarios.get("dimensions", {})),
        bias=results.get("bias"),
        judge=judge,
        judged=rows(judge["dimensions"]) if judge else [],
        safety=results.get("safety"),
        unmeasured=[*(name for part, name in PARTS.items() if part not in results), *results.get("missing", [])]
        if results
        else [],
    )
    check(card)
    card.text = re.sub(r"\n{3,}", "\n\n", card.text)  # where a part is absent, Jinja leaves its empty lines
    return card


def check(card: ModelCard) -> None:
    """Raise ValueError unless the card's head has all it needs and reads back as the same values, model-index too."""
    again = ModelCard(str(card)).data.to_dict()
    lacking = [name for name in REQUIRED if not again.get(name)]
    if lacking or again != card.data.to_dict():
        raise ValueError(f"The card's head is not whole ({', '.join(lacking) or 'it reads back as something else'}).")


def rows(comparisons: dict) -> list[tuple[str, ...]]:
    """Return table rows: name, base, adapter, difference with its interval, how many it was measured on."""
    return [
        (LABELS.get(name, name.replace("_", " ")), shown(one["base"]), shown(one["adapter"]), gap(one), one["n"])
        for name, one in comparisons.items()
    ]


def shown(value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def gap(one: dict) -> str:
    if one["difference"] is None:
        return ""
    interval = one.get("difference_interval_95")
    return f"{one['difference']:+.3f}" + (f" ({interval[0]:+.3f} to {interval[1]:+.3f})" if interval else "")


def card_data(run: dict, results: dict, edition: Edition) -> ModelCardData:
    base, measured = run["base"]["id"], eval_results(run, results, edition)
    return ModelCardData(
        language="en",
        **terms(base, edition.license),
        library_name=LIBRARIES[edition.kind],
        pipeline_tag="text-generation",
        base_model=edition.made_from or base,
        base_model_relation=RELATIONS[edition.kind],
        datasets=[edition.dataset] if edition.dataset else None,
        metrics=sorted({one.metric_type for one in measured} & set(HUB_METRICS.values())) or None,
        tags=["lora", "sft", "trl", "mental-health", "conversational", *(["gguf"] if edition.kind == "gguf" else [])],
        model_name="theragen" if measured else None,
        eval_results=measured or None,
    )


def terms(base: str, license: str | None) -> dict:
    """Return the head's licence: the base's, which holds for what is made from it too."""
    known = license or LICENSES.get(base)
    link = f"https://huggingface.co/{base}"
    return {"license": known} if known else {"license": "other", "license_name": "as-the-base", "license_link": link}


def eval_results(run: dict, results: dict, edition: Edition) -> list[EvalResult]:
    """Return the model-index: the adapter's value of each measure, on held-out conversations and on the scenarios."""
    found = []
    if corpus := results.get("corpus"):
        folder = Path(corpus["name"])
        name = f"TheraGen corpus, {folder.parent.name if folder.name == 'corpus' else corpus['name']}"
        ours = edition.dataset if corpus["name"] == run["data"]["name"] else None  # scores are of the corpus they name
        where = {"dataset_type": ours or "theragen", "dataset_name": name, "dataset_split": corpus["split"]}
        values = {"perplexity": results.get("perplexity"), **results.get("replies", {}).get("measures", {})}
        found += entries(values, {**where, "dataset_config": corpus.get("config")})
    scenarios = results.get("scenarios", {})
    levels = {f"{level}, all checks": one["all"] for level, one in scenarios.get("levels", {}).items() if "all" in one}
    where = {"dataset_type": "theragen-scenarios", "dataset_name": "TheraGen scenarios"}
    return found + entries({**levels, **scenarios.get("dimensions", {})}, where)


def entries(values: dict, where: dict) -> list[EvalResult]:
    measured = {name: one["adapter"] for name, one in values.items() if one and one["adapter"] is not None}
    return [
        EvalResult(
            task_type="text-generation",
            metric_type=HUB_METRICS.get(name, name.replace(", ", "_").replace(" ", "_")),
            metric_name=LABELS.get(name, name.replace("_", " ")),
            metric_value=value,
            **where,
        )
        for name, value in measured.items()
    ]
