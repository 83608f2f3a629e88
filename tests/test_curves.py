"""Curves on the tiny base: training does not notice them, trackers and files get them, a resumed run goes on."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import TrainerCallback

import sentence_vectors
from arguments import parse
from curves import choose, cut, vectors_or_none
from loading import load_conversations
from replies import answer
from sft import build_trainer, load_rows


# Three epochs of three steps, with dropout: a random number more or less would change what is learned. Training metrics
# are logged once an epoch, when the curves are.
RUN = ["--num_train_epochs", "3", "--per_device_train_batch_size", "8", "--lora_dropout", "0.3"]
RUN += ["--logging_strategy", "epoch", "--eval_strategy", "epoch", "--save_strategy", "epoch"]


class Run(NamedTuple):
    """A finished run: trainer, the RNG's state when it ended, folder."""

    trainer: object
    random: torch.Tensor
    folder: Path


def train(tiny, folder, *more, curves=4, stop_at=None, checkpoint=None) -> Run:
    script, training, model_args = parse([*tiny, *RUN, "--output_dir", str(folder), "--curves", str(curves), *more])
    trainer = build_trainer(script, training, model_args, *load_rows(script, training))
    if stop_at:
        trainer.add_callback(StopAt(stop_at))
    trainer.train(resume_from_checkpoint=checkpoint)
    return Run(trainer, torch.get_rng_state(), folder)


class StopAt(TrainerCallback):
    """Stop after a step, as Ctrl-C does, but without a checkpoint."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **_):
        control.should_training_stop |= state.global_step == self.step


@pytest.fixture(scope="module")
def watched(tiny, tmp_path_factory) -> Run:
    sentence_vectors.load.cache_clear()  # loading the vectors' model is part of what training must not notice
    return train(tiny, tmp_path_factory.mktemp("watched"), "--report_to", "tensorboard")


def history(run: Run) -> list[dict]:
    """Return what was logged about training and evaluation, without what a clock says."""
    logged = [entry for entry in run.trainer.state.log_history if "loss" in entry or "eval_loss" in entry]
    return [{key: entry[key] for key in entry if "second" not in key and "runtime" not in key} for entry in logged]


def lines(folder: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]


def test_training_is_the_same_to_the_bit(tiny, tmp_path, watched):
    plain = train(tiny, tmp_path, curves=0)
    after = dict(watched.trainer.model.named_parameters())
    assert all(torch.equal(parameter, after[name]) for name, parameter in plain.trainer.model.named_parameters())
    assert torch.equal(plain.random, watched.random)
    assert len(history(watched)) == 6
    assert history(watched) == history(plain)
    assert watched.trainer.model.training == plain.trainer.model.training
    assert watched.trainer.processing_class.padding_side == plain.trainer.processing_class.padding_side


def test_tensorboard_holds_loss_perplexity_and_curves(watched):
    (file,) = watched.folder.glob("runs/*/events.out.tfevents.*")
    events = EventAccumulator(str(file)).Reload()
    for name in ("train/loss", "eval/perplexity"):
        assert [event.step for event in events.Scalars(name)] == [3, 6, 9]
    words = events.Scalars("eval/curves/words")
    assert [event.step for event in words] == [0, 3, 6, 9]
    assert [event.value for event in words] == pytest.approx(
        [line["words"] for line in lines(watched.folder, "curves")]
    )


def test_files_hold_an_entry_per_epoch(tiny, watched):
    curves, samples = (lines(watched.folder, name) for name in ("curves", "samples"))
    assert [(line["epoch"], line["step"], line["replies"]) for line in curves] == [(e, 3 * e, 4) for e in range(4)]
    assert {"bleu", "rouge1", "rouge2", "rougeL", "distinct_1", "distinct_2", "words", "replies_asking"} <= set(
        curves[0]
    )
    talks = load_conversations(tiny[5], None, "validation")["messages"]
    said = {(talk[i]["content"], talk[i + 1]["content"]) for talk in talks for i in range(len(talk) - 1)}
    assert all((line["prompt"], line["reference"]) in said for line in samples)
    assert len({line["prompt"] for line in samples}) == 4 and len(samples) == 16
    assert imread(watched.folder / "curves.png").shape == (800, 1200, 4)
    assert not list(watched.folder.glob("*.part"))


def test_a_resumed_run_goes_on_without_an_epoch_twice(tiny, tmp_path, watched):
    # Stopped within the third epoch, which draws nothing; resumed from the end of the first: the second comes again.
    train(tiny, tmp_path, stop_at=7)
    assert [line["epoch"] for line in lines(tmp_path, "curves")] == [0, 1, 2]
    resumed = train(tiny, tmp_path, checkpoint=str(tmp_path / "checkpoint-3"))
    drawn = [entry["step"] for entry in resumed.trainer.state.log_history if "eval_curves/bleu" in entry]
    assert drawn == [0, 3, 6, 9]
    for name in ("curves", "samples"):
        assert lines(tmp_path, name) == lines(watched.folder, name)


def test_a_batch_of_replies_is_that_of_each_prompt_alone(watched):
    model, tokenizer = watched.trainer.model.eval(), watched.trainer.processing_class
    prompts = [[{"role": "user", "content": text}] for text in ("Hello.", "I could not sleep at all last night.")]
    together = answer(model, tokenizer, prompts, 8)
    assert together == [answer(model, tokenizer, [prompt], 8)[0] for prompt in prompts]


def test_prompts_fit_and_are_drawn_by_the_seed(watched):
    tokenizer, training = watched.trainer.processing_class, watched.trainer.args
    talk = [{"role": role, "content": "I see. " * 30} for role in ("user", "assistant") * 3]
    prompt = tokenizer.apply_chat_template(talk[:3], add_generation_prompt=True)["input_ids"]
    assert cut(tokenizer, talk, None) == talk
    assert cut(tokenizer, talk, len(prompt)) == talk[:4]
    assert cut(tokenizer, talk, len(prompt) - 1) == talk[:2]
    talks = [[{"role": "user", "content": str(number)}, talk[1]] for number in range(50)]
    assert choose(tokenizer, talks, 5, training) == choose(tokenizer, talks, 5, training) != talks[:5]
    with pytest.raises(ValueError, match="No held-out prompt fits into max_length 512"):
        choose(tokenizer, [[{"role": "user", "content": "word " * 600}, talk[1]]], 5, training)


def test_without_vectors_one_line_says_so(monkeypatch, caplog):
    monkeypatch.setattr(sentence_vectors, "PACKAGE", "gt-no-such-package==0.1.0")
    sentence_vectors.load.cache_clear()
    assert vectors_or_none() is None
    (record,) = (record for record in caplog.records if record.name == "curves")
    assert record.getMessage().startswith("Curves without coherence. Sentence vectors need")
