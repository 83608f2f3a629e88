"""The words of the page around the conversation, in its languages: interface.json, skills.json, checkins.json, directories.json.

The page gets what it needs of one language at a time, and every country's help lines with it, so that changing the country
or opening an exercise asks the server for nothing. A broken file costs what stands in it, never the page.
"""

import json
import re
from functools import cache
from pathlib import Path

import helplines
from texts import text


HERE = Path(__file__).parent


def loaded(name: str) -> dict:
    try:
        found = json.loads((HERE / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@cache
def languages() -> dict[str, dict]:
    """Return {code: {"name", "dir", "texts"}}, English first."""
    return loaded("interface.json").get("languages", {})


def word(name: str, language: str = "en", **slots: str) -> str:
    """Return one of the page's texts, in English where a language lacks it; its name where it is nowhere."""
    for code in (language, "en"):
        try:
            return languages()[code]["texts"][name].format(**slots)
        except (KeyError, IndexError):
            continue
    return name


def language_for(accepted: str) -> str:
    """Return the first of ours that an Accept-Language header asks for.

    >>> language_for("gsw, pt-BR;q=0.9, en;q=0.8")
    'pt'
    """
    weighted = []
    for part in accepted[:200].split(","):
        found = re.fullmatch(r"\s*([a-zA-Z]{2,3})(?:-[\w-]+)?\s*(?:;\s*q=([01](?:\.\d{0,3})?)\s*)?", part)
        if found and found[1].lower() in languages() and float(found[2] or 1):
            weighted.append((float(found[2] or 1), found[1].lower()))
    return max(weighted, key=lambda pair: pair[0])[1] if weighted else "en"


@cache
def for_browser(language: str) -> bytes:
    """Return everything the page shows in one language, as JSON: see browser/core.js for how it is used."""
    chosen = languages().get(language, {"name": "English", "dir": "ltr", "texts": {}})
    countries = [*helplines.countries(), helplines.ANYWHERE]
    shown = {
        "language": language,
        "dir": chosen["dir"],
        "languages": {code: entry["name"] for code, entry in languages().items()},
        "texts": {
            **languages().get("en", {"texts": {}})["texts"],
            **chosen["texts"],
            **{name: text(name, language) for name in ("banner", "unsent")},
        },
        "bars": {code: helplines.bar_html(code, language) for code in countries},
        "zones": helplines.zones(),
        "skills": [in_language(skill, language) for skill in loaded("skills.json").get("skills", [])],
        "checkins": in_language(loaded("checkins.json"), language),
        "directories": in_language(loaded("directories.json").get("countries", {}), language),
    }
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode()


def exercises() -> list[str]:
    """The English titles of the exercises that a model may name in an ordinary talk."""
    return [
        skill["texts"]["en"]["title"]
        for skill in loaded("skills.json").get("skills", [])
        if skill["up_to"] == "distress"
    ]


def in_language(entry, language: str):
    """Return the same data with every {"en": ..., "es": ...} replaced by what it holds for `language`, or for English.

    Two kinds stay whole: an instrument's `wordings`, which may be used only where they are the published ones, and what has no English.
    """
    if isinstance(entry, list):
        return [in_language(part, language) for part in entry]
    if not isinstance(entry, dict):
        return entry
    if "en" in entry and set(entry) <= set(languages()):
        return entry.get(language, entry["en"])
    return {key: value if key == "wordings" else in_language(value, language) for key, value in entry.items()}
