"""Which checkpoint to go on from, and whether a folder belongs to this run."""

import json
import shutil
from pathlib import Path

from run_record import write_json


def find_checkpoint(folder: Path, inputs: dict, resume: bool, overwrite: bool) -> str | None:
    """Return the newest whole checkpoint of a run of these inputs in `folder`, or None to begin anew.

    Raises ValueError when the folder holds a run that nobody asked to go on with or to replace. A checkpoint that was
    being written when its process ended is removed.
    """
    note, finished = folder / "inputs.json", (folder / "run.json").is_file()
    checkpoints = whole_checkpoints(folder)
    same = note.is_file() and json.loads(note.read_text()) == inputs
    if not same and (checkpoints or finished):
        if not overwrite:
            raise ValueError(
                f"{folder} holds a run of other data or settings: choose another --output_dir, or add --overwrite."
            )
        clear(folder)
        checkpoints = []
    if checkpoints and not resume:
        if not overwrite:
            raise ValueError(f"{folder} holds an unfinished run: add --resume to go on, or --overwrite to start anew.")
        clear(folder)
        checkpoints = []
    folder.mkdir(parents=True, exist_ok=True)
    write_json(note, inputs)
    return str(checkpoints[-1]) if checkpoints else None


def whole_checkpoints(folder: Path) -> list[Path]:
    """Return the whole checkpoints, oldest first, and remove the others: their last file, the state, is not there."""
    whole = []
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2])):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text())
            whole.append(checkpoint)
        except (OSError, ValueError):
            shutil.rmtree(checkpoint)
    return whole


def clear(folder: Path) -> None:
    """Forget a run: its checkpoints, and run.json, whose presence would call what follows complete."""
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    (folder / "run.json").unlink(missing_ok=True)
