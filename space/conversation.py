"""The turn: the whole message is screened, help is shown by code, the model replies, each sentence is screened."""

import html
import re
import time
from collections.abc import Iterator
from contextlib import closing

import counters
import helplines
from engine import Engine, NoTimeLeft, TooLong
from heavy import folded, unfolded
from safe_mode import danger_confirmed_in, is_about_self, next_again, next_question
from screening import Finding, asks_if_human, screen, screen_reply
from texts import languages, text


MOST_TURNS = 400  # of a conversation, the newest; a browser could send any number
DEADLINE = 90.0  # seconds for one reply; then what was said so far stands
PULSE = 0.05  # seconds; what the page does for a yield costs as much as two tokens of the embedded base
FEW = 4  # replies at once; with more, each pulses the less often, or the page would do nothing else
LOOK_BACK = 40  # characters, in whole sentences, read together with the next one, so that harm split over two is seen
HELP = '<div class="help-card">'
SENTENCE_END = re.compile(r"[.!?…؟][\"')\]]*\s+|[。！？।][”’」』\"')\]]*\s*|\n+")

writing: set[object] = set()  # one for each reply that is being written

# Kinds of finding with a text of their own; any other gets the text of its level.
OWN_TEXT = {"child", "eating-disorder", "harm-now", "harm-others", "overdose", "psychosis", "self-harm"}
LOUD = {"overdose", "psychosis"}  # which call for more than the text for somebody about to end their life


def read(history: list[dict]) -> list[dict]:
    """Return the turns of a page's history as plain messages, our own help cards left out.

    A browser sends content as a list of parts, the API as a string. Only the person and the model have turns: a
    `system` turn can only be forged and is ignored.
    """
    turns: list[dict] = []
    for entry in history[-MOST_TURNS:]:
        content = unfolded(plain(entry.get("content")))
        if entry.get("role") not in ("user", "assistant") or not content or is_card(entry):
            continue
        if turns and turns[-1]["role"] == entry["role"]:
            turns[-1] = {"role": entry["role"], "content": f"{turns[-1]['content']}\n\n{content}"}
        else:
            turns.append({"role": entry["role"], "content": content})
    return turns


def plain(content) -> str:
    if isinstance(content, str):
        return content.strip()
    if isinstance(content, list):
        parts = (part.get("text", "") if isinstance(part, dict) else part for part in content)
        return " ".join(part for part in parts if isinstance(part, str)).strip()
    return ""


def said(history: list[dict], role: str = "user") -> list[str]:
    """Return what the person wrote, oldest first (what screening reads), or with "assistant" what answered, cards too."""
    return [plain(entry.get("content")) for entry in history[-MOST_TURNS:] if entry.get("role") == role]


def help_card(history: list[dict], country: str, language: str = "en") -> str:
    """Return the help that the last message calls for as HTML, or an empty string; needs no model and never raises.

    It comes in `language`, that of the page, or where that is English in the language of what was found.
    """
    page = language
    try:
        turns, answered = said(history), said(history, "assistant")
        name, language = fixed_text(turns)
        if name in ("", "risk") and (confirmed := danger_confirmed_in(answered, turns[-1])):
            name, language = "imminent", confirmed
        if not name:
            return ""
        language = page if page != "en" else language
        if name == "risk" and any(is_card(entry) for entry in history) and is_about_self(screen(turns[:-1]).findings):
            return card(next_again(answered, language), country, language, next_question(answered, language))
        return card(name, country, language)
    except Exception:  # an error means: show help
        return card("risk", country, page)


def fixed_text(turns: list[str]) -> tuple[str, str]:
    """Name the text that answers the last message by code, and its language; no name when the model may answer."""
    screening = screen(turns)
    if screening.now not in ("risk", "imminent"):
        return "", "en"
    now = [finding for finding in screening.findings if finding.turn == len(turns) - 1]
    kinds = [finding.kind for finding in now if finding.kind in OWN_TEXT]
    if screening.now == "imminent" and is_about_self(now[:1]):  # nothing quieter may stand in its place
        kinds = [kind for kind in kinds if kind in LOUD]
    if now and all(finding.subject == "other" for finding in now):
        return "other_person", language_of(now)
    return (kinds[0].replace("-", "_") if kinds else screening.now), language_of(now)


def language_of(findings: list[Finding]) -> str:
    """The language of the gravest finding, where texts exist in it: rules of other languages are named kind/language."""
    language = findings[0].rule.split("/")[-1].split("-")[0] if findings else "en"
    return language if language in languages() else "en"


def card(name: str, country: str, language: str = "en", question: str = "") -> str:
    parts = [*text(name, language, helplines="{helplines}").split("\n\n"), *filter(None, [question])]
    bar = helplines.bar_html(country, language)
    lines = (bar if part == "{helplines}" else f'<p dir="auto">{html.escape(part)}</p>' for part in parts)
    return f"{HELP}{''.join(lines)}</div>"


def is_card(entry: dict) -> bool:
    return entry.get("role") == "assistant" and plain(entry.get("content")).startswith(HELP)


def answered_by_code(history: list[dict]) -> str:
    """Return what is said in a model's place whether there is one or not, or an empty string."""
    language = asks_if_human(plain(history[-1].get("content")))
    return text("are_you_human", language) if language else ""


def respond(history: list[dict], engine: Engine, language: str = "en", wishes: str = "") -> Iterator[str]:
    """Yield the reply as it grows, each sentence screened before it appears; whatever breaks ends in a fixed text.

    Fixed texts come in `language`, that of the page. `wishes` are sentences of ours, put before the person's first (person.py).

    Yields every `PULSE` seconds also when no new sentence is complete: only while it yields can a reply be stopped.
    """
    shown = cover = question = ""
    told = -PULSE
    this = object()
    try:
        writing.add(this)
        turns, person = read(history), said(history)
        if answer := answered_by_code(history):
            yield answer
            return
        if wishes and turns and turns[0]["role"] == "user":
            turns[0] = {"role": "user", "content": f"{wishes}\n\n{turns[0]['content']}"}
        level, findings, _ = screen(person)
        if level in ("risk", "imminent"):
            turns = [{"role": "system", "content": text("safe_mode")}, *turns]
            if is_about_self(findings):
                spoken = language if language != "en" else language_of(findings)
                question = next_question(said(history, "assistant"), spoken)
        with closing(engine.stream(turns)) as pieces:  # closed at once when the person stops, not when collected
            for grown in sentences_that_pass(pieces, bool(question), language):
                if grown != shown:
                    shown, cover = grown, folded(grown, person, language)
                elif time.monotonic() - told < PULSE * max(1, len(writing) / FEW):
                    continue
                told = time.monotonic()
                yield cover
        if not shown or question:
            yield f"{cover or text('model_failed', language)}\n\n{question}".strip()
    except Exception as error:  # never a traceback, never silence
        counters.failed(error)
        why = {NoTimeLeft: "no_time", TooLong: "too_long"}.get(type(error), "model_failed")
        yield "\n\n".join(filter(None, [cover, text(why, language), question]))
    finally:
        writing.discard(this)


def sentences_that_pass(pieces: Iterator[str], drop_questions: bool = False, language: str = "en") -> Iterator[str]:
    """Yield the text made of whole, screened sentences; a finding ends the reply with a fixed text in its place.

    `drop_questions` leaves out the model's own questions, where a scripted one follows: two at once are too many.
    """
    started = time.monotonic()
    passed: list[str] = []
    waiting = ""
    for piece in pieces:
        waiting += piece
        *complete, waiting = split(waiting)
        for sentence in complete:
            if blocked(passed, sentence):
                yield "".join([*passed, text("cut", language)])
                return
            if not (drop_questions and is_question(sentence)):
                passed.append(sentence)
        yield "".join(passed)
        if time.monotonic() - started > DEADLINE:
            return
    if waiting.strip() and not (drop_questions and is_question(waiting)):
        yield "".join([*passed, text("cut", language) if blocked(passed, waiting) else waiting]).strip()


def is_question(sentence: str) -> bool:
    return "?" in sentence or "？" in sentence or "؟" in sentence


def split(waiting: str) -> list[str]:
    """Cut after every sentence end; the last part is what is still being written.

    >>> split("One. Two! Thr")
    ['One. ', 'Two! ', 'Thr']
    """
    ends = [match.end() for match in SENTENCE_END.finditer(waiting)]
    return [waiting[start:end] for start, end in zip([0, *ends], [*ends, len(waiting)], strict=True)]


def blocked(passed: list[str], sentence: str) -> bool:
    before = ""
    for earlier in reversed(passed):
        before = earlier + before
        if len(before) >= LOOK_BACK:
            break
    return bool(screen_reply(before + sentence))
