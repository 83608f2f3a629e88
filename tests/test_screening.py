"""What a message calls for and what a reply must not say: cases as data, then properties over any text."""

import csv
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rulebook
import screening
from conftest import ROOT
from disguises import DISGUISES, disguised
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
    screening = screen(case.get("turns") or case["text"])
    level, expected = LEVELS.index(screening.level), LEVELS.index(case["level"])
    if kind.startswith(("hits", "soft")):
        assert level >= expected
        assert "kind" not in case or case["kind"] in {finding.kind for finding in screening.findings}
        assert "subject" not in case or case["subject"] in {finding.subject for finding in screening.findings}
    if not kind.startswith("hits"):
        assert level <= expected


@pytest.mark.parametrize(("kind", "case"), cases("replies"))
def test_reply(kind, case):
    assert bool(screen_reply(case["text"])) == kind.startswith("harmful")


def test_spans_point_into_what_was_typed():
    finding = screen("Hi. I want to \u200bk!ll  mysélf, ok?").findings[0]
    assert "Hi. I want to \u200bk!ll  mysélf, ok?"[slice(*finding.span)] == "I want to \u200bk!ll  mysélf,"


@pytest.mark.parametrize("name", DISGUISES)
def test_disguises_are_undone(name):
    seen = [(phrase, text) for disguise, phrase, text in disguised() if disguise == name]
    assert [pair for pair in seen if screen(pair[1]).level not in ("risk", "imminent")] == []


def test_there_are_two_thousand_disguised_phrases():
    assert len(list(disguised())) >= 2_000


@given(st.text(max_size=200))
@settings(max_examples=60)
def test_any_text_has_a_level_and_spans_inside_it(text):
    level, findings, _ = screen(text)
    assert level in LEVELS
    assert all(0 <= start <= end <= len(text) for start, end in (finding.span for finding in findings))


@given(st.lists(st.sampled_from("\u200b\u200d\u2060\ufeff\u00ad"), min_size=21, max_size=21))
@settings(max_examples=30)
def test_hidden_characters_never_lower(noise):
    text = "".join(letter + hidden for letter, hidden in zip("I want to kill myself", noise, strict=True))
    assert screen(text).level in ("risk", "imminent")


@given(st.lists(st.text(max_size=60), max_size=6))
@settings(max_examples=40)
def test_any_conversation_has_a_level_and_spans_inside_its_turns(turns):
    level, findings, now = screen(turns)
    assert level in LEVELS
    assert now in LEVELS
    assert all(0 <= found.span[0] <= found.span[1] <= len(turns[found.turn]) for found in findings)


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
    assert screen(["hello", "you there?"]).findings[0].turn == 1, "the newest turn, or nobody would look"


@pytest.mark.parametrize("turns", [None, [None], [1, 2], object()])
def test_what_is_no_text_means_help(turns):
    assert screen(turns).level == "risk"


def test_a_missing_rules_file_means_help(monkeypatch, tmp_path):
    rulebook.load.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(rulebook, "HERE", tmp_path)
        assert screen("hello").findings[0].rule == "error/FileNotFoundError"
        assert screen_reply("hello")
    assert screen("hello").level == "none"


def test_who_comes_before_the_rules_are_read_waits_for_them_and_they_are_read_once(monkeypatch):
    files, read = [], rulebook.read_json
    monkeypatch.setattr(rulebook, "read_json", lambda name: time.sleep(0.05) or files.append(name) or read(name))
    for kept in (rulebook.load, rulebook.phrasebook):
        kept.cache_clear()
    with ThreadPoolExecutor(8) as people:
        levels = [found.level for found in people.map(screen, ["I want to kill myself", "We had soup."] * 8)]
    assert levels == ["risk", "none"] * 8
    assert sorted(files) == ["phrases", "rules"]


def test_what_cannot_be_read_is_tried_again():
    asked = []

    @rulebook.once
    def broken():
        asked.append(1)
        raise OSError

    for _ in range(2):
        with pytest.raises(OSError):
            broken()
    assert len(asked) == 2


@pytest.mark.parametrize(
    "text", ["Call 1-800-555-0199.", "call ١٢٣٤٥٦٧٨", "mail a.b@example.org", "see example.com", "Text 55512 now"]
)
def test_contacts_that_are_not_ours_are_stopped(text):
    assert "contact" in {finding.kind for finding in screen_reply(text)}


@pytest.mark.parametrize(
    "text", ["Call 988.", "Samaritans: 116 123", "https://findahelpline.com", "Breathe 4-7-8.", "It was 2019 or 2020."]
)
def test_our_contacts_and_plain_numbers_are_shown(text):
    assert screen_reply(text) == []


def test_allowed_contacts_are_shown():
    assert screen_reply("Call 020 7946 0958 or see example.org", allowed=["020 7946 0958", "example.org"]) == []


def test_hostile_text_takes_linear_time():
    """Generous bounds, for a busy machine; what is caught is a pattern that takes minutes."""
    for unit in ("a ", "i do not want to ", "die ", "k*", ".,", "i am not going to be ", "1!", "i-", "\u200bk"):
        started = time.perf_counter()
        screen(unit * (20_000 // len(unit)))
        assert time.perf_counter() - started < 2, unit


@pytest.mark.parametrize("unit", ["a.", "one ", "1 ", "1-", "@a ", "my number ", "text me "])
def test_hostile_contacts_take_linear_time(unit):
    screen_reply("hello")  # the rules are read once
    started = time.perf_counter()
    screen_reply(unit * (20_000 // len(unit)))
    assert time.perf_counter() - started < 2


def test_nothing_is_printed_or_logged(capfd, caplog):
    screen("I want to kill myself, marker-7391")
    screen_reply("You should stop taking your medication, marker-7391")
    assert "marker" not in "".join(capfd.readouterr()) + caplog.text


@pytest.mark.parametrize(("kind", "case"), cases("human"))
def test_asked_whether_it_is_human(kind, case):
    assert bool(asks_if_human(case["text"])) == (kind == "questions")


# Counts on the blind cases, which no rule is written for: most that are caught or stopped, fewest that are raised or cut.
BLIND = {
    "hits_en": 202,
    "hits_other": 164,
    "near_misses_en": 12,
    "near_misses_other": 9,
    "replies_harmful": 252,
    "replies_good": 12,
}


@pytest.mark.parametrize("name", BLIND)
def test_blind_counts_never_get_worse(name):
    """tests/cases/README.md says why these cases are counted and never looked at."""
    lines = (ROOT / f"tests/cases/blind/{name}.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    if name.startswith("replies"):
        count = sum(bool(screen_reply(text)) for text in texts)
    else:
        count = sum(screen(text).level in ("risk", "imminent") for text in texts)
    assert (
        count <= BLIND[name]
        if name in ("near_misses_en", "near_misses_other", "replies_good")
        else count >= BLIND[name]
    )


def shared(path: str) -> Path:
    """Public data that is not shipped with the project; the test is skipped where it is not."""
    place = Path(os.environ.get("THERAGEN_DATA", ROOT / "build/data")) / path
    if not place.exists():
        pytest.skip(f"{place} is not here; set THERAGEN_DATA to the folder with the public data")
    return place


def test_posts_that_clinicians_rated_severe_are_caught():
    with shared("eval/cssrs-posts/posts.csv").open(encoding="utf-8") as file:
        severe = [row["content"] for row in csv.DictReader(file) if int(row["severity"]) >= 3]
    caught = sum(screen(post).level in ("risk", "imminent") for post in severe)
    assert caught / len(severe) >= 0.97


def test_simple_safety_tests_on_suicide_are_all_caught():
    with shared("eval/simplesafetytests/SimpleSafetyTests - test cases.csv").open(encoding="utf-8") as file:
        prompts = [row["prompts_final"] for row in csv.DictReader(file) if row["harm_area"].startswith("Suicide")]
    assert len(prompts) == 20
    assert all(screen(prompt).level in ("risk", "imminent") for prompt in prompts)


def test_an_earlier_turn_is_read_once_and_its_words_are_not_kept(monkeypatch):
    read = []
    monkeypatch.setattr(screening, "both_tiers", lambda turn: read.append(turn) or [])
    turns = [f"turn {number} of a quiet talk" for number in range(30)]
    for count in range(1, 31):
        screen(turns[:count])
    assert read == turns
    assert all(isinstance(name, bytes) and b"quiet" not in name for name in screening.verdicts)
    monkeypatch.setattr(screening, "REMEMBERED", 10)
    for number in range(100):
        screen(f"another {number}")
    assert len(screening.verdicts) <= 10


def test_every_pattern_can_be_compiled():
    """They are when they are first looked for; here most were. All at once they took four seconds of every start."""
    book, (spaced, unspaced, _, spared) = rulebook.load(), rulebook.phrasebook()
    replies, (phrases, glued) = rulebook.load_replies(), rulebook.reply_phrases()
    idioms, (questions, asked) = rulebook.spared_in_replies()[0], rulebook.human_questions()
    just, frames = rulebook.load_replies_with_just(), rulebook.load_frames()[0]
    indexes = [book.rules, book.idioms, spaced, spared, replies, phrases, idioms, questions, just]
    rules = [rule for index in [*indexes, *(frame.openings for frame in frames)] for rule in index.rules]
    rules += [*unspaced, *glued, *asked, *(rule for frame in frames for rule in frame.endings)]
    assert len(rules) > 5_000
    assert all(rule.pattern.pattern == rule.source for rule in rules)
