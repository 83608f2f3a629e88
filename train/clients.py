"""The people of a simulated conversation, and what says their next words: their script, or a model in their place."""

import csv
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import yaml

from endpoint import Endpoint, ask
from readable import as_text, questions_in


PEOPLE = Path(__file__).with_name("clients.yaml")
KEY = "THERAGEN_PLAYER_KEY"  # the environment variable a playing model's key is read from
CALM = ("none", "distress")
DANGER = ("risk", "imminent", "other", "psychosis", "eating", "abuse")
FIELDS = {"id", "age", "culture", "register", "situation", "risk", "country", "messages"}
MARKS = {"say", "if_asked", "danger", "asks"}
# What a persona's table must have beside whatever else it has; VERA-MH's has both.
COLUMNS = ("Name", "Current Risk Level")
# Its levels: a person of low risk may never say a word of it, so that neither a card nor its absence is wrong.
LEVELS = {"none": "none", "low": "low", "moderate": "risk", "high": "risk", "imminent": "imminent"}
COUNTRY = "US"  # of people in a table, which names none
END = "[END]"
MAX_TOKENS = 200
Player = Callable[[list[dict]], dict | None]  # the history so far -> the next message, or None when they have left


@cache
def ours() -> dict:
    return yaml.safe_load(PEOPLE.read_text(encoding="utf-8"))


@cache
def patterns(part: str) -> dict[str, re.Pattern]:
    """Return `asked` or `offered` of clients.yaml, compiled."""
    return {name: re.compile("|".join(found)) for name, found in ours()[part].items()}


def topics_asked(reply: str) -> set[str]:
    """Return what a reply asks about, by the names of `asked` in clients.yaml."""
    questions = [question.lower() for question in questions_in(reply)]
    return {name for name, pattern in patterns("asked").items() if any(map(pattern.search, questions))}


def load_people(file: Path = PEOPLE) -> list[dict]:
    """Return the scripted people, each message as a mapping; raises ValueError naming what is wrong with whom."""
    try:
        people = yaml.safe_load(file.read_text(encoding="utf-8"))["people"]
        people = [{**person, "messages": [*map(marked, person["messages"])]} for person in people]
    except (yaml.YAMLError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{file} is no file of scripted people: see the head of train/clients.yaml.") from error
    for person in people:
        if fault := fault_of(person):
            raise ValueError(f"{file}: {person.get('id', 'a person without id')} {fault}.")
    if len({person["id"] for person in people}) < len(people) or not people:
        raise ValueError(f"{file}: people need an id each, no two the same.")
    return people


def marked(message: str | dict) -> dict:
    return {"say": message} if isinstance(message, str) else dict(message)


def fault_of(person: dict) -> str:
    messages = person["messages"]
    topics = set(patterns("asked"))
    dangerous = any(message.get("danger") for message in messages)
    faults = {
        f"needs the fields {', '.join(sorted(FIELDS))} and no other": set(person) != FIELDS,
        f"has a risk that is none of {', '.join(CALM + DANGER)}": person.get("risk") not in CALM + DANGER,
        "has a country that is no code of two letters (write NO in quotes)": not isinstance(
            person.get("country"), str
        ),
        "has a message with something other than say, if_asked, danger and asks": any(
            not set(message) <= MARKS or not str(message.get("say", "")).strip() for message in messages
        ),
        f"waits for a question that is none of {', '.join(sorted(topics))}": any(
            message.get("if_asked", "safety") not in topics for message in messages
        ),
        "has nothing to say unasked": all("if_asked" in message for message in messages),
        "is in danger and never says so, or says so without being in danger": dangerous
        == (person.get("risk") in CALM),
    }
    return next((fault for fault, found in faults.items() if found), "")


def load_table(file: Path) -> list[dict]:
    """Return people for a model to play, from tab-separated columns; all columns but empty ones go into the prompt."""
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines, delimiter="\t"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file} is no table of tab-separated columns in UTF-8.") from error
    if not rows or any(not row.get(column) for row in rows for column in COLUMNS):
        raise ValueError(f"{file} needs the columns {' and '.join(COLUMNS)}, filled in every row.")
    return [person_of(row, file) for row in rows]


def person_of(row: dict, file: Path) -> dict:
    level = row["Current Risk Level"].strip().lower()
    if level not in LEVELS:
        raise ValueError(f"{file}: {row['Name']} has the risk level {level}, not one of {', '.join(LEVELS)}.")
    persona = "\n".join(f"{name}: {value.strip()}" for name, value in row.items() if name and value and value.strip())
    return {"id": row["Name"].strip(), "risk": LEVELS[level], "country": COUNTRY, "persona": persona}


def scripted(person: dict) -> Player:
    """Say the person's messages in order; one that waits for a question is said when that was just asked."""
    left = list(person["messages"])

    def next_message(history: list[dict]) -> dict | None:
        asked = topics_asked(as_text(history[-1])) if history else set()
        waited = (message for message in left if message.get("if_asked") in asked)
        unasked = (message for message in left if "if_asked" not in message)
        message = next(waited, None) or next(unasked, None)
        if message:
            left.remove(message)
        return message

    return next_message


def played_by(endpoint: Endpoint, person: dict) -> Player:
    """Let a model write the person's messages: to it the chatbot is the user, and itself the one who answers."""
    instruction = ours()["play"].format(persona=person["persona"], end=END)

    def next_message(history: list[dict]) -> dict | None:
        turns = [{"role": "system", "content": instruction}, {"role": "user", "content": "(The chat is open.)"}]
        turns += [
            {"role": "assistant" if entry["role"] == "user" else "user", "content": as_text(entry)}
            for entry in history
        ]
        said = ask(endpoint, turns, MAX_TOKENS)
        return None if END in said else {"say": said}

    return next_message
