"""Gradio with its leaks closed: what the server may answer, keep and write down.

Each default that is switched off here was measured to leak in Gradio 6.31; tests/test_space.py checks
them again on every upgrade.
"""

import logging
import sys
import traceback

from gradio.state_holder import SessionState
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse


MAX_BODY = 256 * 1024  # bytes: a long conversation travels with each message, a file must not
PATHS = (
    "/",
    "/config",
    "/favicon.ico",
    "/gradio_api/run/predict",  # steps that wait for no queue; the others refuse to be called here
    "/manifest.json",
    "/robots.txt",
    "/theme.css",
)
PREFIXES = (
    "/assets/",
    "/static/",
    "/svelte/",
    "/gradio_api/app_id",
    "/gradio_api/cancel",
    "/gradio_api/heartbeat/",
    "/gradio_api/info",
    "/gradio_api/queue/",
    "/gradio_api/reset",
    "/gradio_api/startup-events",
    "/gradio_api/theme.css",
)
HEADERS = (
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)


class Guard:
    """ASGI middleware: routes outside the list answer 404, bodies over `MAX_BODY` 413, nothing is cached."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if not allowed(scope["path"], scope.get("query_string", b"")):
            return await PlainTextResponse("Not found", 404)(scope, receive, send)
        body = await read_body(receive)
        if body is None:
            return await PlainTextResponse("Too large", 413)(scope, receive, send)
        return await self.app(scope, replay(body, receive), with_headers(scope["path"], send))


def allowed(path: str, query: bytes) -> bool:
    return (path in PATHS or path.startswith(PREFIXES)) and b"deep_link" not in query


async def read_body(receive) -> bytes | None:
    """Return the whole request body, or None as soon as it is over `MAX_BODY`, whatever its length header says."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body"):
            return body


def replay(body: bytes, receive):
    """Return a `receive` that gives the body that was read already, then whatever the client sends next."""
    sent = False

    async def again():
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def with_headers(path: str, send):
    immutable = path.startswith(("/assets/", "/static/", "/svelte/"))
    extra = [header for header in HEADERS if not (immutable and header[0] == b"cache-control")]

    async def wrapped(message):
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *extra]}
        await send(message)

    return wrapped


def harden() -> None:
    """Keep conversations out of the server's memory and out of its output; call once, before launch."""
    # Gradio copies each session's last chat into a dictionary that lives until 10,000 newer sessions push it out.
    SessionState._update_value_in_config = lambda self, key, value: None
    # A traceback quotes what a person wrote. Type and line are enough to find a fault.
    traceback.print_exc = print_type_and_line
    sys.excepthook = lambda kind, error, trace: write(kind, trace)
    for name in ("uvicorn.error", "gradio", "asyncio"):
        logging.getLogger(name).addFilter(without_content)
    logging.getLogger("uvicorn.access").disabled = True  # the query string holds the session's secret
    logging.getLogger("httpx").setLevel(logging.WARNING)


def print_type_and_line(*_, **__) -> None:
    kind, _, trace = sys.exc_info()
    write(kind, trace)


def write(kind, trace) -> None:
    frames = traceback.extract_tb(trace)
    place = f"{frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else "unknown place"
    sys.stderr.write(f"{kind.__name__ if kind else 'Error'} at {place}\n")


def without_content(record: logging.LogRecord) -> bool:
    if record.exc_info:
        kind, _, trace = record.exc_info
        frames = traceback.extract_tb(trace)
        record.msg, record.args = f"{kind.__name__} at line {frames[-1].lineno if frames else '?'}", ()
        record.exc_info = record.exc_text = None
    return True


# Everything that Gradio would offer, store or send by itself. `blocks` goes to gr.Blocks, `launch` to its launch().
SETTINGS = {
    "blocks": {"analytics_enabled": False, "delete_cache": (60, 60)},
    "queue": {"max_size": 32, "api_open": False},
    "launch": {
        "app_kwargs": {"middleware": [Middleware(Guard)], "docs_url": None, "redoc_url": None, "openapi_url": None},
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
