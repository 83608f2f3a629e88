"""Going on from the shipped weights: they come back as they are read, and a text is judged by its worst window."""

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import MPNetConfig, MPNetModel, PreTrainedTokenizerFast

from fit_learned import CALM, Row, Teacher, target_of, write
from learned import ENGLISH, OUTPUTS, SECOND, WEIGHTS, pieces_of, worst_window
from refine_learned import DANGER, HARMFUL, anchored, begun, judge, outputs_of, refine, shipped, worst
from test_learned import tiny_teacher


@pytest.fixture(scope="module")
def student():
    return shipped(WEIGHTS)


TEXTS = ["i took the dog to the park today", "no one would notice if i was gone", "ich will nicht mehr leben"]


@pytest.mark.parametrize("weights", [WEIGHTS, SECOND, ENGLISH])
@pytest.mark.parametrize("text", TEXTS)
def test_the_shipped_weights_judge_as_numpy_does(weights, text):
    student = shipped(weights)
    student.eval()
    logits, _ = outputs_of(student, [(text, False), (text, True)])
    for row, speaker, verdict in ((0, "message", DANGER), (1, "reply", HARMFUL)):
        expected = torch.sigmoid(logits[row, verdict]).item()  # by bfloat16
        assert worst_window(text, speaker, OUTPUTS[verdict], weights)[0][OUTPUTS[verdict]] == pytest.approx(
            expected, abs=0.03
        )


def test_a_text_answers_for_its_worst_window():
    logits = torch.zeros(3, len(OUTPUTS))
    logits[:, DANGER], logits[:, HARMFUL] = torch.tensor([1.0, 3.0, 2.0]), torch.tensor([9.0, 0.0, 5.0])
    owner = torch.tensor([0, 0, 1])
    assert worst(logits, owner, torch.tensor([False, True])) == [1, 2]


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
    rows = [Row(text, False, CALM, 1.0, False) for text in TEXTS]
    student = begun(Teacher(str(tiny_teacher(tmp_path / "encoder"))), rows, None)
    assert len(student.layers) == 3
    assert student.layers[0]["inner"].weight.shape == (96, 384)
    write(student, rows, tmp_path / "large.safetensors")
    again = shipped(tmp_path / "large.safetensors")
    torch.testing.assert_close(judge(again, rows), judge(student, rows), atol=0.05, rtol=0)


def tiny_mpnet(folder):
    words = [
        "<s>",
        "<pad>",
        "</s>",
        "<unk>",
        "i",
        "took",
        "the",
        "dog",
        "to",
        "park",
        "today",
        "don",
        "'",
        "t",
        "?",
        "犬",
    ]
    endings = [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    tokenizer = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(words + endings)}, unk_token="<unk>"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>").save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 384, "num_hidden_layers": 4, "num_attention_heads": 12, "intermediate_size": 96}
    size["hidden_act"] = "quick_gelu"
    model = MPNetModel(MPNetConfig(vocab_size=len(words + endings), **size), add_pooling_layer=False)
    torch.nn.init.normal_(model.encoder.relative_attention_bias.weight, std=4.0)
    model.save_pretrained(folder)
    return Teacher(str(folder))


def test_an_mpnet_is_cut_down_and_keeps_its_sense_of_distance(tmp_path):
    """Without int4, of an encoder with learned.py's activation, what is left says what it said."""
    teacher, rows = tiny_mpnet(tmp_path / "mpnet"), [Row("i took the dog", False, CALM, 1.0, False)]
    student = begun(teacher, rows, None, window=8)
    student.rounded = False
    student.special.data[0] = teacher.encoder.embeddings.word_embeddings.weight[0]
    words = [student.index[f"▁{word}"] for word in ["i", "took", "the", "dog"]]
    assert [student.message, *words] == student.tokens_of("I took the dog", reply=False)
    student.eval(), teacher.eval()
    tokens = torch.tensor([[student.message, *words]])
    _, mean = teacher(torch.tensor([[0, 4, 5, 6, 7]]), torch.ones(1, 5))
    student.imitate.weight.data, student.imitate.bias.data = torch.eye(384, 768), torch.zeros(384)
    _, ours = student(tokens, torch.ones(1, 5))
    torch.testing.assert_close(ours, mean, atol=0.04, rtol=0)
    student.relative.data.zero_()
    assert (student(tokens, torch.ones(1, 5))[1] - mean).abs().max() > 0.1, "the distance counts"


def test_marks_and_what_follows_them_are_pieces_of_one_word(tmp_path):
    student = begun(tiny_mpnet(tmp_path / "mpnet"), [Row("i", False, CALM, 1.0, False)], 2)
    assert len(student.layers) == 2
    names = dict(enumerate(student.vocabulary.pieces))
    cut = pieces_of("Don't? the dogs 犬", student.index, student.vocabulary.scores, student.unknown)
    assert [names.get(piece, "?") for piece in cut] == ["▁don", "'", "t", "?", "▁the", "▁dog", "s", "?", "?"]


def test_a_teacher_moves_what_has_no_label(tmp_path):
    teacher = tiny_mpnet(tmp_path / "mpnet")
    rows = [Row(TEXTS[0], False, target_of({}), 1.0, False)]
    teacher.head.bias.data[DANGER] = 4.0
    student = begun(teacher, rows, 2)
    refine(student, rows, steps=30, rate=1e-3, head_rate=1e-2, teacher=teacher)
    assert judge(student, rows)[0, DANGER] > 1
