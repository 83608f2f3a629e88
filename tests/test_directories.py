"""Where a person finds a professional: entries that can be opened and dialled, that say what they are and how far they were checked."""

import json
import re
from datetime import date
from urllib.parse import urlsplit

import pytest

import helplines
from conftest import ROOT


DIRECTORIES = json.loads((ROOT / "space/directories.json").read_text(encoding="utf-8"))
COUNTRIES = DIRECTORIES["countries"]
ENTRIES = [pytest.param(code, entry, id=f"{code}: {entry['name']}") for code in COUNTRIES for entry in COUNTRIES[code]]
FIELDS = ["name", "kind", "url", "phone", "languages", "note", "source", "checked", "how"]
KINDS = {"public-service", "professional-register", "self-referral", "information"}
LONGEST_NOTE = 140  # characters
# Paid listings, booking sites and online practices, in any country's domain.
COMMERCIAL = re.compile(
    r"(^|\.)(psychologytoday|goodtherapy|betterhelp|talkspace|zocdoc|therapyroute|therapyden|counselling-directory|doctolib|doctoralia|"
    r"jameda|therapie|mundopsicologos|psicologia-online|psychologue|miodottore|guidapsicologi|unobravo|serenis|practo|mindler|"
    r"cerebral|hellobetter|selfapy|zenklub|vittude|wikipedia|facebook|instagram)\.",
)
CLAIMS = re.compile(
    r"\b(heal(s|ed|ing)?|cur(e|es|ed|ing)|treat(s|ed|ing|ment)?|therap\w*|best|guarantee\w*)\b", re.IGNORECASE
)
# Lines that listen in a crisis and also lead to care: they may stand in both files.
BOTH = {"14416", "8009112000", "1771"}


def digits(number: str) -> str:
    return re.sub(r"\D", "", number)


def test_at_least_twenty_five_countries_that_the_page_can_choose():
    assert len(COUNTRIES) >= 25
    assert set(COUNTRIES) <= set(helplines.countries())
    assert list(COUNTRIES) == sorted(COUNTRIES)


def test_the_head_says_that_nobody_clinical_has_seen_it_and_that_no_link_was_followed():
    assert "not reviewed by a clinician" in DIRECTORIES["review"]["status"]
    assert "not followed live" in DIRECTORIES["review"]["links"]
    assert "No link was followed live" in DIRECTORIES["about"]


@pytest.mark.parametrize("code", COUNTRIES)
def test_one_to_four_entries_a_country_and_none_twice(code):
    entries = COUNTRIES[code]
    assert 1 <= len(entries) <= 4
    for key in ("name", "url", "phone"):
        values = [entry[key].rstrip("/").casefold() for entry in entries if entry[key]]
        assert len(values) == len(set(values)), key


def test_no_address_stands_in_two_countries():
    addresses = [entry["url"].rstrip("/") for entries in COUNTRIES.values() for entry in entries]
    assert len(addresses) == len(set(addresses))


@pytest.mark.parametrize(("code", "entry"), ENTRIES)
def test_every_entry_has_the_same_fields(code, entry):
    assert list(entry) == FIELDS
    assert entry["name"].strip() == entry["name"] != ""
    assert entry["kind"] in KINDS
    assert entry["languages"]
    assert all(re.fullmatch("[a-z]{2,3}", language) for language in entry["languages"])
    assert len(entry["languages"]) == len(set(entry["languages"]))
    assert list(entry["source"]) == ["title", "url"]
    assert entry["source"]["title"].strip()


@pytest.mark.parametrize(("code", "entry"), ENTRIES)
def test_every_address_is_https_and_no_commercial_directory(code, entry):
    for address in (entry["url"], entry["source"]["url"]):
        parts = urlsplit(address)
        assert parts.scheme == "https"
        assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", parts.netloc), (
            "a host in lower case, without a port or a name of a user"
        )
        assert re.fullmatch(r"[!-~]+", address), "no blank and nothing that a browser would have to rewrite"
        assert not COMMERCIAL.search(parts.netloc)


def test_a_commercial_directory_would_be_seen():
    for host in ("www.psychologytoday.com", "doctolib.fr", "www.jameda.de", "therapyroute.com"):
        assert COMMERCIAL.search(host)
    for host in ("psychotherapie.ehealth.gv.at", "www.yellowpsychotherapie.com", "psych-info.de"):
        assert not COMMERCIAL.search(host)


@pytest.mark.parametrize(("code", "entry"), ENTRIES)
def test_a_number_can_be_dialled_and_is_no_crisis_line(code, entry):
    if entry["phone"] is None:
        return
    assert re.fullmatch(r"tel:\d{3,15}", helplines.phone_href(entry["phone"]) or "")
    lines = {digits(number) for line in helplines.lines(code) for number in line["phones"]}
    assert digits(entry["phone"]) not in lines - BOTH
    assert digits(entry["phone"]) not in map(digits, helplines.emergency(code))


@pytest.mark.parametrize(("code", "entry"), ENTRIES)
def test_a_note_is_one_or_two_short_plain_sentences_that_promise_nothing(code, entry):
    note = entry["note"]["en"]
    assert 20 <= len(note) <= LONGEST_NOTE
    assert note[0].isupper()
    assert note.endswith(".")
    assert not CLAIMS.search(note)
    assert not re.search(r"https?:|www\.|\d{5}", note), "addresses and numbers have fields of their own"


@pytest.mark.parametrize(("code", "entry"), ENTRIES)
def test_every_entry_says_when_and_how_it_was_checked_or_that_it_was_not(code, entry):
    assert 4 <= len(entry["how"]) <= 40
    if entry["checked"] is None:
        assert entry["how"] == "not found again"
    else:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", entry["checked"])
        assert date.fromisoformat(entry["checked"]) >= date(2026, 1, 1)
        assert entry["how"] != "not found again"
