"""The anonymiser: every marked piece of our cases is found, what is unmarked stays, and no text breaks it."""

import itertools
import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import ROOT
from privacy import CRISIS, LINES, find, redact, redact_conversation


MARK = re.compile(r"\{([A-Z]+):([^{}]*)\}")

# Counts on the cases that no rule is written for: most pieces that are found, fewest false alarms.
BLIND = {"found": 132, "of": 146, "false": 5}


HELP_LINES = sorted({*CRISIS["keep"], *CRISIS["short"], *(phone for line in LINES for phone in line["phones"])})


def cases(name: str) -> list[dict]:
    lines = (ROOT / f"tests/cases/privacy/{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def unmarked(text: str) -> tuple[str, list[tuple[int, int]]]:
    """Return the text without its marks, and where the marked pieces are."""
    plain, spans, end = "", [], 0
    for match in MARK.finditer(text):
        plain += text[end : match.start()]
        spans.append((len(plain), len(plain) + len(match[2])))
        plain += match[2]
        end = match.end()
    return plain + text[end:], spans


def counted(text: str) -> tuple[list[str], list[str]]:
    """What was missed and what was found for nothing."""
    plain, spans = unmarked(text)
    found = [finding.span for finding in find(plain)]
    covered = {place for start, end in found for place in range(start, end)}
    missed = [
        plain[start:end]
        for start, end in spans
        if not all(place in covered for place in range(start, end) if plain[place].isalnum())
    ]
    false = [plain[a:b] for a, b in found if not any(a < end and start < b for start, end in spans)]
    return missed, false


@pytest.mark.parametrize("case", cases("dev"), ids=lambda case: case["text"][:40])
def test_case(case, request):
    if "known_failure" in case:
        request.applymarker(pytest.mark.xfail(reason=case["known_failure"], strict=True))
    assert counted(case["text"]) == ([], [])


def test_blind_cases_never_get_worse():
    results = [counted(case["text"]) for case in cases("blind")]
    pieces = sum(len(MARK.findall(case["text"])) for case in cases("blind"))
    assert pieces == BLIND["of"]
    assert pieces - sum(len(missed) for missed, _ in results) >= BLIND["found"]
    assert sum(len(false) for _, false in results) <= BLIND["false"]


def test_one_person_keeps_one_placeholder():
    messages = [
        {"role": "user", "content": "my bf Jake hit me. im sarah btw, 07700 900123"},
        {"role": "assistant", "content": "I am sorry that Jake did that, Sarah."},
        {"role": "user", "content": "jake says sorry. call 07700 900123"},
    ]
    told = [message["content"] for message in redact_conversation(messages)[0]]
    assert told == [
        "my bf [PERSON_1] hit me. im [PERSON_2] btw, [PHONE_1]",
        "I am sorry that [PERSON_1] did that, [PERSON_2].",
        "[PERSON_1] says sorry. call [PHONE_1]",
    ]


@given(st.text())
def test_any_text_has_findings_in_order_inside_it(text):
    spans = [finding.span for finding in find(text)]
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert spans == sorted(spans)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))


@pytest.mark.parametrize("line", HELP_LINES)
def test_the_numbers_and_pages_of_help_lines_stay(line):
    for text in (
        f"Please call {line} now, it is free.",
        f"phone: {line}",
        f"Call me, or call ({line}). My number is 0712345678.",
    ):
        assert line in redact(text)[0]


def test_the_pages_of_help_lines_stay():
    for page in {line[key] for line in LINES for key in ("url", "chat_url") if line[key]}:
        assert redact(f"See {page} or write to me.")[0] == f"See {page} or write to me."


@given(st.sampled_from([*HELP_LINES, "988", "911", "116 123", "13 11 14", "741741"]), st.text(alphabet="ab .,!?\n"))
def test_crisis_lines_survive_in_any_surroundings(line, around):
    text = f"{around} call {line} {around}"
    assert line in redact(text)[0]


@pytest.mark.parametrize(
    "text", ["a" * 100_000, "1 " * 50_000, "Anna " * 20_000, "my name is " * 9_000, "@." * 50_000, "A1-" * 33_000]
)
def test_hostile_text_takes_bounded_time(text):
    started = time.monotonic()
    find(text)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("write to jo.doe@example.org", "jo.doe@example.org"),
        ("+44 20 7946 0958 is my number", "7946"),
        ("I am @someone_here there", "@someone_here"),
        ("see https://example.com/me?x=1", "example.com"),
        ("card 4111 1111 1111 1111", "4111"),
        ("from 192.168.1.5", "192.168"),
    ],
)
def test_what_identifies_is_replaced(text, hidden):
    redacted, findings = redact(text)
    assert hidden not in redacted
    assert len(findings) == 1
    start, end = findings[0].span
    assert hidden in text[start:end]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "call 988",
        "call 911 now",
        "Samaritans on 116 123",
        "in 2019-2020",
        "I am 34 and slept 3 hours",
        "on 12/05/2021",
    ],
)
def test_help_lines_dates_and_ages_stay(text):
    assert redact(text) == (text, [])


@pytest.mark.parametrize("line", ["116 123", "741741", "13 11 14", "988"])
@pytest.mark.parametrize("hours", ["24/7", "24 hours", "(24/7)", "24-7", "365 days a year"])
def test_hours_behind_a_help_line_do_not_cost_it(line, hours):
    text = f"You can reach them on {line} {hours}."
    assert redact(text) == (text, [])


def test_hours_behind_somebodys_number_do_not_keep_it():
    assert redact("Call me on 555-123-4567 24/7.")[0] == "Call me on [PHONE_1] 24/7."
    assert redact("Call 1-800-273-8255 24/7.")[0] == "Call 988 24/7."


def test_a_name_is_found_also_before_it_was_told_to_be_one():
    talk = ["i think amy hates me now", "What makes you think so?", "My sister Amy told our mother."]
    messages = [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(talk)]
    said = [message["content"] for message in redact_conversation(messages)[0]]
    assert "amy" not in said[0] and said[0].split("[")[1][:8] == said[2].split("[")[1][:8] == "PERSON_1"


def test_the_retired_line_becomes_the_new_one():
    assert "988" in redact("call 1-800-273-8255 today")[0]
    assert "8255" not in redact("call 1-800-273-8255 today")[0]


@pytest.mark.parametrize(
    ("said", "redacted"),
    [
        ("[PERSON_1] hit me. My sister Amy saw it.", "[PERSON_1] hit me. My [PERSON_2] saw it."),
        ("My sister Amy saw [PERSON_7], not [PERSON_2].", "My [PERSON_8] saw [PERSON_7], not [PERSON_2]."),
        ("[EMAIL_1] or jo.doe@example.org", "[EMAIL_1] or [EMAIL_2]"),
    ],
)
def test_a_sources_own_placeholder_is_nobody_elses(said, redacted):
    assert redact(said)[0] == redacted
    assert redact(redacted)[0] == redacted


def test_a_placeholder_of_a_later_turn_is_taken_too():
    messages = [
        {"role": "user", "content": "My sister Amy left."},
        {"role": "assistant", "content": "Did [PERSON_1] say why?"},
    ]
    assert redact_conversation(messages)[0][0]["content"] == "My [PERSON_2] left."


@pytest.mark.parametrize(
    "text",
    [
        "Call or text 1-833-TLC-MAMA (1-833-852-6262).",
        "Call 1-800-950-NAMI (6264), or 877-565-8860.",
        "CALL 911 OR DRIVE TO THE ER",
        "Call 988 Or Walk to the hospital",
        "call 988, place your phone on the table",
        "In that case 741741 works by text.",
        *(line["text"] for line in LINES if line["text"]),
    ],
)
def test_no_other_rule_takes_a_line_of_help(text):
    assert redact(text) == (text, [])


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("call 1-800-799-safe now", "call 1-800-799-safe now"),
        ("call 1-800-273-talk now", "call 988 now"),
        ("Call 1-800-273TALK or 1-800-273-TALK(8255).", "Call 988 or 988."),
        ("It is the number 1 place in the world.", "It is the number 1 place in the world."),
        ("I live at 12 rue de la paix, near 3 Place Bellecour.", "I live at [ADDRESS_1], near [ADDRESS_2]."),
        (
            "on AB12 k\u0131sa k\u0131sa k\u0131sa",
            "on AB12 k\u0131sa k\u0131sa k\u0131sa",
        ),  # no IBAN, and no end of the build
    ],
)
def test_lines_in_small_letters_stay_and_ordinary_words_are_no_address(text, left):
    assert redact(text)[0] == left


def test_a_name_with_a_hyphen_or_an_apostrophe_is_found_before_it_was_told():
    for name in ("O'Brien", "Smith-Jones"):
        talk = [f"{name} from work shouted at me.", "Why?", f"My boss is called Niamh {name}."]
        messages = [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(talk)]
        assert name not in str(redact_conversation(messages)[0])


@pytest.mark.parametrize("name", ["Okafor", "Ashwin", "Oyelaran", "Tash", "Josh", "Skegness", "Geelong"])
def test_a_name_that_our_own_texts_hold_in_small_letters_is_no_ordinary_word(name):
    assert name not in redact(f"I talked about {name} all night.")[0]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("my gf minji has an ed", "my gf [PERSON_1] has an ed"),
        ("mrs bhatt nextdoor does thursdays", "mrs [PERSON_1] nextdoor does thursdays"),
        ("my sister doesn't call and my mate forgets", "my sister doesn't call and my mate forgets"),
        ("i coach under-twelves on sundays", "i coach under-twelves on sundays"),
    ],
)
def test_a_word_that_is_none_is_a_name_behind_whose_it_is(text, left):
    assert redact(text)[0] == left
