"""Folds that partition the rows and never cut a group, and numbers against the same training done by hand."""

import json
import math
import os
import signal
import statistics
import subprocess
import sys
from collections import Counter

import pytest
from datasets import Dataset, concatenate_datasets
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from arguments import parse
from conftest import OFFLINE, ROOT
from crossval import assign, main
from perplexity import negative_log_likelihoods
from sft import build_trainer, load_rows


ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # at this size threads do nothing but wait for each other


GROUPS = st.lists(st.sampled_from("abcdefghijkl"), min_size=1, max_size=60)


@given(groups=GROUPS, folds=st.integers(2, 5), seed=st.integers(0, 9), shuffle=st.randoms())
def test_folds_partition_the_rows_and_never_cut_a_group(groups, folds, seed, shuffle):
    sizes = Counter(groups)
    if len(sizes) < folds:
        with pytest.raises(ValueError, match=f"folds is {folds}: choose 2 to {len(sizes)}"):
            assign(groups, folds, seed)
        return
    fold_of = assign(groups, folds, seed)
    rows = Counter(fold_of)
    assert len(fold_of) == len(groups) and set(rows) == set(range(folds))
    assert max(rows.values()) - min(rows.values()) <= max(sizes.values())
    where = dict(zip(groups, fold_of, strict=True))
    assert [where[group] for group in groups] == fold_of
    order = shuffle.sample(range(len(groups)), len(groups))
    assert assign([groups[row] for row in order], folds, seed) == [fold_of[row] for row in order]


def test_another_seed_gives_other_folds():
    groups = [str(number) for number in range(40)]
    assert assign(groups, 4, seed=1) != assign(groups, 4, seed=2)


SHORT = ["--max_steps", "2", "--max_length", "2048"]


@pytest.fixture(scope="module")
def killed_and_finished(tiny, tmp_path_factory):
    """Kill a cross-validation after its first fold, go on, and return its folder and when that fold was written."""
    folder = tmp_path_factory.mktemp("crossval")
    arguments = [*tiny, *SHORT, "--folds", "2", "--output", str(folder)]
    run = [sys.executable, "train/crossval.py", *arguments]
    process = subprocess.Popen(
        run, cwd=ROOT, env={**os.environ, **OFFLINE, **ONE_THREAD}, stdout=subprocess.PIPE, text=True
    )
    assert any(line.startswith("Fold 1 of 2") for line in process.stdout)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (folder / "crossval.json").exists()
    first = (folder / "fold-1/metrics.json").stat().st_mtime_ns
    main(arguments)
    return folder, first


def test_killed_it_goes_on_with_the_next_fold(killed_and_finished):
    folder, first = killed_and_finished
    assert (folder / "fold-1/metrics.json").stat().st_mtime_ns == first
    assert sorted(file.name for file in folder.glob("*")) == ["crossval.json", "fold-1", "fold-2", "inputs.json"]
    assert [file.name for file in folder.glob("fold-*/*")] == ["metrics.json"] * 2


def test_numbers_are_those_of_the_same_training_by_hand(tiny, killed_and_finished, tmp_path):
    result = json.loads((killed_and_finished[0] / "crossval.json").read_text())["folds"][1]
    once = ["--eval_strategy", "steps", "--eval_steps", "2", "--save_strategy", "no", "--output_dir", str(tmp_path)]
    script, training, model_args = parse([*tiny, *SHORT, *once])
    rows = concatenate_datasets(load_rows(script, training))
    fold_of = assign(rows["group"], 2, seed=20)
    learnt, held_out = ([i for i, fold in enumerate(fold_of) if (fold == 1) is its] for its in (False, True))
    trainer = build_trainer(script, training, model_args, rows.select(learnt), rows.select(held_out))
    trainer.train()
    base = AutoModelForCausalLM.from_pretrained(tiny[1], dtype="float32").eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny[1])
    for who, model in (("base", base), ("adapter", trainer.model.eval())):
        scores = negative_log_likelihoods(model, tokenizer, [rows[i]["messages"] for i in held_out], "tiny")
        loss = sum(score.nll for score in scores) / sum(score.tokens for score in scores)
        assert result[who]["loss"] == pytest.approx(loss, rel=1e-4)
        assert result[who]["perplexity"] == pytest.approx(math.exp(loss), rel=1e-3)
    assert result["rows"] == len(held_out) == 16


def test_mean_and_spread_are_those_of_the_folds(killed_and_finished):
    content = json.loads((killed_and_finished[0] / "crossval.json").read_text())
    assert set(content["metrics"]) == {"loss", "perplexity", "mean_token_accuracy"}
    for name, found in content["metrics"].items():
        base, adapter = ([fold[who][name] for fold in content["folds"]] for who in ("base", "adapter"))
        difference = [base[0] - adapter[0], base[1] - adapter[1]]
        assert found["base"]["mean"] == pytest.approx(sum(base) / 2)
        assert found["adapter"]["deviation"] == pytest.approx(abs(adapter[0] - adapter[1]) / math.sqrt(2))
        assert found["difference"]["mean"] == pytest.approx(sum(difference) / 2)
        assert found["difference"]["standard_error"] == pytest.approx(statistics.stdev(difference) / math.sqrt(2))


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--folds", "1"], "folds is 1: choose 2 to 32"),
        (["--folds", "33"], "folds is 33: choose 2 to 32"),
        (["--learning_rate", "0.5"], "holds a cross-validation of other data or settings: choose another --output"),
        (["--folds", "3"], "holds a cross-validation of other data or settings: choose another --output"),
    ],
)
def test_what_cannot_be_cross_validated_is_one_sentence(more, sentence, tiny, killed_and_finished):
    arguments = [*tiny, *SHORT, "--folds", "2", "--output", str(killed_and_finished[0]), *more]
    with pytest.raises(ValueError, match=sentence):
        main(arguments)


def test_a_corpus_without_groups_is_refused(tiny, tmp_path):
    (tmp_path / "corpus/data").mkdir(parents=True)
    talk = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Hi."}]
    for split in ("train", "validation"):
        Dataset.from_list([{"messages": talk}] * 4).to_parquet(tmp_path / f"corpus/data/{split}-0.parquet")
    with pytest.raises(ValueError, match="corpus has no column group: folds would cut conversations"):
        main([*tiny, "--dataset_name", str(tmp_path / "corpus"), "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
