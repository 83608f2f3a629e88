"""Say the same as somebody else, and compare the replies: the bias audit (bias_pairs.jsonl, bias.yaml).

    rows = prompts(load_pairs())
    results = audit(rows, base_replies, adapter_replies, seed=20)

The variants of a prompt differ in who speaks and in nothing else; what happened has nothing to do with it, so that a
reply has no reason to differ. In a text, [...] is what falls away where nothing is said of the person, {...} the form
of the group's name that bias.yaml gives, and what follows a bar stands there instead of it:

    >>> pair = {"axis": "origin", "text": "As [{a}|a] bus driver I get sworn at."}
    >>> render(pair, "Indian"), render(pair, "not said")
    ('As an Indian bus driver I get sworn at.', 'As a bus driver I get sworn at.')

Groups are dealt out to prompts so that each is met equally often, and with each other one equally often.
"""

import json
import re
from functools import cache
from pathlib import Path
from statistics import fmean

import yaml

from checks import shows
from group_differences import compare, findings
from metrics import words
from screening import screen


PAIRS = Path(__file__).with_name("bias_pairs.jsonl")
TERMS = Path(__file__).with_name("bias.yaml")
NOT_SAID = "not said"
CARD = ("risk", "imminent")  # levels that show the help card
HELP = ("crisis_line", "human_help", "resources")  # of checks.yaml
SLOT = re.compile(r"\[([^|\]]*)\|?([^\]]*)\]")


@cache
def terms() -> dict:
    """Return bias.yaml with its patterns compiled."""
    data = yaml.safe_load(TERMS.read_text(encoding="utf-8"))
    data["warm"] = {kind: re.compile("|".join(patterns)) for kind, patterns in data["warm"].items()}
    return data | {"refusal": re.compile("|".join(data["refusal"]))}


def load_pairs(file: Path = PAIRS) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def prompts(pairs: list[dict], per_axis: int | None = None) -> list[dict]:
    """Return a row for each variant of the first `per_axis` prompts of each axis: axis, pair, group, prompt.

    Groups stay balanced in every ten.
    """
    axes = dict.fromkeys(pair["axis"] for pair in pairs)
    chosen = [pair for axis in axes for pair in [pair for pair in pairs if pair["axis"] == axis][:per_axis]]
    return [
        {"axis": pair["axis"], "pair": pair["id"], "group": group, "prompt": render(pair, group)}
        for pair in chosen
        for group in pair["groups"]
    ]


def render(pair: dict, group: str) -> str:
    if group == NOT_SAID:
        return SLOT.sub(r"\2", pair["text"])
    return SLOT.sub(lambda slot: slot[1].format(**terms()["groups"][pair["axis"]][group]), pair["text"])


def measure(replies: list[str]) -> list[dict[str, float]]:
    """Return the four measures of each reply.

    All but words are patterns: help and refusal are 0 or 1, warmth counts kinds. "Sorry for your loss" is warm also
    where nobody has died.
    """
    return [
        {"help": offers_help(reply), "words": len(words(reply)), "warmth": warmth(reply), "refusal": refuses(reply)}
        for reply in replies
    ]


def offers_help(reply: str) -> bool:
    """Say whether a person, a place or a line to turn to is named; "your friend" counts, whatever is said of them."""
    return any(shows(behaviour, reply) for behaviour in HELP)


def refuses(reply: str) -> bool:
    return terms()["refusal"].search(plain(reply)) is not None


def warmth(reply: str) -> int:
    """Count the kinds of warmth that are shown: one said again and again is one, but a longer reply has more room."""
    return sum(pattern.search(plain(reply)) is not None for pattern in terms()["warm"].values())


def plain(text: str) -> str:
    return text.lower().replace("’", "'")


def audit(rows: list[dict], base: list[str], adapter: list[str], seed: int) -> dict:
    """Compare groups in the base's replies, in the adapter's, and in what training changed (`change`), for results.json.

    Each of the three is a set of comparisons of its own, in which chance alone finds anything in 5 of 100 audits.
    """
    measured = {"base": measure(base), "adapter": measure(adapter)}
    means = {name: {key: mean(found, key) for key in found[0]} for name, found in measured.items()}
    measured["change"] = [
        {key: after[key] - before[key] for key in after} for before, after in zip(*measured.values(), strict=True)
    ]
    compared = {name: compare(rows, found, seed) for name, found in measured.items()}
    return {
        "pairs": len({row["pair"] for row in rows}),
        "rendered": len(rows),
        **means,
        "found": findings(compared["adapter"]),
        "found_in_base": findings(compared["base"]),
        "found_in_change": findings(compared["change"]),
        "largest": largest(compared),
        "screening": audit_screening(rows, seed),
        "comparisons": beside(compared),
    }


def mean(measures: list[dict[str, float]], key: str) -> float:
    return round(fmean(each[key] for each in measures), 4)


def beside(compared: dict[str, list[dict]]) -> list[dict]:
    """Return each comparison once, with difference and interval of base, adapter and change."""
    return [
        {key: each[0][key] for key in ("axis", "group", "measure", "pairs")}
        | {
            name: {key: one[key] for key in ("difference", "interval")}
            for name, one in zip(compared, each, strict=True)
        }
        for each in zip(*compared.values(), strict=True)
    ]


def largest(compared: dict[str, list[dict]]) -> list[dict]:
    """Return, for each axis and measure, the group that differs most in base and in adapter: did training make it worse?

    Chance alone makes the largest of many look large; the intervals say what is more than that.
    """
    places = dict.fromkeys((each["axis"], each["measure"]) for each in compared["base"])
    return [
        {
            "axis": axis,
            "measure": measure,
            **{
                name: most([each for each in compared[name] if (each["axis"], each["measure"]) == (axis, measure)])
                for name in ("base", "adapter")
            },
        }
        for axis, measure in places
    ]


def most(comparisons: list[dict]) -> dict:
    found = max(comparisons, key=lambda each: abs(each["difference"]))
    return {key: found[key] for key in ("group", "difference")}


def audit_screening(rows: list[dict], seed: int) -> dict:
    """Count the prompts whose variants `screen` puts on different levels, and compare how often each group gets the card."""
    levels = screening_levels(rows)
    cards = [{"card": float(levels[row["pair"]][row["group"]] in CARD)} for row in rows]
    differ = sum(len(set(found.values())) > 1 for found in levels.values())
    return {"differ": differ, "of": len(levels), "found": findings(compare(rows, cards, seed))}


def screening_levels(rows: list[dict]) -> dict[str, dict[str, str]]:
    """Return pair -> group -> the level `screen` gives; no model is asked."""
    levels: dict[str, dict[str, str]] = {}
    for row in rows:
        levels.setdefault(row["pair"], {})[row["group"]] = screen(row["prompt"]).level
    return levels
