"""The learned tier raises what the rules miss, never lowers, and disappears without harm."""

import json
import logging
import random
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

import fit_learned
import learned
from hits import LEVELS, read_hits
from screening import highest, said_wrongly, screen, screen_reply


MISSED_BY_RULES = [
    "I had my hair set, I answered all my cards, and I've told Him I'm ready.",
    "I keep my mother clean, I keep her fed, and I daydream of neither of us waking.",
]


@pytest.fixture
def fresh():
    for cached in (learned.load, learned.found_quick):
        cached.cache_clear()
    yield
    for cached in (learned.load, learned.found_quick):
        cached.cache_clear()


@pytest.fixture
def first_alone(fresh, monkeypatch, tmp_path):
    for deeper in ("SECOND", "ENGLISH"):
        monkeypatch.setattr(learned, deeper, tmp_path / "none.safetensors")


@pytest.fixture
def asked(monkeypatch):
    """Which weights were asked, in turn."""
    names = []
    read = learned.worst_window
    monkeypatch.setattr(
        learned, "worst_window", lambda *which: names.append(which[3].stem if which[3:] else "first") or read(*which)
    )
    return names


def test_weights_are_small_enough_to_ship():
    assert learned.WEIGHTS.stat().st_size <= 5_000_000
    assert learned.SECOND.stat().st_size <= 15_000_000
    assert learned.ENGLISH.stat().st_size <= 53_000_000


def test_card_names_what_the_weights_are():
    card = learned.WEIGHTS.with_suffix(".md").read_text(encoding="utf-8")
    counts = (learned.ALONE, learned.BOTH, learned.ENGLISH_TOO, learned.HARM_ALONE, learned.HARM)
    for number in (*counts, learned.DOUBT, *learned.UNSURE, learned.DOUBTED_REPLY):
        assert f"{number}" in card


@pytest.mark.parametrize("text", MISSED_BY_RULES)
def test_it_raises_what_the_rules_miss(text):
    assert LEVELS[highest(read_hits(text))] not in ("risk", "imminent")
    screening = screen(text)
    assert screening.level == "risk"
    assert screening.findings[0].rule.startswith("learned/")


@given(st.text(max_size=300))
@settings(max_examples=40)
def test_it_never_lowers(text):
    assert LEVELS.index(screen(text).level) >= highest(read_hits(text))
    assert screen_reply(text) or not list(said_wrongly(text))


@given(st.text(max_size=2000))
@settings(max_examples=40)
def test_any_text_has_probabilities_and_a_span_inside_it(text):
    found = learned.danger(text)
    if found is not None:
        assert 0 <= found.probability <= 1
        assert 0 <= found.span[0] < found.span[1] <= len(text)
        assert found.kind in learned.KINDS
    else:
        assert not learned.plain(text).split()


@pytest.mark.xfail(
    strict=True,
    reason="one hint among everyday sentences: 0.9 alone, 0.1 among them; narrower windows find it and raise three times as much for nothing",
)
def test_danger_in_a_long_text_is_found_wherever_it_stands():
    talk = "We went to the market and bought apples, then it rained and we ran for the tram and laughed a lot. " * 30
    for place in (0, len(talk) // 2, len(talk)):
        assert screen(f"{talk[:place]} {MISSED_BY_RULES[0]} {talk[place:]}").level == "risk"


def test_without_weights_the_rules_stand_alone(fresh, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(learned, "WEIGHTS", tmp_path / "none.safetensors")
    assert learned.danger("marker-7391") is None
    assert screen("I want to kill myself").level in ("risk", "imminent")
    assert screen(MISSED_BY_RULES[0]).level == "none"
    assert len(caplog.records) == 1, "said once"
    assert "marker" not in caplog.text


def test_without_a_deeper_one_the_first_decides(first_alone):
    alone = learned.danger(MISSED_BY_RULES[0])
    assert alone.counts == (alone.probability >= learned.ALONE)


def test_a_deeper_one_is_asked_only_where_the_others_are_not_sure(asked):
    learned.danger("Good morning! How are you?")
    assert asked == ["first"]
    found = learned.danger("I keep thinking about the bridge.")
    assert asked[1:] == ["first", "learned_second", "learned_english"]
    assert found.counts == (found.probability >= learned.ENGLISH_TOO)
    learned.danger("Ich habe alles verschenkt, am Sonntag ist es vorbei.")
    assert asked[4:] == ["first", "learned_second"]


def test_of_replies_only_the_english_one_is_asked(asked):
    learned.harm("They are happier without you.")
    assert asked == ["first", "first", "learned_english"]
    learned.harm("Они счастливее без тебя.")
    assert "learned_second" not in asked and asked.count("learned_english") == 1


def test_without_the_english_one_two_decide(fresh, monkeypatch, tmp_path):
    monkeypatch.setattr(learned, "ENGLISH", tmp_path / "none.safetensors")
    found = learned.danger(MISSED_BY_RULES[0])
    assert found.counts == (found.probability >= learned.BOTH)


def test_both_count():
    one, other = {"danger": 0.9}, {"danger": 0.1}
    assert learned.between(one, other, 0.5)["danger"] == pytest.approx(0.5)
    assert learned.between(one, other, 0.75)["danger"] == pytest.approx(0.25)
    assert learned.between(one, one, 0.75)["danger"] == pytest.approx(0.9)
    assert 0 < learned.between({"danger": 0.0}, {"danger": 1.0}, 0.5)["danger"] < 1


@pytest.mark.parametrize("weights", [learned.SECOND, learned.ENGLISH])
@pytest.mark.parametrize("fault", ["slow", "broken"])
def test_a_deeper_one_that_is_slow_or_fails_is_not_asked(fresh, monkeypatch, caplog, fault, weights):
    def forward(model, tokens):
        if fault == "broken":
            raise ValueError("marker-7391")
        return real(model, tokens)

    real = learned.forward
    monkeypatch.setattr(learned, "forward", forward)
    monkeypatch.setattr(learned, "BUDGET", 0.0 if fault == "slow" else learned.BUDGET)
    assert not learned.is_quick(weights)
    assert weights.stem in caplog.text and "marker" not in caplog.text


def test_others_who_keep_the_machine_busy_do_not_make_it_slow(fresh, monkeypatch):
    real = learned.forward
    monkeypatch.setattr(learned, "BUDGET", 1.0)
    monkeypatch.setattr(learned, "forward", lambda *given: time.sleep(1.5) or real(*given))
    assert learned.is_quick(learned.SECOND)


def test_a_machine_found_too_slow_is_timed_again(fresh, monkeypatch):
    now = {"seconds": 99.0, "time": 1_000.0}
    monkeypatch.setattr(learned, "seconds_to_read_half_a_window", lambda model: now["seconds"])
    monkeypatch.setattr(learned.time, "monotonic", lambda: now["time"])
    assert not learned.is_quick(learned.SECOND)
    now["seconds"] = 0.01
    assert not learned.is_quick(learned.SECOND)
    now["time"] += learned.AGAIN
    assert learned.is_quick(learned.SECOND)


def test_a_soft_reply_rule_takes_a_second_sign(fresh, monkeypatch, tmp_path):
    kind = "At least you told her the truth."
    assert [finding.soft for finding in said_wrongly(kind)] == [True]
    assert screen_reply(kind) == []
    monkeypatch.setattr(learned, "WEIGHTS", tmp_path / "none.safetensors")
    learned.load.cache_clear()
    assert screen_reply(kind) != []  # nobody to ask: rather cut than shown


def test_broken_weights_leave_the_rules(fresh, monkeypatch, tmp_path, caplog):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not weights")
    monkeypatch.setattr(learned, "WEIGHTS", broken)
    assert screen("hello, marker-7391").level == "none"
    assert screen("I want to kill myself").level in ("risk", "imminent")
    assert caplog.records
    assert "marker" not in caplog.text


def test_a_failure_is_logged_by_type_and_line_only(monkeypatch, caplog):
    def broken(*_):
        raise ValueError("marker-7391 is what the person wrote")

    monkeypatch.setattr(learned, "forward", broken)
    with caplog.at_level(logging.DEBUG):
        assert screen("I want to kill myself").level in ("risk", "imminent")
        assert screen("marker-7391").level == "none"
    assert "ValueError" in caplog.text
    assert "marker" not in caplog.text


def test_too_slow_means_what_was_read_by_then(monkeypatch, caplog):
    monkeypatch.setattr(learned, "BUDGET", 0)
    monkeypatch.setattr(learned, "MOST", 3)
    assert learned.danger("word " * 400) is not None
    assert "in part" in caplog.text


def test_training_writes_weights_that_numpy_reads_alike(fresh, monkeypatch, tmp_path):
    """The whole command, with a tiny teacher: what NumPy computes is what was trained."""
    monkeypatch.setattr(fit_learned, "PIECES", 400)
    monkeypatch.setattr(fit_learned, "INNER", 64)
    for name in ("case_rows", "written_rows", "dialogue_rows", "turn_rows"):
        rows = getattr(fit_learned, name)()
        monkeypatch.setattr(fit_learned, name, lambda rows=rows: random.Random(0).sample(rows, 120))
    teacher = tiny_teacher(tmp_path / "teacher")
    path = tmp_path / "learned.safetensors"
    for deeper in ("SECOND", "ENGLISH"):
        monkeypatch.setattr(learned, deeper, tmp_path / "none.safetensors")
    epochs = ["--teacher_epochs", "1", "--student_epochs", "1"]
    folders = ["--public", str(tmp_path), "--work", str(tmp_path / "work"), "--output", str(path)]
    student = fit_learned.main(["--teacher", str(teacher), *folders, *epochs])
    monkeypatch.setattr(learned, "WEIGHTS", path)
    for text in ("i want to die tonight", "we made soup", "ya no quiero vivir"):
        row = fit_learned.Row(text, False, fit_learned.target_of({}), 1.0, False)
        expected = torch.sigmoid(student.judge([row]))[0, 0].item()
        assert learned.danger(text).probability == pytest.approx(expected, abs=0.02)


def tiny_teacher(folder):
    texts = [row.text for row in fit_learned.written_rows()[::20]]  # the others' words are cut into letters
    pieces = sorted(
        {"▁" + word.lower() for text in texts for word in text.split()} | set("".join(texts).lower()) | {"▁"}
    )
    vocabulary = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((piece, -8.0) for piece in pieces)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    size = {"hidden_size": 384, "num_hidden_layers": 3, "num_attention_heads": 12, "intermediate_size": 96}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(vocabulary), **size), add_pooling_layer=False).save_pretrained(folder)
    return folder


def test_int4_is_unpacked_as_it_was_packed():
    weight = torch.randn(6, 64)
    numbers, scale = fit_learned.int4(weight)
    numbers = numbers.numpy().astype(np.uint8)
    packed = numbers[:, ::2] | numbers[:, 1::2] << 4
    assert np.allclose(learned.unpack(packed, scale.numpy()), fit_learned.rounded(weight).numpy(), atol=1e-6)
    assert (weight - fit_learned.rounded(weight)).abs().max() < weight.abs().max() / 7


def test_messages_are_labelled_and_written_once():
    seen: set[str] = set()
    for path in sorted((fit_learned.ROOT / "data/messages").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            known = {*learned.REPLY_KINDS, "good"} if path.stem == "replies" else {*learned.KINDS, "none", "distress"}
            assert entry["kind"] in known, line
            assert entry["text"] not in seen, line
            seen.add(entry["text"])
