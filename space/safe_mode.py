"""What somebody at risk is asked after the first card: one scripted question a turn, each asked once, in this order.

The questions follow what crisis lines and the C-SSRS ask about (plan, means, support, willingness, barriers); their words are
data in replies.json. Which ones were asked is read from the conversation itself, so nothing has to be kept.
"""

import html
import re

from screening import Finding
from texts import languages, text


QUESTIONS = ("ask_plan", "ask_means", "ask_support", "ask_willing", "ask_barriers")
# A yes to one of these is as urgent as saying it unasked; of a card it is the last sentence that asks.
GRAVE, GRAVE_CARDS = ("ask_plan", "ask_means"), ("risk", "self_harm")
AGAIN = ("risk_again", "risk_again_2", "risk_again_3")
TAG = re.compile(r"<[^>]+>")
LAST_SENTENCE = re.compile(r"[^.!?。؟？।\n]+[?؟？]$")


def is_about_self(findings: list[Finding]) -> bool:
    """Whether the person themselves speaks of suicide; the questions fit nobody else."""
    return any(finding.subject == "self" and finding.kind == "suicide" for finding in findings)


def next_question(replies: list[str], language: str) -> str:
    """The first question that is in none of the replies so far, or an empty string when all were asked."""
    asked = without_html("\n".join(replies))
    return next((question for question in texts_of(QUESTIONS, language) if question not in asked), "")


def next_again(replies: list[str], language: str) -> str:
    """Name what is said when danger is named again: one that was not the last of them, so that no two are alike."""
    before = [without_html(reply) for reply in replies]
    count = sum(text(name, language) in reply for name in AGAIN for reply in before)
    return AGAIN[count % len(AGAIN)]


def danger_confirmed_in(replies: list[str], answer: str) -> str:
    """The language in which the newest message says yes to a grave question ("yeah", "kind of"), or ""."""
    said = without_html(replies[-1]).rstrip() if replies else ""
    if not said.endswith(("?", "؟", "？")):
        return ""
    for language in sorted(languages()):
        if said.endswith(grave_questions(language)):
            return language if any(says_yes(answer, spoken) for spoken in languages()) else ""
    return ""


def says_yes(answer: str, language: str) -> bool:
    """Whether an answer begins with a yes; "I am" is one, "I am not" and "I am fine" are none."""
    words, negations = (text(name, language).split(", ") for name in ("affirmations", "negations"))
    found = re.match(rf"\W*({one_of(words)})(?!\w)", answer, re.IGNORECASE)
    denied = (
        found and " " in found[1] and re.match(rf"\W+(?:{one_of(negations)})\b", answer[found.end() :], re.IGNORECASE)
    )
    return bool(found) and not denied


def one_of(words: list[str]) -> str:
    return "|".join(map(re.escape, words))


def grave_questions(language: str) -> tuple[str, ...]:
    cards = (text(name, language, helplines="") for name in GRAVE_CARDS)
    return *texts_of(GRAVE, language), *(found[0].strip() for card in cards if (found := LAST_SENTENCE.search(card)))


def without_html(reply: str) -> str:
    """A card is HTML, a reply of the model's is not."""
    return html.unescape(TAG.sub("", reply))


def texts_of(names: tuple[str, ...], language: str) -> list[str]:
    return [text(name, language) for name in names]
