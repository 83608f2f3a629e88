"""The learned tier of screening: three small transformers, run by NumPy, that may only raise what the rules found.

    >>> danger("I don't see the point of waking up tomorrow").counts
    True

learned.md is its card; train/fit_learned.py and train/refine_learned.py made its weights (safetensors, int4 with one scale for 32
weights). The first reads everything; where it is not sure, the second is asked about a person's message, and where both are not,
one that knows English alone. Without NumPy, safetensors or the first's file every call gives None and the
rules stand alone; without a deeper one's the first decides. Nothing is kept of a text.
"""

import logging
import math
import re
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from folding import HIDDEN
from rulebook import once


log = logging.getLogger(__name__)

WEIGHTS = Path(__file__).with_name("learned.safetensors")
SECOND = Path(__file__).with_name("learned_second.safetensors")
ENGLISH = Path(__file__).with_name("learned_english.safetensors")
KINDS = ("suicide", "self-harm", "overdose", "harm-now", "harm-others", "child", "eating-disorder", "psychosis")
REPLY_KINDS = ("claims", "delusion", "diagnosis", "discouraging", "eating", "encouragement", "ending", "hate", "instructions",
               "medication", "method", "minimising", "promises", "romance", "secrecy", "sexual", "violence")  # fmt: skip
LANGUAGES = ("ar", "bn", "cs", "de", "el", "en", "es", "fa", "fr", "he", "hi", "hu", "id", "it", "ja", "ko", "ms", "nl",
             "pl", "pt", "ro", "ru", "sv", "sw", "ta", "th", "tl", "tr", "uk", "ur", "vi", "zh")  # fmt: skip
OUTPUTS = (
    *("danger", *KINDS, "other", "imminent", "distress"),
    *("harmful", *(f"reply/{kind}" for kind in REPLY_KINDS)),
    *(f"language/{language}" for language in LANGUAGES),
)
# Probabilities from which a text counts. Chosen on held-out texts; learned.md has the figures.
ALONE = 0.5  # danger as the first sees it
BOTH = 0.25  # as the first and the second
ENGLISH_TOO = 0.5  # as the first and the English one
HARM_ALONE, HARM = 0.9, 0.8  # as the first sees it; the first and the English one
DOUBT = 0.02  # danger as the first sees it: from here the second is asked
UNSURE = (0.08, 0.9)  # as the first and the second see it: between these the English one is asked instead
DOUBTED_REPLY = 0.05  # harm as the first sees it: from here the English one is asked
SHARE = 2 / 3  # of the English one's log-odds beside the first's
LIKELY = 0.2  # probability of harm from which a soft reply rule counts
SURE = 0.6  # probability from which a kind is named
HEADS = 12
GROUP = 32  # weights that share one scale
LONGEST = 16  # characters of a piece
WINDOW = 96  # pieces read at a time at most, the first of which says whether a person or a model speaks; the English one's are 48
MOST = 1  # windows of one text
LONG = 20_000  # characters; only the rules read on
SEGMENT = 40  # characters of a word that are cut into pieces at once
UNLIKELY = -30.0  # log-probability of a letter that has no piece
WORD = re.compile(rf"\S{{1,{SEGMENT}}}")
BUDGET = 0.3  # seconds for one text; what was read by then counts
TRIES = 3  # to read a window within them
AGAIN = 600  # seconds after which a machine found too slow, or quick, is timed again


class Danger(NamedTuple):
    counts: bool  # whether the probability is high enough to raise
    probability: float
    imminent: float  # probability
    span: tuple[int, int]  # the stretch of the text that was judged
    kind: str
    subject: str  # "self" or "other"
    language: str


class Harm(NamedTuple):
    counts: bool  # whether the probability is high enough to stop a reply
    probability: float
    span: tuple[int, int]
    kind: str


def danger(text: str) -> Danger | None:
    """How likely a person's message speaks of danger, by its worst stretch; None when this tier cannot tell."""
    if not (worst := worst_window(text, "message", "danger")):
        return None
    (first, span), enough = worst, ALONE
    outputs, stretch = first, text[slice(*span)]
    if first["danger"] >= DOUBT and (second := asked(SECOND, stretch, "message", "danger")):
        outputs, enough = between(first, second, 1 / 2), BOTH
        unsure = language_of(first) == "en" and UNSURE[0] <= outputs["danger"] < UNSURE[1]
        if unsure and (english := asked(ENGLISH, stretch, "message", "danger")):
            outputs, enough = between(first, english, SHARE), ENGLISH_TOO
    kind = max(KINDS, key=outputs.__getitem__)
    if outputs[kind] < SURE:  # a text for the wrong need hurts; the one for suicide suits most
        kind = KINDS[0]
    subject = "other" if outputs["other"] > 0.5 else "self"
    probability = outputs["danger"]
    return Danger(probability >= enough, probability, outputs["imminent"], span, kind, subject, language_of(outputs))


def harm(text: str) -> Harm | None:
    """How likely a model's reply says what it must not, by its worst stretch; None when this tier cannot tell.

    The second is not asked: of replies it knows less than the first.
    """
    if not (worst := worst_window(text, "reply", "harmful")):
        return None
    (outputs, span), enough = worst, HARM_ALONE
    if outputs["harmful"] >= DOUBTED_REPLY:
        # Which language a reply is in the first has not learned: it reads it as a message for that.
        heard = worst_window(text, "message", "danger")
        in_english = heard and language_of(heard[0]) == "en"
        if in_english and (english := asked(ENGLISH, text[slice(*span)], "reply", "harmful")):
            outputs, enough = between(outputs, english, SHARE), HARM
    probability = outputs["harmful"]
    kind = max(REPLY_KINDS, key=lambda kind: outputs[f"reply/{kind}"])
    return Harm(probability >= enough, probability, span, kind)


def asked(weights: Path, text: str, speaker: str, verdict: str) -> dict[str, float] | None:
    """What a deeper one says; None where it is missing, fails or is too slow."""
    worst = is_quick(weights) and worst_window(text, speaker, verdict, weights)
    return worst[0] if worst else None


def language_of(outputs: dict[str, float]) -> str:
    return max(LANGUAGES, key=lambda name: outputs[f"language/{name}"])


def between(one: dict[str, float], other: dict[str, float], share: float) -> dict[str, float]:
    """What both say together: the mean of their log-odds, the other's with this share."""

    def odds(probability: float) -> float:
        inside = min(max(probability, 1e-6), 1 - 1e-6)
        return math.log(inside / (1 - inside))

    return {name: 1 / (1 + math.exp(-(1 - share) * odds(one[name]) - share * odds(other[name]))) for name in one}


def worst_window(
    text: str, speaker: str, verdict: str, weights: Path | None = None
) -> tuple[dict[str, float], tuple[int, int]] | None:
    try:
        model = load(weights or WEIGHTS)
        if model is None or not text.strip():
            return None
        started = time.monotonic()
        worst = None
        for pieces, span in windows(text, model):
            if worst and time.monotonic() - started > BUDGET:
                log.warning("learned tier: a text was read in part, after %d ms", BUDGET * 1000)
                break
            outputs = dict(zip(OUTPUTS, forward(model, [model[speaker], *pieces]), strict=True))
            if worst is None or outputs[verdict] > worst[0][verdict]:
                worst = outputs, span
        return worst
    except Exception as error:  # the rules stand alone; no text reaches a log
        place = error.__traceback__
        while place and place.tb_next:
            place = place.tb_next
        log.warning("learned tier: %s in line %d", type(error).__name__, place.tb_lineno if place else 0)
        return None


def is_quick(weights: Path) -> bool:
    """Whether these weights are here and quick: half a window, more than most messages, within `BUDGET`; found anew every `AGAIN`."""
    return found_quick(weights, int(time.monotonic() // AGAIN))


@once
def found_quick(weights: Path, period: int) -> bool:
    try:
        if (model := load(weights)) is None:
            return False
        # The first pass of a process is the slowest.
        quick = any(seconds_to_read_half_a_window(model) < BUDGET for _ in range(TRIES))
    except Exception as error:
        log.warning("learned tier: %s failed (%s)", weights.stem, type(error).__name__)
        return False
    if not quick:
        log.warning("learned tier: this machine is too slow for %s", weights.stem)
    return quick


def seconds_to_read_half_a_window(model: dict) -> float:
    """Of this thread's own work: what others do at the time is not the machine's speed."""
    started = time.thread_time()
    forward(model, [model["message"], *range(len(model["position"]) // 2 - 1)])
    return time.thread_time() - started


@once
def load(weights: Path) -> dict | None:
    """The weights as float32, or None with one line in the log."""
    try:
        import numpy as np
        from safetensors.numpy import load_file

        stored = load_file(weights)
    except Exception as error:  # no NumPy, no file, no such format
        log.warning("learned tier: %s is off (%s)", weights.stem, type(error).__name__)
        return None
    pieces = bytes(stored.pop("pieces")).decode().split("\n")
    model = {name: array if array.dtype == np.uint8 else array.astype(np.float32) for name, array in stored.items()}
    for name in [name for name in stored if name.endswith(".packed")]:
        model[name.removesuffix(".packed")] = unpack(model.pop(name), model.pop(name.replace(".packed", ".scale")))
    model |= {"index": {piece: number for number, piece in enumerate(pieces)}}
    special = ("message", "reply", "unknown")
    model |= {name: len(pieces) + number for number, name in enumerate(special)}
    model["weights"] = np.append(model["weights"], [0.0] * len(special))
    model["layers"] = 1 + max(int(name.split(".")[1]) for name in model if name.startswith("layers."))
    return model


def unpack(packed, scale):
    """int4 to float: (rows, columns / 2) bytes, the low half first, and (rows, columns / GROUP) scales."""
    import numpy as np

    halves = np.stack([packed & 15, packed >> 4], -1).astype(np.float32) - 8
    return (halves.reshape(*scale.shape, GROUP) * scale[..., None]).reshape(len(packed), -1)


def stride_of(window: int) -> int:
    return window * 2 // 3


def plain(text: str) -> str:
    return unicodedata.normalize("NFKC", HIDDEN.sub("", text)).lower()


def windows(text: str, model: dict) -> Iterator[tuple[list[int], tuple[int, int]]]:
    """Overlapping stretches of the text as pieces; of a long text the MOST whose pieces weigh heaviest."""
    pieces, places = [], []
    seen: dict[str, list[int]] = {}  # forgotten with the text
    for match in WORD.finditer(text, 0, LONG):
        word = match.group()
        if word not in seen:
            seen[word] = pieces_of(word, model["index"], model["scores"], model["unknown"])
        pieces += seen[word]
        places += [match.span()] * len(seen[word])
    window = len(model["position"])
    room, stride = window - 1, stride_of(window)
    starts = list(range(0, max(1, len(pieces) - room + stride), stride))
    if len(starts) > MOST:
        weights = model["weights"]
        heaviest = sorted(starts, key=lambda start: -sum(weights[piece] for piece in pieces[start : start + room]))
        starts = heaviest[:MOST]
    for start in starts:
        part = places[start : start + room]
        yield pieces[start : start + room], (part[0][0], part[-1][1])


def pieces_of(text: str, index: Mapping[str, int], scores: Sequence[float], unknown: int) -> list[int]:
    """Cut a text into the most probable pieces, as a unigram model does (https://arxiv.org/abs/1804.10959)."""
    return [
        piece
        for word in plain(text).split()
        for start in range(0, len(word), SEGMENT)
        for piece in cut(word[start : start + SEGMENT] if start else "▁" + word[:SEGMENT], index, scores, unknown)
    ]


def cut(word: str, index: Mapping[str, int], scores: Sequence[float], unknown: int) -> list[int]:
    best, cuts = [0.0], [(0, 0)]
    for end in range(1, len(word) + 1):
        options = [
            (best[start] + scores[index[word[start:end]]], start, index[word[start:end]])
            for start in range(max(0, end - LONGEST), end)
            if word[start:end] in index
        ]
        value, start, piece = max(options, default=(best[end - 1] + UNLIKELY, end - 1, unknown))
        best.append(value)
        cuts.append((start, piece))
    pieces, end = [], len(word)
    while end:
        end, piece = cuts[end]
        pieces.append(piece)
    return pieces[::-1]


def forward(model: dict, tokens: list[int]) -> list[float]:
    """Probabilities in the order of OUTPUTS. Each piece is a column, so that weights are used as they are stored."""
    import numpy as np

    def linear(name, x):
        return model[f"{name}.weight"] @ x + model[f"{name}.bias"][:, None]

    def norm(name, x):
        x = x - x.mean(0)
        x = x / np.sqrt((x * x).mean(0) + 1e-12)
        return x * model[f"{name}.weight"][:, None] + model[f"{name}.bias"][:, None]

    count, length, window = len(model["codes"]), len(tokens), len(model["position"])
    codes = model["codes"][np.minimum(tokens, count - 1)]
    vectors = model["centroids"][np.arange(codes.shape[1]), codes].reshape(length, -1)
    hidden = linear("project", vectors.T)
    for place, token in enumerate(tokens):
        if token >= count:
            hidden[:, place] = model["special"][token - count]
    hidden = norm("first", hidden + model["position"][:length].T)
    near = 0.0  # what MPNet adds to attention for a distance
    if "relative" in model:
        places = np.arange(length)
        near = model["relative"][places - places[:, None] + window - 1].transpose(2, 0, 1)
    for layer in range(model["layers"]):
        at = f"layers.{layer}"
        query, key, value = linear(f"{at}.qkv", hidden).reshape(3, HEADS, -1, length)
        scores = query.transpose(0, 2, 1) @ key / query.shape[1] ** 0.5 + near
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = value @ (scores / scores.sum(-1, keepdims=True)).transpose(0, 2, 1)
        hidden = norm(f"{at}.norm1", hidden + linear(f"{at}.mix", mixed.reshape(-1, length)))
        inner = linear(f"{at}.inner", hidden)
        inner = inner / (1 + np.exp(-1.702 * inner))  # GELU's close relative, which needs no error function
        hidden = norm(f"{at}.norm2", hidden + linear(f"{at}.outer", inner))
    logits = np.concatenate([hidden.mean(1), hidden.max(1)]) @ model["head.weight"] + model["head.bias"]
    return (1 / (1 + np.exp(-logits))).tolist()
