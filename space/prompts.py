"""Messages to the token ids that a model is given, within its window; and its ids to text, as they come."""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import closing

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from engine import TooLong


Count = Callable[[list[dict]], int]
Render = Callable[[list[dict]], str]


def encode(messages: list[dict], render: Render, tokenizer: Tokenizer, window: int) -> list[int]:
    """Return the ids of a conversation with its older turns left out where it is longer than `window` tokens.

    Raises `TooLong` when the system message and the last turn alone are longer.
    """

    def ids(some: list[dict]) -> list[int]:
        return tokenizer.encode(render(some), add_special_tokens=False).ids  # the template writes them

    prompt = ids(messages)
    if len(prompt) > window:
        prompt = ids(latest(messages, lambda some: len(ids(some)), window))
    if len(prompt) > window:
        raise TooLong(f"The last message is {len(prompt)} tokens long; the model reads {window}: shorten it.")
    return prompt


def latest(messages: list[dict], count: Count, window: int) -> list[dict]:
    """Drop whole old turns, a quarter of the window at a time; a system message is never dropped, nor the last turn.

    In steps that large, since later turns then begin with the same ids again and again, and a cache of them holds.
    """
    system, turns = parted(messages)
    starts = range(0, len(turns), 2)  # with the person's turns
    total, block = count(messages), max(window // 4, 1)
    excess = -(-(total - window) // block) * block
    start = bisect_left(starts, excess, key=lambda start: total - count(system + turns[start:]))
    return system + turns[min(2 * start, len(turns) - 1) :]


def parted(messages: list[dict]) -> tuple[list[dict], list[dict]]:
    """Return the system messages, and the turns."""
    system = [message for message in messages if message["role"] == "system"]
    return system, [message for message in messages if message["role"] != "system"]


def decode(tokens: Iterator[int], tokenizer: Tokenizer) -> Iterator[str]:
    """Yield a piece of text for each token, an empty one while a character is incomplete."""
    stream = DecodeStream(skip_special_tokens=True)
    with closing(tokens):
        for token in tokens:
            yield stream.step(tokenizer, token) or ""
