"""The trainer against TRL's own and against formulas worked by hand, on a base of four layers."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, Gemma2Config
from trl import SFTTrainer

from arguments import parse
from empathy import CUES, cue_matrix, empathy_loss, expected_cues, reply_numbers
from losses import ROWS, frozen_head_loss
from perplexity import negative_log_likelihoods
from schedules import rate
from sft import build_trainer, load_rows
from tiny import make_base
from unfreezing import phases_of


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("tokens", [0, 1, ROWS, ROWS + 3])
def test_frozen_head_loss_is_cross_entropy(smoothing, tokens):
    torch.manual_seed(1)
    hidden, head = torch.randn(tokens, 16, requires_grad=True), torch.randn(300, 16)
    targets = torch.randint(0, 300, (tokens,))
    ours = frozen_head_loss(hidden, head, targets, smoothing)
    (found,) = torch.autograd.grad(ours.loss, hidden)
    logits = hidden @ head.T
    theirs = torch.nn.functional.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
    (wanted,) = torch.autograd.grad(theirs, hidden)
    torch.testing.assert_close(ours.loss, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    plain = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    torch.testing.assert_close(ours.nll, plain.detach(), rtol=1e-5, atol=1e-5)
    assert ours.correct == (logits.argmax(1) == targets).sum()


def run(tiny, folder, *more, trainer=None, steps=3):
    """Train a few steps in this process and return the trainer; the loss of each step is in its log history."""
    arguments = [*tiny, "--output_dir", str(folder), "--max_steps", str(steps), "--save_strategy", "no", *more]
    script, training, model_args = parse(arguments)
    rows, held_out = load_rows(script, training)
    built = build_trainer(script, training, model_args, rows, held_out)
    if trainer:  # the same run by another trainer, from the same weights
        built = trainer(
            model=built.model,
            args=training,
            train_dataset=rows.select_columns("messages"),
            processing_class=built.processing_class,
        )
    built.train()
    return built


# Adam divides by the size of a gradient, which makes rounding in a tiny one a whole step: SGD shows the gradients.
SGD = ["--optim", "sgd", "--learning_rate", "0.5"]


def losses(trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("how", [[], ["--packing", "true"], ["--gradient_accumulation_steps", "3"]])
def test_with_both_weights_at_zero_it_is_plain_trl(tiny, tmp_path, how):
    ours = run(tiny, tmp_path / "ours", *SGD, *how)
    theirs = run(tiny, tmp_path / "theirs", *SGD, *how, trainer=SFTTrainer)
    assert losses(ours) == pytest.approx(losses(theirs), abs=1e-5)
    after = dict(theirs.model.named_parameters())
    for name, parameter in ours.model.named_parameters():
        torch.testing.assert_close(parameter, after[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("weights", [[], ["--label_smoothing", "0.1"], ["--empathy_weight", "0.5"]])
def test_gradient_accumulation_changes_no_loss(tiny, tmp_path, weights):
    whole = run(tiny, tmp_path / "whole", *SGD, *weights, "--per_device_train_batch_size", "8")
    parts = [*SGD, *weights, "--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "4"]
    accumulated = run(tiny, tmp_path / "parts", *parts)
    assert losses(accumulated) == pytest.approx(losses(whole), rel=1e-4)


def test_label_smoothing_is_trls(tiny, tmp_path):
    ours = run(tiny, tmp_path / "ours", *SGD, "--label_smoothing", "0.1")

    def smoothing(args, **kwargs):
        args.label_smoothing_factor = 0.1
        return SFTTrainer(args=args, **kwargs)

    with pytest.warns(FutureWarning, match="label_smoothing_factor"):
        theirs = run(tiny, tmp_path / "theirs", *SGD, trainer=smoothing)
    assert losses(ours) == pytest.approx(losses(theirs), abs=1e-5)


def test_perplexity_is_that_of_score(tiny, tmp_path):
    more = ["--eval_strategy", "steps", "--eval_steps", "2", "--label_smoothing", "0.1", "--empathy_weight", "0.1"]
    trainer = run(tiny, tmp_path, *more, "--packing", "true", "--max_length", "2048", steps=2)
    held_out = [entry for entry in trainer.state.log_history if "eval_perplexity" in entry]
    script = parse([*tiny, "--output_dir", str(tmp_path), *more])[0]
    rows = load_rows(script, trainer.args)[1]
    scores = negative_log_likelihoods(trainer.model.eval(), trainer.processing_class, rows["messages"], "tiny")
    wanted = sum(score.nll for score in scores) / sum(score.tokens for score in scores)
    assert held_out[-1]["eval_loss"] == pytest.approx(wanted, rel=1e-4)
    assert held_out[-1]["eval_perplexity"] == pytest.approx(math.exp(wanted), rel=1e-3)


def test_packed_rows_do_not_see_each_other(tiny, tmp_path):
    # All rows in one step. Packed they are one long row, whose attention takes time by the square of its length.
    all_rows = ["--per_device_train_batch_size", "24", "--max_length", "192", "--learning_rate", "0"]
    apart = run(tiny, tmp_path / "apart", *all_rows, steps=1)
    packed = run(tiny, tmp_path / "packed", *all_rows, "--packing", "true", steps=1)
    assert losses(packed) == pytest.approx(losses(apart), abs=1e-3)


def test_packed_and_separate_logits_agree(tiny, tmp_path):
    packed = ["--packing", "true", "--per_device_train_batch_size", "4", "--output_dir", str(tmp_path)]
    script, training, model_args = parse([*tiny, *packed])
    trainer = build_trainer(script, training, model_args, *load_rows(script, training))
    batch = next(iter(trainer.get_train_dataloader()))
    starts = [*(batch["position_ids"][0] == 0).nonzero().flatten().tolist(), batch["input_ids"].shape[1]]
    assert len(starts) > 4
    model = trainer.model.eval()
    with torch.no_grad():
        together = model(**{name: value for name, value in batch.items() if name != "labels"}).logits[0]
        for start, end in pairwise(starts):
            alone = model(input_ids=batch["input_ids"][:, start:end]).logits[0]
            torch.testing.assert_close(together[start:end], alone, rtol=0, atol=1e-3)


def test_a_base_that_bends_its_logits_is_trained_by_trl_and_refuses_the_terms(tiny, tmp_path):
    size = {"head_dim": 8, "sliding_window": 16, "query_pre_attn_scalar": 8}
    base = make_base(tmp_path / "gemma", Gemma2Config, **size)
    bends = [*tiny, "--model_name_or_path", str(base), "--base_id", "tests/gemma"]
    ours = run(bends, tmp_path / "ours", *SGD)
    assert not ours.plain_head
    assert losses(ours) == pytest.approx(losses(run(bends, tmp_path / "theirs", *SGD, trainer=SFTTrainer)), abs=1e-5)
    with pytest.raises(ValueError, match="gemma2 has an output head of its own kind"):
        run(bends, tmp_path / "refused", "--label_smoothing", "0.1")


def test_empathy_loss_by_hand():
    # Two replies of two tokens and one; expected cues 0.5 + 0.5 = 1 and 0.25, for each of three mechanisms.
    probabilities = torch.tensor([[0.5] * 3, [0.5] * 3, [0.25] * 3])
    wanted = 2 * -math.log(1 - math.exp(-1.0)) + 1 * -math.log(1 - math.exp(-0.25))
    assert empathy_loss(probabilities, torch.tensor([0, 0, 1])).item() == pytest.approx(wanted, rel=1e-5)


def test_the_empathy_term_is_finite_where_training_computes_in_bfloat16():
    torch.manual_seed(1)
    hidden, head = torch.randn(2, 16, requires_grad=True), torch.randn(50, 16)
    cues = torch.zeros(50, 3)
    cues[:2] = 1e-3  # hardly a cue is expected
    plain = empathy_loss(expected_cues(hidden, head, cues), torch.tensor([0, 0]))
    with torch.autocast("cpu", torch.bfloat16):
        found = empathy_loss(expected_cues(hidden, head, cues), torch.tensor([0, 0]))
    found.backward()
    assert found.item() == pytest.approx(plain.item(), rel=0.02)
    assert hidden.grad.isfinite().all()


def test_expected_cues_are_probabilities_and_have_a_gradient():
    hidden, head = torch.randn(ROWS + 2, 8, requires_grad=True), torch.randn(30, 8)
    cues = torch.zeros(30, 3)
    cues[:5, 0] = cues[:, 1] = 1
    found = expected_cues(hidden, head, cues)
    wanted = torch.softmax(hidden @ head.T, 1)[:, :5].sum(1)
    torch.testing.assert_close(found[:, 0], wanted)
    torch.testing.assert_close(found[:, 1], torch.ones(ROWS + 2))
    assert torch.autograd.grad(found[:, 0].sum(), hidden)[0].abs().sum() > 0


def test_training_with_the_empathy_term_raises_the_expected_cues(tiny, tmp_path):
    plain = run(tiny, tmp_path / "plain", "--empathy_weight", "0.000001", steps=6)
    helped = run(tiny, tmp_path / "helped", "--empathy_weight", "0.9", steps=6)
    shown = [[e["empathy_loss"] for e in t.state.log_history if "empathy_loss" in e][-1] for t in (plain, helped)]
    assert shown[1] < shown[0]


def test_cues_are_found_whatever_the_tokenizer_puts_before_them(tiny):
    tokenizer = AutoTokenizer.from_pretrained(tiny[1])
    matrix = cue_matrix(tokenizer, len(tokenizer))
    assert matrix.shape == (len(tokenizer), 3)
    for text in ("?", " what"):
        assert matrix[tokenizer.encode(text), 2].sum() == 1, text
    assert CUES.is_file()


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=3))
def test_every_run_of_labels_is_one_reply(rows):
    labelled = torch.tensor(rows)
    numbers = reply_numbers(labelled).tolist()
    runs = sum(row[i] and not (i and row[i - 1]) for row in rows for i in range(4))
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == runs and len(numbers) == sum(map(sum, rows))


@pytest.mark.parametrize(
    ("name", "step", "wanted"),
    [
        ("paper_ramp", 0, 2e-5),
        ("paper_ramp", 500, 3.5e-5),
        ("paper_ramp", 1000, 5e-5),
        ("paper_ramp", 3000, 1e-6),
        ("paper_warmup", 250, 1e-5),
        ("paper_warmup", 500, 2e-5),
        ("paper_warmup", 3000, 0),
    ],
)
def test_named_schedules(name, step, wanted):
    assert rate(name, step, total=3000) == pytest.approx(wanted)


def test_the_optimizer_gets_the_named_rate(tiny, tmp_path):
    trainer = run(tiny, tmp_path, "--schedule", "paper_ramp", steps=2)
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "loss" in entry]
    assert rates == pytest.approx([2e-5, 2.003e-5])


def test_unfreezing_trains_what_it_names_and_no_more(tiny, tmp_path):
    more = ["--unfreeze", "0:1", "1:3", "--save_strategy", "no", "--num_train_epochs", "2", "--max_steps", "-1"]
    arguments = [*tiny, "--output_dir", str(tmp_path), *more]
    script, training, model_args = parse(arguments)
    trainer = build_trainer(script, training, model_args, *load_rows(script, training))
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    moved = {n for n, p in trainer.model.named_parameters() if not torch.equal(p, before[n])}
    layers = {int(name.split(".layers.")[1].split(".")[0]) for name in moved}
    assert layers == {1, 2, 3}
    per_layer = sum(p.numel() for n, p in trainer.model.named_parameters() if ".layers.0." in n and "lora_" in n)
    history = next(c for c in trainer.callback_handler.callbacks if type(c).__name__ == "GradualUnfreezing").history
    assert [(layers, count) for _, layers, count in history] == [(1, per_layer), (3, 3 * per_layer)]


@pytest.mark.parametrize("texts", [["x"], ["1:8"], ["2:16", "0:8"], ["0:0"], []])
def test_unfreezing_that_says_nothing_is_refused(texts):
    with pytest.raises(ValueError, match="unfreeze is"):
        phases_of(texts)
