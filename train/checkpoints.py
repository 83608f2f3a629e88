"""Which checkpoint to go on from, and whether a folder belongs to this run."""

import json
import shutil
from pathlib import Path

from files import write_json


STATE = "trainer_state.json"  # the last file that transformers writes into a checkpoint


def find_checkpoint(folder: Path, inputs: dict, resume: bool, overwrite: bool) -> str | None:
    """Return the newest whole checkpoint of a run of these inputs in `folder`, or None to begin anew.

    Raises ValueError when the folder holds a run that nobody asked to go on with or to replace, and leaves it as it
    was. A checkpoint that was being written when its process ended is removed.
    """
    whole, finished = whole_checkpoints(folder), is_finished(folder)
    same = is_run_of(folder, inputs)
    if (whole or finished) and not (same and resume and not finished):
        if not overwrite:
            raise ValueError(refusal(folder, same, finished))
        clear(folder)
        whole = []
    for torn in set(folder.glob("checkpoint-*")) - set(whole):
        shutil.rmtree(torn)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "inputs.json", inputs)
    return str(whole[-1]) if whole else None


def refusal(folder: Path, same: bool, finished: bool) -> str:
    if not same:
        return f"{folder} holds a run of other data or settings: choose another --output_dir, or add --overwrite."
    if finished:
        return f"{folder} holds this run, finished: add --overwrite to train it again."
    return f"{folder} holds an unfinished run: add --resume to go on, or --overwrite to start anew."


def is_run_of(folder: Path, inputs: dict) -> bool:
    note = folder / "inputs.json"
    return note.is_file() and json.loads(note.read_text()) == inputs


def is_finished(folder: Path) -> bool:
    """Say whether a run ended: run.json is there, and the checkpoints, which go last, are not."""
    return (folder / "run.json").is_file() and not whole_checkpoints(folder)


def whole_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints whose writing ended, oldest first."""
    return sorted(filter(is_whole, folder.glob("checkpoint-*")), key=lambda path: int(path.name.rpartition("-")[2]))


def is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / STATE).read_text())
    except (OSError, ValueError):
        return False
    return True


def remove_checkpoints(folder: Path) -> None:
    for checkpoint in folder.glob("checkpoint-*"):
        (checkpoint / STATE).unlink(missing_ok=True)  # first: what is left of it must not pass for a whole one
        shutil.rmtree(checkpoint)


def clear(folder: Path) -> None:
    """Forget a run: its checkpoints, and run.json, whose presence would call what follows complete."""
    (folder / "run.json").unlink(missing_ok=True)
    remove_checkpoints(folder)
