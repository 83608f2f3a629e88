"""What an operator chooses by environment variables; README.md describes each for people who duplicate the Space."""

import os
from collections.abc import Mapping
from typing import NamedTuple

import helplines
import texts


ENGINES = ("auto", "transformers", "openvino", "remote")


class Settings(NamedTuple):
    """Every field but the last is a variable: `four_bit` is THERAGEN_FOUR_BIT."""

    adapter: str = ""  # folder or Hub id
    base: str = ""
    revision: str = ""  # of the adapter, or of the base where there is none: commit, tag or branch
    four_bit: bool = False
    engine: str = "auto"
    gguf: str = ""  # file, or owner/repo/file.gguf on the Hub
    endpoint: str = ""  # base URL of an OpenAI-compatible server
    endpoint_model: str = ""
    endpoint_key: str = ""
    people: int = 32  # replies written at once
    queue: int = 128  # people waiting for one
    messages: int = 30  # of one client in five minutes
    metrics: bool = False
    feedback: bool = False  # a thumb under each reply, counted among the metrics
    whisper: str = ""  # folder or Hub id of a model that turns speech into words
    languages: tuple[str, ...] = ("en",)  # that the model writes well
    country: str = helplines.ANYWHERE  # until, and unless, the browser knows better
    problems: tuple[str, ...] = ()  # a sentence for each variable that is not understood and was left at its default


def read(environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings that the environment asks for; never raises, since help must open whatever an operator typed."""
    chosen, problems = {}, []
    for name, default in Settings._field_defaults.items():
        variable = f"THERAGEN_{name.upper()}"
        if name != "problems" and (value := environment.get(variable, "").strip()):
            try:
                chosen[name] = understood(name, value, default)
            except ValueError as problem:
                default = ",".join(default) if isinstance(default, tuple) else default
                shown = "" if "key" in name else f" is {value!r}, which"
                problems.append(f"{variable}{shown} {problem}; {default!r} is used.")
    return Settings(**chosen, problems=tuple(problems))


def understood(name: str, value: str, default):
    """Return a variable's value with its default's type; raises ValueError with the end of a sentence."""
    if isinstance(default, bool):
        known = {
            "1": True,
            "true": True,
            "yes": True,
            "on": True,
            "0": False,
            "false": False,
            "no": False,
            "off": False,
        }
        if value.lower() not in known:
            raise ValueError("is neither 1 nor 0")
        return known[value.lower()]
    if isinstance(default, int):
        if not value.isdecimal() or not 0 < int(value) <= 10_000:
            raise ValueError("is no whole number from 1 to 10000")
        return int(value)
    if isinstance(default, tuple):
        codes = tuple(value.lower().replace(",", " ").split())
        if not set(codes) <= texts.languages():
            raise ValueError(f"is not made of {', '.join(sorted(texts.languages()))}")
        return codes
    if name == "engine" and value not in ENGINES:
        raise ValueError(f"is none of {', '.join(ENGINES)}")
    if name == "country" and value.upper() not in helplines.countries():
        raise ValueError("is no two-letter country that has help lines here")
    return value.upper() if name == "country" else value
