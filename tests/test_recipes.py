"""Every recipe is read and run for two steps on a tiny base of its architecture; what cannot run is one sentence."""

import pytest
import torch
from transformers import AutoTokenizer

from arguments import parse
from base_model import TEMPLATE
from conftest import ROOT
from sft import build_trainer, load_rows
from tiny import make_base


RECIPES = sorted((ROOT / "train/recipes").glob("*.yaml"))
ON_CPU = ["--use_cpu", "true", "--bf16", "false", "--fp16", "false"]
SHORT = ["--max_steps", "2", "--gradient_accumulation_steps", "1", "--eval_steps", "1", "--save_steps", "2"]


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A tiny Llama of sixteen layers, which is what the paper unfreezes."""
    return make_base(tmp_path_factory.mktemp("deep"), num_hidden_layers=16, hidden_size=64)


@pytest.mark.parametrize("recipe", [r for r in RECIPES if "search" not in r.name], ids=lambda recipe: recipe.stem)
def test_a_recipe_trains_two_steps(recipe, deep, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    corpus = tiny[tiny.index("--dataset_name") + 1]
    where = ["--model_name_or_path", str(deep), "--base_id", "tests/deep", "--dataset_name", corpus]
    small = ["--dtype", "float32", "--output_dir", str(tmp_path), "--scenarios", "0", "--curves", "0"]
    script, training, model_args = parse(["--config", str(recipe), *where, *small, *SHORT, *ON_CPU])
    trainer = build_trainer(script, training, model_args, *load_rows(script, training))
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}
    trainer.train()
    moved = [n for n, p in trainer.model.named_parameters() if n in before and not torch.equal(p, before[n])]
    learning = 8 if script.unfreeze else 16
    assert len({name.split(".layers.")[1].split(".")[0] for name in moved}) == learning
    if model_args.load_in_4bit:
        assert trainer.model.get_base_model().model.layers[0].mlp.up_proj.weight.dtype == torch.uint8


def test_both_templates_say_the_same_to_the_model():
    llama = (ROOT / "train/templates/llama2.jinja").read_text(encoding="utf-8")
    system = TEMPLATE.read_text(encoding="utf-8").split("system\\n")[1].split("<|im_end|>")[0]
    assert len(system) > 100 and system in llama


def test_the_llama_template_marks_each_reply_and_its_end(deep):
    tokenizer = AutoTokenizer.from_pretrained(deep)
    tokenizer.chat_template = (ROOT / "train/templates/llama2.jinja").read_text(encoding="utf-8")
    tokenizer.bos_token, tokenizer.eos_token = "<|im_start|>", "<|im_end|>"
    turns = [("user", "hello"), ("assistant", "Hi."), ("user", "I can't sleep"), ("assistant", "Since when?")]
    messages = [{"role": role, "content": content} for role, content in turns]
    row = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    spoken = [token for token, mask in zip(row["input_ids"], row["assistant_masks"], strict=True) if mask]
    assert tokenizer.decode(spoken) == " Hi. <|im_end|> Since when? <|im_end|>"
    whole = tokenizer.decode(row["input_ids"])
    assert whole.count("<<SYS>>") == 1 and "<|im_start|>[INST] I can't sleep [/INST]" in whole
