"""Gradio with its leaks closed: what the server may keep, write down and send.

Each default that is switched off here was measured to leak in Gradio 6.31; tests/test_space.py, tests/test_hardening.py and
tests/test_markers.py check them again on every upgrade. What it may answer is guard.py's.
"""

import asyncio
import builtins
import logging
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

from gradio.queueing import Queue
from gradio.state_holder import SessionState
from huggingface_hub import constants
from starlette.middleware import Middleware

import guard
import screening
import shell
import voice
from settings import Settings


FORGET_AFTER = 20.0  # seconds after which nothing is left of a session that does not speak
SWEEP_EVERY = 10.0  # seconds; so at most 30 after its last word
HERE = Path(__file__).parent
SILENT = {
    "DO_NOT_TRACK": "1",  # also heeded by huggingface_hub and vLLM
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_ANALYTICS_MAX_EVENTS": "1",  # who spoke when; summing ten thousand up took longer than a reply's first word
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def harden() -> None:
    """Keep conversations out of the server's memory and out of its output; call once, before the page is built."""
    os.environ.update(SILENT)
    constants.HF_HUB_DISABLE_TELEMETRY = True  # read from the environment when it was imported
    # Gradio copies each session's last chat into a dictionary that lives until 10,000 newer sessions push it out.
    SessionState._update_value_in_config = lambda self, key, value: None
    SessionState.__init__ = without_links(SessionState.__init__)
    Queue.process_events = emptied_after(Queue.process_events)
    silence()


def without_links(begin: Callable) -> Callable:
    """For links to a session, which are closed here, Gradio describes each part of the page anew for everyone who comes: a quarter of its time."""

    def init(self, blocks):
        begin(self, SimpleNamespace(default_config=blocks.default_config, blocks={}))

    return init


def emptied_after(process: Callable) -> Callable:
    """Gradio's loops hold on to the last message until somebody else writes one: it is emptied once it was answered."""

    async def process_events(self, events, *rest):
        try:
            await process(self, events, *rest)
        finally:
            for event in events:
                event.data = event.request = None

    return process_events


def silence() -> None:
    """Let nothing but types and places be written: a message or a traceback may quote what a person wrote."""
    logging.setLogRecordFactory(without_content)
    logging.raiseExceptions = False  # else a record that can't be formatted is written out with its arguments
    warnings.simplefilter("ignore")  # pydantic's quote their input
    builtins.print = lambda *_, **__: None  # libraries' own; ours is written to sys.stdout
    traceback.print_exc = lambda *_, **__: write(*sys.exc_info())
    traceback.print_exception = lambda *_, **__: write(*sys.exc_info())
    sys.excepthook = write
    sys.unraisablehook = lambda fault: write(fault.exc_type, fault.exc_value, fault.exc_traceback)
    threading.excepthook = lambda fault: write(fault.exc_type, fault.exc_value, fault.exc_traceback)


def write(kind, _, trace) -> None:
    sys.stderr.write(f"{named(kind, trace)}\n")


def named(kind, trace) -> str:
    frames = traceback.extract_tb(trace)
    place = f"{frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else "an unknown place"
    return f"{kind.__name__ if kind else 'Error'} at {place}"


def without_content(name, level, path, line, message, args, fault, *rest, **more) -> logging.LogRecord:
    """Make a log record: our own modules' words stay, of anything else's only where it was said, of a fault its type."""
    if Path(path or ".").parent != HERE:
        message, args = f"{name} at {Path(path).name}:{line}", ()
    if fault and fault[0]:
        message, args, fault = f"{message}: {named(fault[0], fault[2])}", args, None
    return logging.LogRecord(name, level, path, line, message, args, fault, *rest, **more)


def forget(app, now: datetime) -> None:
    """Drop what Gradio holds of sessions that wait for nothing and have been silent for `FORGET_AFTER` seconds.

    It would keep the last replies of whoever left in the middle, and replies nobody came to fetch.
    """
    blocks, holder = app.get_blocks(), app.state_holder
    queue = blocks._queue
    speaking = {event.session_hash for event in list(queue.event_ids_to_events.values())}
    recent = now - timedelta(seconds=FORGET_AFTER)
    stores = (
        holder.session_data,
        holder.time_last_used,
        queue.pending_messages_per_session,
        queue.pending_event_ids_session,
        blocks.pending_streams,
        blocks.pending_diff_streams,
    )
    for session in set().union(*stores) - speaking:
        if holder.time_last_used.get(session, datetime.min) < recent:
            for store in stores:
                store.pop(session, None)
    app.iterators_to_reset.intersection_update(queue.event_ids_to_events)
    if not holder.session_data:
        screening.verdicts.clear()


@asynccontextmanager
async def sweeping(app):
    """Sweep for as long as the server runs."""

    async def sweep():
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            try:
                forget(app, datetime.now())
            except Exception:  # the next sweep comes; one fault must not end them all
                traceback.print_exc()

    task = asyncio.create_task(sweep())
    yield
    task.cancel()


# Everything that Gradio would offer, store or send by itself. `blocks` goes to gr.Blocks, `launch` with the rest of `launching` to its launch().
SETTINGS = {
    "blocks": {"analytics_enabled": False, "delete_cache": (60, 60)},
    "queue": {"max_size": 1000, "api_open": False},
    "launch": {
        "enable_monitoring": False,
        "footer_links": [],
        "max_file_size": "1kb",
        "mcp_server": False,
        "run_history": False,
        "share": False,
        "show_error": False,
        "ssr_mode": False,
        "state_session_capacity": 200,
        "strict_cors": True,
    },
}


def launching(state: Callable[[], str], chosen: Settings) -> dict:
    """Return the arguments of Gradio's `launch`: closed as above, guarded, with our part of the page and `/health`, which says the word `state` gives."""
    server = {
        "middleware": [Middleware(guard.Guard, dress=shell.dressing(chosen))],
        "routes": [
            *guard.routes(state, chosen.metrics, chosen.feedback),
            *shell.routes(),
            *voice.routes(chosen.whisper),
        ],
        "lifespan": sweeping,
        "docs_url": None,
        "redoc_url": None,
        "openapi_url": None,
    }
    return {**SETTINGS["launch"], "app_kwargs": server}
