"""What an operator may ask for, and what is said when it is not understood."""

import re

import pytest

import settings
from conftest import ROOT


def test_nothing_set_is_the_default_and_no_problem():
    assert settings.read({}) == settings.Settings()


def test_variables_are_read_with_their_types():
    asked = {
        "THERAGEN_ADAPTER": " org/adapter ",
        "THERAGEN_FOUR_BIT": "true",
        "THERAGEN_PEOPLE": "4",
        "THERAGEN_COUNTRY": "de",
        "THERAGEN_ENGINE": "remote",
    }
    read = settings.read(asked)
    assert read[:1] + read[3:5] + (read.people, read.country) == ("org/adapter", True, "remote", 4, "DE")
    assert read.problems == ()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("THERAGEN_FOUR_BIT", "maybe"),
        ("THERAGEN_PEOPLE", "0"),
        ("THERAGEN_PEOPLE", "-3"),
        ("THERAGEN_QUEUE", "many"),
        ("THERAGEN_MESSAGES", "1e9"),
        ("THERAGEN_ENGINE", "vllm"),
        ("THERAGEN_COUNTRY", "XX"),
    ],
)
def test_what_is_not_understood_is_one_sentence_and_the_default(variable, value):
    read = settings.read({variable: value})
    assert read._replace(problems=()) == settings.Settings()
    (problem,) = read.problems
    assert problem.startswith(f"{variable} is '{value}', which is no") or "which is neither" in problem
    assert problem.endswith("is used.")


def test_every_variable_is_described_for_operators():
    described = set(re.findall(r"`(THERAGEN_[A-Z_0-9]+)`", (ROOT / "space/README.md").read_text()))
    named = {f"THERAGEN_{name.upper()}" for name in settings.Settings._fields} - {"THERAGEN_PROBLEMS"}
    assert named <= described


def test_the_defaults_that_operators_read_are_those_of_the_code():
    said = (ROOT / "space/README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `THERAGEN_([A-Z_]+)` \|.*\| `([^`]+)` \|$", said, re.M))
    for name, default in settings.Settings._field_defaults.items():
        plain = ",".join(default) if isinstance(default, tuple) else default
        plain = int(plain) if isinstance(plain, bool) else plain
        assert rows.pop(name.upper(), str(plain)) == str(plain)
    assert set(rows) == {"CACHE"}
