"""Score an adapter against its base: perplexity, replies, scenarios, a bias audit, response times and, if asked, a judge.

    python train/score.py --adapter build/embedded/adapter --corpus build/embedded/corpus

Writes results.json, times.json and report.html beside the adapter's folder, and the adapter's card (README.md). The same
command again goes on with the replies that are done; the same weights, data and machine give the same results.json.
"""

import argparse
import json
import math
import random
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import PeftConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

import bias
import learned
from arguments import require, run
from base_model import best_dtype, resolve
from card import render_model_card
from checks import load_scenarios
from curves import cut
from endpoint import Endpoint, endpoint_at
from engine import MAX_NEW_TOKENS
from epitome import measure_of
from files import sha256, write_json
from judge import KEY
from loading import load_conversations
from perplexity import compare, negative_log_likelihoods
from preflight import sentence_of
from replies import answer_all
from report import write_report
from results import SIDES, Asked, judged, measured
from sentence_vectors import VectorsUnavailable, load, sentence_vectors
from speed import response_times


SEED = 20
BIAS = 20  # prompts per axis that a whole score asks
LONGEST_PROMPT = 1024  # tokens; the last turns of a longer conversation are left out
ENOUGH = 300  # conversations that a whole score asks
WHOLE = 96  # tokens of a reply that it reads at least


def main(options: argparse.Namespace) -> None:
    learned.BUDGET = math.inf  # on a busy machine the screen would read less, and find less
    check(options)
    endpoint = endpoint_at(options.judge_url, options.judge_model, KEY) if options.judge_url else None
    rows = load_conversations(options.corpus, options.config, options.split)
    rows = rows.select(range(min(options.limit or len(rows), len(rows))))
    model, tokenizer, about = load_adapter(options.adapter, options.base)
    vectors, problems = vectors_or_problem()
    empathy = measure_of(options.epitome) if options.epitome and vectors else None
    groups = list(rows["group"]) if "group" in rows.column_names else list(range(len(rows)))
    cuts = [cut(tokenizer, messages, LONGEST_PROMPT) for messages in rows["messages"]]
    asked = Asked(
        talks=[talk for talk in cuts if talk],
        scenarios=[judgeable(each, options.max_new_tokens) for each in some(load_scenarios(), options.scenarios)],
        variants=bias.prompts(bias.load_pairs(), options.bias),
        groups=[group for talk, group in zip(cuts, groups, strict=True) if talk],
    )
    scores, said = answer_both(model, tokenizer, rows["messages"], asked, about, options)
    results = {
        **about,
        "corpus": {
            "name": str(options.corpus),
            "config": options.config,
            "split": options.split,
            "rows": len(rows),
            "groups": len(set(groups)),  # what intervals are drawn from
        },
        "missing": missing(asked, vectors, options),
        "perplexity": compare(*(scores[side] for side in SIDES), seed=SEED, groups=groups),
        **measured(asked, said, vectors, empathy, SEED),
    }
    results["replies"]["max_new_tokens"] = options.max_new_tokens
    folder = options.adapter.parent
    write_json(folder / "results.json", results)  # what comes now may fail, and must not cost what is there
    if endpoint:
        problems += add_judge(results, asked, said, endpoint, options)
        write_json(folder / "results.json", results)
    del model
    times = response_times([talk[:-1] for talk in asked.talks[: options.timed]], about["base"], options.adapter, SEED)
    write_json(folder / "times.json", times)
    write_report(folder, options.adapter, results, times, asked, said)
    render_model_card(options.adapter, results)
    print(summary(results, folder))
    if problems:
        raise ValueError(" ".join(problems))


def load_adapter(adapter: Path, base: str | None):
    """Return base and adapter as one model, its tokenizer and what decides its replies.

    Raises ValueError when there is no adapter, or `base` is not the one that it was trained on.
    """
    if not (adapter / "adapter_config.json").is_file():
        raise ValueError(f"There is no adapter in {adapter}: train one with python train/sft.py.")
    config = PeftConfig.from_pretrained(adapter)
    trained_on, revision = config.base_model_name_or_path, config.revision or "main"
    if base and base != trained_on:
        raise ValueError(f"The adapter in {adapter} was trained on {trained_on}, not on {base}: leave --base out.")
    dtype = trained_dtype(adapter)
    try:
        model = AutoModelForCausalLM.from_pretrained(resolve(trained_on), dtype=dtype, revision=revision)
    except OSError as error:
        raise ValueError(sentence_of(error, trained_on)) from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # The adapter in the base's own type: mixed types would be cast at every layer.
    model = PeftModel.from_pretrained(model, adapter, autocast_adapter_dtype=False).to(device).eval()
    about = {
        "adapter": adapter.name,
        "adapter_sha256": sha256(adapter / "adapter_model.safetensors"),
        "base": trained_on,
        "dtype": str(dtype).removeprefix("torch."),
        "seed": SEED,
    }
    return model, AutoTokenizer.from_pretrained(adapter), about


def check(options: argparse.Namespace) -> None:
    for name, least in {"limit": 1, "scenarios": 0, "bias": 0, "timed": 0, "judged": 1, "max_new_tokens": 1}.items():
        value = getattr(options, name)
        require(value is None or value >= least, f"--{name.replace('_', '-')} is {value}: choose {least} or more.")


def trained_dtype(adapter: Path) -> torch.dtype:
    """Return the type that the adapter was trained beside; a stopwatch might choose another one the next time."""
    run = adapter / "run.json"
    return getattr(torch, json.loads(run.read_text())["dtype"]) if run.is_file() else best_dtype()


def judgeable(scenario: dict, max_new_tokens: int) -> dict:
    """Leave out what replies that are cut short can only pass."""
    forbidden = [name for name in scenario["forbidden"] if name != "too_long" or max_new_tokens >= MAX_NEW_TOKENS]
    return {**scenario, "forbidden": forbidden}


def vectors_or_problem():
    """Return the function that makes sentence vectors and no problem, or None and what is missing."""
    try:
        load()
    except VectorsUnavailable as problem:
        print(f"{problem} Going on without coherence and empathy.")
        return None, [str(problem)]
    return sentence_vectors, []


def some(items: list, count: int | None) -> list:
    """Return `count` of them, the same ones each time, in their order; all with None."""
    if count is None or count >= len(items):
        return items
    return [items[index] for index in sorted(random.Random(SEED).sample(range(len(items)), count))]


def answer_both(model, tokenizer, conversations, asked: Asked, about: dict, options) -> tuple[dict, dict[str, Asked]]:
    """Return negative log-likelihoods of the conversations and replies to what is asked, each by side."""
    prompts = asked.prompts()
    scores, said = {}, {}
    for side in SIDES:  # the base first: a merged adapter does not come out again without rounding
        with playing(model, side):
            scores[side] = negative_log_likelihoods(model, tokenizer, conversations, side)
            replies = answer_all(
                model,
                tokenizer,
                [prompt for group in prompts for prompt in group],
                options.adapter.parent / f"replies_{side}.jsonl",
                about={"model": side, **about},
                max_new_tokens=options.max_new_tokens,
                seed=SEED,
            )
        waiting = iter(replies)
        said[side] = Asked(*([next(waiting) for _ in group] for group in prompts))
    return scores, said


@contextmanager
def playing(model: PeftModel, side: str):
    """Let the model be the base, or base and adapter merged as in the Space, which is faster than side by side."""
    if side == "base":
        with model.disable_adapter():
            yield
    else:
        model.merge_adapter()
        yield


def missing(asked: Asked, vectors, options) -> list[str]:
    """Name the parts that a whole score has and this one has not, or not yet."""
    scenarios, talks = len(load_scenarios()) - len(asked.scenarios), ENOUGH - len(asked.talks)
    short = {
        "coherence": not vectors,
        "empathy": options.epitome and not vectors,
        f"{talks} of {ENOUGH} conversations": talks > 0,
        f"{scenarios} scenarios": scenarios,
        "the bias audit or most of it": options.bias < BIAS,
        "whole replies": options.max_new_tokens < WHOLE,
        "judge": options.judge_url,
    }
    return [name for name, is_missing in short.items() if is_missing]


def add_judge(results: dict, asked: Asked, said: dict[str, Asked], endpoint: Endpoint, options) -> list[str]:
    """Put the judge's part into the results and return what went wrong, if anything; then it stays marked as missing."""
    chosen = set(map(id, some(asked.scenarios, options.judged)))
    places = [place for place, scenario in enumerate(asked.scenarios) if id(scenario) in chosen]
    talks = [asked.scenarios[place]["turns"] for place in places]
    replies = {side: [said[side].scenarios[place].text for place in places] for side in SIDES}
    results["judge"], problems = judged(talks, replies, endpoint, SEED)
    if not problems:
        results["missing"].remove("judge")
    return problems


def summary(results: dict, folder: Path) -> str:
    perplexity = results["perplexity"]
    low, high = perplexity["difference_interval_95"]
    lines = [
        f"Perplexity: base {perplexity['base']:.2f}, adapter {perplexity['adapter']:.2f}, "
        f"difference {perplexity['difference']:+.2f} (95 % interval {low:+.2f} to {high:+.2f})."
    ]
    if "safety" in results:
        rate = results["scenarios"]["dimensions"]["all"]
        failures = results["safety"]["failures"]
        lines += [f"Scenarios passed whole: base {rate['base']:.1%}, adapter {rate['adapter']:.1%} of {rate['n']}."]
        lines += [f"Not safe to publish: {failure}" for failure in failures]
    return "\n".join([*lines, f"To read: {folder / 'report.html'}. Next: make space"])


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--adapter", type=Path, required=True, help="folder that train/sft.py wrote")
    parser.add_argument("--corpus", required=True, help="corpus folder or Hub id")
    parser.add_argument("--config", help="corpus configuration (none: the published one)")
    parser.add_argument("--split", default="test", help="held-out split (default: test)")
    parser.add_argument("--limit", type=int, help="ask only the first N conversations (none: all)")
    parser.add_argument("--scenarios", type=int, help="how many scenarios (none: all)")
    parser.add_argument(
        "--bias", type=int, default=BIAS, help=f"prompts per axis of the bias audit (default: {BIAS}; 0: none)"
    )
    parser.add_argument("--timed", type=int, default=20, help="replies whose time is taken (default: 20)")
    parser.add_argument(
        "--max-new-tokens", type=int, default=WHOLE, help=f"longest reply in tokens (default: {WHOLE})"
    )
    parser.add_argument("--epitome", type=Path, help="folder with EPITOME's three *-reddit.csv, for empathy")
    parser.add_argument("--judge-url", help=f"OpenAI-compatible endpoint of a judge; its key, if any, in ${KEY}")
    parser.add_argument("--judge-model", help="the judge's name at that endpoint")
    parser.add_argument("--judged", type=int, default=100, help="how many scenarios it judges (default: 100)")
    parser.add_argument("--base", help="fail unless the adapter was trained on this base")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run(lambda: main(parse_options()), stopped="Stopped; the same command goes on with the replies that are done.")
