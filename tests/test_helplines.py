"""Help lines and fixed texts: links that dial, countries that are known, and what is left when a file breaks."""

import json
import re

import pytest

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
