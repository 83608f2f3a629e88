"""The card: what it says of results that are whole, absent, by force; its head reads back as what was put in."""

import json

import pytest
from huggingface_hub import ModelCard

from base_model import EMBEDDED
from card import Edition, check, render, render_model_card


RUN = {
    "data": {"name": "build/public/corpus", "rows": 2542, "sha256": "ab" * 32},
    "base": {"id": EMBEDDED, "weights": "Hub"},
    "seed": 20,
    "steps": 20,
    "tokens_seen": 77898,
    "trainable_parameters": 4884480,
    "dtype": "bfloat16",
    "seconds": 287.8,
    "hardware": {"machine": "x86_64", "threads": 2, "gpus": []},
}


NONE = {"difference": 0.0, "interval": [-0.1, 0.1]}
AGE = {"axis": "age", "group": "78", "measure": "words", "pairs": 40, "base": NONE, "adapter": NONE, "change": NONE}


def pair(base: float | None, adapter: float | None) -> dict:
    difference = None if base is None else round(adapter - base, 4)
    interval = None if base is None else [difference - 0.05, difference + 0.05]
    return {"base": base, "adapter": adapter, "difference": difference, "difference_interval_95": interval, "n": 300}


def whole() -> dict:
    perplexity = {**pair(14.5, 12.34), "conversations": 300, "assistant_tokens": 62007, "resamples": 10000}
    return {
        "adapter": "adapter",
        "adapter_sha256": "0" * 64,
        "base": EMBEDDED,
        "dtype": "bfloat16",
        "seed": 20,
        "corpus": {"name": "build/public/corpus", "config": None, "split": "test", "rows": 300},
        "missing": [],
        "perplexity": perplexity,
        "replies": {
            "prompts": 300,
            "max_new_tokens": 96,
            "measures": {"bleu": pair(0.5, 1.25), "rougeL": pair(0.1, 0.13), "empathy": pair(None, None)},
        },
        "scenarios": {
            "count": 1080,
            "levels": {"none": {"all": pair(0.5, 0.6)}, "imminent": {"all": pair(0.1, 0.2), "safe": pair(0.8, 0.9)}},
            "dimensions": {"detects_risk": pair(0.3, 0.4)},
            "behaviours": {"asks": pair(0.3, 0.4)},
        },
        "bias": {
            "pairs": 240,
            "rendered": 880,
            "found": [],
            "found_in_base": [],
            "found_in_change": [],
            "comparisons": [AGE],
        },
        "safety": {"passed": True, "failures": []},
    }


def test_every_number_stands_in_the_text_and_in_the_model_index():
    card = render(RUN, whole(), Edition(address="org/adapter", dataset="org/corpus"))
    assert "| base + adapter | 12.34 |" in card.text
    assert "| BLEU (0 to 100) | 0.500 | 1.25 | +0.750 (+0.700 to +0.800) | 300 |" in card.text
    assert "| detects risk | 0.300 | 0.400 |" in card.text
    assert "**imminent**" in card.text
    values = {one.metric_name: one.metric_value for one in card.data.eval_results}
    assert values["perplexity"] == 12.34
    assert values["BLEU (0 to 100)"] == 1.25
    assert values["imminent, all checks"] == 0.2
    assert "empathy" not in values
    assert {one.dataset_type for one in card.data.eval_results} == {"org/corpus", "theragen-scenarios"}


def test_scores_on_another_corpus_are_not_said_to_be_of_ours():
    other = {**whole(), "corpus": {**whole()["corpus"], "name": "build/other/corpus"}}
    card = render(RUN, other, Edition(address="org/adapter", dataset="org/corpus"))
    assert {one.dataset_type for one in card.data.eval_results} == {"theragen", "theragen-scenarios"}


def test_head_reads_back_as_it_was_written():
    card = render(RUN, whole(), Edition(address="org/adapter", dataset="org/corpus"))
    head = ModelCard(str(card)).data.to_dict()
    assert head == card.data.to_dict()
    assert head["base_model"] == EMBEDDED
    assert (head["base_model_relation"], head["library_name"], head["license"]) == ("adapter", "peft", "apache-2.0")
    assert head["datasets"] == ["org/corpus"]
    assert head["metrics"] == ["bleu", "perplexity", "rouge"]
    assert head["model-index"][0]["results"][0]["dataset"]["split"] == "test"
    assert "co2_eq_emissions" not in head  # never measured


def test_a_head_that_lacks_something_is_refused():
    card = render(RUN, {}, Edition())
    card.data.license = None
    with pytest.raises(ValueError, match="not whole \\(license\\)"):
        check(card)


@pytest.mark.parametrize(
    ("base", "given", "terms"),
    [
        ("meta-llama/Llama-2-7b-chat-hf", None, {"license": "llama2"}),
        ("some/base", "mit", {"license": "mit"}),
        (
            "some/base",
            None,
            {"license": "other", "license_name": "as-the-base", "license_link": "https://huggingface.co/some/base"},
        ),
    ],
)
def test_licence_is_the_bases(base, given, terms):
    head = render({**RUN, "base": {"id": base, "weights": "Hub"}}, {}, Edition(license=given)).data.to_dict()
    assert {key: value for key, value in head.items() if key.startswith("license")} == terms


@pytest.mark.parametrize(("kind", "relation"), [("merged", "finetune"), ("gguf", "quantized")])
def test_what_is_made_of_the_adapter_says_of_what(kind, relation):
    card = render(
        RUN, whole(), Edition(kind, "org/other", "org/adapter", file="theragen-F16.gguf", checked="Checked.")
    )
    assert (card.data.base_model, card.data.base_model_relation) == ("org/adapter", relation)
    assert "so single replies differ. These weights were added up in float32" in card.text
    assert "Checked." in card.text
    assert ("peft" in card.text) is False


def test_without_results_the_card_claims_nothing():
    card = render(RUN, {}, Edition())
    assert "Nothing yet" in card.text
    assert card.data.eval_results is None
    assert "passed" not in card.text.lower()


def test_parts_that_were_not_measured_are_named():
    results = {key: value for key, value in whole().items() if key not in ("scenarios", "bias", "safety")}
    text = render(RUN, results, Edition()).text
    assert "Not measured: the scenarios, differences between groups of people, the safety checks." in text
    assert "### Scenarios" not in text


def test_failures_and_force_stand_at_the_top():
    results = {**whole(), "safety": {"passed": False, "failures": ["A reply named a dose."]}}
    text = render(RUN, results, Edition(warnings=("Safety check failed: A reply named a dose.",))).text
    top = text[: text.index("## Use it")]
    assert "Published by force" in top
    assert "> - Safety check failed: A reply named a dose." in top
    assert "**Not passed:**" in text


def test_found_differences_and_another_models_word_are_kept_apart():
    found = {"axis": "age", "group": "78", "measure": "words", "difference": -4.5, "interval": [-7.0, -2.0]}
    judge = {"model": "some/judge", "count": 50, "dimensions": {"supportive": pair(0.5, 0.6)}}
    results = {**whole(), "bias": {**whole()["bias"], "found": [found]}, "judge": judge}
    text = render(RUN, results, Edition()).text
    assert "| age | 78 | words | -4.500 (-7.000 to -2.000) |" in text
    assert text.index("### What another model said") < text.index("| supportive | 0.500 | 0.600 |")


def test_card_lies_in_the_adapters_folder(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    render_model_card(tmp_path, whole())
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| base + adapter | 12.34 |" in card
    assert "\n\n\n" not in card
