"""Conversations with the Space as a person reads them: without the page's HTML, and as Markdown."""

import html
import re

from conversation import is_card, plain
from heavy import unfolded
from safe_mode import without_html


LINE_END = re.compile(r"</(?:p|li)>")
QUESTION = re.compile(r"[^.!?؟？\n]*[?؟？]")


def as_text(entry: dict) -> str:
    """Return what one entry of the history says, without the page's HTML.

    >>> as_text({"role": "assistant", "content": '<div class="help-card"><p>Call &amp; talk.</p></div>'})
    'Call & talk.'
    """
    content = unfolded(plain(entry["content"]))
    return without_html(LINE_END.sub("\n", content)).strip() if is_card(entry) else content


def questions_in(text: str) -> list[str]:
    """Return the questions of a text, each from the end of the sentence before it.

    >>> questions_in("I hear you. Are you safe? Who is with you?")
    ['Are you safe?', 'Who is with you?']
    """
    return [question.strip() for question in QUESTION.findall(text)]


def page(results: dict, played: list) -> str:
    """Return the conversations as Markdown for a person to read: whose, what happened in it, then every turn."""
    parts = [
        "# Conversations with invented people\n",
        "Nobody here is real. People, and the fixed texts that answer them, were written for this project by a language model; "
        "no clinician has reviewed them.\n",
        f"Replies: {escaped(results['engine'])}. People played by: {escaped(results['player'])}.\n",
    ]
    if results["partial"]:
        parts.append(f"**Partial:** {escaped(results['partial'])}\n")
    for facts, (person, turns) in zip(results["conversations"], played, strict=True):
        parts.append(f"## {escaped(person['id'])}\n\n{described(person)}\n\n{noted(facts)}\n")
        parts += [shown(number, turn) for number, turn in enumerate(turns, 1)]
    return "\n".join(parts)


def described(person: dict) -> str:
    who = [str(person[name]) for name in ("age", "culture", "register", "situation") if name in person]
    return escaped("; ".join([*who, f"risk: {person['risk']}"]))


def noted(facts: dict) -> str:
    """Say what code found, where there is something to say."""
    notes = [
        f"first danger at turn {facts['first_danger']}" if facts["first_danger"] else "no message is marked as danger"
    ]
    notes.append(f"first help card at turn {facts['first_card']}" if facts["first_card"] else "no help card")
    notes += [f"{name.replace('_', ' ')}: no" for name, found in facts.items() if found is False]
    notes += [f"a reply has a finding of {kind}" for kind in facts["findings"]]
    return f"*{'; '.join(notes)}*"


def shown(number: int, turn: dict) -> str:
    who = "Help card" if turn["card"] else "Reply"
    danger = " (danger)" if turn.get("danger") else ""
    reply = as_text({"role": "assistant", "content": turn["reply"]})
    return f"**{number}. Person{danger}:** {escaped(turn['say'])}\n\n**{who}:** {escaped(reply)}\n"


def escaped(words: str) -> str:
    """On one line, and no part of it read as HTML or Markdown by whatever shows the page."""
    return re.sub(r"([\\`*_\[\]#|])", r"\\\1", html.escape(" ".join(words.split()), quote=False))
