"""Write a build so that it is whole or absent: Parquet splits, the card, the report, the rejects."""

import json
import shutil
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import DatasetCard, DatasetCardData

from splitting import SHARES


TEMPLATE = Path(__file__).parents[1] / "dataset_card.md"
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


def unchanged(output: Path, fingerprint: str) -> bool:
    report = read_report(output)
    return report.get("fingerprint") == fingerprint and (output / "corpus").is_dir()


def read_report(output: Path) -> dict:
    try:
        return json.loads((output / "report.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return {}


def check_output(output: Path, recipe: str) -> None:
    """Raise ValueError unless the folder is free or holds an earlier build of this recipe."""
    found = read_report(output).get("recipe")
    if output.is_file() or (not found and (output / "corpus").exists()):
        raise ValueError(f"{output} holds something that no recipe built: give another --output.")
    if found not in (None, recipe):
        raise ValueError(f"{output} holds a build of the recipe {found}, not {recipe}: give another --output.")


def write(output: Path, rows: list[dict], rejects: list[dict], report: dict) -> None:
    """Write everything into a folder beside, then swap it in, report.json last."""
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=output) as part:
        work = Path(part)
        write_corpus(work / "corpus", rows, report)
        lines = (json.dumps(reject, ensure_ascii=False) + "\n" for reject in rejects)
        (work / "rejects.jsonl").write_text("".join(lines), encoding="utf-8")
        (work / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if (output / "corpus").exists():
            (output / "corpus").rename(work / "old")
        for name in ("corpus", "rejects.jsonl", "report.json"):
            (work / name).replace(output / name)


def write_corpus(folder: Path, rows: list[dict], report: dict) -> None:
    """Write `default` (what may be published) and, when there is more, `full`; rows ordered by id."""
    ordered = sorted(rows, key=lambda row: row["id"])
    configs = {"default": [row for row in ordered if row["redistributable"]], "full": ordered}
    if len(configs["full"]) == len(configs["default"]):
        del configs["full"]
    for config, chosen in configs.items():
        (folder / config).mkdir(parents=True)
        for split in SHARES:
            found = [{key: row[key] for key in SCHEMA.names} for row in chosen if row["split"] == split]
            pq.write_table(
                pa.Table.from_pylist(found, SCHEMA), folder / config / f"{split}.parquet", compression="zstd"
            )
    (folder / "README.md").write_text(card(list(configs), report), encoding="utf-8")
    shutil.copyfile(TEMPLATE.with_name("LICENSE"), folder / "LICENSE")


def card(configs: list[str], report: dict) -> str:
    """Render the dataset card; every number in it comes from the report."""
    total = sum(report["splits"]["default"].values())
    licenses = sorted({facts["license"] for facts in report["sources"].values() if facts["redistributable"]})
    data = DatasetCardData(
        language="en",
        license="cc0-1.0" if licenses == ["CC0-1.0"] else "other",
        annotations_creators=["no-annotation"],
        pretty_name=f"TheraGen corpus ({report['recipe']})",
        size_categories=[size_category(total)],
        task_categories=["text-generation"],
        tags=["mental-health", "conversational", "emotional-support"],
        configs=[
            {
                "config_name": config,
                "data_files": [{"split": split, "path": f"{config}/{split}.parquet"} for split in SHARES],
                **({"default": True} if config == "default" else {}),
            }
            for config in configs
        ],
    )
    return str(
        DatasetCard.from_template(data, template_path=str(TEMPLATE), report=report, total=total, configs=configs)
    )


def size_category(rows: int) -> str:
    limits = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    return next((name for limit, name in limits if rows < limit), "1M<n<10M")
