"""Engines: which is chosen and why one is missing, what is kept of a long conversation, many people at once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice, pairwise
from pathlib import Path
from queue import Empty

import gradio
import pytest
import torch
from peft import LoraConfig, get_peft_model
from spaces.zero.gradio import error as refusal
from transformers import AutoModelForCausalLM, AutoTokenizer

import base_model
import engine
import transformers_engine
from base_model import EMBEDDED
from batching import Reply, Worker
from gguf_model import revision_of
from prompts import decode, encode, latest
from settings import Settings
from tiny import make_base


GREEDY = {**engine.SAMPLING, "do_sample": False}
TALKS = [
    [{"role": "user", "content": "Hi."}],
    [{"role": "user", "content": "I can't switch off after work."}],
    [{"role": "system", "content": "Answer in one word."}, {"role": "user", "content": "How are you? 😀 12 345"}],
    [
        {"role": "user", "content": "My dog died last week and the flat is so quiet."},
        {"role": "assistant", "content": "I'm sorry. What was he like?"},
        {"role": "user", "content": "Old and lazy. He slept on my feet."},
    ],
]
TALKS += [[*talk, {"role": "assistant", "content": "Go on."}, {"role": "user", "content": "Again."}] for talk in TALKS]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return make_base(tmp_path_factory.mktemp("engine") / "base")


@pytest.fixture(scope="module")
def model(base):
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def prompts(base) -> list[list[int]]:
    tokenizer = AutoTokenizer.from_pretrained(base)
    return [tokenizer.apply_chat_template(talk, add_generation_prompt=True)["input_ids"] for talk in TALKS]


def worker(model, people=8, ends=(), sampling=GREEDY) -> Worker:
    return Worker(model, sampling, set(ends), people, silence=20)


def generated(model, prompt: list[int], limit: int) -> list[int]:
    """What `generate` says to this prompt alone; it ends with its first end-of-turn token."""
    ids = torch.tensor([prompt])
    how = {**GREEDY, "max_new_tokens": limit, "eos_token_id": None, "pad_token_id": 0}
    return model.generate(ids, attention_mask=torch.ones_like(ids), **how)[0, len(prompt) :].tolist()


def test_people_who_come_and_go_get_what_generate_says_to_each_alone(model, prompts):
    """More than there is room for, with replies of different lengths: rows join, leave and are padded anew all the time."""
    limits = [5, 40, 12, 25, 8, 33, 17, 21]
    wanted = [generated(model, prompt, limit) for prompt, limit in zip(prompts, limits, strict=True)]
    crowded = worker(model, people=3)
    with ThreadPoolExecutor(8) as people:
        said = list(people.map(lambda one: list(crowded.tokens(*one)), zip(prompts, limits, strict=True)))
    assert said == wanted
    assert len({tuple(reply[:5]) for reply in wanted}) > 1  # or nobody could tell whose is whose


def test_a_reply_ends_with_its_turn(model, prompts):
    wanted = generated(model, prompts[1], 30)
    end = wanted[10]
    assert list(worker(model, ends=[end]).tokens(prompts[1], 30)) == wanted[: wanted.index(end)]


def test_one_who_stops_makes_room_for_the_next_within_a_token(model, prompts):
    alone = worker(model, people=1)
    with closing(alone.tokens(prompts[0], 100_000)) as first:
        assert len(list(islice(first, 3))) == 3
    assert len(list(alone.tokens(prompts[1], 5))) == 5


def test_what_breaks_one_reply_is_raised_there_and_nowhere_else(model, prompts):
    shared = worker(model)
    started, wanted = threading.Event(), generated(model, prompts[1], 60)

    def other() -> list[int]:
        tokens = shared.tokens(prompts[1], 60)
        first = next(tokens)
        started.set()
        return [first, *tokens]

    with ThreadPoolExecutor(1) as people:
        undisturbed = people.submit(other)
        assert started.wait(20)
        with pytest.raises(IndexError):
            list(shared.tokens([10**6], 5))  # no such token
        assert undisturbed.result(timeout=60) == wanted


def test_a_step_that_breaks_ends_the_replies_in_it_and_the_next_person_is_answered(model, prompts, monkeypatch):
    shared = worker(model)
    step = shared.step

    def broken(batch):
        monkeypatch.setattr(shared, "step", step)
        raise MemoryError

    monkeypatch.setattr(shared, "step", broken)
    with pytest.raises(MemoryError):
        list(shared.tokens(prompts[0], 5))
    assert list(shared.tokens(prompts[0], 5)) == generated(model, prompts[0], 5)


def test_a_step_that_hangs_is_given_up(model, prompts, monkeypatch):
    stuck, go_on = Worker(model, GREEDY, set(), 8, silence=0.3), threading.Event()
    monkeypatch.setattr(stuck, "read", lambda reply: go_on.wait(60))
    with ThreadPoolExecutor(1) as people:
        waiting = people.submit(lambda: list(stuck.tokens(prompts[0], 5)))
        try:
            with pytest.raises(Empty):
                waiting.result(timeout=10)
        finally:
            go_on.set()


def test_while_many_prompts_wait_to_be_read_everybody_goes_on_writing(model, prompts, monkeypatch):
    shared, done = worker(model), []
    read, step = shared.read, shared.step
    monkeypatch.setattr(shared, "read", lambda reply: done.append("read") or read(reply))
    monkeypatch.setattr(shared, "step", lambda batch: done.append("step") or step(batch))
    replies = [Reply(prompt, 8) for prompt in prompts[:4]]
    with shared.drawing:  # until all are there
        for reply in replies:
            shared.waiting.put(reply)
    for reply in replies:
        assert len(list(iter(lambda reply=reply: reply.tokens.get(timeout=20), None))) == 8
    assert done[:7] == ["read", "step"] * 3 + ["read"]


def test_sampled_words_are_those_of_generate(model, prompts):
    """The same seed draws the same words: temperature, nucleus and penalty are applied as there, in the same order."""
    torch.manual_seed(1)
    ids = torch.tensor([prompts[3]])
    wanted = model.generate(ids, max_new_tokens=20, eos_token_id=None, pad_token_id=0, **engine.SAMPLING)
    torch.manual_seed(1)
    assert list(worker(model, sampling=engine.SAMPLING).tokens(prompts[3], 20)) == wanted[0, ids.shape[1] :].tolist()


def conversation(turns: int) -> list[dict]:
    return [{"role": ("user", "assistant")[turn % 2], "content": f"word{turn} " * 9} for turn in range(turns)]


def words(messages: list[dict]) -> int:
    return sum(len(message["content"].split()) for message in messages)


def test_a_long_conversation_loses_its_oldest_turns_and_begins_the_same_for_several_turns():
    system = {"role": "system", "content": "Be careful."}
    starts = []
    for turns in range(1, 120, 2):
        messages = [system, *conversation(turns)]
        kept = latest(messages, words, 400) if words(messages) > 400 else messages
        assert words(kept) <= 400
        assert kept[0] == system and kept[1:] == messages[-len(kept) + 1 :] and kept[1]["role"] == "user"
        starts.append(kept[1]["content"])
    changes = sum(before != after for before, after in pairwise(starts))
    assert 0 < changes <= 60 * 18 / 100 + 1  # a quarter of the window each, not a turn each


def test_prompts_are_the_tokens_of_transformers(base):
    tokenizer = AutoTokenizer.from_pretrained(base)

    def render(messages):
        return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)

    for talk in TALKS:
        ids = tokenizer.apply_chat_template(talk, add_generation_prompt=True)["input_ids"]
        assert encode(talk, render, tokenizer.backend_tokenizer, 1000) == ids
    with pytest.raises(engine.TooLong, match="the model reads 20: shorten it"):
        encode(TALKS[3], render, tokenizer.backend_tokenizer, 20)


def test_pieces_are_the_text_and_never_half_a_character(base):
    tokenizer = AutoTokenizer.from_pretrained(base).backend_tokenizer
    text = "naïve 😀 مرحبا 你好 end"
    pieces = list(decode(iter_of(tokenizer.encode(text).ids), tokenizer))
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def iter_of(tokens):
    yield from tokens


def test_a_model_that_cannot_be_had_is_a_reason_and_no_exception(tmp_path, base):
    assert "no adapter named such-adapter here" in engine.load(Settings(adapter="no/such-adapter")).reason
    assert "THERAGEN_REVISION" in engine.load(Settings(adapter="no/such-adapter", revision="v9")).reason
    assert "no adapter named empty here" in engine.load(Settings(adapter=str(made(tmp_path / "empty")))).reason
    assert engine.load(Settings(base="no/such-base", engine="transformers")).reason.startswith(
        "the model could not be"
    )
    assert engine.load(Settings(engine="remote")).reason.startswith("THERAGEN_ENDPOINT")
    missing = engine.load(Settings(gguf="no/such/file.gguf", engine="openvino")).reason
    assert missing == "there is no file.gguf here nor on the Hub; check THERAGEN_GGUF"
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    reason = engine.load(Settings(adapter=str(tmp_path / "adapter"), base="other/base")).reason
    assert reason == "the adapter was trained on org/base, not on other/base; leave THERAGEN_BASE empty"


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_an_endpoint_comes_first_and_a_model_named_beside_it_stands_in(base, monkeypatch):
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    remote = engine.load(Settings(endpoint="http://127.0.0.1:9/v1", endpoint_model="m")).engine
    assert remote.description == "m at 127.0.0.1" and remote.fallback is None
    both = Settings(endpoint="http://127.0.0.1:9/v1", base=str(base))
    assert "base, no adapter" in engine.load(both).engine.fallback.description


def test_an_endpoint_that_may_not_be_used_is_said_before_a_model_is_loaded(monkeypatch):
    monkeypatch.setattr(engine, "adapter_folder", lambda _: pytest.fail("something is being loaded"))
    assert engine.load(Settings(endpoint="nowhere", base="b")).reason.startswith("THERAGEN_ENDPOINT is no address")


def test_why_nothing_stands_in_for_an_endpoint_is_in_the_log(caplog):
    loaded = engine.load(Settings(endpoint="http://127.0.0.1:9/v1", adapter="no/such-adapter"))
    assert loaded.engine.fallback is None and "no adapter named such-adapter" in caplog.text


def test_without_openvino_transformers_answers(base, monkeypatch):
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    loaded = engine.load(Settings(base=str(base)))
    assert loaded.engine.description == "base, no adapter; transformers"
    assert "".join(loaded.engine.stream([{"role": "user", "content": "Hello."}]))


def test_where_openvino_cannot_read_the_model_transformers_answers(base, monkeypatch):
    monkeypatch.setattr(engine, "on_openvino", lambda *_: (_ for _ in ()).throw(ValueError("unreadable")))
    assert engine.load(Settings(base=str(base))).engine.description.endswith("transformers")


def test_where_a_gpu_is_or_is_lent_openvino_is_not_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(engine.shutil, "which", lambda _: None)
    monkeypatch.setattr(engine, "find_spec", lambda name: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(engine, "GPUS", ())
    assert engine.suits_openvino(Settings())  # no driver: torch is not asked
    monkeypatch.setattr(engine, "GPUS", (str(tmp_path),))
    assert not engine.suits_openvino(Settings())
    monkeypatch.setattr(engine, "GPUS", ())
    monkeypatch.setattr(engine, "ZERO_GPU", True)
    assert not engine.suits_openvino(Settings())


def test_an_adapter_is_merged_into_its_base(base, tmp_path, prompts, monkeypatch):
    monkeypatch.setattr(transformers_engine, "best_dtype", lambda: torch.float32)
    torch.manual_seed(3)
    config = LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", init_lora_weights=False)
    tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config).eval()
    tuned.save_pretrained(tmp_path)
    merged = transformers_engine.load(str(base), tmp_path, Settings())
    assert not any("lora" in name for name, _ in merged.named_parameters())
    ids = torch.tensor([prompts[3]])
    with torch.inference_mode():
        torch.testing.assert_close(merged(ids).logits, tuned(ids).logits, atol=1e-4, rtol=1e-4)


def test_weights_are_loaded_once_and_have_written_once_before_anybody_comes(base, monkeypatch):
    loads, replies, load, tokens = [], [], transformers_engine.load, Worker.tokens
    monkeypatch.setattr(transformers_engine, "load", lambda *given: loads.append(1) or load(*given))
    monkeypatch.setattr(Worker, "tokens", lambda self, *given: replies.append(1) or tokens(self, *given))
    ready = transformers_engine.TransformersEngine(str(base), None, Settings())
    assert replies == [1]
    with ThreadPoolExecutor(4) as people:
        list(people.map(lambda talk: list(ready.stream(talk)), TALKS[:4]))
    assert loads == [1]


def test_four_bits_answer(tmp_path):
    base = make_base(tmp_path / "base", hidden_size=64, intermediate_size=128)
    loaded = transformers_engine.load(str(base), None, Settings(four_bit=True))
    assert loaded.model.layers[0].mlp.up_proj.weight.dtype == torch.uint8
    assert len(list(worker(loaded).tokens([1, 2, 3], 4))) == 4


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "max 100000"}, 64),
        ({"cpu/cpu.cfs_quota_us": "800000", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        ({"cpu.max": "10000 100000"}, 1),
        ({}, 64),
    ],
)
def test_cores_are_the_containers_share(tmp_path, monkeypatch, files, cores):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    monkeypatch.setattr(base_model, "CGROUP", tmp_path)
    monkeypatch.setattr(base_model.os, "sched_getaffinity", lambda _: range(64))
    assert base_model.cores() == cores


def test_the_embedded_base_says_that_it_is_tiny():
    assert "very small" in engine.described(EMBEDDED, None)


@pytest.mark.parametrize(
    ("title", "raised"),
    [
        ("ZeroGPU quota exceeded", engine.NoTimeLeft),
        ("ZeroGPU pending credits exceeded", engine.NoTimeLeft),
        ("ZeroGPU queue timeout", engine.NoTimeLeft),
        ("GPU task aborted", gradio.Error),
    ],
)
def test_a_gpu_that_is_not_lent_is_told_from_one_that_fails(title, raised):
    def refused():
        raise refusal(title, "You have exceeded your free ZeroGPU quota (26s requested vs. 3s left).")

    with pytest.raises(raised):
        list(transformers_engine.lent(refused)([1, 2], 160))


def test_a_lent_gpu_writes_what_the_worker_does(model, prompts):
    lent = transformers_engine.lent(lambda: worker(model))
    assert list(lent(prompts[0], 5)) == generated(model, prompts[0], 5)


def test_no_more_of_a_lent_gpu_is_asked_for_than_a_reply_takes():
    assert transformers_engine.seconds_asked([1] * 4000, engine.MAX_NEW_TOKENS) < 30


def test_a_base_is_taken_at_the_revision_that_the_adapter_was_trained_on(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"revision": "abc", "base_model_name_or_path": "org/base"}')
    assert revision_of(tmp_path, "of the adapter") == "abc"
    (tmp_path / "adapter_config.json").write_text('{"revision": null}')
    assert revision_of(tmp_path, "of the adapter") == "main"
    assert [revision_of(None, "v1"), revision_of(None, "")] == ["v1", "main"]
