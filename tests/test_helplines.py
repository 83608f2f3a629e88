"""Help lines and fixed texts: links that dial, countries that are known, and what is left when a file breaks."""

import json
import re
from pathlib import Path

import pytest
import tzdata

import helplines
import texts
from conftest import ROOT


def test_at_least_fifty_countries_each_with_a_name():
    countries = helplines.countries()
    assert len(countries) >= 50
    assert all(re.fullmatch("[A-Z]{2}", code) and name for code, name in countries.items())


@pytest.mark.parametrize(
    ("country", "link"), [("US", "tel:988"), ("US", "tel:911"), ("GB", "tel:116123"), ("GB", "tel:999")]
)
def test_numbers_dial(country, link):
    assert f'href="{link}"' in helplines.bar_html(country)


def test_every_link_is_a_number_or_a_site():
    for country in helplines.countries():
        for link in re.findall(r'href="([^"]*)"', helplines.bar_html(country)):
            assert re.fullmatch(r"tel:\+?[\d*#]+|sms:\+?\d+(\?body=\w+)?|https://[^\s\"]+", link), (country, link)


def test_every_bar_names_the_international_directory():
    assert all("findahelpline.com" in helplines.bar_html(country) for country in [*helplines.countries(), "XX", ""])


def test_unknown_country_gets_help_all_the_same():
    assert "tel:988" in helplines.bar_html("XX")


def test_no_line_of_a_low_grade_is_shipped():
    data = json.loads((ROOT / "space/helplines.json").read_text(encoding="utf-8"))
    grades = set(re.findall(r'"grade": "(\w)"', json.dumps(data)))
    assert grades <= {"A", "B"}
    assert grades


@pytest.mark.parametrize(
    ("number", "link"),
    [
        ("988", "tel:988"),
        ("116 123", "tel:116123"),
        ("1-800-668-6868", "tel:18006686868"),
        ("+212 5 22 87 47 40", "tel:+212522874740"),
        ("*4141", "tel:*4141"),
        ("119 ext. 8", None),
        ("112 (free)", None),
        ("", None),
    ],
)
def test_what_can_be_dialled_is_a_link(number, link):
    assert helplines.phone_href(number) == link


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("Text 988", "sms:988"),
        ("SMS 31393", "sms:31393"),
        ("Text HOME to 741741", "sms:741741?body=HOME"),
        ("Text 0477 13 11 14", "sms:0477131114"),
        ("WhatsApp 9151 1767", None),
    ],
)
def test_what_can_be_texted_is_a_link(text, link):
    assert helplines.text_href(text) == link


def test_an_extension_never_becomes_a_call_without_it():
    bar = helplines.bar_html("ID")
    assert "119 ext. 8" in bar
    assert bar.count("tel:119") == 1, "the emergency number itself, not the line behind it"


@pytest.mark.parametrize(
    "content", [None, "", "{broken", "[]", '{"countries": {"US": {}}}', '{"countries": {"US": {"name": 1}}}', "\ufeff"]
)
def test_a_broken_file_still_gives_help(monkeypatch, tmp_path, content):
    if content is not None:
        (tmp_path / "helplines.json").write_text(content, encoding="utf-8")
    monkeypatch.setattr(helplines, "DATA", tmp_path / "helplines.json")
    helplines._countries.cache_clear()
    try:
        bar = helplines.bar_html("US")
        assert "tel:988" in bar
        assert "findahelpline.com" in bar
        assert "emergency number" in bar
        assert helplines.countries() == {}
        assert helplines.known_numbers() == {"988"}
    finally:
        helplines._countries.cache_clear()


def test_names_are_escaped(monkeypatch):
    evil = {"name": "X", "emergency": ["1<2"], "lines": [{"service": "<b>&", "phones": ['9"1'], "text": None}]}
    monkeypatch.setattr(helplines, "_countries", lambda: {"XX": evil})
    assert "<b>" not in helplines.bar_html("XX")
    assert '9"1' not in helplines.bar_html("XX")


def test_every_line_says_how_far_it_was_checked():
    for country in helplines.countries():
        for line in helplines.lines(country):
            assert line["checked"] == "not opened by a person"
            assert line["sources"]
            assert re.fullmatch(r"\d{4}(-\d\d){0,2}|undated", line["as_of"])


def test_known_numbers_are_what_the_page_shows():
    assert {"988", "911", "116123", "741741"} <= helplines.known_numbers()


def test_every_time_zone_suggests_its_own_country_or_none():
    """Against zone.tab of the IANA database, one country a zone; zones that are not in it are old names or no place."""
    table = {}
    for line in (Path(tzdata.__file__).parent / "zoneinfo/zone.tab").read_text().splitlines():
        if not line.startswith("#"):
            code, _, zone = line.split("\t")[:3]
            table[zone] = code
    zones = helplines.zones()
    assert len(table) > 400
    disputed = {"Europe/Simferopol"}
    for zone, code in table.items():
        expected = code if code in helplines.countries() and zone not in disputed else None
        assert zones.get(zone) == expected, zone
    assert {
        "Iceland": "IS",
        "US/Eastern": "US",
        "Asia/Calcutta": "IN",
        "GB": "GB",
        "Eire": "IE",
    }.items() <= zones.items()
    assert not {"UTC", "Etc/GMT+3", "EST", "CET", "Africa/Asmera", "Antarctica/South_Pole"} & set(zones)
    assert set(helplines.countries()) == set(zones.values())


def test_broken_zones_suggest_no_country(monkeypatch, tmp_path):
    monkeypatch.setattr(helplines, "ZONES", tmp_path / "none.json")
    assert helplines.zones() == {}


def test_broken_texts_leave_help(monkeypatch, tmp_path):
    (tmp_path / "replies.json").write_text("{broken")
    monkeypatch.setattr(texts, "DATA", tmp_path / "replies.json")
    texts._texts.cache_clear()
    assert "988" in texts.text("risk", helplines="")
    texts._texts.cache_clear()


def test_fixed_texts_hold_no_number_and_say_that_nobody_clinical_has_seen_them():
    entries = json.loads((ROOT / "space/replies.json").read_text(encoding="utf-8"))["texts"]
    for name, entry in entries.items():
        assert not re.search(r"\d{3}", entry["text"]), name
        assert entry["review"] == "not reviewed by a clinician"


NAMES = [
    "banner",
    "imminent",
    "risk",
    "risk_again",
    "risk_again_2",
    "risk_again_3",
    "distress",
    "other_person",
    "harm_now",
    "overdose",
    "harm_others",
    "child",
    "self_harm",
    "eating_disorder",
    "psychosis",
    "are_you_human",
    "model_failed",
    "no_model",
    "busy",
    "no_time",
    "too_long",
    "waking",
    "cut",
    "safe_mode",
]


@pytest.mark.parametrize("name", NAMES)
def test_every_fixed_text_fills_its_slots(name):
    filled = texts.text(name, helplines="- a line", reason="no weights")
    assert filled != texts.LAST_RESORT
    assert "{" not in filled
    assert not re.search(r"therap|treatment", filled.replace("not therapy", ""), re.IGNORECASE)
    assert "can't talk about" not in filled


@pytest.mark.parametrize(
    "name", ["imminent", "risk", "other_person", "harm_now", "overdose", "harm_others", "psychosis"]
)
def test_texts_for_danger_give_the_lines_and_ask_one_question(name):
    filled = texts.text(name, helplines="- a line")
    assert "- a line" in filled
    assert filled.count("?") == 1


@pytest.mark.parametrize("slots", [{}, {"other": "x"}])
def test_a_slot_left_out_leaves_help(slots):
    assert texts.text("risk", **slots) == texts.LAST_RESORT
    assert texts.text("no such text") == texts.LAST_RESORT


TRANSLATED = [
    *("in_danger", "local_number", "united_states", "anywhere", "banner", "imminent", "risk"),
    *("risk_again", "risk_again_2", "risk_again_3", "distress", "other_person", "harm_now", "overdose", "harm_others"),
    *("child", "self_harm", "eating_disorder", "psychosis", "are_you_human", "model_failed", "no_model", "busy"),
    *("no_time", "pause", "flood", "unsent", "too_long", "waking", "cut", "heavy"),
    *("ask_plan", "ask_means", "ask_support", "ask_willing", "ask_barriers", "affirmations"),
]
ONE_QUESTION = {"imminent", "risk", "other_person", "harm_now", "overdose", "harm_others", "psychosis"}


@pytest.mark.parametrize("file", sorted((ROOT / "space").glob("replies.*.json")), ids=lambda file: file.name)
def test_translations_hold_the_same_texts_lines_and_questions(file):
    english = json.loads((ROOT / "space/replies.json").read_text(encoding="utf-8"))["texts"]
    entries = json.loads(file.read_text(encoding="utf-8"))["texts"]
    slots = {"helplines": "- a line", "reason": "no weights", "topics": "a topic"}
    assert list(entries) == TRANSLATED
    for name, entry in entries.items():
        assert entry["review"] == "not reviewed by a clinician or a native speaker"
        assert not re.search(r"\d{3}", entry["text"]), name
        for held in (r"\{\w+\}", r"https://\S+\b"):
            assert re.findall(held, entry["text"]) == re.findall(held, english[name]["text"]), name
        assert entry["text"].count("\n\n") == english[name]["text"].count("\n\n"), name
        filled = texts.text(name, file.name.split(".")[1], **slots)
        assert filled not in {texts.LAST_RESORT, texts.text(name, **slots)}, name
        assert "{" not in filled, name
        if name in ONE_QUESTION or name.startswith("ask_"):
            assert len(re.findall("[?？؟]", filled)) == 1, name
        if name in {"distress", "cut"}:
            assert filled[-1] in "?？؟", name
