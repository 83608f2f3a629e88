"""Spoken words as text, where the operator chose a Whisper model for it: POST /transcribe.

The request's body is the sound: little-endian 16-bit samples of one channel, 16,000 a second. It stays in memory until it is answered;
neither it nor its words are written anywhere.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Semaphore
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

import counters
import interface
from base_model import best_dtype, cores
from limits import bucket, client_of


RATE = 16_000
MOST = 30 * RATE * 2  # bytes: what a Whisper model hears at once
LINE = 4  # recordings in turn, with the one at work
RECORDINGS = 30  # of one client in five minutes
PATIENCE = 40.0  # seconds that a person waits
AT_WORK = 20.0  # seconds after which the model writes no further word
SILENCE = 0.005  # of full loudness; a model hears words in silence that nobody said

log = logging.getLogger(__name__)

# What a loaded model is here: from samples between -1 and 1 (an array) and a language to words.
Hears = Callable[[Any, str], str]


def routes(whisper: str, load: Callable[[str], Hears] | None = None) -> list[Route]:
    """`/transcribe`, where a model is chosen: a folder or a Hub id. It is loaded when somebody first speaks."""
    if not whisper:
        return []
    return [Route("/transcribe", transcriber(cache(lambda: (load or loaded)(whisper))), methods=["POST"])]


def transcriber(model: Callable[[], Hears]) -> Callable:
    worker, door = ThreadPoolExecutor(1, "voice"), Semaphore(LINE)
    may = bucket(RECORDINGS, 300)

    async def transcribe(request: Request) -> JSONResponse | PlainTextResponse:
        asked = request.query_params.get("language")
        language = asked if asked in interface.languages() else "en"
        sound = await request.body()
        if not sound or len(sound) % 2:
            return sentence("voice_failed", language, 400)
        if len(sound) > MOST:
            return sentence("too_long", language, 413)
        if not may(client_of(request.scope)):
            counters.refused("messages")
            return sentence("busy", language, 429)
        if not door.acquire(blocking=False):
            counters.refused("busy")
            return sentence("busy", language, 503)
        job = worker.submit(heard, model, sound, language)
        job.add_done_callback(
            lambda _: door.release()
        )  # not sooner: one that nobody waits for any more is still at work
        try:
            text = await asyncio.wait_for(asyncio.wrap_future(job), PATIENCE)
        except TimeoutError:
            counters.refused("busy")
            return sentence("busy", language, 503)
        return sentence("voice_failed", language, 500) if text is None else JSONResponse({"text": text})

    return transcribe


def sentence(name: str, language: str, status: int) -> PlainTextResponse:
    return PlainTextResponse(interface.word(name, language), status)


def heard(model: Callable[[], Hears], sound: bytes, language: str) -> str | None:
    """Return the words, or None where something broke; of a fault only its type is told."""
    try:
        hears = model()
    except Exception as fault:
        log.warning("The model of THERAGEN_WHISPER cannot be loaded (%s).", type(fault).__name__)
        return None
    try:
        import numpy as np  # here, so that the page opens where it is missing

        samples = np.frombuffer(sound, dtype="<i2").astype(np.float32) / 32768
        return "" if np.abs(samples).max() < SILENCE else hears(samples, language)
    except Exception as fault:
        counters.failed(fault)
        return None


def loaded(whisper: str) -> Hears:
    """Load a Whisper model; raises what `from_pretrained` raises."""
    import torch
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    processor = WhisperProcessor.from_pretrained(whisper)
    model = WhisperForConditionalGeneration.from_pretrained(whisper, dtype=best_dtype(), use_safetensors=True).eval()
    if torch.cuda.is_available():
        model = model.to("cuda")
    else:
        torch.set_num_threads(min(torch.get_num_threads(), cores()))
    # Those that know English alone refuse to be told a language.
    many = getattr(model.generation_config, "is_multilingual", False)

    def hears(samples, language: str) -> str:
        sound = processor(samples, sampling_rate=RATE, return_attention_mask=True, return_tensors="pt").to(
            model.device
        )
        spoken = {"language": language, "task": "transcribe"} if many else {}
        with torch.inference_mode():
            words = model.generate(
                sound.input_features.to(model.dtype), attention_mask=sound.attention_mask, max_time=AT_WORK, **spoken
            )
        return processor.batch_decode(words, skip_special_tokens=True)[0].strip()

    return hears
