"""What a person chooses travels with each message: only known values count, and their own words are screened like any."""

import pytest

import app
import conversation
import person
import settings
from conversation import is_card, respond
from interface import for_browser, language_for, languages, word
from screening import screen


DANGER = "I have wanted to kill myself for weeks"


@pytest.mark.parametrize("sent", [None, [], "x", 7, {"name": ["x"], "pace": {}, "country": 3, "language": ["de"]}])
def test_what_is_no_choice_is_left_out(sent):
    assert person.read(sent) == person.Person()


def test_only_known_values_count_and_words_have_an_end():
    sent = {"language": "de", "pace": "short", "style": "loud", "name": "A\nna " * 30, "context": "x" * 5000}
    read_back = person.read(sent)
    assert (read_back.language, read_back.pace, read_back.style) == ("de", "short", "")
    assert len(read_back.name) <= 40 and "\n" not in read_back.name
    assert len(read_back.context) == 600


def test_nothing_chosen_changes_nothing():
    history = [{"role": "user", "content": "hello"}]
    assert person.wishes(person.Person()) == ""
    assert person.introduced(history, person.Person()) == history


def test_a_model_is_asked_only_for_languages_it_writes():
    spanish = person.Person(language="es")
    assert person.wishes(spanish) == ""
    assert "Spanish" in person.wishes(spanish, ("en", "es"))


def test_exercises_are_named_to_the_model_only_for_practical_steps():
    assert "Grounding" in person.wishes(person.Person(style="practical"), exercises=app.EXERCISES)
    assert "Grounding" not in person.wishes(person.Person(style="listen"), exercises=app.EXERCISES)
    assert not any("safety plan" in title for title in app.EXERCISES)


def test_the_model_reads_wishes_and_words_as_the_beginning_of_the_first_turn():
    who = person.Person(pace="short", name="Ana", context="I am a nurse.")
    history = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
    given = []

    class Listening:
        def stream(self, messages):
            given.extend(messages)
            yield "I hear you."

    *_, reply = respond(person.introduced(history, who), Listening(), "en", person.wishes(who))
    assert reply == "I hear you."
    assert [turn["role"] for turn in given] == ["user"]
    assert given[0]["content"].startswith("Please keep your replies short")
    assert given[0]["content"].endswith("Call me Ana.\n\nAbout me: I am a nurse.\n\nhello")


def test_our_sentences_are_no_part_of_what_is_screened(monkeypatch):
    heard = []
    monkeypatch.setattr(conversation, "screen", lambda turns: heard.append(turns) or screen(turns))
    who = person.Person(pace="short", style="practical")
    list(respond(person.introduced([{"role": "user", "content": "hello"}], who), None, "en", person.wishes(who)))
    assert heard == [["hello"]]


def test_danger_in_what_they_say_of_themselves_brings_help_once():
    choices = {"country": "GB", "context": DANGER}
    chat = app.receive("hello there", [], choices)
    assert is_card(chat[-1])
    assert "116123" in chat[-1]["content"].replace(" ", "")
    assert app.receive("hello there", [], {"country": "GB"})[-1]["role"] == "user"
    again = app.receive("it rained today", [*chat, {"role": "assistant", "content": "I hear you."}], choices)
    assert again[-1]["role"] == "user"


def test_danger_that_is_added_later_or_stands_in_the_name_brings_help_too():
    begun = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
    assert is_card(app.receive("it rained today", begun, {"context": DANGER})[-1])
    assert is_card(app.receive("it rained today", begun, {"name": "i want to kill myself"})[-1])


@pytest.mark.parametrize("history", ["x", None, ["hello"], [None], [{"role": 3}], {"a": 1}])
def test_a_malformed_history_keeps_nobody_from_help(history):
    assert is_card(app.receive(DANGER, history, None)[-1])


def test_a_yes_in_the_persons_own_language_answers_the_pages_question():
    card = app.receive("quiero morirme", [], {"language": "de"})
    assert is_card(app.receive("sí", card, {"language": "de"})[-1])


def test_a_message_is_screened_alone_whatever_stands_before_it():
    calm = {"context": "I like tea, long walks, my two cats and the sea. " * 12, "style": "listen"}
    assert is_card(app.receive(DANGER, [], calm)[-1])


def test_help_comes_in_the_language_of_the_page():
    card = app.receive(DANGER, [], {"country": "DE", "language": "de"})[-1]["content"]
    assert "Ich bin eine KI" in card


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("ar", "ar"),
        ("gsw, pt-BR;q=0.9, en;q=0.8", "pt"),
        ("en;q=0.2, hi;q=0.9", "hi"),
        ("xx;q=9, \x00, ;;;q=", "en"),
        ("zh-Hant-TW, en", "zh"),
        ("de;q=0, fr;q=0.1", "fr"),
    ],
)
def test_the_page_opens_in_the_language_of_the_browser(accepted, language):
    assert language_for(accepted) == language


def test_words_are_there_in_every_language_and_fall_back_to_english():
    for code in languages():
        assert word("send", code)
        assert b"findahelpline" in for_browser(code)
    assert word("no such text") == "no such text"
    assert word("skill_step", "en") == "skill_step"  # a slot left out is no reason to fail


def test_the_operator_names_the_languages_of_the_model():
    assert settings.read({"THERAGEN_LANGUAGES": "en, es"}).languages == ("en", "es")
    wrong = settings.read({"THERAGEN_LANGUAGES": "en,klingon"})
    assert wrong.languages == ("en",)
    assert "THERAGEN_LANGUAGES" in wrong.problems[0]
