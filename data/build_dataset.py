"""Build a corpus: read each source, redact, clean, drop duplicates, split, write, and account for every row.

    python data/build_dataset.py --recipe embedded --output build/embedded
    python data/build_dataset.py --recipe public --local DATA --output build/public

Writes corpus/ (for `load_dataset`), report.json (every count) and rejects.jsonl (every dropped row, with its reason).
"""

import argparse
import hashlib
import json
import sys
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from base_model import EMBEDDED, BaseUnavailable, resolve
from cleaning import clean
from duplicates import conversation_text, near_pairs
from output import check_output, unchanged, write
from privacy import redact_all
from recipe import Recipe, Source, find_files, load_recipe
from sources import READERS, Reject, SourceError
from splitting import SHARES, assign


HERE = Path(__file__).parent


def main(options: argparse.Namespace) -> None:
    recipe = load_recipe(options.recipe)
    files = {source.name: find_files(source, options.local) for source in recipe.sources}
    fingerprint = fingerprint_of(recipe, files)
    if unchanged(options.output, fingerprint):
        print(f"{options.output} is up to date: same recipe, sources and code.")
        return
    check_output(options.output, recipe.name)

    rows, rejects, redacted = read(recipe, files)
    rows, repeats = without_duplicates(rows)
    rows = with_tokens(rows)
    rows = with_splits(rows, recipe.seed)
    report = report_of(recipe, rows, rejects + repeats, redacted, fingerprint)
    write(options.output, rows, rejects + repeats, report)
    print(summary(report, options.output))


def read(recipe: Recipe, files: dict[str, list[Path]]) -> tuple[list[dict], list[dict], Counter]:
    """Read, redact and clean every source; returns rows, rejects and what was redacted, by kind."""
    rows, rejects, redacted = [], [], Counter()
    for source in recipe.sources:
        before = len(rows) + len(rejects)
        for record in tqdm(READERS[source.reader](files[source.name]), f"Reading {source.name}", unit="row"):
            if isinstance(record, Reject):
                rejects.append({"source": source.name, **record._asdict()})
                continue
            texts, findings = redact_all([message["content"] for message in record.messages])
            redacted.update(finding.kind for turn in findings for finding in turn)
            turns = zip(record.messages, texts, strict=True)
            messages = clean([{"role": message["role"], "content": text} for message, text in turns])
            if isinstance(messages, str):
                rejects.append(reject(source.name, record.where, messages, "\n".join(texts)))
            else:
                rows.append(row_of(source, record, messages))
        if len(rows) + len(rejects) == before:
            raise SourceError(f"{source.name} is empty: {files[source.name][0]} holds no row.")
    return rows, rejects, redacted


def reject(source: str, where: str, reason: str, text: str) -> dict:
    return {"source": source, "where": where, "reason": reason, "text": text[:1000]}


def row_of(source: Source, record, messages: list[dict]) -> dict:
    content = json.dumps(messages, ensure_ascii=False)
    return {
        "id": hashlib.sha256(f"{source.name}\n{content}".encode()).hexdigest()[:16],
        "source": source.name,
        "kind": source.kind,
        "messages": messages,
        "topic": record.topic,
        "license": source.license,
        "redistributable": source.redistributable,
        "group": hashlib.sha256(f"{source.folder or source.name}\n{record.group}".encode()).hexdigest()[:16],
        "where": record.where,
    }


def without_duplicates(rows: list[dict]) -> tuple[list[dict], list[dict]]:
    """Drop what repeats an earlier row, also one of another source: it would leak from one split into another."""
    texts = [conversation_text(row["messages"]) for row in rows]
    pairs = {index: (other, score) for index, other, score in near_pairs(tqdm(texts, "Comparing rows", unit="row"))}
    repeats = []
    for index, (other, score) in pairs.items():
        reason = "exact duplicate" if texts[index] == texts[other] else "near duplicate"
        row = rows[index]
        repeats.append(
            reject(row["source"], row["where"], reason, texts[index]) | {"of": rows[other]["id"], "similarity": score}
        )
    return [row for index, row in enumerate(rows) if index not in pairs], repeats


def with_tokens(rows: list[dict]) -> list[dict]:
    """Count each row's tokens as the embedded base reads it, its system message included."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(resolve(EMBEDDED))
    counted = []
    for start in tqdm(range(0, len(rows), 1000), "Counting tokens", unit="thousand rows"):
        batch = rows[start : start + 1000]
        texts = tokenizer.apply_chat_template([row["messages"] for row in batch], tokenize=False)
        ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
        counted += [{**row, "n_tokens": len(tokens)} for row, tokens in zip(batch, ids, strict=True)]
    return counted


def with_splits(rows: list[dict], seed: int) -> list[dict]:
    split = assign((row["group"] for row in rows), seed)
    return [{**row, "split": split[row["group"]]} for row in rows]


def report_of(recipe: Recipe, rows: list[dict], rejects: list[dict], redacted: Counter, fingerprint: str) -> dict:
    """Return every count that the card and the log quote; asserts that no row got lost."""
    sources = {}
    for source in recipe.sources:
        kept = sum(row["source"] == source.name for row in rows)
        dropped = Counter(each["reason"] for each in rejects if each["source"] == source.name)
        facts = {"license": source.license, "redistributable": source.redistributable, "kind": source.kind}
        sources[source.name] = {
            "read": kept + dropped.total(),
            "kept": kept,
            "dropped": dict(dropped.most_common()),
            **facts,
        }
    assert sum(facts["read"] for facts in sources.values()) == len(rows) + len(rejects), "a row belongs to no source"
    return {
        "recipe": recipe.name,
        "fingerprint": fingerprint,
        "sources": sources,
        "splits": {
            "default": {name: sum(row["split"] == name and row["redistributable"] for row in rows) for name in SHARES},
            "full": {name: sum(row["split"] == name for row in rows) for name in SHARES},
        },
        "tokens": {"total": sum(row["n_tokens"] for row in rows), "longest": max(row["n_tokens"] for row in rows)},
        "redacted": dict(redacted.most_common()),
    }


def fingerprint_of(recipe: Recipe, files: dict[str, list[Path]]) -> str:
    """Return a hash over recipe, source files and the code that reads them: equal means the build would be equal."""
    digest = hashlib.sha256(repr(recipe).encode())
    code = [*HERE.glob("*.py"), HERE / "crisis_lines.json", HERE.parent / "dataset_card.md"]
    for file in [*sorted(code), *(file for found in files.values() for file in found)]:
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def summary(report: dict, output: Path) -> str:
    lines = [
        f"{name}: {facts['read']} read, {facts['kept']} kept"
        + "".join(f"; {count} {reason}" for reason, count in facts["dropped"].items())
        for name, facts in report["sources"].items()
    ]
    published, all_rows = (sum(report["splits"][config].values()) for config in ("default", "full"))
    lines.append(f"{all_rows} rows in {output / 'corpus'}, {published} of them may be published.")
    lines.append(f"Next: python train/sft.py --config train/recipes/cpu.yaml --dataset_name {output / 'corpus'}")
    return "\n".join(lines)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--recipe", required=True, help="embedded, public, or the path of a YAML file")
    parser.add_argument(
        "--output", type=Path, required=True, help="folder to write to; a build of the same recipe is replaced"
    )
    parser.add_argument("--local", type=Path, help="folder with one folder per source (none: the Hub)")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main(parse_options())
    except (ValueError, SourceError, BaseUnavailable) as problem:
        print(problem, file=sys.stderr)
        sys.exit(2)
