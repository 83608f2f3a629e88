"""What the server answers: the routes the page needs and no others, small requests, few at a time, with strict headers.

Gradio's own routes store, share and list more than a page of support may (hardening.py); an upgrade may bring new ones.
"""

import asyncio
import json
import re
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, compile_path

import counters
from interface import language_for
from limits import bucket, client_of
from texts import text


MAX_BODY = 1024 * 1024  # bytes: a whole evening's conversation travels with each message, a file must not
MAX_HEAD = 16 * 1024  # bytes of path, query and headers
BODY_SECONDS = 10.0  # for a body to arrive
FLOOD = 300  # requests a minute and client; a message takes three, a page three and its assets, which aren't counted
ASSETS = ("/assets/", "/browser/", "/static/", "/svelte/")

# Gradio's own notation, so that tests/test_hardening.py can compare this with its table of routes.
OPEN = {
    "/": "GET HEAD",
    "/assets/{path:path}": "GET",
    "/browser/{path:path}": "GET",
    "/config": "GET",
    "/favicon.ico": "GET",
    "/feedback": "POST",  # there only where it is asked for
    "/gradio_api/cancel": "POST",
    "/gradio_api/heartbeat/{session_hash}": "GET",  # gradio_client's
    "/gradio_api/info": "GET",  # gradio_client's: names the one public step
    "/gradio_api/queue/data": "GET",
    "/gradio_api/queue/join": "POST",
    "/gradio_api/reset": "POST",
    "/gradio_api/run/predict": "POST",  # steps that wait for no queue; the others refuse to be called here
    "/gradio_api/startup-events": "GET",
    "/health": "GET HEAD",
    "/manifest.json": "GET",
    "/metrics": "GET HEAD",  # there only where it is asked for
    "/robots.txt": "GET",
    "/static/{path:path}": "GET",
    "/svelte/{path:path}": "GET",
    "/theme.css": "GET",
    "/transcribe": "POST",  # there only where it is asked for
    "/words/{language}": "GET",
}
PATTERNS = [(compile_path(path)[0], methods.split()) for path, methods in OPEN.items()]

# Spaces are shown within a frame of huggingface.co.
FRAMES = "frame-ancestors 'self' https://huggingface.co https://*.hf.space"
# Gradio runs the `js` of its events by `new Function` and styles elements in place; scripts in the page are named by hash.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval' {hashes}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; media-src 'self' blob:; font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'self'; "
    f"form-action 'none'; {FRAMES}"
)
OTHER_POLICY = f"default-src 'none'; {FRAMES}"
HEADERS = {
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "permissions-policy": "microphone=(self), camera=(), display-capture=(), geolocation=(), payment=(), usb=()",
}
CLOSE = {"connection": "close"}  # what is refused may still be sending
CONFIG = re.compile(rb"window\.gradio_config = (.*?);</script>", re.DOTALL)
SCRIPT = re.compile(rb"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.DOTALL)


class Guard:
    """ASGI middleware that stands before Gradio; `dress` adds our part to its page (shell.py)."""

    def __init__(self, app, dress: Callable[[bytes, str], bytes] = lambda page, _: page):
        self.app, self.dress = app, dress
        self.may = bucket(FLOOD, 60)

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        accepted = Headers(scope=scope).get("accept-language", "")
        send = with_headers(scope["path"], send, lambda page: self.dress(page, accepted))
        if refused := self.refusal(scope):
            return await refused(scope, receive, send)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await read_body(receive)
        except TimeoutError:
            return await refusal(scope, 408, "time")(scope, receive, send)
        except ClientDisconnect:
            return None
        if body is None:
            return await refusal(scope, 413, "size", "too_long")(scope, receive, send)
        return await self.app(scope, replay(body, receive), send)

    def refusal(self, scope) -> Response | None:
        """What is answered instead of the request, or None: judged by its head alone."""
        if not allowed(scope["method"], scope["path"], scope["query_string"]):
            return PlainTextResponse("Not found", 404, CLOSE)
        if size_of_head(scope) > MAX_HEAD:
            return refusal(scope, 431, "size")
        if not scope["path"].startswith(ASSETS) and not self.may(client_of(scope)):
            return refusal(scope, 429, "flood")
        return None


def allowed(method: str, path: str, query: bytes = b"") -> bool:
    return b"deep_link" not in query and any(
        pattern.match(path) and method in methods for pattern, methods in PATTERNS
    )


def size_of_head(scope) -> int:
    return (
        len(scope["raw_path"])
        + len(scope["query_string"])
        + sum(len(name) + len(value) for name, value in scope["headers"])
    )


def refusal(scope, status: int, reason: str, name: str = "flood") -> Response:
    """A kind text that says where help is; the page shows what its own requests get under "error" or "detail"."""
    counters.refused(reason)
    said = text(name, language_for(Headers(scope=scope).get("accept-language", "")))
    if scope["path"].startswith("/gradio_api/"):
        return JSONResponse({"error": said, "detail": said}, status, CLOSE)
    return PlainTextResponse(said, status, CLOSE)


async def read_body(receive) -> bytes | None:
    """Return the whole request body, or None as soon as it is over `MAX_BODY`, whatever its length header says."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body"):
            return bytes(body)


def replay(body: bytes, receive):
    """Return a `receive` that gives the body that was read already, then whatever the client sends next."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def again():
        return waiting.pop() if waiting else await receive()

    return again


def with_headers(path: str, send, dress: Callable[[bytes], bytes]):
    """Return a `send` that adds our headers; the page is held back until our part is in it and its scripts are known, to name them."""
    start, page = {}, bytearray()

    async def wrapped(message):
        nonlocal start
        if message["type"] == "http.response.start":
            counters.answered(message["status"])
            start = {**message, "headers": list(message.get("headers", []))}
            headers = MutableHeaders(raw=start["headers"])
            headers.update(HEADERS)
            if not path.startswith(ASSETS):
                headers["cache-control"] = "no-store"
            elif path.startswith("/browser/"):  # whose names stay when what is in them changes
                headers["cache-control"] = "no-cache"
            if path != "/":
                headers["content-security-policy"] = OTHER_POLICY
                await send(start)
        elif path != "/":
            await send(message)
        else:
            page.extend(message.get("body", b""))
            if not message.get("more_body"):
                dressed = dress(bytes(page)) if page else b""
                headers = MutableHeaders(raw=start["headers"])
                headers["content-security-policy"] = policy(dressed)
                if page:
                    headers["content-length"] = str(len(dressed))
                await send(start)
                await send({"type": "http.response.body", "body": dressed})

    return wrapped


def policy(page: bytes) -> str:
    """The content policy of the page: no other host, and no script but its own, so that none can be slipped in.

    Its own are those in it and those in the `head` of Gradio's configuration, which it adds to itself when it opens.
    """
    config = CONFIG.search(page)
    head = (json.loads(config[1]).get("head") or "").encode() if config else b""
    named = (
        f"'sha256-{b64encode(sha256(script).digest()).decode()}'"
        for script in [*SCRIPT.findall(page), *SCRIPT.findall(head)]
    )
    return PAGE_POLICY.format(hashes=" ".join(dict.fromkeys(named)))


def routes(state: Callable[[], str], metrics: bool, feedback: bool = False) -> list[Route]:
    """`/health`, which says in a word whether replies can be had, and where they are asked for `/metrics` and `/feedback`."""

    def health(_):
        return JSONResponse({"state": state()})

    def exposed(_):
        counts, kind = counters.exposed()
        return Response(counts, media_type=kind)

    async def rated(request):
        said = await request.body()
        if said not in (b"up", b"down"):
            return PlainTextResponse("A rating is up or down.", 400)
        counters.rated(said.decode())
        return Response(status_code=204)

    return [
        Route("/health", health),
        *([Route("/metrics", exposed, methods=["GET"])] if metrics else []),
        *([Route("/feedback", rated, methods=["POST"])] if feedback else []),
    ]
