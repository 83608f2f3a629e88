"""Why the Hub did not do something, and what to do about it: one sentence for each answer it gives."""

import json

from pushing import first_line


SENTENCES = {
    401: "it does not know this token (401): log in with `hf auth login`, or set HF_TOKEN.",
    402: "it wants a paid plan for this (402): see the billing page of the owner, or create the repository by hand.",
    403: "this token may not write there ({words}, 403): take one with write access to the owner's repositories, unless that says otherwise.",
    404: "it finds no such owner or repository, or this token may not see it (404): check the name and the token.",
    409: "somebody else is changing it (409): wait a minute.",
    412: "somebody else has changed it meanwhile (412): look at what they did.",
    429: "it was asked too often (429): wait {wait}.",
}
FAULT = "it has a fault of its own ({status}): wait some minutes, https://status.huggingface.co says more."
OTHER = "it answered {status} ({words}): read what it says, and try a newer huggingface_hub."
NO_DATA = "it, or something between, answered with a page in place of data: check HF_ENDPOINT and wait some minutes."
SILENT = "it cannot be reached ({kind}): check the network, HF_ENDPOINT and HF_HUB_OFFLINE."


def explained(error: BaseException) -> str:
    """Return what an exception of the Hub's clients means; they wrap one in another, so the whole chain is read."""
    refusal = next((one for one in chain(error) if getattr(one, "response", None) is not None), None)
    if refusal is None:
        return said(error)
    status, wait = refusal.response.status_code, refusal.response.headers.get("Retry-After")
    words = " ".join((getattr(refusal, "server_message", None) or first_line(refusal)).split()).rstrip(".")
    if status in SENTENCES:
        return SENTENCES[status].format(wait=f"{wait} seconds" if wait else "some minutes", words=words)
    return (FAULT if status >= 500 else OTHER).format(status=status, words=words)


def said(error: BaseException) -> str:
    """Return the sentence for an error without an answer: no connection, or something on this side."""
    if any(isinstance(one, json.JSONDecodeError) for one in chain(error)):
        return NO_DATA
    cause = next((one for one in chain(error) if is_silence(one)), None)
    return SILENT.format(kind=type(cause).__name__) if cause else f"{first_line(error).rstrip('.')}."


def is_silence(error: BaseException) -> bool:
    return isinstance(error, ConnectionError) or type(error).__module__.startswith("httpx2")


def chain(error: BaseException):
    while error is not None:
        yield error
        error = error.__cause__
