"""TheraGen's Space: a chat that shows help first, screens both sides, streams, and keeps nothing.

python space/app.py                                   # base model alone
THERAGEN_ADAPTER=build/embedded/adapter python space/app.py
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotReady
from pathlib import Path
from typing import NamedTuple

import gradio as gr

import counters
import engine
import helplines
import learned
import limits
import settings
from conversation import answered_by_code, help_card, plain, respond
from hardening import SETTINGS, harden, launching
from screening import screen_reply
from settings import Settings
from texts import text


log = logging.getLogger(__name__)

MAX_CHARACTERS = 8_000  # of one message, for the model; screening reads all of it
PATIENCE = 60  # seconds that a person waits for a place, or for the model to load
GUESS = "() => theragen.zones[Intl.DateTimeFormat().resolvedOptions().timeZone] ?? '{country}'"
BAR = f"code => theragen.bars[code] ?? theragen.bars['{helplines.ANYWHERE}']"


class Room(NamedTuple):
    """What all people share: the model, once it is loaded, and the places of those who are answered at once."""

    loading: "Future[engine.Loaded]"
    places: threading.Semaphore  # a reply is being written
    door: threading.Semaphore  # those, and who waits for a place
    may: Callable[[bytes], bool]  # has a client a message left?


def room_for(loading: "Future[engine.Loaded]", chosen: Settings) -> Room:
    places, door = threading.Semaphore(chosen.people), threading.Semaphore(chosen.people + chosen.queue)
    return Room(loading, places, door, limits.bucket(chosen.messages, 300))


def build(room: Room, chosen: Settings) -> gr.Blocks:
    """Return the page; it opens before the model is ready and stays useful when there is none."""
    with gr.Blocks(title="TheraGen", fill_height=True, **SETTINGS["blocks"]) as page:
        with gr.Row(elem_id="help"):
            bar = gr.HTML(helplines.bar_html(chosen.country), elem_id="help-bar")
            country = gr.Dropdown(
                [("another country", helplines.ANYWHERE), *((n, code) for code, n in helplines.countries().items())],
                value=chosen.country,
                label="Help lines for",
                min_width=150,
                scale=0,
                elem_id="country",
            )
        # A country that is not on the list must not keep a person from help: helplines answers any.
        country.preprocess = lambda code: code if isinstance(code, str) else helplines.ANYWHERE
        gr.Markdown(f"# TheraGen\n{text('banner')}", elem_id="banner")
        chat = gr.Chatbot(
            show_label=False,
            elem_id="chat",
            buttons=[],
            placeholder=text("privacy_notice"),
            sanitize_html=True,
            allow_file_downloads=False,
            latex_delimiters=[],
        )
        message = gr.Textbox(
            placeholder="Write here. Enter sends, Shift+Enter starts a new line.",
            label="Your message",
            show_label=False,
            lines=1,  # with more, Enter would start a new line instead of sending
            max_lines=8,
            elem_id="message",
        )
        with gr.Row():
            send = gr.Button("Send", variant="primary", elem_id="send", min_width=80)
            stop = gr.Button("Stop", elem_id="stop", min_width=80)
            clear = gr.Button("Clear", elem_id="clear", min_width=80)
        status = gr.Markdown(elem_id="status")
        with gr.Accordion("Privacy, crisis protocol, limits and law", open=False, elem_id="about"):
            for name in ("privacy", "crisis_protocol", "learned", "threat_model", "legal"):
                gr.Markdown(beside(f"{name}.md"))

        def answer(history: list[dict], request: gr.Request) -> Iterator[list[dict]]:
            yield from reply_to(history, room, limits.client_of(request.request.scope))

        def chat_api(
            message: str, history: list[dict] | None = None, country: str = chosen.country, request: gr.Request = None
        ) -> Iterator[str]:
            yield from ask(message, history or [], country, room, limits.client_of(request.request.scope))

        # Two steps: reading a message and showing help never waits for the model, nor for its queue, however full.
        read = {"inputs": [message, chat, country], "outputs": [message, chat], "queue": False}
        private = {"api_visibility": "private", "show_progress": "hidden"}
        # Said by the browser, which knows it also when the server can't be reached.
        unsent = {"outputs": status, "js": f"() => {json.dumps(text('unsent'))}", **private}
        answers = []
        for trigger in (message.submit, send.click):
            reading = trigger(receive, **read, **private)
            reading.failure(None, **unsent)
            answers.append(reading.then(answer, chat, chat, concurrency_limit=None, **private))
            answers[-1].failure(None, **unsent)
        stop.click(None, cancels=answers, queue=False, api_visibility="private")
        # In the browser alone: a person can wipe the screen whatever the server does.
        clear.click(None, cancels=answers, queue=False, api_visibility="private").then(
            None, outputs=[chat, message], js="() => [[], '']", **private
        )
        page.load(None, outputs=country, js=GUESS.format(country=chosen.country), **private)
        country.change(None, country, bar, js=BAR, **private)
        page.load(lambda: notice(room.loading, chosen), outputs=status, concurrency_limit=None, **private)
        gr.api(chat_api, api_name="chat", api_description=ask.__doc__, concurrency_limit=None)
    return page


def beside(name: str) -> str:
    """Return a file of the Space as text; a missing one is no reason to keep a person from help."""
    try:
        return Path(__file__).with_name(name).read_text(encoding="utf-8")
    except (OSError, ValueError):
        log.warning("%s cannot be read; the page opens without it", name)
        return ""


def receive(message: str, history: list[dict], country: str) -> tuple[str, list[dict]]:
    """Add a message to the conversation and, when it calls for help, the help: code alone, within milliseconds."""
    if not message.strip():
        return "", history
    history = [*history, {"role": "user", "content": message}]
    if card := help_card(history, country):
        counters.help_shown()
        history.append({"role": "assistant", "content": card})
    return "", history


def ask(message: str, history: list[dict], country: str, room: Room, client: bytes) -> Iterator[str]:
    """Answer one message of a program as the page would: the same help, the same screening, the same limits.

    `history` is a list of {"role": "user" or "assistant", "content": text}, oldest first. Yields the reply as it grows; a help card is HTML.
    """
    _, turns = receive(message, history, country)
    if turns and turns[-1]["role"] == "assistant":
        yield turns[-1]["content"]
    elif turns:
        yield from words(turns, room, client)


def reply_to(history: list[dict], room: Room, client: bytes) -> Iterator[list[dict]]:
    """Stream the model's reply, when the last turn is the person's; a help card is an answer of its own."""
    yield history  # a stream that ends without a word would empty the page
    if not history or history[-1]["role"] != "user":
        return
    for said in words(history, room, client):
        yield [*history, {"role": "assistant", "content": said}]


def words(history: list[dict], room: Room, client: bytes) -> Iterator[str]:
    """Yield the reply to the last message as it grows: by code, by the model, or why there is none."""
    if len(plain(history[-1]["content"])) > MAX_CHARACTERS:
        yield text("too_long")
    elif answer := answered_by_code(history):
        yield answer
    elif not room.may(client):
        counters.refused("messages")
        yield text("pause")
    elif not room.door.acquire(blocking=False):
        counters.refused("busy")
        yield text("busy")
    else:
        try:
            yield from in_turn(history, room)
        finally:
            room.door.release()


def in_turn(history: list[dict], room: Room) -> Iterator[str]:
    """Wait for the model and for a place; yields meanwhile, since only while it yields can a person stop."""
    asked = time.monotonic()
    if not room.loading.done():
        yield text("waking")
    try:
        loaded = room.loading.result(timeout=PATIENCE)
    except NotReady:
        loaded = engine.Loaded(None, "the model is still loading")
    if loaded.engine is None:
        yield text("no_model", reason=loaded.reason)
        return
    for _ in range(PATIENCE):
        if room.places.acquire(timeout=1):
            break
        yield ""
    else:
        yield text("busy")
        return
    try:
        yield from counters.timed(respond(history, loaded.engine), asked)
    finally:
        room.places.release()


def readiness(loading: "Future[engine.Loaded]") -> str:
    """Say in a word whether replies can be had; for machines that watch the Space."""
    if not loading.done():
        return "loading"
    return "ready" if loading.result().engine else "no model"


def notice(loading: "Future[engine.Loaded]", chosen: Settings) -> str:
    """Say what replies come from, or plainly what is missing or was not understood."""
    try:
        loaded = loading.result(timeout=PATIENCE)
    except NotReady:
        return "The model is still loading."
    source = f"Replies: {loaded.engine.description}." if loaded.engine else text("no_model", reason=loaded.reason)
    return " ".join([source, *chosen.problems])


def serve(loading: "Future[engine.Loaded]", chosen: Settings) -> None:
    """Open the page and stay until stopped; exits with 2 when the port is taken."""
    harden()
    read_rules()
    for problem in chosen.problems:
        log.warning(problem)
    port = int(os.environ.get("GRADIO_SERVER_PORT", "7860"))
    look = {
        "css": beside("style.css"),
        "theme": gr.themes.Soft(font=["system-ui", "sans-serif"]),
        "head": f"<script>const theragen = {helplines.for_browser()}</script>",
    }
    # A reply that waits for its next word holds a thread; reading a message must always find one.
    threads = 2 * (chosen.people + chosen.queue)
    closed = launching(lambda: readiness(loading), chosen.metrics)
    page = build(room_for(loading, chosen), chosen).queue(**SETTINGS["queue"])
    try:
        _, address, _ = page.launch(
            server_port=port, quiet=True, prevent_thread_lock=True, max_threads=threads, **look, **closed
        )
    except OSError:
        sys.stderr.write(f"Port {port} is in use: stop what runs there or set GRADIO_SERVER_PORT to another port.\n")
        sys.stderr.flush()
        os._exit(2)  # the loading thread would keep the process alive
    sys.stdout.write(f"TheraGen is on {address}\n")
    sys.stdout.flush()
    page.block_thread()


def read_rules() -> None:
    """Read the rules and the learned tier now, not while the first person waits."""
    help_card([{"role": "user", "content": "Hello."}], helplines.ANYWHERE)
    screen_reply("Hello.")
    learned.second_is_quick()


def main() -> None:
    chosen = settings.read()
    loading = ThreadPoolExecutor(1).submit(engine.load, chosen)
    if engine.ZERO_GPU:  # which looks for functions that want a GPU when the page is opened
        loading.result()
    serve(loading, chosen)


if __name__ == "__main__":
    main()
