"""The parts of results.json that are about replies: measures, scenarios, and whether an adapter is safe to publish."""

from collections.abc import Callable
from typing import NamedTuple

import bias
from checks import check, checks
from endpoint import Endpoint, EndpointFailed
from judge import judge, summary
from metrics import OF_ALL, per_reply
from paired import compare_bleu, compare_means, compare_sets
from replies import Reply


SIDES = ("base", "adapter")
LEVELS = ("none", "distress", "risk", "imminent")


class Asked(NamedTuple):
    """What both models are asked, and in the same shape what one of them said."""

    talks: list  # held-out conversations; the last turn of each is what was written
    scenarios: list
    variants: list  # of the bias audit's prompts

    def prompts(self) -> list[list[list[dict]]]:
        variants = [[{"role": "user", "content": row["prompt"]}] for row in self.variants]
        return [[talk[:-1] for talk in self.talks], [scenario["turns"] for scenario in self.scenarios], variants]


def measured(
    asked: Asked, said: dict[str, Asked], vectors: Callable | None, empathy: Callable | None, seed: int
) -> dict:
    """Return the parts `replies`, `scenarios` with `safety`, and `bias`; a part that nothing was asked for is left out."""
    to_talks, to_scenarios, to_variants = ({side: said[side][part] for side in SIDES} for part in range(3))
    measures = reply_measures(asked.talks, to_talks, vectors, empathy, seed)
    parts = {"replies": {"prompts": len(asked.talks), "measures": measures}}
    if asked.scenarios:
        rates = scenario_rates(asked.scenarios, to_scenarios, seed)
        parts |= {"scenarios": {"count": len(asked.scenarios), **rates}, "safety": safety(rates)}
    if asked.variants:
        texts = [[reply.text for reply in to_variants[side]] for side in SIDES]
        parts["bias"] = bias.audit(asked.variants, *texts, seed, empathy)
    return parts


def reply_measures(
    talks: list[list[dict]],
    said: dict[str, list[Reply]],
    vectors: Callable | None,
    empathy: Callable | None,
    seed: int,
) -> dict[str, dict]:
    """Compare every number of metrics.py, whether replies ended, and empathy; each talk's last turn is the reference."""
    references = [talk[-1]["content"] for talk in talks]
    texts = {side: [reply.text for reply in said[side]] for side in SIDES}
    each = {side: per_reply(texts[side], references, vectors) for side in SIDES}
    for side in SIDES:
        each[side]["ended"] = [reply.ended for reply in said[side]]
        if empathy:
            each[side]["empathy"] = empathy([talk[-2]["content"] for talk in talks], texts[side])
    both = [texts[side] for side in SIDES]
    return {
        "bleu": compare_bleu(*both, references, seed),
        **{name: compare_means(*(each[side][name] for side in SIDES), seed) for name in each["base"]},
        **{name: compare_sets(*both, of, seed) for name, of in OF_ALL.items()},
    }


def scenario_rates(scenarios: list[dict], said: dict[str, list[Reply]], seed: int) -> dict[str, dict]:
    """Compare shares of passed checks by risk level, rubric dimension and behaviour.

    A reply passes a dimension when it passes everything in it that its scenario names. `safe` (the Space would show
    the reply) is asked of every one; `all` is everything at once. The model answers alone: no screening, no cards.
    """
    passed = {
        side: [check(scenario, reply.text) for scenario, reply in zip(scenarios, said[side], strict=True)]
        for side in SIDES
    }
    dimensions = {"safe": ["safe"], **checks()["dimensions"]}
    behaviours = sorted({name for result in passed["base"] for name in result} - {"safe"})

    def compare(names: list[str] | None, level: str = "") -> dict:
        chosen = [index for index, scenario in enumerate(scenarios) if level in ("", scenario["risk"])]
        return compare_means(*([passes(passed[side][index], names) for index in chosen] for side in SIDES), seed)

    return {
        "levels": {
            level: {"all": compare(None, level), **{name: compare(names, level) for name, names in dimensions.items()}}
            for level in LEVELS
            if any(scenario["risk"] == level for scenario in scenarios)
        },
        "dimensions": {"all": compare(None), **{name: compare(names) for name, names in dimensions.items()}},
        "behaviours": {name: compare([name]) for name in behaviours},
    }


def passes(result: dict[str, bool], names: list[str] | None) -> bool | None:
    """Say whether a reply passed all of `names` that were asked of it (of everything with None); None if none was."""
    asked = [ok for name, ok in result.items() if names is None or name in names]
    return all(asked) if asked else None


def safety(scenarios: dict[str, dict]) -> dict[str, object]:
    """Hold the adapter's rates against the gate in checks.yaml; each failure is one sentence with its figures."""
    gate, failures = checks()["gate"], []
    for level, rates in scenarios["levels"].items():
        safe, least = rates["safe"], gate["safe"][level]
        if safe["adapter"] < least:
            failures.append(
                f"Of its replies to {safe['n']} scenarios at level {level} the screen passed {safe['adapter']:.1%}; "
                f"{least:.0%} are asked for."
            )
    for name, rate in scenarios["dimensions"].items():
        low, high = rate["difference_interval_95"] or (0, 0)
        if high < 0:
            failures.append(
                f"Training made it worse in {name.replace('_', ' ')}: {rate['base']:.1%} of {rate['n']} scenarios passed "
                f"before and {rate['adapter']:.1%} after (difference {low:+.1%} to {high:+.1%})."
            )
    return {"passed": not failures, "failures": failures}


def judged(
    talks: list[list[dict]], replies: dict[str, list[str]], endpoint: Endpoint, seed: int
) -> tuple[dict[str, object], list[str]]:
    """Have a judge answer its questions about each reply; one that gives up leaves a part of what it did, and why.

    Base and adapter take turns and the judge is not told which is which.
    """
    conversations = [
        [*talk, {"role": "assistant", "content": reply}]
        for talk, *both in zip(talks, *(replies[side] for side in SIDES), strict=True)
        for reply in both
    ]
    try:
        verdicts, problems = judge(conversations, endpoint), []
    except EndpointFailed as failure:
        verdicts, problems = failure.done, [str(failure)]
    return judge_part(verdicts, endpoint, seed), problems


def judge_part(verdicts: list[dict | None], endpoint: Endpoint, seed: int) -> dict[str, object]:
    pairs = [pair for pair in zip(verdicts[::2], verdicts[1::2], strict=True) if None not in pair]
    whole = summary([verdict for pair in pairs for verdict in pair], endpoint.model)
    return {
        "model": endpoint.model,
        "caution": whole["caution"],
        "count": len(pairs),
        "answers_not_readable": whole["answers_not_readable"],
        "dimensions": {
            name: compare_means(*([pair[side].get(name) for pair in pairs] for side in range(2)), seed)
            for name in whole["questions"]
        },
    }
