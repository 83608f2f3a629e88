"""Files that are whole or absent, written under another name and then renamed; and what they hold, as a hash."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path


def sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def write(file: Path, save: Callable[[Path], object]) -> None:
    """Let `save` write to a name beside the file, and give it the file's name when all of it is there."""
    part = file.with_suffix(".part")
    save(part)
    part.replace(file)


def write_text(file: Path, text: str) -> None:
    write(file, lambda part: part.write_text(text, encoding="utf-8"))


def write_json(file: Path, content: dict) -> None:
    write_text(file, json.dumps(content, indent=2) + "\n")


def write_lines(file: Path, records: list) -> None:
    """Write a line of JSON for each record."""
    write_text(file, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def read_lines(file: Path) -> list:
    if not file.is_file():
        return []
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
