"""What of a training folder may leave this machine, and what must hold before it does."""

import json
import re
import shutil
from pathlib import Path

from huggingface_hub.utils import HFValidationError, validate_repo_id

from files import sha256
from report import write_plots


# Only these files leave the machine: samples, replies and checkpoints beside them hold what people wrote, or much of it.
WEIGHTS = ("adapter_model.safetensors", "adapter_config.json")
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
)
CURVES = "curves.png"


def read_results(file: Path) -> dict | None:
    """Return what train/score.py wrote, or None where it wrote nothing; raises ValueError when it cannot be read."""
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    except ValueError as error:
        raise ValueError(f"{file} is no whole JSON: run python train/score.py again.") from error


def problems(adapter: Path, results: dict | None) -> list[str]:
    """Return what speaks against publishing an adapter with these results, one sentence each."""
    if results is None:
        return ["It has no results.json: run python train/score.py on it first."]
    if not belongs(adapter, results):
        return [
            "Its results.json is about other weights, or does not say about which: run python train/score.py again."
        ]
    found = []
    if missing := results.get("missing"):
        found.append(
            f"Its results are partial ({', '.join(missing)} not measured): run python train/score.py to the end."
        )
    safety = results.get("safety", {})
    if "safety" not in results:
        found.append("Its safety was not checked: run python train/score.py with the scenarios.")
    elif safety.get("passed") is not True:
        found += [f"Safety check failed: {failure}" for failure in safety.get("failures") or ["no reason is given."]]
    return found


def belongs(adapter: Path, results: dict) -> bool:
    return results.get("adapter_sha256") == sha256(adapter / WEIGHTS[0])


def check_adapter(adapter: Path) -> None:
    """Raise ValueError unless the folder holds a finished run whose base a stranger can load by its id."""
    for name in (*WEIGHTS, *TOKENIZER[:3], "run.json"):
        if not (adapter / name).is_file():
            raise ValueError(f"There is no {name} in {adapter}: give the folder of a run that train/sft.py finished.")
    base = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    if not is_hub_id(base):
        raise ValueError(
            f"The adapter names {base} as its base, which strangers cannot load: train it with --base_id."
        )


def is_hub_id(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return name.count("/") == 1 and not Path(name).is_dir()


def stage(adapter: Path, results: dict, folder: Path) -> tuple[dict, dict]:
    """Copy what may be published of weights and tokenizer, and return run and results without places of this machine."""
    folder.mkdir()
    for name in (*WEIGHTS, *TOKENIZER):
        if (adapter / name).is_file():
            shutil.copyfile(adapter / name, folder / name)
    forget_origin(folder / "tokenizer_config.json")
    return without_places(json.loads((adapter / "run.json").read_text(encoding="utf-8"))), without_places(results)


def stage_plots(adapter: Path, folder: Path, results: dict) -> tuple[str, ...]:
    """Copy the curves of training and draw the scores, both of numbers alone (report.html quotes people); return names."""
    if (adapter / CURVES).is_file():
        shutil.copyfile(adapter / CURVES, folder / CURVES)
    write_plots(folder, results)
    return tuple(sorted(file.name for file in folder.glob("*.png")))


def forget_origin(config: Path) -> None:
    """Drop what a tokenizer remembers of having been read from a folder of this machine."""
    kept = {
        key: value
        for key, value in json.loads(config.read_text()).items()
        if not key.endswith(("local", "local_files_only"))
    }
    config.write_text(json.dumps(without_places(kept), indent=2) + "\n", encoding="utf-8")


def without_places(value):
    """Return a value in which each absolute path of this machine is cut down to its last name."""
    if isinstance(value, dict):
        return {key: without_places(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_places(one) for one in value]
    if isinstance(value, str) and re.match(r"([/~]|[A-Za-z]:[\\/])", value):
        return re.split(r"[\\/]", value.rstrip("\\/"))[-1]
    return value
