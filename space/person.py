"""What a person may choose for themselves: it lives in their browser and travels with each message.

Nothing of it is kept here, and nothing of it is trusted: of the closed choices only known values count, and their own words become
turns of theirs, so that they are screened and read by the model like anything else they write.
"""

from collections.abc import Mapping
from typing import NamedTuple

import helplines
from texts import languages


LONGEST = {"name": 40, "context": 600}  # characters
ASKED = {
    "short": "Please keep your replies short, two or three sentences.",
    "full": "Your replies may be a little longer.",
    "listen": "Mostly listen, without advice.",
    "explore": "Help me explore with open questions.",
    "practical": "Help me find small practical steps.",
}
PACES, STYLES = ("short", "full"), ("listen", "explore", "practical")
# Named in English, since so is the sentence they stand in.
SPOKEN = {
    "es": "Spanish",
    "fr": "French",
    "de": "German",
    "pt": "Portuguese",
    "hi": "Hindi",
    "ar": "Arabic",
    "zh": "Chinese",
}


class Person(NamedTuple):
    country: str = helplines.ANYWHERE
    language: str = "en"  # of the page; fixed texts come in it
    pace: str = ""
    style: str = ""
    name: str = ""
    context: str = ""


def read(sent) -> Person:
    """Return what a browser sent, with whatever is unknown or no text left out; never raises."""
    sent = sent if isinstance(sent, Mapping) else {}

    def one_of(name: str, known, default: str) -> str:
        return sent[name] if isinstance(sent.get(name), str) and sent[name] in known else default

    def words(name: str) -> str:
        return " ".join(sent[name].split())[: LONGEST[name]] if isinstance(sent.get(name), str) else ""

    country = sent.get("country")
    return Person(
        country if isinstance(country, str) else helplines.ANYWHERE,  # helplines answers any
        one_of("language", languages(), "en"),
        one_of("pace", PACES, ""),
        one_of("style", STYLES, ""),
        words("name"),
        words("context"),
    )


def wishes(person: Person, written: tuple[str, ...] = ("en",), exercises: tuple[str, ...] = ()) -> str:
    """What the person chose from closed lists, as sentences for the model; empty when nothing was chosen.

    `written` are the languages that the model writes well enough to be asked for them. `exercises` are named to the model only
    where the person wants practical steps.
    """
    sentences = [ASKED[choice] for choice in (person.pace, person.style) if choice]
    if person.style == "practical" and exercises:
        sentences.append(f"If one fits, name one of these exercises: {', '.join(exercises)}.")
    if person.language in SPOKEN and person.language in written:
        sentences.append(f"Please write in {SPOKEN[person.language]}.")
    return " ".join(sentences)


def introduced(history: list[dict], person: Person) -> list[dict]:
    """Return the conversation with what the person says of themselves before all other turns.

    Each is a turn of its own, so that what they write now is screened alone; for the model, turns that follow each other are one.
    """
    said = [f"Call me {person.name}."] if person.name else []
    said += [f"About me: {person.context}"] if person.context else []
    return [*({"role": "user", "content": words} for words in said), *history]
