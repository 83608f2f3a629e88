"""Put an adapter on the Hub with a card of what was measured; on request also merged into its base, and as a GGUF file.

    python train/publish.py --adapter build/embedded/adapter --repo ORG/NAME --merge ORG/NAME-merged --gguf ORG/NAME-GGUF

Refuses an adapter that was not scored, not to the end, or that failed the safety checks. Everything is made and checked before
anything is pushed. With --output it is written into a folder and nothing is pushed.
"""

import argparse
import json
import re
import tempfile
from pathlib import Path

from transformers import AutoTokenizer

from arguments import require, run
from card import Edition, render
from files import write_json
from gguf_check import export_checked
from merging import AGREES, merge
from modelfile import ollama_files
from pushing import check_card, push
from release import (
    belongs,
    check_adapter,
    forget_origin,
    is_hub_id,
    problems,
    read_results,
    stage,
    stage_plots,
)


def main() -> None:
    options = parse_options()
    results, against = checked(options)
    require(options.force or not against, " ".join([*against, "Nothing was pushed."]))
    place = options.output or options.adapter
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=place.parent) as work:
        made = make(options, results, against, Path(work) / "made")
        if options.output:
            (Path(work) / "made").rename(options.output)
            print(f"Written to {options.output}; nothing was pushed.")
            return
        for folder, repo in made.items():
            check_card(folder, repo)
        for folder, repo in made.items():
            print(push(folder, repo, public=options.public))


def checked(options: argparse.Namespace) -> tuple[dict | None, tuple[str, ...]]:
    """Return the results and what speaks against publishing; raises ValueError for what --force does not allow either."""
    check_options(options)
    check_adapter(options.adapter)
    results = read_results(options.results or options.adapter.parent / "results.json")
    return results, tuple(problems(options.adapter, results))


def make(options: argparse.Namespace, results: dict | None, against: tuple[str, ...], work: Path) -> dict[Path, str]:
    """Write a folder for each thing to publish, cards included, and return the folders with their repositories."""
    adapter, gguf = work / "adapter", work / "gguf"
    merged = work / "merged" if options.merge else work.parent / "merged"
    work.mkdir()
    known = results if results and belongs(options.adapter, results) else {}  # never another adapter's numbers
    record = stage(options.adapter, known, adapter)
    told = {"license": options.license, "dataset": options.dataset, "warnings": against}
    plots = stage_plots(options.adapter, adapter, known)
    finish(adapter, record, Edition(address=options.repo, plots=plots, **told))
    if options.merge or options.gguf:
        replies = merge(options.adapter, merged)
        forget_origin(merged / "tokenizer_config.json")
    if options.merge:
        finish(merged, record, Edition("merged", options.merge, checked=AGREES, **told))
    if options.gguf:
        file = make_gguf(merged, gguf, options.gguf.partition("/")[2], replies)
        source = options.merge or options.repo
        finish(gguf, record, Edition("gguf", options.gguf, source, file=file, checked=AGREES, **told))
    repos = {adapter: options.repo, merged: options.merge, gguf: options.gguf}
    return {folder: repo for folder, repo in repos.items() if repo}


def make_gguf(merged: Path, folder: Path, name: str, replies: list[str]) -> str:
    """Write the GGUF and Ollama's files beside it, and return its name, which says what its weights are kept in."""
    kept = {"float16": "F16", "float32": "F32"}[json.loads((merged / "config.json").read_text())["dtype"]]
    file = f"{re.sub('-gguf$', '', name, flags=re.I)}-{kept}.gguf"
    folder.mkdir()
    export_checked(merged, folder / file, name, replies)
    for other, text in ollama_files(AutoTokenizer.from_pretrained(merged), file).items():
        (folder / other).write_text(text, encoding="utf-8")
    return file


def finish(folder: Path, record: tuple[dict, dict], edition: Edition) -> None:
    """Put run.json, results.json and the card into a folder: they go with everything that comes of the adapter."""
    trained, measured = record
    write_json(folder / "run.json", trained)
    if measured:
        write_json(folder / "results.json", measured)
    (folder / "README.md").write_text(str(render(trained, measured, edition)), encoding="utf-8")


def check_options(options: argparse.Namespace) -> None:
    for name in ("repo", "merge", "gguf", "dataset"):
        value = getattr(options, name)
        require(value is None or is_hub_id(value), f"--{name} is {value}: give it as OWNER/NAME.")
    repos = [repo for repo in (options.repo, options.merge, options.gguf) if repo]
    require(
        len(set(repos)) == len(repos), "Adapter, merged model and GGUF need a repository each: give them other names."
    )
    require(
        not (options.output and options.output.exists()),
        f"{options.output} is there already: choose another --output.",
    )


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--adapter", type=Path, required=True, help="folder that train/sft.py wrote")
    parser.add_argument("--repo", required=True, help="Hub id for the adapter")
    parser.add_argument("--merge", metavar="REPO", help="also merge it into its base, for this Hub id")
    parser.add_argument("--gguf", metavar="REPO", help="also as a GGUF with a Modelfile, for this Hub id")
    parser.add_argument("--results", type=Path, help="what train/score.py wrote (none: beside the adapter's folder)")
    parser.add_argument("--dataset", metavar="REPO", help="Hub id of the corpus it was trained on, for the card")
    parser.add_argument("--license", help="licence for the card (none: the base's, where it is known here)")
    parser.add_argument("--public", action="store_true", help="everybody may see a new repository (none: nobody)")
    parser.add_argument(
        "--force", action="store_true", help="publish against the checks; the card then says so at its top"
    )
    parser.add_argument("--output", type=Path, help="write everything into this folder and push nothing")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run(main, "Stopped: run the same command again.")
