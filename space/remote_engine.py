"""Replies from an OpenAI-compatible endpoint: vLLM with the adapter loaded, TGI, llama-server, an Inference Endpoint."""

import ipaddress
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import httpx2
import openai

from base_model import BaseUnavailable
from engine import MAX_NEW_TOKENS, SAMPLING, SILENCE, Engine
from prompts import parted


CONNECT = 5.0  # seconds
WAITS = (0.5, 2.0)  # seconds before the second and the third try of what a busy or restarting server turned down
LONGEST_WAIT = 8.0  # seconds; a server that asks for more has failed, since somebody is waiting
BUSY = {429, 500, 502, 503, 504}
REFUSED = {400, 413, 422}  # this conversation alone: too long, or a field that the server does not take
FAILURES = 5  # in a row, after which the endpoint is left alone
REST = 30.0  # seconds that it is left alone; then one person's message is the trial

# Not in the protocol: vLLM and SGLang know the first name, llama.cpp the second; hosted ones may refuse either.
PENALTIES = dict.fromkeys(("repetition_penalty", "repeat_penalty"), SAMPLING["repetition_penalty"])

# Every header that leaves: the client adds this machine's system and whatever OPENAI_CUSTOM_HEADERS and its like hold.
HEADERS = {"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "user-agent"}
PRIVATE_NAMES = (".home.arpa", ".internal", ".local", ".localhost", ".svc")

log = logging.getLogger(__name__)


class RemoteFailed(Exception):
    """Says what went wrong in our words alone: the client's own errors hold the request, with the key and what was said."""


class Refused(RemoteFailed):
    """The server works, but does not answer this one conversation."""


class RemoteEngine:
    """Asks an endpoint, and while that is out of order the fallback, if there is one.

    A failure before the first word is answered by the fallback, one after it is raised as `RemoteFailed`. Raises
    `BaseUnavailable` for an address that cannot be used; the server itself is first asked for the first reply.
    """

    def __init__(self, endpoint: str, model: str = "", key: str = "", fallback: Engine | None = None):
        address = usable(endpoint)
        self.host, self.named, self.model, self.fallback = address.host, model, model, fallback
        self.client = client_for(address, key)
        self.penalties, self.breaker = PENALTIES, Breaker()

    @property
    def description(self) -> str:
        return f"{self.model.split('/')[-1] or 'the model'} at {self.host}"  # some servers name it by its path

    def stream(self, messages: list[dict]) -> Iterator[str]:
        """Yield pieces, empty ones where the server sends something else than text; raises `RemoteFailed`."""
        said, failure = False, "left alone after several failures"
        if self.breaker.lets_through():
            try:
                with closing(self.attempt(messages)) as pieces:
                    for piece in pieces:
                        said = said or bool(piece)
                        yield piece
                if not said:
                    raise RemoteFailed("no text")
                self.breaker.note(failed=False)
                return
            except Exception as error:
                failure = what_went_wrong(error)
                self.breaker.note(failed=not isinstance(error, Refused))
                self.model = self.named  # a server that was started anew may call it otherwise
            log.warning("The endpoint failed: %s.", failure)
        if said or self.fallback is None:  # raised out here, or it would carry the client's error along
            raise RemoteFailed(f"The endpoint failed: {failure}.")
        yield from self.fallback.stream(messages)

    def attempt(self, messages: list[dict]) -> Iterator[str]:
        """Yield what the server says; raises the client's errors, or `RemoteFailed` where it did not say all."""
        until = time.monotonic() + SILENCE
        with self.accepted(messages, until) as answer:
            body = answer.response.stream = Watched(answer.response.stream, until)
            for chunk in answer:
                for choice in chunk.choices[:1]:  # a report of usage has none
                    text = choice.delta.content or ""  # never reasoning_content: it is not meant for the person
                    if not isinstance(text, str):
                        raise RemoteFailed("something other than text")
                    yield text
                    if choice.finish_reason == "content_filter":
                        raise Refused("its filter cut in")
                    if choice.finish_reason:  # "length" too: our own engine ends there without a word
                        return
                    if text:
                        body.until = time.monotonic() + SILENCE
        raise RemoteFailed("cut off")

    def accepted(self, messages: list[dict], until: float) -> openai.Stream:
        """Return the answer to the conversation, or to its later part where the whole is refused; raises `Refused`.

        How long a conversation may be is known to the server alone, and each says it in words of its own.
        """
        while True:
            try:
                return self.opened(messages, until)
            except openai.APIStatusError as error:
                if error.status_code not in REFUSED:
                    raise
                refusal = f"status {error.status_code}"
                unknown = any(name in str(error) for name in PENALTIES)
            if unknown and self.penalties:
                self.penalties = {}
            elif (later := later_half(messages)) != messages:
                messages = later
            else:
                raise Refused(refusal)

    def opened(self, messages: list[dict], until: float) -> openai.Stream:
        """Return the answer as it begins, asking again while the server is down or busy; raises `openai.APIError`."""
        for pause in (*WAITS, None):
            left = max(until - time.monotonic(), 0.1)
            timeout = openai.Timeout(left, connect=min(left, CONNECT))
            try:
                self.model = name = self.model or self.client.models.list(timeout=timeout).data[0].id
                return self.client.chat.completions.create(
                    model=name,
                    messages=messages,
                    stream=True,
                    max_tokens=MAX_NEW_TOKENS,
                    **{name: SAMPLING[name] for name in ("temperature", "top_p")},
                    extra_body=self.penalties,
                    timeout=timeout,
                )
            except openai.APIError as error:
                wait = pause and wait_after(error, pause)
                if not wait or time.monotonic() + wait > until:
                    raise
            time.sleep(wait)


class Breaker:
    """Opens after `FAILURES` in a row; then lets one through every `REST` seconds until one of those succeeds."""

    def __init__(self):
        self.failures, self.open_until, self.lock = 0, 0.0, threading.Lock()

    def lets_through(self) -> bool:
        with self.lock:
            now = time.monotonic()
            if self.failures >= FAILURES:
                if now < self.open_until:
                    return False
                self.open_until = now + REST  # for all others: a trial that a person stops says nothing
            return True

    def note(self, failed: bool) -> None:
        with self.lock:
            self.failures = self.failures + 1 if failed else 0
            if self.failures >= FAILURES:
                self.open_until = time.monotonic() + REST


class Watched(httpx2.SyncByteStream):
    """A body that fails at the first bytes after `until`: the client's time-out begins anew with every keep-alive."""

    def __init__(self, body: httpx2.SyncByteStream, until: float):
        self.body, self.until = body, until

    def __iter__(self) -> Iterator[bytes]:
        for some in self.body:
            if time.monotonic() > self.until:
                raise httpx2.ReadTimeout("nothing but keep-alives")
            yield some

    def close(self) -> None:
        self.body.close()


def client_for(address: httpx2.URL, key: str) -> openai.OpenAI:
    """Return a client that sends the key given here and none from the environment, through no proxy, to no other host."""
    hooks = {"request": [keep_headers(key.strip())]}
    http = openai.DefaultHttpxClient(trust_env=False, follow_redirects=False, event_hooks=hooks)
    return openai.OpenAI(base_url=address, api_key="a hook sets it", max_retries=0, http_client=http)


def keep_headers(key: str) -> Callable[[httpx2.Request], None]:
    def keep(request: httpx2.Request) -> None:
        for name in set(request.headers) - HEADERS:
            del request.headers[name]
        if key:
            request.headers["Authorization"] = f"Bearer {key}"

    return keep


def usable(endpoint: str) -> httpx2.URL:
    """Return the address with /v1 as its path if it has none; raises `BaseUnavailable`, which never quotes a key."""
    try:
        url = httpx2.URL(endpoint.strip())
    except httpx2.InvalidURL:
        url = httpx2.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise BaseUnavailable("THERAGEN_ENDPOINT is no address; it begins with https://, then a host")
    if url.userinfo or url.query or url.fragment:
        raise BaseUnavailable(
            "THERAGEN_ENDPOINT may hold a host and a path alone; a key goes to THERAGEN_ENDPOINT_KEY"
        )
    if url.scheme == "http" and not is_private(url.host):
        raise BaseUnavailable(
            f"what people write must not travel to {url.host} unencrypted; let THERAGEN_ENDPOINT begin with https://"
        )
    return url.copy_with(path=url.path.rstrip("/") or "/v1")


def is_private(host: str) -> bool:
    """Whether a host is this machine or one of a network of one's own, such as a container called `vllm`."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host.endswith(PRIVATE_NAMES) or ("." not in host and host[0].isalpha())


def later_half(messages: list[dict]) -> list[dict]:
    """Drop the older half of the turns, so that the person begins; a system message and the last turn stay."""
    system, turns = parted(messages)
    return system + turns[-(len(turns) // 2 // 2 * 2 + 1) :]


def wait_after(error: openai.APIError, otherwise: float) -> float | None:
    """Return the seconds to wait before asking again, never the same for two people; None where that would not help."""
    if isinstance(error, openai.APITimeoutError):
        return None
    if isinstance(error, openai.APIStatusError):
        if error.status_code not in BUSY:
            return None
        asked = error.response.headers.get("Retry-After", "")
        if asked.isdecimal():  # the other form is a date
            otherwise = max(otherwise, float(asked))
    return otherwise * random.uniform(1.0, 1.5) if otherwise <= LONGEST_WAIT else None


def what_went_wrong(error: Exception) -> str:
    if isinstance(error, RemoteFailed):
        return str(error)
    status = getattr(error, "status_code", None)
    return f"status {status}" if status else type(error.__cause__ or error).__name__
