"""What cannot be trained is one sentence before anything is trained, and leaves nothing half-written."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer, LlamaConfig

import preflight
from arguments import parse
from conftest import command
from preflight import estimate
from sft import main


def refusal(arguments: list, capsys) -> str:
    """Run the script's main in this process and return the sentence it gives up with."""
    try:
        main(*parse([str(argument) for argument in arguments]))
    except ValueError as error:
        return str(error).split("\n")[0]
    except SystemExit as error:
        assert error.code == 2
        return capsys.readouterr().err.strip().splitlines()[-1]
    raise AssertionError("it trained")


SENTENCES = {
    "adapter": (["--use_peft", "false"], "use_peft is false"),
    "smoothing": (["--label_smoothing_factor", "0.1"], "say label_smoothing"),
    "code": (["--trust_remote_code", "true"], "trust_remote_code is true"),
    "loss": (["--loss_type", "dft"], "loss_type is dft"),
    "empathy": (["--empathy_weight", "2"], "empathy_weight is 2.0"),
    "patience": (["--early_stopping_patience", "3"], "need evaluations"),
    "unfreeze": (["--unfreeze", "1:4"], "unfreeze is 1:4"),
    "layers": (["--unfreeze", "0:99"], "the last 99 layers, but the base has 4"),
    "fp16": (["--fp16", "true"], "fp16 needs a GPU"),
    "schedule": (["--schedule", "steep"], "steep"),
    "curves": (["--curves", "-1"], "curves is -1"),
    "tracker": (["--report_to", "comet_ml"], "report_to names comet_ml, whose package is not here"),
    "template": (["--chat_template_path", "none.jinja"], "none.jinja"),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_values_that_cannot_work(name, tiny, tmp_path, capsys):
    more, sentence = SENTENCES[name]
    assert sentence in refusal([*tiny, "--output_dir", tmp_path / "out", *more], capsys)
    assert not list((tmp_path / "out").glob("*.safetensors"))


USER, ASSISTANT = {"role": "user", "content": "hello"}, {"role": "assistant", "content": "Hi."}
ROWS = {
    "another column": ([{"text": "hello"}], "has no column messages; its columns are text"),
    "two of one": ([{"messages": [USER, ASSISTANT]}, {"messages": [USER, USER, ASSISTANT]}], "Row 1 of"),
    "no reply": ([{"messages": [USER, ASSISTANT, USER]}], "has the roles user, assistant, user"),
    "the reply first": ([{"messages": [ASSISTANT, USER]}], "has the roles assistant, user"),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_corpus_out_of_contract(name, tiny, tmp_path, capsys):
    rows, sentence = ROWS[name]
    (tmp_path / "corpus").mkdir()
    Dataset.from_list(rows).to_parquet(tmp_path / "corpus/train-0.parquet")
    assert sentence in refusal(
        [*tiny, "--dataset_name", tmp_path / "corpus", "--output_dir", tmp_path / "out"], capsys
    )
    assert not (tmp_path / "out").exists()


def test_a_template_that_does_not_mark_replies(tiny, tmp_path, capsys):
    template = tmp_path / "plain.jinja"
    template.write_text("{% for message in messages %}{{ message['content'] }}\n{% endfor %}")
    told = refusal([*tiny, "--chat_template_path", template, "--output_dir", tmp_path / "out"], capsys)
    assert "does not mark the assistant's words" in told and "chat_template_path" in told


def test_a_base_larger_than_the_memory_is_refused_before_it_is_loaded(tiny, tmp_path, capsys):
    # Only a config: had anything been loaded, the missing weights would have been complained about.
    size = {"hidden_size": 16384, "intermediate_size": 53248, "num_hidden_layers": 126, "num_attention_heads": 128}
    LlamaConfig(**size, vocab_size=128256).save_pretrained(tmp_path / "huge")
    AutoTokenizer.from_pretrained(tiny[1]).save_pretrained(tmp_path / "huge")
    told = refusal([*tiny, "--model_name_or_path", tmp_path / "huge", "--output_dir", tmp_path / "out"], capsys)
    assert "GiB for weights and adapter" in told and "qlora" in told


def test_the_estimate_counts_what_is_there(tiny, tmp_path):
    _, training, model_args = parse([*tiny, "--output_dir", str(tmp_path), "--lora_target_modules", "q_proj"])
    memory = estimate(model_args, training)
    weights = sum(file.stat().st_size for file in Path(tiny[1]).glob("*.safetensors"))
    adapter = 4 * model_args.lora_r * (32 + 32) * preflight.BYTES_LEARNING  # four layers, 32 in and 32 out
    assert memory.certain == pytest.approx(weights + adapter, rel=0.02)
    model_args.load_in_4bit = True
    assert estimate(model_args, training).certain < memory.certain


def test_bfloat16_on_a_gpu_without_it(monkeypatch):
    """No such GPU is at hand: what torch says about one is put in its place."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    training = SimpleNamespace(use_cpu=False, fp16=False, bf16=True)
    with pytest.raises(ValueError, match="no bfloat16"):
        preflight.check_machine(SimpleNamespace(dtype="bfloat16"), training)


class Gate(BaseHTTPRequestHandler):
    """A hub whose only repository wants its terms accepted, as the Hub says it."""

    def do_GET(self):
        self.send_response(403)
        self.send_header("X-Error-Code", "GatedRepo")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


def test_a_gated_base_without_a_token(tiny, tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), Gate) as hub:
        Thread(target=hub.serve_forever, daemon=True).start()
        environment = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HUB_OFFLINE": "0"}
        environment["HF_HUB_CACHE"] = str(tmp_path / "cache")
        base = ["--model_name_or_path", "meta-llama/Llama-2-7b-chat-hf", "--output_dir", tmp_path / "out"]
        done = command("train/sft.py", *tiny, *base, check=False, **environment)
        hub.shutdown()
    assert done.returncode == 2, done.stderr[-2000:]
    told = done.stderr.strip().splitlines()[-1]
    assert told.startswith("The base meta-llama/Llama-2-7b-chat-hf is gated") and told.endswith("then set HF_TOKEN.")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_another_run(tiny, tmp_path, capsys):
    out = ["--output_dir", tmp_path / "out", "--max_steps", "1"]
    main(*parse([*tiny, *map(str, out)]))
    before = (tmp_path / "out/run.json").read_text()
    told = refusal([*tiny, *out, "--learning_rate", "0.5"], capsys)
    assert "holds a run of other data or settings" in told and "--overwrite" in told
    assert (tmp_path / "out/run.json").read_text() == before
    main(*parse([*tiny, *map(str, out), "--learning_rate", "0.5", "--overwrite", "true"]))
    assert json.loads((tmp_path / "out/run.json").read_text())["settings"]["learning_rate"] == 0.5
