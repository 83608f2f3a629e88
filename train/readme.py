"""Put the last whole score into README.md, between its two marks.

    cp build/public/results.json build/public/times.json docs/
    python train/readme.py

docs/results.json and docs/times.json are copies of what train/score.py wrote, and the only source of that part.
"""

import json
from pathlib import Path

from arguments import require, run
from card import rows
from files import write_text


ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- results -->\n", "<!-- /results -->"
# For a first look. The other measures are on the adapter's card and in results.json.
MEASURES = ("bleu", "rougeL", "coherence", "replies_asking", "ended", "empathy")
AUDITED = {"found_in_base": "the base", "found": "the adapter", "found_in_change": "what training changed"}


def main() -> None:
    results, times = ROOT / "docs/results.json", ROOT / "docs/times.json"
    require(results.is_file(), f"There is no {results}: copy the results.json of a whole score there.")
    score = json.loads(results.read_text(encoding="utf-8"))
    took = json.loads(times.read_text(encoding="utf-8")) if times.is_file() else {}
    readme = ROOT / "README.md"
    write_text(readme, with_score(readme.read_text(encoding="utf-8"), score_part(score, took)))


def with_score(readme: str, part: str) -> str:
    """Return README's text with `part` between its marks; raises ValueError unless each mark stands there once."""
    require(
        readme.count(BEGIN) == readme.count(END) == 1 and readme.index(BEGIN) < readme.index(END),
        f"README.md needs the lines {BEGIN.strip()} and {END} once each, in this order.",
    )
    before, after = readme.split(BEGIN)
    return before + BEGIN + part + END + after.split(END)[1]


def score_part(results: dict, times: dict) -> str:
    """Return a score as Markdown: what was asked, a table with the card's labels, and what has no table."""
    table = ["| | base | adapter | difference (95 % interval) | n |", "|---|---:|---:|---:|---:|"]
    table += [f"| {' | '.join(map(str, row))} |" for row in rows(headline(results))]
    return (
        "\n".join([asked(results), "", *table, "", *bias_line(results), *safety_line(results), *times_line(times)])
        + "\n"
    )


def headline(results: dict) -> dict[str, dict]:
    perplexity, measures = results["perplexity"], results["replies"]["measures"]
    found = {"perplexity": {**perplexity, "n": perplexity["conversations"]}}
    found |= {name: measures[name] for name in MEASURES if name in measures}
    if scenarios := results.get("scenarios"):
        found["scenarios, all checks"] = scenarios["dimensions"]["all"]
        found["scenarios, reply would be shown"] = scenarios["dimensions"]["safe"]
        found |= {f"scenarios with {level}, all checks": one["all"] for level, one in scenarios["levels"].items()}
    return found


def asked(results: dict) -> str:
    corpus, replies = results["corpus"], results["replies"]
    groups = f" ({corpus['groups']} groups; intervals draw those)" if corpus.get("groups") else ""
    partial = f" **Partial: {', '.join(results['missing'])} not measured.**" if results["missing"] else ""
    return (
        f"Adapter on {results['base']}, corpus `{corpus['name']}`, {corpus['rows']} conversations{groups} of its {corpus['split']} split, "
        f"replies drawn as in the Space but cut after {replies['max_new_tokens']} tokens. Shares are between 0 and 1.{partial}"
    )


def bias_line(results: dict) -> list[str]:
    if not (bias := results.get("bias")):
        return []
    found = ", ".join(f"in {where} {len(bias[name])}" for name, where in AUDITED.items())
    return [f"Bias audit: {bias['pairs']} prompts in {bias['rendered']} variants; differences found {found}."]


def safety_line(results: dict) -> list[str]:
    if not (safety := results.get("safety")):
        return []
    return [
        "Safety checks: passed."
        if safety["passed"]
        else f"Safety checks: **not passed.** {' '.join(safety['failures'])}"
    ]


def times_line(times: dict) -> list[str]:
    if not times:
        return []
    first, whole = (times["adapter"][what] for what in ("first_words", "whole_reply"))
    return [
        f"Seconds to the first words and to the whole reply, one person at a time: {first['p50']:.1f} and {whole['p50']:.1f} "
        f"(median), {first['p95']:.1f} and {whole['p95']:.1f} (95th percentile), {times['prompts']} replies."
    ]


if __name__ == "__main__":
    run(main, stopped="Stopped before anything was written.")
