"""The page's own words: the same keys and slots in every language, short, no number, no address, no claim to heal."""

import json
import re
import string

import pytest

import screening
from conftest import ROOT


DATA = json.loads((ROOT / "space/interface.json").read_text(encoding="utf-8"))
LANGUAGES = DATA["languages"]
ENGLISH = LANGUAGES["en"]["texts"]
LONGEST = 400  # characters
RIGHT_TO_LEFT = {"ar"}
ADDRESS = re.compile(r"https?:|www\.|@|\b[\w-]+\.(com|org|net|io|ai|info|app|gov|edu|de|es|fr|br|in|cn)\b", re.I)
SENTENCE = re.compile(r"[^.!?;:।。！？؟；：]+")
# Words of what only a health professional does; a sentence that holds one must say no.
CLAIM = {
    "en": r"therap|treat|\bcur(e|es|ed|ing)\b|diagnos|heal(s|ed|ing)\b",
    "es": r"terap|\btrat(a|ar|amos|amiento)\b|\bcur(a|ar|amos)\b|diagn[oó]s|sana",
    "fr": r"thérap|trait(e|er|ement|ons)\b|guéri|soigne|diagnos",
    "de": r"therap|behand|\bheil(en|t|ung)|diagnos",
    "pt": r"terap|\btrat(a|ar|amos|amento)\b|\bcur(a|ar|amos)\b|diagn[oó]s",
    "hi": "थेरेपी|इलाज|उपचार|निदान|बीमारी की पहचान",
    "ar": "علاج|عالج|تشخيص|شخّص|شفاء|يشفي",
    "zh": "治疗|治愈|诊断|疗法",
}
NO = {
    "en": r"\bnot\b",
    "es": r"\b(no|ni)\b",
    "fr": r"\b(pas|ni)\b",
    "de": r"\b(kein|keine|nicht)\b",
    "pt": r"\b(não|nem)\b",
    "hi": r"(^|\s)(न|नहीं)(\s|$)",
    "ar": r"\b(و?ليس|و?ليست|لا|ولا)\b",
    "zh": "不",
}
SCRIPT = {"hi": "[\u0900-\u097f]", "ar": "[\u0600-\u06ff]", "zh": "[\u4e00-\u9fff]"}
STARTERS = [name for name in ENGLISH if re.fullmatch(r"starter_\w+_message", name)]

in_every_language = pytest.mark.parametrize("language", LANGUAGES)


def slots(text: str) -> list[str]:
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name is not None)


def claims(text: str, language: str) -> list[str]:
    """Return the sentences that name therapy, treatment, cure or diagnosis without a no."""
    named = [said for said in SENTENCE.findall(text) if re.search(CLAIM[language], said, re.I)]
    return [said for said in named if not re.search(NO[language], said, re.I)]


def test_the_languages_are_those_of_the_replies():
    replies = {file.name.split(".")[1] for file in (ROOT / "space").glob("replies.*.json")}
    assert set(LANGUAGES) == {"en", *replies}


@in_every_language
def test_name_and_direction(language):
    entry = LANGUAGES[language]
    assert set(entry) == {"name", "dir", "texts"}
    assert entry["name"].strip()
    assert entry["dir"] == ("rtl" if language in RIGHT_TO_LEFT else "ltr")


@in_every_language
def test_keys_and_slots_are_those_of_english(language):
    texts = LANGUAGES[language]["texts"]
    assert list(texts) == list(ENGLISH)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in texts)
    assert {name: slots(text) for name, text in texts.items()} == {n: slots(text) for n, text in ENGLISH.items()}


@in_every_language
def test_every_text_is_there_short_and_plain(language):
    for name, text in LANGUAGES[language]["texts"].items():
        assert text.strip() == text != "", name
        assert len(text) <= LONGEST, (name, len(text))
        assert not re.search(r"[<>\n]|&\w+;", text), name


def test_every_text_is_shown_somewhere():
    """By its name, or by a name put together from one: `starter_${name}`."""
    files = [
        path for path in (ROOT / "space").rglob("*") if path.suffix in (".py", ".js") or path.name == "checkins.json"
    ]
    code = "\n".join(path.read_text(encoding="utf-8") for path in files)
    named = set(re.findall(r"""["'`]([a-z]\w*)["'`]""", code))
    made = set(re.findall(r"`([a-z_]*)\$\{[^`]*?\}([a-z_]*)`", code)) | set(
        re.findall(r'f"([a-z_]+)\{[^\n]*\}([a-z_]*)"', code)
    )
    shapes = [f"{start}\\w+{end}" for start, end in made if start or end]
    assert [name for name in ENGLISH if name not in named and not any(re.fullmatch(one, name) for one in shapes)] == []


@in_every_language
def test_no_number_and_no_address(language):
    for name, text in LANGUAGES[language]["texts"].items():
        assert not re.search(r"\d", text), name  # in any script
        assert not ADDRESS.search(text), name


@in_every_language
def test_nothing_claims_to_heal(language):
    texts = LANGUAGES[language]["texts"]
    assert {name: found for name, text in texts.items() if (found := claims(text, language))} == {}
    assert re.search(CLAIM[language], texts["consent_not"], re.I), "the notice says what this is not"


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "It is not a person. Therapy for everyone."),
        ("es", "Esto cura."),
        ("fr", "Une thérapie pour tous."),
        ("de", "Wir behandeln dich."),
        ("pt", "Um tratamento novo."),
        ("hi", "यहाँ इलाज मिलता है।"),
        ("ar", "هذا علاج."),
        ("zh", "这里提供治疗。"),
    ],
)
def test_a_claim_would_be_seen(language, text):
    assert len(claims(text, language)) == 1


@in_every_language
def test_no_text_was_left_in_english(language):
    texts = LANGUAGES[language]["texts"]
    if language != "en":
        assert [
            n for n, text in texts.items() if text == ENGLISH[n] and " " in re.sub(r"\{.*?\}", "", text).strip()
        ] == []
    if language in SCRIPT:
        assert [name for name, text in texts.items() if not re.search(SCRIPT[language], text)] == []


@in_every_language
@pytest.mark.parametrize("name", STARTERS)
def test_a_starter_brings_no_crisis_card(language, name):
    """A button for sleep or work must not be answered as danger; sadness may be read as distress."""
    assert screening.screen([LANGUAGES[language]["texts"][name]]).level in {"none", "distress"}


def test_every_starter_has_a_button():
    assert len(STARTERS) >= 8
    assert all(name.removesuffix("_message") in ENGLISH for name in STARTERS)


def test_the_notice_says_what_the_law_asks():
    """AI and no person, not for emergencies, adults, and breaks: EU AI Act article 50, SB 243, New York article 47."""
    assert "is an AI" in ENGLISH["consent_what"] and "not a person" in ENGLISH["consent_what"]
    assert "not for emergencies" in ENGLISH["consent_not"]
    assert "minors" in ENGLISH["consent_adults"]
    for reminder in ("reminder_three_hours", "reminder_one_hour"):
        assert all(words in ENGLISH[reminder] for words in ("an AI", "not a person", "break")), reminder
