"""One worker writes all replies: each step gives every person one token, and who comes joins between two steps.

transformers' own continuous batching drops the repetition penalty, and one failure ends it for everybody.
"""

import threading
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import NamedTuple

import torch
from torch.nn.functional import pad
from transformers import (
    DynamicCache,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from engine import TOP_K


class Reply:
    """One person's: `tokens` takes ids as they come, then None, or the exception that ended it."""

    def __init__(self, prompt: list[int], limit: int):
        self.prompt, self.left = prompt, limit
        self.tokens: SimpleQueue = SimpleQueue()
        self.over = False

    def end(self, how: Exception | None = None) -> None:
        self.over = True
        self.tokens.put(how)


class Batch(NamedTuple):
    """Replies being written, a row each, padded on the left; `ids` are all but a padded row's first token repeated."""

    replies: list[Reply]
    cache: DynamicCache
    mask: torch.Tensor
    ids: torch.Tensor  # one longer than the cache: the last token has been drawn and not yet read


class Worker:
    """Holds the model; `tokens` may be called by many threads at once."""

    def __init__(self, model, sampling: dict, ends: set[int], people: int, silence: float):
        self.model, self.ends, self.people, self.silence = model, ends, people, silence
        self.draws, self.processors = sampling["do_sample"], processors(sampling)
        self.waiting: SimpleQueue[Reply] = SimpleQueue()
        self.drawing = threading.Lock()
        threading.Thread(target=self.work, name="batching", daemon=True).start()

    def tokens(self, prompt: list[int], limit: int) -> Iterator[int]:
        """Yield at most `limit` ids; raises what went wrong, or `queue.Empty` after `silence` seconds of nothing."""
        reply = Reply(prompt, limit)
        self.waiting.put(reply)
        try:
            while (token := reply.tokens.get(timeout=self.silence)) is not None:
                if isinstance(token, Exception):
                    raise token
                yield token
        finally:
            reply.over = True
            # Until then a word may still be drawn, which whoever sets a seed next would miss; what hangs is not waited for.
            if self.drawing.acquire(timeout=1):
                self.drawing.release()

    @torch.inference_mode()
    def work(self) -> None:
        batch: Batch | None = None
        while True:
            batch = self.joined(batch)
            try:
                with self.drawing:
                    batch = batch and remaining(batch)
                    batch = batch and remaining(self.step(batch))
            except Exception as error:  # of all, since it was everybody's step; who comes next finds a clean table
                for reply in batch.replies:
                    reply.end(error)
                batch = None

    def joined(self, batch: Batch | None) -> Batch | None:
        """Return the batch with the next who waits, if there is room; waits itself when there is nobody.

        One between two steps: while all prompts that wait are read, those in the middle of a reply would hear nothing.
        """
        if batch and len(batch.replies) >= self.people:
            return batch
        try:
            reply = self.waiting.get(block=batch is None)
        except Empty:
            return batch
        try:
            with self.drawing:
                alone = None if reply.over else remaining(self.read(reply))
            return beside(batch, alone) if batch and alone else batch or alone
        except Exception as error:  # this person's alone
            reply.end(error)
            return batch

    def read(self, reply: Reply) -> Batch:
        """Read a prompt and draw the first token."""
        ids = torch.tensor([reply.prompt], device=self.model.device)
        cache = DynamicCache()
        logits = self.model(ids, past_key_values=cache, logits_to_keep=1).logits
        return self.drawn(Batch([reply], cache, torch.ones_like(ids), ids), logits)

    def step(self, batch: Batch) -> Batch:
        """Read everybody's last token and draw the next."""
        mask = pad(batch.mask, (0, 1), value=1)
        logits = self.model(
            batch.ids[:, -1:],
            attention_mask=mask,
            position_ids=mask.sum(1, keepdim=True) - 1,
            past_key_values=batch.cache,
        ).logits
        return self.drawn(batch._replace(mask=mask), logits)

    def drawn(self, batch: Batch, logits: torch.Tensor) -> Batch:
        scores = self.processors(batch.ids, logits[:, -1].float())
        drawn = torch.multinomial(scores.softmax(-1), 1) if self.draws else scores.argmax(-1, keepdim=True)
        for reply, token in zip(batch.replies, drawn.flatten().tolist(), strict=True):
            self.hand(reply, token)
        return batch._replace(ids=torch.cat([batch.ids, drawn], 1))

    def hand(self, reply: Reply, token: int) -> None:
        reply.left -= 1
        if token not in self.ends:
            reply.tokens.put(token)
        if token in self.ends or not reply.left:
            reply.end()


def processors(sampling: dict) -> LogitsProcessorList:
    """Return what `generate` makes of the same values, in its order."""
    chosen = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(sampling["repetition_penalty"])])
    if sampling["do_sample"]:
        chosen.append(TemperatureLogitsWarper(sampling["temperature"]))
        chosen.append(TopKLogitsWarper(TOP_K))
        chosen.append(TopPLogitsWarper(sampling["top_p"]))
    return chosen


def beside(batch: Batch, other: Batch) -> Batch:
    """Return both batches as one; a row's padding repeats a token it has, which its penalty counts once."""
    length = max(batch.mask.shape[1], other.mask.shape[1])
    parts = [(part, length - part.mask.shape[1]) for part in (batch, other)]
    layers = [
        [
            torch.cat([pad(states, (0, 0, more, 0)) for states, (_, more) in zip(pair, parts, strict=True)])
            for pair in kinds
        ]
        for kinds in (
            ((one.keys, two.keys), (one.values, two.values))
            for one, two in zip(batch.cache.layers, other.cache.layers, strict=True)
        )
    ]
    return Batch(
        batch.replies + other.replies,
        DynamicCache(layers),
        torch.cat([pad(part.mask, (more, 0)) for part, more in parts]),
        torch.cat([torch.cat([part.ids[:, :1].expand(-1, more), part.ids], 1) for part, more in parts]),
    )


def remaining(batch: Batch) -> Batch | None:
    """Return the batch without those whose reply is over, and without the padding that nobody needs then."""
    rows = [row for row, reply in enumerate(batch.replies) if not reply.over]
    if len(rows) == len(batch.replies) or not rows:
        return batch if rows else None
    mask = batch.mask[rows]
    start = int(mask.any(0).int().argmax())
    layers = [(layer.keys[rows, :, start:], layer.values[rows, :, start:]) for layer in batch.cache.layers]
    replies = [batch.replies[row] for row in rows]
    return Batch(replies, DynamicCache(layers), mask[:, start:], batch.ids[rows, start:])
