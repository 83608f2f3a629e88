"""Write a build: Parquet by config and split, card, report and rejects; all or nothing, and the same bytes each time."""

import hashlib
import importlib.metadata
import json
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import DatasetCard, DatasetCardData

from recipe import Recipe
from rows import BadInput, Reject, Row
from splitting import SPLITS


MADE_BY = "TheraGen data/build_dataset.py"
CARD = Path(__file__).parents[1] / "dataset_card.md"

# What the other stages of the loop keep beside the corpus.
NEIGHBOURS = {"base", "adapter", "results.json", "replies.md"}

SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "source": pa.string(),
        "kind": pa.string(),
        "messages": pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
        "topic": pa.string(),
        "license": pa.string(),
        "redistributable": pa.bool_(),
        "group": pa.string(),
        "n_tokens": pa.int32(),
    }
)


def fingerprint_of(recipe: Recipe, places: dict[str, tuple[Path, list[Path]]]) -> str:
    """Hash everything that decides what a build holds: inputs, recipe, code, card, template, libraries that read text."""
    code = sorted(Path(__file__).parent.glob("*.py")) + sorted(Path(__file__).parent.glob("*.yaml"))
    template = CARD.parent / "space" / "chat_template.jinja"
    digest = hashlib.sha256(f"{recipe.base}\n".encode())
    for name in ("pdfplumber", "pyarrow", "rensa", "transformers"):
        digest.update(f"{name} {importlib.metadata.version(name)}\n".encode())
    for name, (folder, files) in places.items():
        for file in files:
            digest.update(f"{name} {file.relative_to(folder)} {_sha256(file)}\n".encode())
    for file in (recipe.path, CARD, template, *code):
        digest.update(f"{file.name} {_sha256(file)}\n".encode())
    return digest.hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def is_up_to_date(output: Path, recipe: Recipe, fingerprint: str) -> bool:
    """Tell whether OUTPUT holds this very build; a folder that holds anything else of value is refused."""
    if output.exists() and not output.is_dir():
        raise BadInput(f"{output} is a file: give a folder for the build.")
    present = {path.name for path in output.iterdir()} if output.is_dir() else set()
    if not present - NEIGHBOURS:
        return False
    try:
        report = json.loads((output / "report.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        report = {}
    if not isinstance(report, dict) or report.get("made_by") != MADE_BY:
        raise BadInput(f"{output} holds something that is no build of this script: give another folder.")
    if report["recipe"] != recipe.name:
        raise BadInput(
            f"{output} holds a build of recipe {report['recipe']}, not of {recipe.name}: give another folder."
        )
    return report["fingerprint"] == fingerprint and (output / "corpus").is_dir()


def entries_of(recipe: Recipe, rows: list[Row], splits: dict[str, str], tokens: list[int]) -> list[dict]:
    """Return rows as the corpus has them, plus their split, ordered by id so that reading order leaves no trace."""
    sources = {source.name: source for source in recipe.sources}
    entries = []
    for row, n_tokens in zip(rows, tokens, strict=True):
        terms = sources[row.source].for_file(row.file)
        content = json.dumps([row.source, row.messages], ensure_ascii=False)
        entries.append(
            {
                "id": hashlib.sha256(content.encode()).hexdigest()[:16],
                "source": row.source,
                "kind": terms.kind,
                "messages": row.messages,
                "topic": row.topic,
                "license": terms.license,
                "redistributable": terms.redistributable,
                "group": hashlib.sha256(row.group.encode()).hexdigest()[:16],
                "n_tokens": n_tokens,
                "split": splits[row.group],
            }
        )
    assert len({entry["id"] for entry in entries}) == len(entries)
    return sorted(entries, key=lambda entry: entry["id"])


def write(
    output: Path,
    recipe: Recipe,
    fingerprint: str,
    entries: list[dict],
    rejects: list[Reject],
    read_counts: Counter,
    removed: Counter,
) -> dict:
    """Write everything beside OUTPUT and move it in at the end, the report last: it says that the rest is whole."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as temporary:
        part = Path(temporary)
        public = [entry for entry in entries if entry["redistributable"]]
        configs = {"default": public} if public else {}
        if len(public) < len(entries):
            configs["full"] = entries
        report = {
            "made_by": MADE_BY,
            "recipe": recipe.name,
            "fingerprint": fingerprint,
            "base": recipe.base,
            "sources": _per_source(recipe, entries, rejects, read_counts),
            "configs": {config: _write_config(config, chosen, part / "corpus") for config, chosen in configs.items()},
            "removed": dict(sorted(removed.items())),
        }
        _write_card(recipe, report, part / "corpus" / "README.md")
        lines = [json.dumps(reject._asdict(), ensure_ascii=False) for reject in sorted(rejects)]
        (part / "rejects.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        (part / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        _move(part, output)
    return report


def _write_config(config: str, entries: list[dict], corpus: Path) -> dict:
    """Write one Parquet file for each split and return what the report says of it."""
    result = {}
    for split in SPLITS:
        chosen = [entry for entry in entries if entry["split"] == split]
        file = _write_split(chosen, split, corpus / ("data" if config == "default" else config))
        result[split] = {
            "file": file.relative_to(corpus).as_posix(),
            "rows": len(chosen),
            "groups": len({entry["group"] for entry in chosen}),
            "tokens": sum(entry["n_tokens"] for entry in chosen),
        }
    return result


def _write_split(entries: list[dict], split: str, folder: Path) -> Path:
    """Write rows under a name that ends in their hash.

    `load_dataset` knows a local folder by its name and its card alone: with the same file names it would go on serving
    an earlier build's rows from its cache, even those of another folder (datasets 5.2).
    """
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{split}.part"
    rows = [{key: entry[key] for key in SCHEMA.names} for entry in entries]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), part, compression="zstd")
    return part.rename(folder / f"{split}-00000-of-00001-{_sha256(part)[:16]}.parquet")


def _per_source(recipe: Recipe, entries: list[dict], rejects: list[Reject], read_counts: Counter) -> dict:
    kept = Counter(entry["source"] for entry in entries)
    public = Counter(entry["source"] for entry in entries if entry["redistributable"])
    return {
        source.name: {
            "read": read_counts[source.name],
            "kept": kept[source.name],
            "redistributable": public[source.name],
            "licenses": dict(sorted(Counter(e["license"] for e in entries if e["source"] == source.name).items())),
            "dropped": dict(
                sorted(
                    Counter(r.reason for r in rejects if r.source == source.name).items(), key=lambda c: (-c[1], c[0])
                )
            ),
        }
        for source in recipe.sources
    }


def _move(part: Path, output: Path) -> None:
    output.mkdir(exist_ok=True)
    if (output / "corpus").exists():
        (output / "corpus").rename(part / "old")
    for name in ("corpus", "rejects.jsonl", "report.json"):
        (part / name).replace(output / name)


def _write_card(recipe: Recipe, report: dict, file: Path) -> None:
    """Render dataset_card.md; every number in the card comes from the report."""
    card = DatasetCard.from_template(
        _card_data(recipe, report),
        template_path=str(CARD),
        recipe=recipe,
        report=report,
        sources={source.name: source for source in recipe.sources},
        published=report["configs"].get("default", {}),
    )
    file.write_text(str(card), encoding="utf-8")


def _card_data(recipe: Recipe, report: dict) -> DatasetCardData:
    configs = [
        {
            "config_name": config,
            "data_files": [{"split": split, "path": entry["file"]} for split, entry in splits.items()],
            **({"default": True} if config == "default" else {}),
        }
        for config, splits in report["configs"].items()
    ]
    rows = sum(split["rows"] for split in next(iter(report["configs"].values())).values())
    kept = [source for source in recipe.sources if report["sources"][source.name]["redistributable"]]
    licenses = sorted({_hub_license(source.license) for source in kept}) or ["other"]
    return DatasetCardData(
        language="en",
        license=licenses[0] if len(licenses) == 1 else licenses,
        pretty_name="TheraGen corpus",
        size_categories=_size_category(rows),
        task_categories=["text-generation"],
        annotations_creators=["no-annotation"],
        language_creators=["machine-generated", *(["expert-generated", "found"] if len(kept) > 1 else [])],
        source_datasets=[source.hub for source in kept if source.hub] or ["original"],
        tags=["mental-health", "emotional-support", "conversational", "not-for-all-audiences"],
        configs=configs,
    )


def _hub_license(name: str) -> str:
    known = {"cc0-1.0", "mit", "apache-2.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0"}
    return name.lower() if name.lower() in known else "other"


def _size_category(rows: int) -> str:
    """The Hub's own classes, from the number of rows that would be published."""
    bounds = [(10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M")]
    return next((name for bound, name in bounds if rows < bound), "10M<n<100M")
