"""Speech turned into words on the server: a tiny random Whisper by the real route, then limits and faults with a stand-in for the model."""

import gc
import logging
import sys
import threading
import weakref
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest
import torch
from starlette.applications import Starlette
from starlette.testclient import TestClient
from tokenizers import pre_tokenizers
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

import interface
import voice


LANGUAGES = list(interface.languages())
SPECIAL = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    *(f"<|{code}|>" for code in LANGUAGES),
    "<|translate|>",
    "<|transcribe|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
]
SAID = " ".join(["tea"] * 9)

written = []  # what the process opens or makes while `watching` holds
watching = threading.Event()
WRITES = {"os.mkdir", "os.rename", "shutil.copyfile", "tempfile.mkstemp", "tempfile.mkdtemp"}


def watch(event: str, details: tuple) -> None:
    if not watching.is_set():
        return
    if event in WRITES or (event == "open" and (set(details[1] or "") & set("wax+") or details[2] & 3)):
        written.append((event, details[0]))


sys.addaudithook(watch)  # for good, since Python knows no way to take one back


def make_whisper(folder: Path) -> str:
    """Save a Whisper of one layer; its last norm lets nothing through but the word that it always says."""
    merges = [("e", "a"), ("Ġ", "t"), ("Ġt", "ea")]
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, merges), *SPECIAL]
    number = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = WhisperTokenizer(vocab=number, merges=merges, extra_special_tokens=SPECIAL[1:])
    ends = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), number["<|endoftext|>"])
    start = {"decoder_start_token_id": number["<|startoftranscript|>"]}
    size = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2}
    feed = {"decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "num_mel_bins": 8}
    torch.manual_seed(7)
    model = WhisperForConditionalGeneration(WhisperConfig(vocab_size=len(pieces), **size, **feed, **ends, **start))
    said = model.model.decoder.embed_tokens.weight.detach()
    model.model.decoder.layer_norm.weight.data.zero_()
    model.model.decoder.layer_norm.bias.data = 100 * said[number["Ġtea"]]
    model.generation_config = GenerationConfig(
        **ends,
        **start,
        is_multilingual=True,
        lang_to_id={f"<|{code}|>": number[f"<|{code}|>"] for code in LANGUAGES},
        task_to_id={"transcribe": number["<|transcribe|>"], "translate": number["<|translate|>"]},
        no_timestamps_token_id=number["<|notimestamps|>"],
        max_length=9,
    )
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(feature_size=8), tokenizer).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory) -> str:
    return make_whisper(tmp_path_factory.mktemp("whisper"))


def client(whisper: str = "a model", load=None) -> TestClient:
    return TestClient(Starlette(routes=voice.routes(whisper, load)))


def saying(hears) -> TestClient:
    """A server whose model is a function."""
    return client(load=lambda _: hears)


def tone(seconds: float = 0.5) -> bytes:
    time = np.arange(int(seconds * voice.RATE)) / voice.RATE
    return (8000 * np.sin(2 * np.pi * 220 * time)).astype("<i2").tobytes()


def speak(server: TestClient, sound: bytes, language: str = "en"):
    return server.post(f"/transcribe?language={language}", content=sound)


def test_a_whisper_model_answers_and_nothing_is_written(whisper, caplog, capfd):
    server = client(whisper)
    assert speak(server, tone()).json() == {"text": SAID}  # the model is loaded
    caplog.clear()
    capfd.readouterr()
    watching.set()
    try:
        (voice.interface.HERE / "voice.py").open("rb").close()  # reading counts as nothing
        answers = [speak(server, tone(seconds), "de") for seconds in (0.05, 2, 30)]
    finally:
        watching.clear()
    assert [answer.json() for answer in answers] == [{"text": SAID}] * 3
    assert written == []
    assert not [record for record in caplog.records if record.name not in ("httpx", "asyncio")]
    assert capfd.readouterr() == ("", "")


def test_the_watch_on_files_sees_a_file(tmp_path):
    """Else the test above would hold for any server."""
    watching.set()
    try:
        (tmp_path / "sound").write_bytes(b"1")
    finally:
        watching.clear()
    assert [name for _, name in written] == [str(tmp_path / "sound")]
    written.clear()


@pytest.mark.parametrize(("asked", "told"), [("de", "<|de|>"), ("tlh", "<|en|>"), ("", "<|en|>")])
def test_the_model_is_told_the_language(whisper, monkeypatch, asked, told):
    begun = []
    generate = WhisperForConditionalGeneration.generate
    tokenizer = WhisperProcessor.from_pretrained(whisper).tokenizer

    def noted(self, *sound, **options):
        begun.append(options)
        return generate(self, *sound, **options)

    monkeypatch.setattr(WhisperForConditionalGeneration, "generate", noted)
    speak(client(whisper), tone(), asked)
    assert f"<|{begun[0]['language']}|>" == told in tokenizer.get_vocab()
    assert begun[0]["task"] == "transcribe"


def test_a_model_of_english_alone_is_told_no_language(whisper, monkeypatch):
    load = WhisperForConditionalGeneration.from_pretrained

    def english(*where, **how):
        model = load(*where, **how)
        model.generation_config.is_multilingual = False
        return model

    monkeypatch.setattr(WhisperForConditionalGeneration, "from_pretrained", english)
    assert speak(client(whisper), tone(), "de").json()["text"].startswith("tea")


def test_samples_arrive_as_they_were_sent():
    given = []
    server = saying(lambda samples, language: given.append((samples, language)) or "yes")
    assert speak(server, np.array([0, 16384, -32768, 32767], "<i2").tobytes(), "fr").json() == {"text": "yes"}
    assert given[0][0].tolist() == [0, 0.5, -1, 32767 / 32768]
    assert given[0][1] == "fr"


def test_in_silence_nobody_is_heard():
    server = saying(lambda *_: "Thank you.")
    quiet = np.random.default_rng(7).integers(-60, 60, voice.RATE).astype("<i2").tobytes()
    assert speak(server, quiet).json() == {"text": ""}
    assert speak(server, tone(0.1)).json() == {"text": "Thank you."}


@pytest.mark.parametrize(
    ("sound", "status", "name"),
    [(b"", 400, "voice_failed"), (b"123", 400, "voice_failed"), (bytes(voice.MOST + 2), 413, "too_long")],
)
def test_what_is_no_recording_is_refused_in_a_sentence(sound, status, name):
    answer = speak(saying(lambda *_: "never"), sound, "de")
    assert answer.status_code == status
    assert answer.text == interface.word(name, "de")


def test_half_a_minute_is_taken_and_fits_the_guard():
    import guard

    assert speak(saying(lambda *_: "yes"), tone(30)).json() == {"text": "yes"}
    assert voice.MOST <= guard.MAX_BODY


def test_only_post_is_answered():
    assert client().get("/transcribe").status_code == 405


def test_without_a_model_there_is_no_route():
    assert voice.routes("") == []


def test_a_model_is_loaded_once_and_only_when_somebody_speaks():
    loads = []
    server = client(load=lambda name: loads.append(name) or (lambda *_: "yes"))
    assert loads == []
    for _ in range(3):
        speak(server, tone(0.1))
    assert loads == ["a model"]


def test_a_model_that_could_not_be_loaded_is_tried_again(caplog):
    tries = []

    def load(name):
        tries.append(name)
        if len(tries) == 1:
            raise OSError("no such file: /home/somebody/secret-model")
        return lambda *_: "yes"

    server = client(load=load)
    answer = speak(server, tone(0.1), "es")
    assert (answer.status_code, answer.text) == (500, interface.word("voice_failed", "es"))
    assert "OSError" in caplog.text
    assert "secret" not in caplog.text
    assert speak(server, tone(0.1)).json() == {"text": "yes"}


def test_a_fault_is_answered_kindly_and_told_to_nobody(caplog, capfd):
    def hears(*_):
        raise RuntimeError("cannot say: marker-of-what-was-spoken")

    caplog.set_level(logging.DEBUG)
    answer = speak(saying(hears), tone(0.1))
    assert (answer.status_code, answer.text) == (500, interface.word("voice_failed", "en"))
    assert "marker" not in answer.text + caplog.text + "".join(capfd.readouterr())


@pytest.mark.parametrize("breaks", [False, True])
def test_the_sound_is_gone_once_it_is_answered(breaks):
    heard = []

    def hears(samples, _):
        heard.append(weakref.ref(samples))
        return 1 / (0 if breaks else 1) and "yes"

    speak(saying(hears), tone(0.1))
    gc.collect()
    assert [sound() for sound in heard] == [None]


def test_one_at_a_time_and_a_short_line():
    working, finish, most = [], threading.Event(), []

    def hears(*_):
        working.append(1)
        most.append(len(working))
        assert finish.wait(10)
        working.pop()
        return "yes"

    with saying(hears) as server, ThreadPoolExecutor(voice.LINE + 1) as people:
        asked = [people.submit(speak, server, tone(0.1), "fr") for _ in range(voice.LINE + 1)]
        answered, waiting = wait(asked, 30, FIRST_COMPLETED)
        finish.set()
        assert [(one.result().status_code, one.result().text) for one in answered] == [
            (503, interface.word("busy", "fr"))
        ]
        assert [one.result().json() for one in waiting] == [{"text": "yes"}] * voice.LINE
        assert speak(server, tone(0.1)).status_code == 200
    assert max(most) == 1


def test_nobody_waits_for_ever_and_who_gave_up_is_not_worked_for(monkeypatch):
    monkeypatch.setattr(voice, "PATIENCE", 0.1)
    finish, worked = threading.Event(), []

    def hears(*_):
        worked.append(1)
        finish.wait(10)
        return "yes"

    with saying(hears) as server:
        assert [speak(server, tone(0.1)).status_code for _ in range(voice.LINE)] == [503] * voice.LINE
        finish.set()
        monkeypatch.setattr(voice, "PATIENCE", 10)
        assert speak(server, tone(0.1)).json() == {"text": "yes"}
    assert len(worked) == 2  # the first, which could not be stopped, and the last


def test_one_client_has_a_limit():
    server = saying(lambda *_: "yes")
    statuses = [speak(server, tone(0.1)).status_code for _ in range(voice.RECORDINGS + 1)]
    assert statuses == [200] * voice.RECORDINGS + [429]
