"""TheraGen's Space: a chat that shows help first, screens both sides, streams, and keeps nothing.

python space/app.py                                   # base model alone
THERAGEN_ADAPTER=build/embedded/adapter python space/app.py
"""

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import NamedTuple

import lean_gradio  # before Gradio


# isort: split
import gradio as gr

import counters
import engine
import helplines
import interface
import learned
import limits
import person
import settings
from conversation import answered_by_code, help_card, is_card, plain, respond
from hardening import SETTINGS, harden, launching
from person import Person
from screening import screen_reply
from settings import Settings
from texts import text


log = logging.getLogger(__name__)

MAX_CHARACTERS = 8_000  # of one message, for the model; screening reads all of it
PATIENCE = 60  # seconds that a person waits for a place, or for the model to load
WORDS = gr.I18n(**{code: entry["texts"] for code, entry in interface.languages().items()})
EXERCISES = tuple(interface.exercises())


class Room(NamedTuple):
    """What all people share: the model, once it is loaded, and the places of those who are answered at once."""

    loading: "Future[engine.Loaded]"
    places: threading.Semaphore  # a reply is being written
    door: threading.Semaphore  # those, and who waits for a place
    may: Callable[[bytes], bool]  # has a client a message left?
    languages: tuple[str, ...] = ("en",)  # that the model writes well


def room_for(loading: "Future[engine.Loaded]", chosen: Settings) -> Room:
    places, door = threading.Semaphore(chosen.people), threading.Semaphore(chosen.people + chosen.queue)
    return Room(loading, places, door, limits.bucket(chosen.messages, 300), chosen.languages)


def build(room: Room, chosen: Settings) -> gr.Blocks:
    """Return the chat; it opens before the model is ready and stays useful when there is none. What is around it is shell.py's.

    `theragen` in the steps' JavaScript is what browser/chat.js offers.
    """
    with gr.Blocks(title="TheraGen", **SETTINGS["blocks"]) as page:
        chat = gr.Chatbot(
            show_label=False,
            elem_id="chat",
            buttons=[],
            sanitize_html=True,
            allow_file_downloads=False,
            latex_delimiters=[],
        )
        gr.HTML('<div id="starters"></div><div id="trouble" role="alert"></div>', elem_id="beginning")
        message = gr.Textbox(
            placeholder=WORDS("message_placeholder"),
            label=WORDS("message_label"),
            show_label=False,
            lines=1,  # with more, Enter would start a new line instead of sending
            max_lines=8,
            elem_id="message",
        )
        with gr.Row(elem_id="acts"):
            send, stop, _ = (button(name) for name in ("send", "stop", "speak"))
        with gr.Row(elem_id="tools"):
            retry, edit, copy, download, _, clear, forget = (
                button(name) for name in ("retry", "edit_last", "copy", "download", "read_aloud", "clear", "forget")
            )
        status = gr.Markdown(elem_id="status")
        with gr.Accordion(WORDS("about"), open=False, elem_id="about"):
            for name in ("privacy", "crisis_protocol", "learned", "threat_model", "legal"):
                gr.Markdown(beside(f"{name}.md"))
        choices = gr.JSON(visible=False)  # never on the page: the browser puts in what person.py reads

        def answer(history: list[dict], choices: dict | None, request: gr.Request) -> Iterator[list[dict]]:
            yield from reply_to(history, person.read(choices), room, limits.client_of(request.request.scope))

        def chat_api(
            message: str, history: list[dict] | None = None, country: str = chosen.country, request: gr.Request = None
        ) -> Iterator[str]:
            yield from ask(message, history or [], country, room, limits.client_of(request.request.scope))

        private = {"api_visibility": "private", "show_progress": "hidden"}
        in_browser = {"fn": None, "queue": False, **private}
        both = {"inputs": [message, chat], "outputs": [message, chat]}
        answers = []

        def ask_then(start) -> None:
            """Two steps: reading a message and showing help never waits for the model, nor for its queue, however full."""
            read = start(
                receive,
                [message, chat, choices],
                chat,
                queue=False,
                trigger_mode="multiple",  # a message that comes while another is on its way waits for it in the browser
                js="(...sent) => theragen.sending(...sent)",
                **private,
            )
            # Said by the browser, which knows it also when the server can't be reached.
            read.failure(**in_browser, js="() => theragen.unsent()")
            read.success(**in_browser, inputs=[message, chat], outputs=message, js="(...now) => theragen.sent(...now)")
            reply = read.success(
                answer,
                [chat, choices],
                chat,
                concurrency_limit=None,
                js="(...sent) => theragen.asking(...sent)",
                **private,
            )
            reply.success(**in_browser, js="() => theragen.ended()")
            reply.failure(**in_browser, js="() => theragen.failed()")
            answers.append(reply)

        for start in (message.submit, send.click):
            ask_then(start)
        ask_then(retry.click(**in_browser, **both, js="(...now) => theragen.again(...now)").then)
        edit.click(**in_browser, **both, js="(...now) => theragen.edit(...now)")
        copy.click(**in_browser, inputs=chat, js="chat => theragen.copy(chat)")
        download.click(**in_browser, inputs=chat, js="chat => theragen.download(chat)")
        for wiping, how in ((clear, "cleared"), (forget, "forgotten")):
            # In the browser alone: a person can wipe the screen whatever the server does.
            wiped = wiping.click(None, cancels=answers, queue=False, api_visibility="private").then(
                **in_browser, **both, js=f"(...now) => theragen.{how}(...now)"
            )
            wiped.then(**in_browser, inputs=chat, outputs=chat, js="chat => theragen.emptied(chat)")
        stop.click(None, cancels=answers, queue=False, api_visibility="private")
        page.load(partial(notice, room.loading, chosen), outputs=status, concurrency_limit=None, **private)
        gr.api(chat_api, api_name="chat", api_description=ask.__doc__, concurrency_limit=None)
    return page


def button(name: str) -> gr.Button:
    return gr.Button(
        WORDS(name), elem_id=name, variant="primary" if name == "send" else "secondary", min_width=80, size="md"
    )


def beside(name: str) -> str:
    """Return a file of the Space as text; a missing one is no reason to keep a person from help."""
    try:
        return Path(__file__).with_name(name).read_text(encoding="utf-8")
    except (OSError, ValueError):
        log.warning("%s cannot be read; the page opens without it", name)
        return ""


def receive(message: str, history: list[dict], choices: dict | None) -> list[dict]:
    """Add a message to the conversation and, when it calls for help, the help: code alone, within milliseconds."""
    return read_by(person.read(choices), message, history)


def read_by(who: Person, message: str, history: list[dict]) -> list[dict]:
    history = [entry for entry in history if isinstance(entry, dict)] if isinstance(history, list) else []
    if message.strip():
        history = [*history, {"role": "user", "content": message}]
    elif not history or history[-1].get("role") != "user":  # a program may have put its newest message there
        return history
    asked = [person.introduced(history, who)]
    if not any(
        is_card(entry) for entry in history
    ):  # what they say of themselves may call for help too; once is enough
        asked += ([said] for said in person.introduced([], who))
    if card := next(filter(None, (help_card(turns, who.country, who.language) for turns in asked)), ""):
        counters.help_shown()
        history.append({"role": "assistant", "content": card})
    return history


def ask(message: str, history: list[dict], country: str, room: Room, client: bytes) -> Iterator[str]:
    """Answer one message of a program as the page would: the same help, the same screening, the same limits.

    `history` is a list of {"role": "user" or "assistant", "content": text}, oldest first; with an empty message its last turn is the
    one that is answered. Yields the reply as it grows; a help card is HTML.
    """
    who = Person(country=country)
    turns = read_by(who, message, history)
    if turns and turns[-1]["role"] == "assistant":
        yield turns[-1]["content"]
    elif turns:
        yield from words(turns, who, room, client)


def reply_to(history: list[dict], who: Person, room: Room, client: bytes) -> Iterator[list[dict]]:
    """Stream the model's reply, when the last turn is the person's; a help card is an answer of its own."""
    yield history  # a stream that ends without a word would empty the page
    if not history or history[-1]["role"] != "user":
        return
    for said in words(history, who, room, client):
        yield [*history, {"role": "assistant", "content": said}]


def words(history: list[dict], who: Person, room: Room, client: bytes) -> Iterator[str]:
    """Yield the reply to the last message as it grows: by code, by the model, or why there is none."""
    if len(plain(history[-1]["content"])) > MAX_CHARACTERS:
        yield text("too_long", who.language)
    elif answer := answered_by_code(history):
        yield answer
    elif not room.door.acquire(blocking=False):  # first, so that who finds no place has no message less
        counters.refused("busy")
        yield text("busy", who.language)
    else:
        try:
            if room.may(client):
                yield from in_turn(history, who, room)
            else:
                counters.refused("messages")
                yield text("pause", who.language)
        finally:
            room.door.release()


def in_turn(history: list[dict], who: Person, room: Room) -> Iterator[str]:
    """Wait for the model and for a place; yields meanwhile, since only while it yields can a person stop."""
    asked = time.monotonic()
    for _ in range(PATIENCE):
        if room.loading.done():
            break
        yield text("waking", who.language)
        wait([room.loading], timeout=1)
    loaded = room.loading.result() if room.loading.done() else engine.Loaded(None, "the model is still loading")
    if loaded.engine is None:
        yield text("no_model", who.language, reason=loaded.reason)
        return
    for _ in range(PATIENCE):
        if room.places.acquire(timeout=1):
            break
        yield ""
    else:
        yield text("busy", who.language)
        return
    wishes = person.wishes(who, room.languages, EXERCISES)
    try:
        yield from counters.timed(respond(person.introduced(history, who), loaded.engine, who.language, wishes), asked)
    finally:
        room.places.release()


def readiness(loading: "Future[engine.Loaded]") -> str:
    """Say in a word whether replies can be had; for machines that watch the Space."""
    if not loading.done():
        return "loading"
    return "ready" if loading.result().engine else "no model"


async def notice(loading: "Future[engine.Loaded]", chosen: Settings) -> AsyncIterator[str]:
    """Say what replies come from, or plainly what is missing or was not understood.

    Everybody who opens the page waits here while the model loads: a thread for each would leave none for reading a message.
    """
    ready = asyncio.wrap_future(loading)
    while not loading.done():
        yield "The model is still loading."  # again and again: only by that does Gradio let go of who has left
        await asyncio.wait([ready], timeout=5)
    loaded = loading.result()
    source = f"Replies: {loaded.engine.description}." if loaded.engine else text("no_model", reason=loaded.reason)
    yield " ".join([source, *chosen.problems])


def serve(loading: "Future[engine.Loaded]", chosen: Settings) -> None:
    """Open the page and stay until stopped; exits with 2 when the port is taken."""
    harden()
    for problem in chosen.problems:
        log.warning(problem)
    look = {"theme": gr.themes.Soft(font=["system-ui", "sans-serif"]), "i18n": WORDS}
    # A reply that waits for its next word holds a thread; reading a message must always find one.
    threads = 2 * (chosen.people + chosen.queue)
    closed = launching(lambda: readiness(loading), chosen)
    page = build(room_for(loading, chosen), chosen).queue(**SETTINGS["queue"])
    try:
        _, address, _ = page.launch(
            server_port=int(lean_gradio.port),
            quiet=True,
            prevent_thread_lock=True,
            max_threads=threads,
            **look,
            **closed,
        )
    except OSError:
        sys.stderr.write(
            f"Port {lean_gradio.port} is in use: stop what runs there or set GRADIO_SERVER_PORT to another.\n"
        )
        sys.stderr.flush()
        os._exit(2)  # the loading thread would keep the process alive
    sys.stdout.write(f"TheraGen is on {address}\n")
    sys.stdout.flush()
    read_rules()
    page.block_thread()


def read_rules() -> None:
    """Read the rules and the learned tier before the first person writes; who is quicker waits for what their message needs."""
    help_card([{"role": "user", "content": "Hello."}], helplines.ANYWHERE)
    screen_reply("Hello.")
    for deeper in (learned.ENGLISH, learned.SECOND):
        learned.is_quick(deeper)


def main() -> None:
    chosen = settings.read()
    loading = ThreadPoolExecutor(1).submit(engine.load, chosen)
    if engine.ZERO_GPU:  # which looks for functions that want a GPU when the page is opened
        loading.result()
    serve(loading, chosen)


if __name__ == "__main__":
    main()
