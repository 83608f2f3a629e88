"""Build a corpus: read each source, make it private, clean it, drop repeats, split, write, and account for every row.

    python data/build_dataset.py --recipe embedded --output build/embedded
    python data/build_dataset.py --recipe public --local DIR --output build/public

--local DIR takes each source from a folder of files in DIR instead of from its Hub id. The corpus is then in
OUTPUT/corpus, for `load_dataset`; OUTPUT/report.json has the counts, OUTPUT/rejects.jsonl what was left out and why,
OUTPUT/ledger.parquet what became of each thing that was read (`python data/follow.py` asks it), OUTPUT/borderline.jsonl the most
alike pairs of rows that both stayed and the least alike of which one was dropped, and OUTPUT/posts.parquet people's own words
without a reply, which are never part of the corpus. A build that was stopped goes on where it was.
"""

import argparse
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tqdm import tqdm

from base_model import cores
from corpus import fingerprint_of, is_up_to_date, write
from duplicates import Pair, closest, related_groups, repeats
from ner import model
from prepare import Settings
from push_corpus import DEFAULT, publish
from recipe import Recipe, Source, load_recipe
from rows import BadInput, Reject, file_of, run
from shards import Decisions
from sources import locate, read
from splitting import split_groups
from stage import Batch, Kept, batches, kept_rows, stage


def main(options: argparse.Namespace) -> None:
    if options.config != DEFAULT:  # before hours of work
        raise BadInput(
            f"Configuration {options.config} may hold rows that nobody may pass on: only {DEFAULT} can be pushed."
        )
    recipe, places, failed, settings, fingerprint, work = plan(options)
    if is_up_to_date(options.output, recipe, fingerprint, options.keep_going):
        print(f"{options.output}/corpus is up to date: nothing that it is made of has changed.")
    else:
        batches = read_all(recipe, places, failed, options)
        files = list(stage(work, batches, settings, options.workers))
        decisions = decide(recipe, kept_rows(files))
        report = write(options.output, recipe, fingerprint, files, decisions, failed, revisions(places))
        shutil.rmtree(work.parent)
        print_report(report, options.output)
    if options.push_to_hub:
        address = publish(options.output, recipe, options.push_to_hub, public=options.public)
        print(f"Pushed to {address}, {'for everybody to see' if options.public else 'private if it is new'}.")


def plan(options: argparse.Namespace) -> tuple[Recipe, dict, dict[str, str], Settings, str, Path]:
    """Read the recipe and find all that a build needs: its sources, settings, fingerprint and the folder of its work.

    What would end a build after hours of work ends it here.
    """
    if options.workers < 1:
        raise BadInput(f"--workers {options.workers} would clean nothing: give 1 or more.")
    recipe = load_recipe(options.recipe)
    places, failed = locate_all(recipe, options.local, options.keep_going)
    invented = tuple(source.name for source in recipe.sources if source.invented)
    settings = Settings(recipe.base, recipe.max_tokens, options.paper, options.ner, invented)
    if settings.ner:
        model()
    fingerprint = fingerprint_of(recipe, places, settings)
    return recipe, places, failed, settings, fingerprint, work_folder(options.output, fingerprint)


def locate_all(recipe: Recipe, local: Path | None, keep_going: bool) -> tuple[dict, dict[str, str]]:
    """Find each source's files; return places by source, and why a source fails that --keep_going goes on without."""
    places, failed = {}, {}
    for source in recipe.sources:
        try:
            places[source.name] = locate(source, local)
        except BadInput as problem:
            _fail(source, problem, failed, keep_going)
    return places, failed


def revisions(places: dict[str, tuple[Path, list[Path]]]) -> dict[str, str]:
    """The commit that each source on the Hub was read at: its folder in the Hub's cache is called after it."""
    return {name: folder.name for name, (folder, _) in places.items() if folder.parent.name == "snapshots"}


def read_all(recipe: Recipe, places: dict, failed: dict[str, str], options: argparse.Namespace) -> Iterator[Batch]:
    """Yield what every source holds, batch by batch."""
    for source in recipe.sources:
        if source.name not in places:
            continue
        folder, files = places[source.name]
        print(f"Reading {source.name}: {len(files)} files in {folder}.")
        found = tqdm(read(source, folder, files), desc=source.name, unit=" rows", disable=None)
        empty = True
        try:
            for batch in batches(source.name, found):
                empty = empty and all(isinstance(item, Reject) for item in batch.items)
                yield batch
            if empty:
                raise BadInput(f"Source {source.name} is empty: there is no conversation in {folder}.")
        except BadInput as problem:
            _fail(source, problem, failed, options.keep_going)


def _fail(source: Source, problem: BadInput, failed: dict[str, str], keep_going: bool) -> None:
    if not keep_going:
        raise problem
    failed[source.name] = str(problem)
    print(f"Going on without the rest of {source.name}: {problem}", file=sys.stderr)


def work_folder(output: Path, fingerprint: str) -> Path:
    """Where prepared batches lie until the build is whole; what another build left there is of no use any more."""
    work = output.parent / f".{output.name}-work" / fingerprint[:16]
    for left in [*work.parent.glob("*"), *output.parent.glob(f".{output.name}-part-*")]:
        if left != work:
            shutil.rmtree(left, ignore_errors=True)
    return work


def decide(recipe: Recipe, kept: Kept) -> Decisions:
    """Find repeats and splits, which only all rows together can tell."""
    print(f"Looking for repeats among {len(kept.sources)} rows. Next: splits, then writing.")
    found = repeats(kept.exact, kept.sketches, kept.text, kept.answers)
    # Of all rows: a repeat that goes may be what links two that stay.
    merged = related_groups(kept.groups, kept.openings, kept.sketches, kept.text)
    groups = {row: group for row, group in enumerate(merged) if row not in found.reasons}
    return Decisions(found.reasons, groups, split_rows(recipe, kept, groups), borderline(kept, found.borderline))


def borderline(kept: Kept, pairs: list[Pair]) -> list[dict]:
    """The pairs next to the threshold of repeats, for a reader to judge it by."""
    return [
        {
            "similarity": round(pair.similarity, 3),
            "stayed": stayed,
            **{
                f"{name}_at": f"{kept.sources[row]}, {kept.wheres[row]}"
                for name, row in (("first", pair.first), ("second", pair.second))
            },
            "first": kept.text(pair.first),
            "second": kept.text(pair.second),
        }
        for stayed, chosen in zip((True, False), closest(pairs), strict=True)
        for pair in chosen
    ]


def split_rows(recipe: Recipe, kept: Kept, groups: dict[int, str]) -> dict[str, str]:
    """Map groups to splits; groups that may be published fill all three splits by themselves."""
    terms = {source.name: source for source in recipe.sources}

    @cache
    def may_be_published(source: str, file: str) -> bool:
        return terms[source].for_file(file).redistributable

    public = {group for row, group in groups.items() if may_be_published(kept.sources[row], file_of(kept.wheres[row]))}
    rest = set(groups.values()) - public
    splits = split_groups(public, recipe.seed) if public else {}
    return splits | (split_groups(rest, recipe.seed) if len(rest) >= 3 or not public else dict.fromkeys(rest, "train"))


def print_report(report: dict, output: Path) -> None:
    for name, source in report["sources"].items():
        print(f"{name}: {source['read']} read, {source['kept']} kept, {source['posts']} posts; {source['rows']} rows")
        for reason, number in source["dropped"].items():
            print(f"  {number:5} dropped: {reason}")
    for config, splits in report["configs"].items():
        numbers = ", ".join(f"{split} {entry['rows']}" for split, entry in splits.items())
        print(f"{config}: {numbers} rows, {sum(entry['tokens'] for entry in splits.values())} tokens")
    print(f"Corpus in {output}/corpus. Next: python train/sft.py --dataset_name {output}/corpus")


def arguments(doc: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", required=True, help="name of a file in data/recipes, or the path of a .yaml file")
    parser.add_argument("--output", required=True, type=Path, help="folder of this build")
    parser.add_argument("--local", type=Path, help="folder that holds the sources' files")
    parser.add_argument(
        "--keep_going", action="store_true", help="go on without a source that fails; the report says so"
    )
    parser.add_argument(
        "--paper", action="store_true", help="lower case and no punctuation, as in the paper: harmful for chat"
    )
    parser.add_argument("--ner", action="store_true", help="find more names with a trained model: ten times as slow")
    parser.add_argument("--workers", type=int, default=cores(), help="processes that clean (default: all cores)")
    return parser


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument(
        "--push_to_hub", metavar="ORG/NAME", help="publish the configuration `default`, nothing else, when it is built"
    )
    parser.add_argument("--public", action="store_true", help="with --push_to_hub: a new repository is not private")
    parser.add_argument(
        "--config", default=DEFAULT, help=argparse.SUPPRESS
    )  # what is asked for by name is refused by name
    run(main, parser.parse_args())
