"""The folder that OpenVINO reads: model.gguf, tokenizer.json, chat_template.jinja and facts.json, made once.

In float16: with it the likeliest replies are transformers' own, token for token. The embedded base's Q4_1 file is read with
its offsets rounded and says something else from the first word on; bfloat16 and float32 are not read, nor is an adapter.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from base_model import BaseUnavailable, cache_folder, rename_unless_there, resolve


RECIPE = "1"  # another one makes all folders anew
FILES = ["*.json", "*.jinja", "*.model", "*.safetensors", "*.txt"]
BELOW = ["*/*"]  # checkpoints and the like


def local(name: str, revision: str) -> Path:
    """Return the folder of an adapter or a base, fetched from the Hub if it is not here; raises OSError or ValueError."""
    from huggingface_hub import snapshot_download

    if Path(name).is_dir():
        return Path(name)
    return Path(snapshot_download(name, revision=revision or None, allow_patterns=FILES, ignore_patterns=BELOW))


def revision_of(adapter: Path | None, revision: str) -> str:
    """Return the base's revision: the one that an adapter was trained on, else the one that is set."""
    if not adapter:
        return revision or "main"
    return json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8")).get("revision") or "main"


def folder_of_model(base: str, adapter: Path | None, revision: str) -> Path:
    """Return the folder of a base with its adapter merged in, or of a base alone."""
    source = local(resolve(base), revision_of(adapter, revision))
    key = fingerprint(RECIPE, source.name, *fingerprints(source), *(fingerprints(adapter) if adapter else ()))
    return made(key, lambda folder: convert(source, adapter, base, folder))


def folder_of_file(gguf: str) -> Path:
    """Return the folder of a GGUF, which is a file here or owner/repo/file.gguf on the Hub; raises `BaseUnavailable`."""
    from huggingface_hub import hf_hub_download

    file = Path(gguf)
    if not file.is_file():
        repo, _, name = gguf.rpartition("/")
        try:
            file = Path(hf_hub_download(repo, name))
        except (OSError, ValueError) as error:
            raise BaseUnavailable(f"there is no {file.name} here nor on the Hub; check THERAGEN_GGUF") from error
    facts = file.stat()
    return made(fingerprint(RECIPE, file.name, facts.st_size, facts.st_mtime_ns), lambda folder: take(file, folder))


def made(key: str, make: Callable[[Path], None]) -> Path:
    folder = cache_folder() / "gguf" / key
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=folder.parent) as work:
            part = Path(work) / "made"
            part.mkdir()
            make(part)
            rename_unless_there(part, folder)
    return folder


def convert(source: Path, adapter: Path | None, name: str, folder: Path) -> None:
    """Add the adapter up in float32 and write float16; raises ValueError where that is too small for a weight."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from gguf_export import export

    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    if adapter:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    largest = max(weight.abs().max().item() for weight in model.parameters())
    if not largest <= torch.finfo(torch.float16).max:
        raise ValueError(f"A weight is {largest:.0f}, too large for float16: set THERAGEN_ENGINE=transformers.")
    tokenizer = AutoTokenizer.from_pretrained(adapter or source)
    describe(tokenizer, model.config.max_position_embeddings, model.generation_config.eos_token_id, folder)
    export(model.half(), folder, folder / "model.gguf", name.rpartition("/")[2])


def take(file: Path, folder: Path) -> None:
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    describe(tokenizer, config.max_position_embeddings, config.eos_token_id, folder)
    (folder / "model.gguf").symlink_to(file.resolve())


def describe(tokenizer, window: int, ends: int | list[int] | None, folder: Path) -> None:
    """Write what turns messages into ids, how many fit, and what ends a reply."""
    from gguf_export import portable

    tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(portable(tokenizer.chat_template), encoding="utf-8")
    ends = sorted(ends_of(tokenizer.eos_token_id, ends))
    facts = {"window": window, "ends": ends, "tokens": tokenizer.special_tokens_map}
    (folder / "facts.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")


def ends_of(*ids: int | list[int] | None) -> set[int]:
    """Return the tokens that end a reply, of which a tokenizer knows one and a model sometimes several."""
    return {end for some in ids for end in (some if isinstance(some, list) else [some]) if end is not None}


def fingerprints(folder: Path) -> list[str]:
    """Small files by what they hold, the base's weights by name, size and time: gigabytes take too long to read."""
    files = sorted(file for pattern in FILES for file in folder.glob(pattern))
    return [fingerprint(file.name, file.read_bytes() if is_small(file) else file.stat().st_mtime_ns) for file in files]


def is_small(file: Path) -> bool:
    return file.stat().st_size < 100_000_000


def fingerprint(*parts: object) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else f"{part}\n".encode())
    return digest.hexdigest()[:24]
