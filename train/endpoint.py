"""Ask a model at an OpenAI-compatible endpoint (vLLM, llama.cpp, Ollama, a hosted one) and get its text, or one sentence.

By httpx: huggingface_hub's InferenceClient speaks the same protocol, but without a key it sends the Hub token of whoever
is logged in to any address, and HF_HUB_OFFLINE=1 makes it refuse every address, a server on this machine too.
"""

import os
import time
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import httpx


SEED = 20
WAITS = (1.0, 4.0)  # seconds before the second and the third try of a request that a busy server turned down
LONGEST_WAIT = 30.0  # whatever the server asks for
BUSY = {429, 500, 502, 503, 504}
UNKNOWN_FIELD = {400, 422}  # what servers answer to a field they do not take


class EndpointFailed(ValueError):
    """One sentence for a person; whoever asked many things leaves in `done` what was finished before."""

    done: Sequence = ()


class EmptyAnswer(EndpointFailed):
    """The server works but said nothing, as some do where a filter of theirs cuts in."""


class Endpoint(NamedTuple):
    """Where a model answers. The key is not here: `key_variable` names the environment variable that holds it, if any."""

    url: str
    model: str
    key_variable: str
    timeout: float = 120.0

    def __str__(self) -> str:
        """Host and port alone: the rest of an address may hold what nobody else should read."""
        return f"{self.model} at {httpx.URL(self.url).netloc.decode().rpartition('@')[2]}"


def endpoint_at(url: str, model: str, key_variable: str) -> Endpoint:
    """Return the endpoint; raises ValueError for what is no address or for a model without a name."""
    try:
        usable = httpx.URL(url).scheme in ("http", "https") and httpx.URL(url).host
    except httpx.InvalidURL:
        usable = False
    if not usable:
        raise ValueError(f"{url} is no address of an endpoint: it begins with http:// or https://, then a host.")
    if not model:
        raise ValueError(f"No model is named for the endpoint {url}: say which of its models to ask.")
    return Endpoint(url, model, key_variable)


def ask(endpoint: Endpoint, messages: list[dict], max_tokens: int, as_json: bool = False) -> str:
    """Return the model's answer, its likeliest one where the server heeds temperature 0 and the seed.

    `as_json` asks for a JSON object; a server that does not know how is asked once more without. Raises EndpointFailed.
    """
    body = {"model": endpoint.model, "messages": messages, "max_tokens": max_tokens, "temperature": 0, "seed": SEED}
    wish = {"response_format": {"type": "json_object"}} if as_json else {}
    response = patiently(endpoint, {**body, **wish})
    if wish and response.status_code in UNKNOWN_FIELD:
        response = patiently(endpoint, body)
    if not response.is_success:
        raise EndpointFailed(f"{endpoint} answered with status {response.status_code}: {why(response, endpoint)}")
    return text_of(response, endpoint)


def patiently(endpoint: Endpoint, body: dict) -> httpx.Response:
    """Post, and post again a bounded number of times while the server says that it is busy or broken."""
    response = post(endpoint, body)
    for wait in WAITS:
        if response.status_code not in BUSY:
            break
        time.sleep(min(asked_to_wait(response) or wait, LONGEST_WAIT))
        response = post(endpoint, body)
    return response


def asked_to_wait(response: httpx.Response) -> float:
    try:
        return max(0.0, float(response.headers.get("Retry-After", 0)))
    except ValueError:  # a date
        return 0.0


def post(endpoint: Endpoint, body: dict) -> httpx.Response:
    key = os.environ.get(endpoint.key_variable, "").strip()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        return client().post(address(endpoint.url), json=body, headers=headers, timeout=endpoint.timeout)
    except httpx.TimeoutException as error:
        raise EndpointFailed(f"{endpoint} did not answer within {endpoint.timeout:g} seconds.") from error
    except httpx.HTTPError as error:
        raise EndpointFailed(f"{endpoint} cannot be reached: {str(error) or type(error).__name__}.") from error


@cache
def client() -> httpx.Client:
    return httpx.Client()  # one for all threads: connections are kept, and redirects are not followed with a key


def address(url: str) -> str:
    """Where chat completions are, as OpenAI's own clients have it: after the path that was given, /v1 if none was.

    >>> address("http://127.0.0.1:8000"), address("https://example.org/api/v1/")
    ('http://127.0.0.1:8000/v1/chat/completions', 'https://example.org/api/v1/chat/completions')
    """
    given = httpx.URL(url)
    return str(given.copy_with(path=(given.path.rstrip("/") or "/v1") + "/chat/completions"))


def why(response: httpx.Response, endpoint: Endpoint) -> str:
    """What the server says is wrong, on one line, the key taken out should it stand in there."""
    said = " ".join(response.text.split())[:300] or response.reason_phrase
    key = os.environ.get(endpoint.key_variable, "").strip()
    return said.replace(key, "(the key)") if key else said


def text_of(response: httpx.Response, endpoint: Endpoint) -> str:
    try:
        text = response.json()["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError) as error:
        raise EndpointFailed(f"{endpoint} answered with something that is no chat completion.") from error
    if not isinstance(text, str) or not text.strip():
        raise EmptyAnswer(f"{endpoint} gave an empty answer.")
    return text.strip()
