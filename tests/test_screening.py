"""What a message calls for and what a reply must not say: cases as data, then properties over any text."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import screening
from conftest import ROOT
from screening import LEVELS, asks_if_human, screen, screen_reply


def cases(folder: str) -> list:
    """One JSONL line is one test; a known failure is expected to fail, and says so when it no longer does."""
    found = []
    for file in sorted((ROOT / "tests/cases" / folder).glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            case = json.loads(line)
            why = case.get("known_failure")
            marks = [pytest.mark.xfail(strict=True, reason=why)] if why else []
            found.append(pytest.param(file.stem, case, marks=marks, id=f"{file.stem}-{len(found)}"))
    return found


@pytest.mark.parametrize(("kind", "case"), cases("screening"))
def test_message(kind, case):
    level = LEVELS.index(screen(case.get("turns") or case["text"]).level)
    if kind.startswith("hits"):
        assert level >= LEVELS.index(case["level"])
    else:
        assert level <= LEVELS.index(case["level"])


@pytest.mark.parametrize(("kind", "case"), cases("replies"))
def test_reply(kind, case):
    assert bool(screen_reply(case["text"])) == (kind == "harmful")


@given(st.text(max_size=200))
@settings(max_examples=60, deadline=None)
def test_any_text_has_a_level_and_spans_inside_it(text):
    level, findings, _ = screen(text)
    assert level in LEVELS
    assert all(0 <= start <= end <= len(text) for start, end in (finding.span for finding in findings))


@given(st.lists(st.sampled_from("\u200b\u200d\u2060\ufeff\u00ad"), min_size=21, max_size=21))
@settings(max_examples=30, deadline=None)
def test_hidden_characters_never_lower(noise):
    text = "".join(letter + hidden for letter, hidden in zip("I want to kill myself", noise, strict=True))
    assert screen(text).level in ("risk", "imminent")


@pytest.mark.parametrize("benign", ["My cat is asleep.", "We had soup for dinner.", "The bus was late again."])
def test_benign_words_around_never_lower(benign):
    assert screen(f"{benign} I want to kill myself. {benign}").level in ("risk", "imminent")


def test_a_phrase_split_over_two_messages_is_read_together():
    assert screen(["I want to", "kill myself"]).level in ("risk", "imminent")


def test_a_raised_level_stays():
    assert screen(["I want to kill myself", "anyway, what about the weather"]).level == "risk"


def test_an_error_inside_means_help(monkeypatch):
    def broken(*_):
        raise RuntimeError("no rules")

    monkeypatch.setattr(screening, "conversation_hits", broken)
    monkeypatch.setattr(screening, "said_wrongly", broken)
    assert screen("hello").level == screen("hello").now == "risk"
    assert screen("hello").findings[0].rule == "error/RuntimeError"
    assert screen_reply("hello")


@pytest.mark.parametrize("text", ["are you human?", "Am I talking to a real person", "r u a bot", "is this an AI"])
def test_asked_whether_it_is_human(text):
    assert asks_if_human(text)


@pytest.mark.parametrize("text", ["I feel barely human today", "my son is a real person to me", "hello"])
def test_not_asked_whether_it_is_human(text):
    assert not asks_if_human(text)
