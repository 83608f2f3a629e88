"""OpenVINO's engine in its real process: the words, many people, stopping, failing, what it keeps and what it sends."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import engine
import gguf_model
import openvino_engine
from conftest import ROOT
from gguf_export import portable
from openvino_engine import WARM, Model, OpenVINOEngine, OpenVINOFailed, send, template_of, warmed_up
from prompts import decode
from settings import Settings
from test_engine import GREEDY, TALKS, generated, iter_of
from tiny import make_base


genai = pytest.importorskip("openvino_genai", reason="openvino-genai is not installed: pip install 'theragen[space]'")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of our own: what is made of test models does not stay."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THERAGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return make_base(tmp_path_factory.mktemp("openvino") / "base")


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("openvino") / "adapter"
    torch.manual_seed(3)
    config = LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(base, adapter) -> Path:
    return gguf_model.folder_of_model(str(base), adapter, "")


@pytest.fixture(scope="module")
def process(folder, tmp_path_factory):
    """The engine, saying the likeliest words and at most 200 of them, in a home of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setattr(engine, "SAMPLING", GREEDY)
        patch.setattr(engine, "MAX_NEW_TOKENS", 200)
        started = OpenVINOEngine(folder, "", people=8, threads=1)
    yield started
    started.close()


@pytest.fixture(scope="module")
def model(folder) -> Model:
    """The process's side of it in this process, in float32, where the likeliest words can be told apart."""
    exact = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
    with pytest.MonkeyPatch.context() as patch:
        real = genai.ContinuousBatchingPipeline
        patch.setattr(genai, "ContinuousBatchingPipeline", lambda *given, **more: real(*given, **more, **exact))
        return Model(folder, limit=24, sampling=GREEDY, people=8, threads=1)


def said_by(model: Model, talks: list[list[dict]]) -> list[str]:
    """What is said in one batch of all these conversations."""
    said = defaultdict(str)
    for number, talk in enumerate(talks):
        model.begin(number, talk)
    while model.writing:
        for told in model.step():
            said[told["number"]] += told.get("piece", "")
    return [said[number] for number in range(len(talks))]


def test_tokens_and_likeliest_words_are_those_of_transformers_with_the_adapter(model, base, adapter):
    """System messages, several turns, letters of four bytes; eight people in one batch, each what is said to one alone."""
    from peft import PeftModel

    merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    prompts = [tokenizer.apply_chat_template(talk, add_generation_prompt=True)["input_ids"] for talk in TALKS]
    assert [model.prompt(talk) for talk in TALKS] == prompts
    merged = merged.merge_and_unload().half().float()
    replies = [cut(generated(merged, prompt, 24), tokenizer.eos_token_id) for prompt in prompts]
    wanted = ["".join(decode(iter_of(reply), tokenizer.backend_tokenizer)) for reply in replies]
    assert said_by(model, TALKS) == wanted
    assert len(set(wanted)) > len(TALKS) / 2


def cut(tokens: list[int], end: int) -> list[int]:
    return tokens[: tokens.index(end)] if end in tokens else tokens


@pytest.mark.parametrize("name", ["space/chat_template.jinja", "train/templates/llama2.jinja"])
def test_our_templates_are_rendered_as_by_transformers(adapter, name):
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    tokenizer.chat_template = (ROOT / name).read_text(encoding="utf-8")
    template = template_of(portable(tokenizer.chat_template))
    for talk in TALKS:
        rendered = template.render(messages=talk, add_generation_prompt=True, **tokenizer.special_tokens_map)
        assert rendered == tokenizer.apply_chat_template(talk, add_generation_prompt=True, tokenize=False)


def test_many_people_at_once_get_what_each_gets_alone(process):
    alone = ["".join(process.stream(talk)) for talk in TALKS]
    with ThreadPoolExecutor(8) as people:
        assert list(people.map(lambda talk: "".join(process.stream(talk)), TALKS)) == alone
    assert len(set(alone)) > len(TALKS) / 2


def test_one_who_stops_takes_nobody_with_them_and_leaves_nothing_behind(process):
    whole = "".join(process.stream(TALKS[1]))
    with closing(process.stream(TALKS[0])) as stopped:
        next(stopped)
    assert process.replies == {}
    assert "".join(process.stream(TALKS[1])) == whole


def test_the_process_hears_that_a_reply_is_over_and_holds_what_was_asked_no_longer(process, monkeypatch):
    sent = []
    monkeypatch.setattr(openvino_engine, "send", lambda pipe, said: sent.append(list(said)) or send(pipe, said))
    "".join(process.stream(TALKS[0]))
    assert sent == [["number", "messages"], ["number"]]


def test_warming_up_takes_a_few_tokens_and_leaves_nothing_behind(model, monkeypatch):
    """Said to its end, the greeting kept the first person waiting for seconds."""
    steps, real = [], Model.step
    monkeypatch.setattr(Model, "step", lambda self: steps.append(1) or real(self))
    assert warmed_up(model) is model
    assert len(steps) == WARM <= 5
    assert not model.writing and not model.pipeline.has_non_finished_requests()


def test_a_stopped_reply_frees_its_place_at_once(model):
    model.begin(1, TALKS[0])
    list(model.step())
    model.stop(1)
    assert not model.writing and not model.pipeline.has_non_finished_requests()


def test_what_breaks_one_reply_is_raised_there_and_says_nothing_of_what_was_said(process):
    with pytest.raises(engine.TooLong) as failure:
        "".join(process.stream([{"role": "user", "content": "xylophone " * 3000}]))
    assert "xylophone" not in str(failure.value)
    with pytest.raises(OpenVINOFailed, match=r"^OpenVINO failed \(\w+\)\.$"):
        "".join(process.stream([{"role": "xylophone"}]))
    assert "".join(process.stream(TALKS[0]))


def test_a_process_that_dies_ends_its_replies_and_the_next_person_is_answered_by_a_new_one(process):
    whole, died = "".join(process.stream(TALKS[0])), process.process.pid
    reply = process.stream(TALKS[0])
    next(reply)
    os.kill(died, signal.SIGKILL)
    with pytest.raises(OpenVINOFailed, match="process has ended"):
        list(reply)
    assert "".join(process.stream(TALKS[0])) == whole
    assert process.process.pid != died


def test_words_that_are_drawn_differ_from_reply_to_reply(folder):
    drawing = Model(folder, limit=12, sampling=engine.SAMPLING, people=8, threads=1)
    assert len(set(said_by(drawing, [TALKS[0]] * 4))) > 1


def test_a_prefix_that_was_read_is_not_read_again(model):
    """What the cache holds shows in how many steps the first token of a long prompt takes (256 tokens each)."""
    long = [{"role": "user", "content": "and then " * 400}]

    def steps() -> int:
        model.begin(1, long)
        number = 1
        while not any("piece" in told for told in model.step()):
            number += 1
        model.stop(1)
        return number

    assert steps() > 2 and steps() == 1


def test_it_sends_nothing_to_its_vendor(process, tmp_path):
    """Left alone, importing openvino sends an event and writes an identity into the home: here neither is tried."""
    files = [str(link.readlink()) for link in Path(f"/proc/{process.process.pid}/fd").iterdir()]
    assert files and not any(file.startswith("socket:") for file in files)
    code = "import sys, openvino_engine, openvino_genai, openvino.tools.ovc.main as ovc; sys.exit('stub' not in str(ovc.tm))"
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT / "space")}
    assert subprocess.run([sys.executable, "-c", code], env=environment, timeout=120).returncode == 0
    assert not list(tmp_path.iterdir())


def test_the_folder_is_made_once_and_anew_for_other_weights(base, adapter, folder, tmp_path):
    made = (folder / "model.gguf").stat().st_mtime_ns
    assert gguf_model.folder_of_model(str(base), adapter, "") == folder
    assert (folder / "model.gguf").stat().st_mtime_ns == made
    other = shutil.copytree(adapter, tmp_path / "other")
    weights = other / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert gguf_model.fingerprints(other) != gguf_model.fingerprints(adapter)
    assert not list(folder.parent.glob(".part-*"))


def test_a_gguf_of_ones_own_is_taken_as_it_is(folder, tmp_path):
    file = shutil.copy(folder / "model.gguf", tmp_path / "own.gguf")
    loaded = engine.load(Settings(engine="openvino", gguf=str(file)))
    assert loaded.reason == "" and loaded.engine.description == "own; OpenVINO"
    assert "".join(loaded.engine.stream(TALKS[0]))
    loaded.engine.close()


def test_auto_is_openvino_on_a_cpu(base, adapter, monkeypatch):
    monkeypatch.setattr(engine, "has_gpu", lambda: False)
    loaded = engine.load(Settings(adapter=str(adapter)))
    assert loaded.engine.description == "base with adapter; OpenVINO"
    loaded.engine.close()


def test_a_process_that_never_loads_is_given_up(folder, tmp_path, monkeypatch):
    (tmp_path / "never.py").write_text("import time; time.sleep(8)")
    monkeypatch.setattr(openvino_engine, "__file__", str(tmp_path / "never.py"))
    monkeypatch.setattr(openvino_engine, "LOADING", 0.3, raising=False)
    began = time.monotonic()
    with pytest.raises(OpenVINOFailed, match="process ended"):
        OpenVINOEngine(folder, "", people=1, threads=1)
    assert time.monotonic() - began < 6


def test_a_broken_file_is_no_engine(folder, tmp_path):
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(OpenVINOFailed, match="could not load the model"):
        OpenVINOEngine(broken, "", people=1, threads=1)
