"""How long a conversation is for the model that will read it, and where one that is too long is cut."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from rows import BadInput


# The paper's limit, in tokens of the whole conversation with its system message.
MOST_TOKENS = 512

Count = Callable[[list[list[dict]]], list[int]]


class Window(NamedTuple):
    """A stretch of a conversation, from a user's turn to an assistant's: messages[start:end]."""

    start: int
    end: int
    n_tokens: int


@cache
def counter(base: str) -> Count:
    """Return what counts tokens of conversations with the base's tokenizer and chat template, default system message included.

    Raises BadInput where the tokenizer cannot be had.
    """
    # Here, since it takes seconds that a build which is up to date does not need.
    from transformers import AutoTokenizer
    from transformers.utils import logging

    from base_model import BaseUnavailable, resolve

    logging.set_verbosity_error()  # "longer than the maximum": this only counts
    try:
        tokenizer = AutoTokenizer.from_pretrained(resolve(base))
    except (BaseUnavailable, OSError) as error:
        raise BadInput(f"The tokenizer of {base} could not be loaded: {str(error).splitlines()[0]}") from error

    def sizes(texts: list[str]) -> list[int]:
        # The template has written every special token. Offsets are not needed, and cost as much as the tokens.
        return [len(one) for one in tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def count(conversations: list[list[dict]]) -> list[int]:
        rendered = tokenizer.apply_chat_template(conversations, tokenize=False)
        rest = [text.removeprefix(preamble) for text in rendered]
        return [
            size + known * (len(text) < len(whole))
            for size, text, whole in zip(sizes(rest), rest, rendered, strict=True)
        ]

    preamble = _preamble(tokenizer)
    (known,) = sizes([preamble])
    return count


def _preamble(tokenizer) -> str:
    """What every conversation begins with, up to a special token: a third of the tokens of a short one, the same each time.

    It is counted once, so it must end where a tokenizer never looks across.
    """
    mark = "@@@@"
    rendered = tokenizer.apply_chat_template([{"role": "user", "content": mark}], tokenize=False)
    shared = rendered[: rendered.index(mark)]
    ends = (shared.rfind(token) + len(token) for token in tokenizer.all_special_tokens if token in shared)
    preamble = shared[: max(ends, default=0)]
    whole, first, rest = (
        len(tokenizer(text, add_special_tokens=False).input_ids)
        for text in (rendered, preamble, rendered.removeprefix(preamble))
    )
    return preamble if whole == first + rest else ""


def windows(messages: list[dict], n_tokens: int, most: int, count: Count) -> list[Window]:
    """Cut a conversation at turn borders into windows of at most `most` tokens; one that fits is one window.

    A window begins with the last exchange of the one before it, where that leaves room for a new one: a reply without what
    it answers teaches little. An exchange that is too long by itself is in no window; the list may be empty.
    """
    if n_tokens <= most:
        return [Window(0, len(messages), n_tokens)]
    found: list[Window] = []
    start = 0
    while start < len(messages):
        ends = list(range(start + 2, len(messages) + 1, 2))
        sizes = dict(zip(ends, count([messages[start:end] for end in ends]), strict=True))
        fitting = [end for end in ends if sizes[end] <= most]
        if not fitting:
            start += 2
            continue
        end = fitting[-1]
        if found and end <= found[-1].end:  # repeating the last exchange left no room for a new one
            start = end
            continue
        found.append(Window(start, end, sizes[end]))
        if end == len(messages):
            break
        start = end - 2 if end - start > 2 else end
    return found
