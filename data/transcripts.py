"""Read counselling transcripts: who says what, line by line, as conversations of client and counsellor."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from recipe import Source
from rows import BadInput, Reject, Row
from tables import NO_RECORD, is_whole


ROLES = {
    **dict.fromkeys(("client", "usr"), "user"),
    **dict.fromkeys(("therapist", "counselor", "counsellor", "sys"), "assistant"),
}


def read_annomi(source: Source, files: list[Path], folder: Path) -> Iterator[Row | Reject]:
    """Yield each transcript of AnnoMI (Wu et al. 2022) as one conversation; those rated low are shown-off mistakes.

    An utterance stands there once for each of its annotators, and counts once.
    """
    for file in files:
        with file.open(encoding="utf-8", newline="") as opened:
            table = csv.DictReader(opened)
            needed = {"transcript_id", "mi_quality", "topic", "utterance_id", "interlocutor", "utterance_text"}
            missing = sorted(needed - set(table.fieldnames or ()))
            if missing:
                raise BadInput(f"Source {source.name}: {file} lacks the column {missing[0]}. Has its schema changed?")
            transcripts: dict[str, dict[int, dict]] = {}
            torn: set[str] = set()
            for number, record in enumerate(table, 1):
                if not (
                    is_whole(record) and record["utterance_id"].isdigit() and record["interlocutor"].lower() in ROLES
                ):
                    torn.add(record["transcript_id"])
                    yield Reject(source.name, f"{file.relative_to(folder)}:row {number}", NO_RECORD, "")
                    continue
                transcripts.setdefault(record["transcript_id"], {})[int(record["utterance_id"])] = record
        for name, utterances in transcripts.items():
            spoken = [utterances[number] for number in sorted(utterances)]
            where = f"{file.relative_to(folder)}:transcript {name}"
            turns = [(record["interlocutor"], record["utterance_text"]) for record in spoken]
            low = spoken[0]["mi_quality"] != "high"
            if low or name in torn:
                reason = "a transcript that shows how not to do it" if low else "a transcript that lacks a line"
                yield Reject(source.name, where, reason, "\n".join(text for _, text in turns))
                continue
            yield Row(source.name, where, as_messages(turns), spoken[0]["topic"], f"{source.name}:{name}")


def read_sessions(source: Source, files: list[Path], folder: Path) -> Iterator[Row]:
    """Yield each text file as one conversation; its header, which names a clinician, and notes in brackets are left out."""
    for file in files:
        text = file.read_text(encoding="utf-8")
        spoken = re.findall(r"(?m)^(\w+):[ \t]*(.+(?:\n(?!\w+:|---|\[).+)*)", text.split("TRANSCRIPT", 1)[-1])
        turns = [(who, " ".join(said.split())) for who, said in spoken if who.lower() in ROLES]
        where = str(file.relative_to(folder))
        yield Row(source.name, f"{where}:1", as_messages(turns), None, f"{source.name}:{where}")


def as_messages(turns: list[tuple[str, str]]) -> list[dict]:
    """Join what one speaker says in a row; begin with who seeks help, whom a greeting does not answer, and end with a reply."""
    messages: list[dict] = []
    for speaker, text in turns:
        role, text = ROLES[speaker.lower()], text.strip()
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += f" {text}"
        elif messages or role == "user":
            messages.append({"role": role, "content": text})
    return messages[:-1] if messages and messages[-1]["role"] == "user" else messages
