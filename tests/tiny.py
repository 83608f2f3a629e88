"""A base of four layers and a corpus of a few dialogues, made in seconds: what training tests run on, hub or no hub."""

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from conftest import ROOT


# At this size threads do nothing but wait for each other, on a busy machine ten times as long as they work.
torch.set_num_threads(1)


def dialogues() -> list[dict]:
    """Return our own dialogues as rows, in their files' order."""
    files = sorted((ROOT / "data/dialogues").glob("*.jsonl"))
    rows = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [{"id": row["id"], "group": row["id"], "messages": row["messages"]} for row in rows]


def make_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet)
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", bos_token="<|im_start|>"
    )
    wrapped.chat_template = (ROOT / "space/chat_template.jinja").read_text(encoding="utf-8")
    return wrapped


def make_base(folder: Path, config_class=LlamaConfig, **values) -> Path:
    """Save a random model of an architecture, with tokenizer and template, where from_pretrained finds it."""
    texts = [message["content"] for row in dialogues()[:60] for message in row["messages"]]
    tokenizer = make_tokenizer(texts)
    torch.manual_seed(7)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    config = config_class(
        **{**size, **heads, **values},
        vocab_size=len(tokenizer),
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_corpus(folder: Path, train: int = 24, validation: int = 8) -> Path:
    rows = dialogues()[: train + validation]
    (folder / "data").mkdir(parents=True)
    Dataset.from_list(rows[:train]).to_parquet(folder / "data/train-0.parquet")
    Dataset.from_list(rows[train:]).to_parquet(folder / "data/validation-0.parquet")
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> list[str]:
    """Return the arguments by which train/sft.py takes the tiny base and corpus, in float32, reporting to nobody."""
    folder = tmp_path_factory.mktemp("tiny")
    base, corpus = make_base(folder / "base"), make_corpus(folder / "corpus")
    return [
        *("--model_name_or_path", str(base), "--base_id", "tests/tiny", "--dataset_name", str(corpus)),
        *("--dtype", "float32", "--use_peft", "true", "--lora_r", "4", "--lora_target_modules", "all-linear"),
        *("--assistant_only_loss", "true", "--use_cpu", "true", "--report_to", "none", "--seed", "20"),
        *("--activation_checkpointing", "false", "--max_length", "512", "--logging_steps", "1"),
        *("--bf16", "false", "--learning_rate", "1e-2", "--lora_dropout", "0", "--per_device_train_batch_size", "2"),
    ]
