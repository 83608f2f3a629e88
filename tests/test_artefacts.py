"""Nothing that the project carries, writes for others or loads can run code, and what is loaded from a hub is pinned or says why not."""

import ast
import re
import subprocess
from functools import cache

import pytest
import torch
import yaml
from safetensors import safe_open

from arguments import parse
from conftest import ROOT
from recipe import load_recipe
from release import is_hub_id
from settings import Settings
from test_publish_model import hub, publish, trained  # noqa: F401  (fixtures)


CODE = [
    file for folder in ("space", "data", "train", "hub", "benchmarks") for file in sorted((ROOT / folder).glob("*.py"))
]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
RECIPES = [file for file in sorted((ROOT / "train/recipes").glob("*.yaml")) if "search" not in file.name]

# Formats in which Python packs objects, which run code when they are opened.
PACKED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".ckpt", ".msgpack", ".h5")
UNPACKERS = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "_pickle"}
# Its own notes between two steps of one command, in a folder that nobody publishes.
WRITES_PACKED = {"train/fit_learned.py"}


@cache
def trees() -> list[tuple[str, ast.Module]]:
    return [(file.relative_to(ROOT).as_posix(), ast.parse(file.read_text(encoding="utf-8"))) for file in CODE]


def calls(*names: str):
    """Yield file, name and keywords of each call of a function or method with one of these names."""
    for file, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name in names or name.rpartition(".")[2] in names:
                    yield file, name, {each.arg: ast.unparse(each.value) for each in node.keywords}


# No pickle


def test_no_committed_file_is_packed():
    assert [name for name in TRACKED if name.endswith(PACKED)] == []
    for name in TRACKED:
        if name.endswith(".safetensors"):
            with safe_open(ROOT / name, "np") as weights:
                assert weights.keys(), name


def test_no_code_packs_or_unpacks_objects():
    imported = {
        (file, alias.name)
        for file, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in ([ast.alias(node.module or "")] if isinstance(node, ast.ImportFrom) else node.names)
    }
    assert {(file, name) for file, name in imported if name.split(".")[0] in UNPACKERS} == set()
    assert [file for file, _, asked in calls("torch.load") if asked.get("weights_only", "True") != "True"] == []
    assert [
        file for file, _, asked in calls("load", "save", "read_pickle", "to_pickle") if "allow_pickle" in asked
    ] == []
    assert {file for file, *_ in calls("torch.save")} == WRITES_PACKED
    assert list(calls("read_pickle", "to_pickle")) == []


class Planted:
    def __reduce__(self):
        return (open, ("ran", "w"))


def test_torch_itself_refuses_to_run_what_a_file_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weights": Planted()}, tmp_path / "planted.pt")
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(tmp_path / "planted.pt")
    assert not (tmp_path / "ran").exists()


def test_what_is_published_is_safetensors_gguf_pictures_and_text(trained, tmp_path, hub):  # noqa: F811
    out = tmp_path / "out"
    publish(trained, hub, tmp_path, "--merge", "org/merged", "--gguf", "org/model-GGUF", "--output", str(out))
    files = [file for file in out.rglob("*") if file.is_file()]
    assert {file.parent.name for file in files} == {"adapter", "merged", "gguf"}
    assert {file.name for file in files if file.suffix not in (".md", ".json", ".jinja", ".png", "")} == {
        "adapter_model.safetensors",
        "model.safetensors",
        "model-F16.gguf",
    }
    for file in files:
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as weights:
                assert weights.keys(), file
        elif file.suffix == ".gguf":
            assert file.read_bytes()[:4] == b"GGUF"
        elif file.suffix != ".png":
            assert "\0" not in file.read_text(encoding="utf-8"), file


# No foreign code


def test_no_code_of_a_hub_is_run():
    said = {
        (name, value)
        for name in TRACKED
        if not name.startswith(("tests/", "train/arguments.py"))  # which refuses it
        and name.endswith((".py", ".yaml", ".md", ".sh", ".toml", "Makefile"))
        for value in re.findall(r"trust_remote_code\W*(\w*)", (ROOT / name).read_text(encoding="utf-8"))
    }
    assert {one for one in said if one[1].lower() != "false"} == set()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda file: file.stem)
def test_no_recipe_asks_for_code_of_a_hub(recipe, monkeypatch):
    monkeypatch.chdir(ROOT)
    _, training, _ = parse(["--config", str(recipe), "--bf16", "false", "--fp16", "false", "--use_cpu", "true"])
    assert training.trust_remote_code is False


# Pinned revisions

SHA256 = "its weights are a file of a package, checked by its sha256 (space/base_model.py)"
MOVES = "which commit is right has not been looked up: --local DIR takes files that stay"
UNPINNED = {
    ("train/recipes/cpu.yaml", "HuggingFaceTB/SmolLM2-135M-Instruct"): SHA256,
    ("data/recipes/embedded.yaml", "HuggingFaceTB/SmolLM2-135M-Instruct"): SHA256,
    ("data/recipes/public.yaml", "HuggingFaceTB/SmolLM2-135M-Instruct"): SHA256,
    ("data/recipes/paper.yaml", "HuggingFaceTB/SmolLM2-135M-Instruct"): SHA256,
    ("data/recipes/public.yaml", "nbertagnolli/counsel-chat"): MOVES,
    ("data/recipes/paper.yaml", "nbertagnolli/counsel-chat"): MOVES,
    ("data/recipes/public.yaml", "thu-coai/esconv"): MOVES,
    ("data/recipes/paper.yaml", "thu-coai/esconv"): MOVES,
}
# Calls that pass no revision. What they are given is a folder, or the choice of somebody who sets a variable.
WITHOUT_REVISION = {
    "space/base_model.py": "a file of a package, checked by its sha256",
    "space/gguf_export.py": "a folder made here",
    "space/gguf_model.py": "folders fetched by revision; THERAGEN_GGUF names a file of the operator's choice",
    "space/transformers_engine.py": "the adapter's folder, fetched by revision",
    "space/voice.py": "THERAGEN_WHISPER is the operator's choice",
    "data/tokens.py": "the recipe's base, which is the embedded one",
    "train/loading.py": "the corpus of a recipe, a folder of this machine unless somebody names another",
    "train/merging.py": "folders: the adapter's and the merged model's",
    "train/score.py": "the adapter's folder",
    "train/publish.py": "a folder made here",
    "train/gguf_check.py": "a folder made here",
    "train/sentence_vectors.py": "a package's folder, checked by its sha256; only without it the Hub's newest",
    "train/fit_learned.py": "a folder that train/encoder_from_package.py made",
    "benchmarks/corpus.py": "rows written by itself",
    "benchmarks/load.py": "the embedded base",
    "benchmarks/template_space.py": "a folder",
    "benchmarks/training.py": "a folder",
}


def named_repos():
    """Yield file, repository and revision of everything that a committed recipe would load from a hub."""
    for file in RECIPES:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
        yield file, values["model_name_or_path"], values.get("model_revision")
        yield file, values["dataset_name"], None
    for file in sorted((ROOT / "data/recipes").glob("*.yaml")):
        recipe = load_recipe(file.stem)
        yield file, recipe.base, None
        yield from ((file, source.hub, source.revision) for source in recipe.sources if source.hub)
        assert [source.name for source in recipe.sources if source.kaggle and "/versions/" not in source.kaggle] == []


def test_every_repository_that_a_recipe_names_is_pinned_or_says_why_not(monkeypatch):
    monkeypatch.chdir(ROOT)
    unpinned = {
        (file.relative_to(ROOT).as_posix(), repo)
        for file, repo, revision in named_repos()
        if is_hub_id(repo) and not re.fullmatch(r"[0-9a-f]{40}", revision or "")
    }
    assert unpinned == set(UNPINNED)


def test_the_space_as_committed_names_no_repository_to_load():
    chosen = Settings()
    assert [chosen.adapter, chosen.base, chosen.gguf, chosen.whisper, chosen.endpoint] == [""] * 5
    head = yaml.safe_load((ROOT / "space/README.md").read_text(encoding="utf-8").split("---")[1])
    assert "preload_from_hub" not in head


def test_every_call_that_may_reach_a_hub_passes_a_revision_or_says_why_not():
    loaders = ("from_pretrained", "snapshot_download", "hf_hub_download", "load_dataset")
    assert {file for file, _, asked in calls(*loaders) if "revision" not in asked} == set(WITHOUT_REVISION)
