"""Going on from the shipped weights: they come back as they are read, and a text is judged by its worst window."""

import pytest
import torch

from fit_learned import CALM, Row, write
from learned import OUTPUTS, WEIGHTS, harm, worst_window
from refine_learned import DANGER, HARMFUL, anchored, judge, outputs_of, refine, shipped, whole, worst
from test_learned import tiny_teacher


@pytest.fixture(scope="module")
def student():
    return shipped(WEIGHTS)


TEXTS = ["i took the dog to the park today", "no one would notice if i was gone", "ich will nicht mehr leben"]


@pytest.mark.parametrize("text", TEXTS)
def test_the_shipped_weights_judge_as_numpy_does(student, text):
    """The first model's: `danger` would ask the second, too."""
    student.eval()
    logits = torch.sigmoid(outputs_of(student, [(text, False), (text, True)]))
    assert logits[0, DANGER].item() == pytest.approx(
        worst_window(text, "message", "danger")[0]["danger"], abs=0.02
    )  # bfloat16 here
    assert logits[1, HARMFUL].item() == pytest.approx(harm(text).probability, abs=0.02)


def test_a_text_answers_for_its_worst_window():
    logits = torch.zeros(3, len(OUTPUTS))
    logits[:, DANGER], logits[:, HARMFUL] = torch.tensor([1.0, 3.0, 2.0]), torch.tensor([9.0, 0.0, 5.0])
    owner = torch.tensor([0, 0, 1])
    message, reply = worst(logits, owner, torch.tensor([False, True]))
    assert message[DANGER] == 3 and reply[HARMFUL] == 5


def test_a_few_steps_move_what_is_trained_and_the_file_is_read_again(student, tmp_path):
    calm = [Row(text, False, CALM, 1.0, False) for text in TEXTS]
    rows = anchored(student, [*calm, Row("You matter to me.", True, CALM, 1.0, False)])
    assert 0 < rows[-1].target[HARMFUL] < 1
    before = judge(student, calm)[:, DANGER]
    torch.manual_seed(0)
    refine(student, rows, steps=20, rate=3e-4, head_rate=3e-4)
    write(student, rows, tmp_path / "weights.safetensors")
    after = judge(shipped(tmp_path / "weights.safetensors"), calm)[:, DANGER]
    assert after.mean() < before.mean() - 1


def test_it_begins_from_the_whole_of_an_encoder_too(tmp_path):
    encoder = tiny_teacher(tmp_path / "encoder")
    rows = [Row(text, False, CALM, 1.0, False) for text in TEXTS]
    student = whole(str(encoder), rows)
    assert len(student.layers) == 3
    assert student.layers[0]["inner"].weight.shape == (96, 384)
    write(student, rows, tmp_path / "large.safetensors")
    again = shipped(tmp_path / "large.safetensors")
    torch.testing.assert_close(judge(again, rows), judge(student, rows), atol=0.05, rtol=0)
