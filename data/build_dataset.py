"""Build a corpus: read each source, make it private, clean it, drop repeats, split, write, and account for every row.

    python data/build_dataset.py --recipe embedded --output build/embedded
    python data/build_dataset.py --recipe public --local DIR --output build/public

--local DIR takes each source from a folder of files in DIR instead of from its Hub id. The corpus is then in
OUTPUT/corpus, for `load_dataset`; OUTPUT/report.json has the counts and OUTPUT/rejects.jsonl what was left out and why.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from cleaning import clean, tidy
from corpus import entries_of, fingerprint_of, is_up_to_date, write
from duplicates import merge_related_groups, repeats
from privacy import redact, redact_conversation
from recipe import Recipe, Source, load_recipe
from rows import BadInput, Reject, Row, text_of
from sources import locate, read
from splitting import split_groups
from tokens import count_tokens


class Cleaned(NamedTuple):
    rows: list[Row]
    rejects: list[Reject]
    removed: Counter  # how many of each kind of personal data were taken out


def main(recipe_name: str, output: Path, local: Path | None) -> None:
    recipe = load_recipe(recipe_name)
    places = {source.name: locate(source, local) for source in recipe.sources}
    fingerprint = fingerprint_of(recipe, places)
    if is_up_to_date(output, recipe, fingerprint):
        print(f"{output}/corpus is up to date: nothing that it is made of has changed.")
        return
    raw, unread = read_all(recipe.sources, places)
    cleaned = make_private_and_clean(raw)
    rows, repeated = drop_repeats(cleaned.rows)
    rejects = [*unread, *cleaned.rejects, *repeated]
    read_counts = Counter(item.source for item in [*raw, *unread])
    check_account(recipe, read_counts, rows, rejects)
    rows = merge_related_groups(rows)
    entries = entries_of(recipe, rows, split_rows(recipe, rows), count(rows, recipe.base))
    report = write(output, recipe, fingerprint, entries, rejects, read_counts, cleaned.removed)
    print_report(report, output)


def read_all(sources: list[Source], places: dict) -> tuple[list[Row], list[Reject]]:
    """Read every source to its end; what a reader could not turn into a row comes back as rejects."""
    items: list[Row | Reject] = []
    for source in sources:
        folder, files = places[source.name]
        print(f"Reading {source.name}: {len(files)} files in {folder}.")
        found = list(tqdm(read(source, folder, files), desc=source.name, unit=" rows", disable=None))
        if not any(isinstance(item, Row) for item in found):
            raise BadInput(f"Source {source.name} is empty: there is no conversation in {folder}.")
        items += found
    rows = [item for item in items if isinstance(item, Row)]
    unread = [item._replace(text=redact(item.text)[0]) for item in items if isinstance(item, Reject)]
    return rows, unread


def make_private_and_clean(rows: list[Row]) -> Cleaned:
    """Take out personal data first, so that not even a rejected text keeps it, then run the cleaning steps."""
    print(f"Taking personal data out of {len(rows)} rows and cleaning them. Next: repeats.")
    cleaned = Cleaned([], [], Counter())
    for row in tqdm(rows, unit=" rows", disable=None):
        row = tidy(row)
        messages, findings = redact_conversation(row.messages)
        cleaned.removed.update(finding.kind for turn in findings for finding in turn)
        row = row._replace(messages=messages)
        result = clean(row)
        if isinstance(result, str):
            cleaned.rejects.append(Reject(row.source, row.where, result, text_of(row)))
        else:
            cleaned.rows.append(result)
    return cleaned


def drop_repeats(rows: list[Row]) -> tuple[list[Row], list[Reject]]:
    print(f"Looking for repeats among {len(rows)} rows. Next: splits and tokens.")
    reasons = repeats(rows)
    kept = [row for number, row in enumerate(rows) if number not in reasons]
    repeated = [
        Reject(rows[number].source, rows[number].where, reason, text_of(rows[number]))
        for number, reason in sorted(reasons.items())
    ]
    return kept, repeated


def check_account(recipe: Recipe, read_counts: Counter, rows: list[Row], rejects: list[Reject]) -> None:
    kept, dropped = Counter(row.source for row in rows), Counter(reject.source for reject in rejects)
    for source in recipe.sources:
        assert kept[source.name] + dropped[source.name] == read_counts[source.name], source.name


def split_rows(recipe: Recipe, rows: list[Row]) -> dict[str, str]:
    """Map groups to splits; groups that may be published fill all three splits by themselves."""
    terms = {source.name: source for source in recipe.sources}
    public = {row.group for row in rows if terms[row.source].for_file(row.file).redistributable}
    rest = {row.group for row in rows} - public
    splits = split_groups(public, recipe.seed) if public else {}
    return splits | (split_groups(rest, recipe.seed) if len(rest) >= 3 or not public else dict.fromkeys(rest, "train"))


def count(rows: list[Row], base: str) -> list[int]:
    print(f"Counting tokens of {len(rows)} rows with the tokenizer of {base}. Next: writing.")
    return count_tokens([row.messages for row in rows], base)


def print_report(report: dict, output: Path) -> None:
    for name, source in report["sources"].items():
        print(f"{name}: {source['read']} read, {source['kept']} kept")
        for reason, number in source["dropped"].items():
            print(f"  {number:5} dropped: {reason}")
    for config, splits in report["configs"].items():
        numbers = ", ".join(f"{split} {entry['rows']}" for split, entry in splits.items())
        print(f"{config}: {numbers} rows, {sum(entry['tokens'] for entry in splits.values())} tokens")
    print(f"Corpus in {output}/corpus. Next: python train/sft.py --dataset_name {output}/corpus")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", required=True, help="name of a file in data/recipes, or the path of a .yaml file")
    parser.add_argument("--output", required=True, type=Path, help="folder of this build")
    parser.add_argument("--local", type=Path, help="folder that holds the sources' files")
    arguments = parser.parse_args()
    try:
        main(arguments.recipe, arguments.output, arguments.local)
    except BadInput as problem:
        print(problem, file=sys.stderr)
        sys.exit(2)
