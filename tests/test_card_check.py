"""The three cards pass as they are rendered, and each of many planted faults is named with its field and its value."""

import json
import shutil

import pytest

from card import Edition, render
from card_check import FIELDS, known, problems
from conftest import ROOT, command
from report import write_plots
from test_build_dataset import build, built, small  # noqa: F401  (fixtures)
from test_card import RUN, whole


@pytest.fixture(scope="module")
def cards(built, tmp_path_factory):  # noqa: F811
    """A folder for each kind of card: a model as train/publish.py lays it out, a build's corpus, and the Space."""
    folder = tmp_path_factory.mktemp("cards")
    adapter = folder / "model"
    adapter.mkdir()
    results = whole()
    write_plots(adapter, results)
    plots = tuple(sorted(file.name for file in adapter.iterdir()))
    for name, record in (("run.json", RUN), ("results.json", results)):
        (adapter / name).write_text(json.dumps(record))
    edition = Edition(address="org/adapter", dataset="org/corpus", plots=plots)
    (adapter / "README.md").write_text(str(render(RUN, results, edition)), encoding="utf-8")
    shutil.copytree(built, folder / "build")
    (folder / "build/corpus").rename(folder / "dataset")
    shutil.copy(folder / "build/report.json", folder / "report.json")
    shutil.copytree(ROOT / "space", folder / "space", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return folder


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_cards_as_rendered_pass(cards, kind):
    assert problems(cards / kind) == []


def test_a_card_without_results_passes_too(tmp_path):
    (tmp_path / "README.md").write_text(str(render(RUN, {}, Edition())), encoding="utf-8")
    assert problems(tmp_path) == []


@pytest.mark.parametrize(("kind", "relation"), [("merged", "finetune"), ("gguf", "quantized")])
def test_cards_of_what_is_made_of_the_adapter_pass(tmp_path, kind, relation):
    edition = Edition(kind, "org/other", "org/adapter", file="theragen-F16.gguf", checked="Checked.")
    (tmp_path / "README.md").write_text(str(render(RUN, whole(), edition)), encoding="utf-8")
    (tmp_path / "results.json").write_text(json.dumps(whole()))
    assert f"base_model_relation: {relation}" in (tmp_path / "README.md").read_text()
    assert problems(tmp_path) == []


FAULTS = [
    # kind, what the card says, what it says then, what the sentence must name
    ("model", "license: apache-2.0", "license: apache-2", ["license", "'apache-2'"]),
    ("model", "license: apache-2.0", "licence: apache-2.0", ["license is missing", "licence", "did you mean license"]),
    ("model", "license: apache-2.0", "license: other", ["license_name"]),
    ("model", "pipeline_tag: text-generation", "pipeline_tag: chat", ["pipeline_tag", "'chat'"]),
    ("model", "library_name: peft", "library_name: lora", ["library_name", "'lora'"]),
    ("model", "base_model_relation: adapter", "base_model_relation: merged", ["base_model_relation", "'merged'"]),
    ("model", "base_model: HuggingFaceTB/SmolLM2", "base_model: build/base/SmolLM2", ["base_model", "'build/base/"]),
    ("model", "- org/corpus", "- https://hf.co/datasets/org/corpus", ["datasets", "'https://hf.co/"]),
    ("model", "language: en", "language: no", ["language", "False"]),
    ("model", "- rouge\n", "- rougeL\n", ["metrics", "'rougeL'"]),
    ("model", "type: bleu", "type: BLEU", ["metric type", "'BLEU'", "bleu"]),
    ("model", "value: 12.34", "value: 12.43", ["12.43", "results.json"]),
    ("model", "value: 12.34", "value: .nan", ["nan", "a number is expected"]),
    ("model", "model-index:\n- name: theragen", "model-index:\n- name: ''", ["model-index", "entry lacks name"]),
    ("model", "      name: perplexity\n", "      name: perplexity\n      revision: main\n", ["metric has revision"]),
    ("model", "](scenarios.png)", "](../model/../scenarios.png)", ["leads to no file"]),
    ("model", "](bias.png)", "](#no-such-part)", ["#no-such-part", "no heading"]),
    ("model", "      type: text-generation\n", "      type: support\n", ["task type", "'support'"]),
    ("model", "      type: org/corpus\n", "", ["dataset lacks type"]),
    ("model", "      value: 12.34\n", "      value: 12.34\n      verified: true\n", ["verified"]),
    ("model", "| base + adapter | 12.34 |", "| base + adapter | 11.34 |", ["base + adapter | 11.34"]),
    ("model", "| 0.500 | 1.25 | +0.750", "| 1.25 | 0.500 | +0.750", ["BLEU", "1.25 | 0.500"]),
    ("model", "(+0.700 to +0.800)", "(+0.600 to +0.800)", ["+0.600"]),
    ("model", "](scenarios.png)", "](szenarios.png)", ["szenarios.png", "no file"]),
    ("model", "https://huggingface.co/Hug", "http://huggingface.co/Hug", ["http://huggingface.co/Hug", "https"]),
    ("model", "import AutoTokenizer\n", "import AutoTokenizer as\n", ["does not compile", "AutoTokenizer as"]),
    ("model", "## Limits", "## {{ limits }}", ["template"]),
    ("dataset", "size_categories: n<1K", "size_categories: 1K<n", ["size_categories", "'1K<n'"]),
    ("dataset", "- text-generation", "- dialogue", ["task_categories", "'dialogue'"]),
    ("dataset", "- data/train-", "- data/trein-", ["configs", "data/trein"]),
    ("dataset", "license: mit", "license: MIT", ["license", "'MIT'"]),
    ("dataset", "language_creators:\n", "language_creators:\n- people\n", ["language_creators", "'people'"]),
    ("dataset", "| train |", "| test |", ["| test |", "report.json"]),
    ("dataset", "| 64 of 72 |", "| 65 of 72 |", ["65 of 72", "measured.yaml"]),
    ("dataset", '")\n```\n', '")\n', ["not closed"]),
    ("space", "sdk: gradio", "sdk: gradeo", ["sdk", "'gradeo'"]),
    ("space", "colorFrom: yellow", "colorFrom: orange", ["colorFrom", "'orange'"]),
    ("space", 'python_version: "3.12"', "python_version: 3.10", ["python_version", "3.1", "in quotes"]),
    ("space", "app_file: app.py", "app_file: main.py", ["app_file", "'main.py'"]),
    ("space", "Not a person, not therapy.", "Not a person, and not therapy of any kind.", ["short_description", "60"]),
    ("space", "pinned: false", "pinned: never", ["pinned", "'never'"]),
    ("space", "emoji: 🫶", "emoji: heart", ["emoji", "'heart'"]),
    ("space", "pinned: false", "suggested_hardware: a1000", ["suggested_hardware", "'a1000'"]),
    ("space", "pinned: false", "hardware: cpu-basic", ["hardware", "suggested_hardware"]),
    ("space", "title: TheraGen", "title: TheraGen: a chat", ["not YAML"]),
]


@pytest.mark.parametrize(("kind", "old", "new", "named"), FAULTS)
def test_a_planted_fault_is_found_and_named(cards, tmp_path, kind, old, new, named):
    folder = shutil.copytree(cards / kind, tmp_path / kind)
    if kind == "dataset":
        shutil.copy(cards / "report.json", tmp_path)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert old in text
    (folder / "README.md").write_text(text.replace(old, new, 1), encoding="utf-8")
    found = problems(folder)
    assert found
    assert all(word in " ".join(found) for word in named), found


def test_numbers_without_a_record_are_not_believed(cards, tmp_path):
    folder = shutil.copytree(cards / "model", tmp_path / "model", ignore=shutil.ignore_patterns("*.json"))
    assert problems(folder) == ["There are numbers, and no run.json, results.json or report.json that they come from."]


def test_the_command_prints_each_sentence_and_fails(cards, tmp_path):
    done = command("hub/card_check.py", cards / "model", tmp_path, check=False)
    assert (done.returncode, done.stdout) == (1, f"{tmp_path}: There is no README.md: a repository without a card says nothing about itself.\n")  # fmt: skip
    assert command("hub/card_check.py", cards / "model").returncode == 0


def test_each_list_says_where_it_is_from_and_each_rule_names_a_list():
    parts = [*FIELDS["lists"].values(), *FIELDS["fields"].values(), FIELDS["model_index"], FIELDS["short_description"]]
    assert all(part["source"].startswith("https://") and part["looked_up"] for part in parts)
    rules = {rule for kind in FIELDS["fields"].values() for rule in kind["keys"].values()}
    assert {rule.partition(":")[2] for rule in rules if ":" in rule} <= set(known())
