"""What an operator may count: how many, how long, which type of fault. Never a text, a name, an address, a country.

Everything is counted at all times; it can be read only where `THERAGEN_METRICS` is on (guard.py).
"""

import time
from collections.abc import Generator, Iterator
from contextlib import closing

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, exposition


disable_created_metrics()
REGISTRY = CollectorRegistry()  # our own: the default one tells about the machine
SECONDS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 90)

REQUESTS = Counter("theragen_requests", "HTTP requests", ["status"], registry=REGISTRY)
REFUSALS = Counter("theragen_refusals", "Requests and messages that were refused", ["reason"], registry=REGISTRY)
ERRORS = Counter("theragen_errors", "Faults while replying, by type", ["type"], registry=REGISTRY)
CARDS = Counter("theragen_help_cards", "Help cards shown", registry=REGISTRY)
RATINGS = Counter("theragen_ratings", "Replies that somebody found helpful or not", ["rating"], registry=REGISTRY)
ANSWERING = Gauge("theragen_answering", "Replies being written now", registry=REGISTRY)
FIRST = Histogram("theragen_first_text_seconds", "Until the first words", buckets=SECONDS, registry=REGISTRY)
WHOLE = Histogram("theragen_reply_seconds", "Until the reply was complete", buckets=SECONDS, registry=REGISTRY)


def answered(status: int) -> None:
    REQUESTS.labels(status).inc()


def refused(reason: str) -> None:
    """Count a refusal; `reason` is a word of ours: flood, messages, busy, size, time."""
    REFUSALS.labels(reason).inc()


def failed(error: BaseException) -> None:
    """Count a fault by the name of its type; its message may quote a person."""
    ERRORS.labels(type(error).__name__).inc()


def help_shown() -> None:
    CARDS.inc()


def rated(rating: str) -> None:
    """Count a thumb, "up" or "down"; which reply it was for is not known here."""
    RATINGS.labels(rating).inc()


def timed(words: Generator[str], since: float) -> Iterator[str]:
    """Pass a reply on as it grows, and note how long it took `since` (time.monotonic) it was asked for.

    One that is stopped early, or fails, has its first words noted and no end.
    """
    said = False
    with ANSWERING.track_inprogress(), closing(words):
        for grown in words:
            if grown and not said:
                said = True
                FIRST.observe(time.monotonic() - since)
            yield grown
    WHOLE.observe(time.monotonic() - since)


def exposed() -> tuple[bytes, str]:
    """The counts in Prometheus' text format, and the name of that format."""
    return exposition.generate_latest(REGISTRY), exposition.CONTENT_TYPE_LATEST
