"""An adapter, its base with it merged in and a GGUF of that reach a hub on loopback and load back as a stranger would."""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
from gguf import TokenType
from huggingface_hub import constants
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaTokenizer

import merging
from card import Edition, render
from conftest import ROOT, command
from fake_hub import hub_server
from gguf_check import compare, export_checked
from gguf_export import kind_of, pieces, portable, refuse_unknown, scores
from merging import greedy, load
from modelfile import ollama_files
from pushing import push
from release import problems, read_results, without_places
from test_card import RUN, whole
from tiny import make_base


BASE = "tests/tiny"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder as training and scoring leave it: an adapter on the tiny base, with all that must stay at home."""
    folder = tmp_path_factory.mktemp("trained")
    base = make_base(folder / "base")
    torch.manual_seed(3)
    config = LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    model.peft_config["default"].base_model_name_or_path = BASE
    adapter = folder / "adapter"
    model.save_pretrained(adapter)
    AutoTokenizer.from_pretrained(base).save_pretrained(adapter)
    run = {**RUN, "base": {"id": BASE, "weights": "Hub"}, "data": {**RUN["data"], "name": "/home/someone/corpus"}}
    (adapter / "run.json").write_text(json.dumps(run))
    (adapter / "checkpoint-1").mkdir()
    for name in ("samples.jsonl", "inputs.json", "curves.png", "checkpoint-1/optimizer.pt", "scenario_replies.jsonl"):
        (adapter / name).write_bytes(b"at home")
    weights = hashlib.sha256((adapter / "adapter_model.safetensors").read_bytes()).hexdigest()
    results = {**whole(), "adapter_sha256": weights, "base": BASE}
    (folder / "results.json").write_text(json.dumps(results))
    for name in ("bias.png", "report.html", "replies_adapter.jsonl"):
        (folder / name).write_bytes(b"beside it")
    return folder


@pytest.fixture
def hub(trained):
    with hub_server() as server:
        server.files[BASE] = {file.name: file.read_bytes() for file in (trained / "base").iterdir()}
        server.private[BASE] = False
        yield server


def change(trained, tmp_path, **values):
    """A copy of the folder whose results differ in these values."""
    folder = shutil.copytree(trained, tmp_path / "changed")
    results = {**json.loads((folder / "results.json").read_text()), **values}
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def reach(hub, home) -> dict[str, str]:
    return {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": "hf_made_up",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(home),
        "OMP_NUM_THREADS": "1",
    }


def publish(folder, hub, tmp_path, *options: str, check: bool = True):
    arguments = ["train/publish.py", "--adapter", folder / "adapter", "--repo", "org/adapter", *options]
    return command(*arguments, check=check, **reach(hub, tmp_path / "home"))


def test_only_what_belongs_reaches_the_hub_in_one_commit_with_the_card_last(trained, tmp_path, hub):
    done = publish(trained, hub, tmp_path, "--dataset", "org/corpus")
    assert done.stdout.strip() == f"{hub.url}/org/adapter"
    assert hub.private["org/adapter"] is True
    (commit,) = hub.commits["org/adapter"]
    assert commit["file"][-1] == "README.md"
    assert set(hub.files["org/adapter"]) == {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "bias.png", "chat_template.jinja",
        "curves.png", "results.json", "run.json", "scenarios.png", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    card = hub.files["org/adapter"]["README.md"].decode()
    assert 'adapter = "org/adapter"' in card
    assert "![curves](curves.png)" in card
    assert "- org/corpus" in card
    for name, content in hub.files["org/adapter"].items():
        assert name.endswith((".safetensors", "tokenizer.json")) or b"someone" not in content, name


@pytest.fixture
def near(hub, monkeypatch):
    """The hub for this process's own client, which has read its environment already."""
    for name, value in {"ENDPOINT": hub.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", "hf_made_up")
    return hub


def folder_of(tmp_path, **files: str):
    folder = tmp_path / "folder"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "README.md").write_text(str(render(RUN, {}, Edition())))
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def test_a_second_push_takes_the_first_ones_leftovers_away_with_its_card(tmp_path, near):
    push(folder_of(tmp_path, model_safetensors="first", curves_png="first"), "org/model")
    near.files["org/model"] |= {"LICENSE": b"of the base", "samples.jsonl": b"pushed by hand"}
    push(folder_of(tmp_path, model_safetensors="second"), "org/model", public=True)
    second = near.commits["org/model"][1]
    assert second["deletedFile"] == ["curves.png", "samples.jsonl"]
    assert set(second) == {"lfsFile", "deletedFile"}  # the card is the same, so it is not sent again
    assert set(near.files["org/model"]) == {"LICENSE", "README.md", "model.safetensors"}
    assert near.files["org/model"]["model.safetensors"] == b"second"
    assert near.private["org/model"] is True  # the owner's decision stays


def test_a_hub_that_refuses_leaves_what_was_there(tmp_path, near):
    push(folder_of(tmp_path, model_safetensors="first"), "org/model", public=True)
    before, near.refuse_next_commit = dict(near.files["org/model"]), True
    with pytest.raises(ValueError, match=r"did not take org/model: .* HF_TOKEN"):
        push(folder_of(tmp_path, model_safetensors="second"), "org/model")
    assert near.files["org/model"] == before
    assert near.private["org/model"] is False


def test_a_card_that_the_hub_refuses_is_not_pushed(tmp_path, near):
    near.refuse_cards = True
    with pytest.raises(ValueError, match="did not take org/model"):
        push(folder_of(tmp_path, model_safetensors="first"), "org/model")
    assert "org/model" not in near.files


def test_of_several_cards_each_is_asked_about_before_the_first_push(trained, tmp_path, hub):
    hub.refuse_cards = True
    done = publish(trained, hub, tmp_path, "--merge", "org/merged", check=False)
    assert done.returncode == 2 and "did not take the card of" in done.stderr
    assert not [request for request in hub.requests if "/commit/" in request or "repos/create" in request]


def test_unsafe_is_refused_in_one_sentence_and_by_force_said_at_the_top(trained, tmp_path, hub):
    folder = change(trained, tmp_path, safety={"passed": False, "failures": ["A reply named a dose."]})
    refused = publish(folder, hub, tmp_path, check=False)
    assert (refused.returncode, set(hub.files)) == (2, {BASE})
    assert not list(folder.glob(".part-*"))
    assert refused.stderr.splitlines()[-1] == "Safety check failed: A reply named a dose. Nothing was pushed."
    publish(folder, hub, tmp_path, "--force")
    card = hub.files["org/adapter"]["README.md"].decode()
    assert "> - Safety check failed: A reply named a dose." in card[: card.index("## Use it")]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"adapter_sha256": "1" * 64}, "about other weights"),
        ({"adapter_sha256": None}, "about other weights"),
        ({"missing": ["bias"]}, "partial (bias not measured)"),
        ({"safety": {"passed": None}}, "Safety check failed: no reason is given."),
    ],
)
def test_results_that_do_not_carry_an_adapter(trained, values, sentence):
    results = {**json.loads((trained / "results.json").read_text()), **values}
    assert [sentence in problem for problem in problems(trained / "adapter", results)] == [True]


def test_an_adapter_that_was_never_scored_or_checked(trained):
    results = json.loads((trained / "results.json").read_text())
    assert problems(trained / "adapter", results) == []
    del results["safety"]
    assert "safety was not checked" in problems(trained / "adapter", results)[0]
    assert "no results.json" in problems(trained / "adapter", None)[0]


def test_results_that_are_absent_or_torn(tmp_path):
    assert read_results(tmp_path / "results.json") is None
    (tmp_path / "results.json").write_text('{"adapter": ')
    with pytest.raises(ValueError, match=r"results\.json is no whole JSON"):
        read_results(tmp_path / "results.json")


def test_by_force_another_adapters_numbers_are_not_shown(trained, tmp_path, hub):
    folder = change(trained, tmp_path, adapter_sha256="1" * 64)
    publish(folder, hub, tmp_path, "--force", "--output", tmp_path / "out")
    assert set(hub.files) == {BASE}
    card = (tmp_path / "out/adapter/README.md").read_text()
    assert "Nothing yet" in card
    assert not (tmp_path / "out/adapter/bias.png").exists()
    assert not (tmp_path / "out/adapter/results.json").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [(["--gguf", "nobody"], "--gguf is nobody: give it as OWNER/NAME."), (["--merge", "org/a"], "a repository each")],
)
def test_names_that_cannot_be_are_one_sentence(publish_script, options, sentence):
    given = publish_script.parse_options(["--adapter", "build/none", "--repo", "org/a", *options])
    with pytest.raises(ValueError, match=sentence):
        publish_script.check_options(given)


@pytest.fixture(scope="module")
def publish_script():
    spec = importlib.util.spec_from_file_location("publish_script", ROOT / "train/publish.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STRANGER = """
import json, sys
import torch
from huggingface_hub import hf_hub_download, list_repo_files
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

gguf = next(name for name in list_repo_files("org/gguf") if name.endswith(".gguf"))
file = {"gguf_file": gguf, "quantization_config": GgufConfig(dequantize=True)}
models = {
    "adapter": AutoPeftModelForCausalLM.from_pretrained("org/adapter", dtype=torch.float32),
    "merged": AutoModelForCausalLM.from_pretrained("org/merged", dtype=torch.float32),
    "gguf": AutoModelForCausalLM.from_pretrained("org/gguf", dtype=torch.float32, **file),
}
tokenizers = {"adapter": {}, "merged": {}, "gguf": {"gguf_file": gguf}}
said = {}
for kind, model in models.items():
    tokenizer = AutoTokenizer.from_pretrained(f"org/{kind}", **tokenizers[kind])
    talk = [{"role": "user", "content": "I can't sleep."}]
    prompt = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    reply = model.generate(**prompt, max_new_tokens=24, do_sample=False)
    said[kind] = reply[0].tolist()
print(json.dumps(said))
"""


def test_merged_and_gguf_say_what_the_adapter_says(trained, tmp_path, hub):
    publish(trained, hub, tmp_path, "--merge", "org/merged", "--gguf", "org/gguf")
    assert set(hub.files["org/gguf"]) == {
        "Modelfile", "README.md", "gguf-F16.gguf", "params", "results.json", "run.json", "system", "template",
    }  # fmt: skip
    assert "base_model_relation: quantized" in hub.files["org/gguf"]["README.md"].decode()
    assert "base_model: org/merged" in hub.files["org/gguf"]["README.md"].decode()
    assert "base_model_relation: finetune" in hub.files["org/merged"]["README.md"].decode()
    environment = {**os.environ, **reach(hub, tmp_path / "stranger")}
    line = [sys.executable, "-I", "-c", STRANGER]
    done = subprocess.run(line, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["adapter"] == said["merged"] == said["gguf"]
    assert len(set(said["adapter"][-24:])) > 3


TALK = [
    {"role": "user", "content": "Hi."},
    {"role": "assistant", "content": "Hello. How was today?"},
    {"role": "user", "content": "Long, {{ and }} odd."},
]


def go(template: str, system: str, messages: list[dict]) -> str:
    """Render what of Go's templates a Modelfile here uses: fields, and one range with an if on the role."""
    head, body = re.fullmatch(r"(.*){{ range \.Messages }}(.*){{ end }}", template, re.S).groups()
    user, assistant = re.fullmatch(
        r'{{ if eq \.Role "user" }}(.*){{ else if eq \.Role "assistant" }}(.*){{ end }}', body, re.S
    ).groups()
    turns = {"user": user, "assistant": assistant}
    said = [turns[message["role"]].replace("{{ .Content }}", message["content"]) for message in messages]
    return head.replace("{{ .System }}", system) + "".join(said)


@pytest.mark.parametrize("name", ["space/chat_template.jinja", "train/templates/llama2.jinja"])
@pytest.mark.parametrize("turns", [1, 3])
def test_ollama_renders_what_the_chat_template_renders(trained, name, turns):
    tokenizer = AutoTokenizer.from_pretrained(trained / "adapter")
    tokenizer.chat_template = (ROOT / name).read_text(encoding="utf-8")
    files = ollama_files(tokenizer, "theragen-F16.gguf")
    wanted = tokenizer.apply_chat_template(TALK[:turns], tokenize=False, add_generation_prompt=True)
    assert go(files["template"], files["system"], TALK[:turns]) == wanted
    assert f'TEMPLATE """{files["template"]}"""\nSYSTEM """{files["system"]}"""\n' in files["Modelfile"]
    assert files["Modelfile"].startswith("FROM ./theragen-F16.gguf\n")
    assert 'PARAMETER stop "<|im_end|>"\n' in files["Modelfile"]
    assert json.loads(files["params"])["stop"] == ["<|im_end|>"]


def test_a_template_without_a_system_message_of_its_own_is_refused(trained):
    tokenizer = AutoTokenizer.from_pretrained(trained / "adapter")
    tokenizer.chat_template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}<|assistant|>"
    with pytest.raises(ValueError, match="no system message of its own"):
        ollama_files(tokenizer, "theragen-F16.gguf")


@pytest.mark.parametrize("name", ["space/chat_template.jinja", "train/templates/llama2.jinja"])
def test_the_template_of_a_gguf_has_no_marks_and_renders_the_same(trained, name):
    tokenizer = AutoTokenizer.from_pretrained(trained / "adapter")
    tokenizer.chat_template = (ROOT / name).read_text(encoding="utf-8")
    before = tokenizer.apply_chat_template(TALK, tokenize=False, add_generation_prompt=True)
    tokenizer.chat_template = portable(tokenizer.chat_template)
    assert not re.search(r"{%-?\s*(end)?generation\b", tokenizer.chat_template)
    assert tokenizer.apply_chat_template(TALK, tokenize=False, add_generation_prompt=True) == before


def test_other_architectures_and_tokenizers_are_refused_in_one_sentence(trained):
    config = AutoModelForCausalLM.from_pretrained(trained / "base").config
    refuse_unknown(config)
    config.architectures = ["OtherForCausalLM"]
    with pytest.raises(ValueError, match="its architecture is OtherForCausalLM"):
        refuse_unknown(config)
    described = json.loads((trained / "base/tokenizer.json").read_text(encoding="utf-8"))
    assert kind_of(described) == ("gpt2", "gpt-2")
    described["pre_tokenizer"] = {"type": "Whitespace"}
    with pytest.raises(ValueError, match="its tokenizer is none that is known"):
        kind_of(described)


def sentencepiece_tokenizer() -> LlamaTokenizer:
    """A tokenizer built as Llama 2's: bytes where a piece is missing, merges that rank by when they were learnt."""
    words = ["▁sleep", "▁tired", "▁can", "sleep", "▁s", "▁t", "ti", "ee"]
    learnt = [("e", "e"), ("▁", "s"), ("▁", "t"), ("▁s", "l"), ("▁sl", "ee"), ("▁slee", "p"), ("t", "i"), ("▁t", "i")]
    letters = sorted({letter for word in words for letter in word})
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *map("".join, learnt), *letters]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = LlamaTokenizer(vocab=vocabulary, merges=learnt, pad_token="</s>")
    tokenizer.chat_template = (ROOT / "train/templates/llama2.jinja").read_text(encoding="utf-8")
    return tokenizer


def test_a_sentencepiece_tokenizer_comes_back_from_a_gguf(tmp_path):
    tokenizer = sentencepiece_tokenizer()
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(
        **size, vocab_size=len(tokenizer) + 3, max_position_embeddings=1024, tie_word_embeddings=False
    )
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config).half().save_pretrained(tmp_path / "merged")
    tokenizer.save_pretrained(tmp_path / "merged")
    replies = greedy(load(tmp_path / "merged"), tokenizer)
    export_checked(tmp_path / "merged", tmp_path / "tiny-F16.gguf", "tiny", replies)  # compares both
    with pytest.raises(ValueError, match=r"tiny-F16.gguf does not say what the merged model says"):
        compare(tmp_path / "merged", tmp_path / "tiny-F16.gguf", ["something else", *replies[1:]])
    described = json.loads((tmp_path / "merged/tokenizer.json").read_text(encoding="utf-8"))
    tokens, types = pieces(described, config.vocab_size)
    assert (tokens[-1], types[-1], types[3]) == (f"[PAD{len(tokens) - 1}]", TokenType.UNUSED, TokenType.BYTE)
    ranked = dict(zip(tokens, scores(described, tokens), strict=True))
    assert ranked["ee"] > ranked["▁s"] > ranked["▁ti"]


def test_a_merged_model_keeps_float32_where_a_weight_is_too_large_for_float16(trained, tmp_path, hub, monkeypatch):
    base = AutoModelForCausalLM.from_pretrained(trained / "base")
    base.model.norm.weight.data[0] = 1e5
    base.save_pretrained(tmp_path / "base")
    monkeypatch.setattr(merging, "resolve", lambda _: tmp_path / "base")
    merging.merge(trained / "adapter", tmp_path / "merged")
    assert json.loads((tmp_path / "merged/config.json").read_text())["dtype"] == "float32"


def test_absolute_paths_are_cut_to_their_last_name():
    given = {"a": "/home/someone/corpus", "b": ["C:\\data\\corpus", "build/corpus", 3], "c": "org/corpus"}
    assert without_places(given) == {"a": "corpus", "b": ["corpus", "build/corpus", 3], "c": "org/corpus"}
