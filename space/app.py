"""TheraGen's Space: a chat that shows help first, screens both sides, streams, and keeps nothing.

python space/app.py                                   # base model alone
THERAGEN_ADAPTER=build/embedded/adapter python space/app.py
"""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotReady
from pathlib import Path

import gradio as gr

import engine
import helplines
import learned
from conversation import answered_by_code, help_card, plain, respond
from hardening import SETTINGS, harden
from texts import text


MAX_CHARACTERS = 8_000  # of one message, for the model; screening reads all of it
COUNTRY = os.environ.get("THERAGEN_COUNTRY") or helplines.ANYWHERE  # until, and unless, the browser knows better
GUESS = f"() => theragen.zones[Intl.DateTimeFormat().resolvedOptions().timeZone] ?? '{COUNTRY}'"
BAR = f"code => theragen.bars[code] ?? theragen.bars['{helplines.ANYWHERE}']"


def build(loading: "Future[engine.Loaded]") -> gr.Blocks:
    """Return the page; it opens before the model is ready and stays useful when there is none."""
    with gr.Blocks(title="TheraGen", fill_height=True, **SETTINGS["blocks"]) as page:
        with gr.Row(elem_id="help"):
            bar = gr.HTML(helplines.bar_html(COUNTRY), elem_id="help-bar")
            country = gr.Dropdown(
                [("another country", helplines.ANYWHERE), *((n, code) for code, n in helplines.countries().items())],
                value=COUNTRY,
                label="Help lines for",
                min_width=150,
                scale=0,
                elem_id="country",
            )
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
                gr.Markdown(Path(__file__).with_name(f"{name}.md").read_text(encoding="utf-8"))

        def answer(history: list[dict]) -> Iterator[list[dict]]:
            yield from reply_to(history, loading)

        # Two steps: reading a message and showing help never waits for the model, nor for its queue, however full.
        read = {"inputs": [message, chat, country], "outputs": [message, chat], "queue": False}
        private = {"api_visibility": "private", "show_progress": "hidden"}
        answers = [
            trigger(receive, **read, **private).then(answer, chat, chat, concurrency_limit=1, **private)
            for trigger in (message.submit, send.click)
        ]
        stop.click(None, cancels=answers, queue=False, api_visibility="private")
        # In the browser alone: a person can wipe the screen whatever the server does.
        clear.click(None, cancels=answers, queue=False, api_visibility="private").then(
            None, outputs=[chat, message], js="() => [[], '']", **private
        )
        page.load(None, outputs=country, js=GUESS, **private)
        country.change(None, country, bar, js=BAR, **private)
        page.load(lambda: notice(loading), outputs=status, concurrency_limit=None, **private)
    return page


def receive(message: str, history: list[dict], country: str) -> tuple[str, list[dict]]:
    """Add a message to the conversation and, when it calls for help, the help: code alone, within milliseconds."""
    if not message.strip():
        return "", history
    history = [*history, {"role": "user", "content": message}]
    if card := help_card(history, country):
        history.append({"role": "assistant", "content": card})
    return "", history


def reply_to(history: list[dict], loading: "Future[engine.Loaded]") -> Iterator[list[dict]]:
    """Stream the model's reply, when the last turn is the person's; a help card is an answer of its own."""
    yield history  # a stream that ends without a word would empty the page
    if not history or history[-1]["role"] != "user":
        return
    for said in words(history, loading):
        yield [*history, {"role": "assistant", "content": said}]


def words(history: list[dict], loading: "Future[engine.Loaded]") -> Iterator[str]:
    if len(plain(history[-1]["content"])) > MAX_CHARACTERS:
        yield text("too_long")
        return
    if answer := answered_by_code(history):
        yield answer
        return
    if not loading.done():
        yield text("waking")
    try:
        loaded = loading.result(timeout=60)
    except NotReady:
        loaded = engine.Loaded(None, "the model is still loading")
    if loaded.engine is None:
        yield text("no_model", reason=loaded.reason)
    else:
        yield from respond(history, loaded.engine)


def notice(loading: "Future[engine.Loaded]") -> str:
    """Say what replies come from, or plainly what is missing."""
    try:
        loaded = loading.result(timeout=60)
    except NotReady:
        return "The model is still loading."
    return f"Replies: {loaded.engine.description}." if loaded.engine else text("no_model", reason=loaded.reason)


def serve(loading: "Future[engine.Loaded]") -> None:
    """Open the page and stay until stopped; exits with 2 when the port is taken."""
    harden()
    port = int(os.environ.get("GRADIO_SERVER_PORT", "7860"))
    look = {
        "css_paths": Path(__file__).with_name("style.css"),
        "theme": gr.themes.Soft(font=["system-ui", "sans-serif"]),
        "head": f"<script>const theragen = {helplines.for_browser()}</script>",
    }
    page = build(loading).queue(**SETTINGS["queue"])
    try:
        _, address, _ = page.launch(
            server_port=port, quiet=True, prevent_thread_lock=True, **look, **SETTINGS["launch"]
        )
    except OSError:
        sys.stderr.write(f"Port {port} is in use: stop what runs there or set GRADIO_SERVER_PORT to another port.\n")
        sys.stderr.flush()
        os._exit(2)  # the loading thread would keep the process alive
    sys.stdout.write(f"TheraGen is on {address}\n")
    sys.stdout.flush()
    page.block_thread()


def main() -> None:
    learned.load()  # now, not while the first person waits
    adapter, base = os.environ.get("THERAGEN_ADAPTER", ""), os.environ.get("THERAGEN_BASE", "")
    serve(ThreadPoolExecutor(1).submit(engine.load, adapter, base))


if __name__ == "__main__":
    main()
