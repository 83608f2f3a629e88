"""The fixed texts a person may read: replies.json in English, replies.es.json and so on in other languages.

A broken file must not leave anyone with an empty page, so every fault ends in a short text with help in it.
"""

import json
from functools import cache
from pathlib import Path


DATA = Path(__file__).with_name("replies.json")
LAST_RESORT = (
    "I'm an AI and something is not working on my side. If you are in danger, please call your local emergency "
    "number. In the United States, call or text 988. Elsewhere, find a line at https://findahelpline.com."
)


@cache
def _texts(language: str) -> dict[str, str]:
    file = DATA if language == "en" else DATA.with_name(f"replies.{language}.json")
    return {name: entry["text"] for name, entry in json.loads(file.read_text(encoding="utf-8"))["texts"].items()}


def text(name: str, language: str = "en", **slots: str) -> str:
    """Return a fixed text with its slots filled: `text("no_model", reason=..., helplines=...)`.

    What a language lacks comes in English. Any other fault (no file, no such text, a slot left out) gives a minimal text
    with help instead of an exception.
    """
    try:
        return _texts(language)[name].format(**slots)
    except Exception:
        return LAST_RESORT if language == "en" else text(name, **slots)


@cache
def languages() -> set[str]:
    """The languages that have texts of their own."""
    return {"en", *(file.name.split(".")[1] for file in DATA.parent.glob("replies.*.json"))}
