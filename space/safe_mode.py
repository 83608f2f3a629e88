"""What somebody at risk is asked after the first card: one scripted question a turn, each asked once, in this order.

The questions follow what crisis lines and the C-SSRS ask about (plan, means, support, willingness, barriers); their words are
data in replies.json. Which ones were asked is read from the conversation itself, so nothing has to be kept.
"""

import re

from screening import Finding
from texts import languages, text


QUESTIONS = ("ask_plan", "ask_means", "ask_support", "ask_willing", "ask_barriers")
GRAVE = ("ask_plan", "ask_means")  # a yes to one of these is as urgent as saying it unasked


def is_about_self(findings: list[Finding]) -> bool:
    """Whether the person themselves speaks of suicide; the questions fit nobody else."""
    return any(finding.subject == "self" and finding.kind == "suicide" for finding in findings)


def next_question(replies: list[str], language: str) -> str:
    """The first question that is in none of the replies so far, or an empty string when all were asked."""
    asked = "\n".join(replies)
    return next((question for question in texts_of(QUESTIONS, language) if question not in asked), "")


def danger_confirmed_in(replies: list[str], answer: str) -> str:
    """The language in which the newest message says yes to a question on a plan or means ("yeah", "kind of"), or ""."""
    for language in sorted(languages()) if replies else ():
        if any(replies[-1].rstrip().endswith(question) for question in texts_of(GRAVE, language)):
            words = text("affirmations", language).split(", ")
            said_yes = rf"\W*(?:{'|'.join(map(re.escape, words))})(?!\w)"
            return language if re.match(said_yes, answer, re.IGNORECASE) else ""
    return ""


def texts_of(names: tuple[str, ...], language: str) -> list[str]:
    return [text(name, language) for name in names]
