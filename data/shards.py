"""The files of a corpus: Parquet by config and split, and the ledger that says what became of each thing that was read."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from duplicates import SAME
from recipe import Recipe, Source
from rows import file_of, joined, sha256_of
from splitting import SPLITS
from stage import load


# A file of this many rows has some hundred megabytes; the rows of one are put in order in memory.
SHARD = 200_000

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

# `ids` are the rows of the corpus that a kept conversation became: more than one where it was cut into windows.
LEDGER = pa.schema(
    {
        "source": pa.string(),
        "where": pa.string(),
        "fate": pa.string(),
        "reason": pa.string(),
        "ids": pa.list_(pa.string()),
        "split": pa.string(),
    }
)
POSTS = pa.schema({"source": pa.string(), "where": pa.string(), "text": pa.string(), "label": pa.string()})
REJECT = ("source", "where", "reason", "text")
PUBLIC, REST = "public", "rest"


class Decisions(NamedTuple):
    """What only all rows together can tell, by the number of a kept row in reading order."""

    repeated: dict[int, str]  # the reason why a row is left out after all
    groups: dict[int, str]  # of those that stay
    splits: dict[str, str]  # of groups
    borderline: list[dict]  # pairs next to the threshold of repeats


def write_rows(part: Path, recipe: Recipe, files: list[Path], decisions: Decisions) -> tuple[dict, dict]:
    """Write ledger, rejects, posts and corpus; return counts by source, and by config and split what the report says."""
    counts: dict[str, Counter] = defaultdict(Counter)
    shards = {split: max(1, -(-rows // SHARD)) for split, rows in _rows_by_split(files, decisions).items()}
    with ExitStack() as stack:
        ledger = stack.enter_context(pq.ParquetWriter(part / "ledger.parquet", LEDGER, compression="zstd"))
        rejects = stack.enter_context((part / "rejects.jsonl").open("w", encoding="utf-8"))
        posts, rows = Spill(part / "spill", POSTS, stack), Spill(part / "spill", SCHEMA, stack)
        for entries in decided(recipe, files, decisions):
            ledger.write_table(pa.Table.from_pylist(entries, schema=LEDGER))
            rejected = (entry for entry in entries if entry["fate"] == "dropped")
            rejects.writelines(
                f"{json.dumps({key: one[key] for key in REJECT}, ensure_ascii=False)}\n" for one in rejected
            )
            posts.add(("posts", entry) for entry in entries if entry["fate"] == "post")
            rows.add((_shard(row, entry["split"], shards), row) for entry in entries for row in entry["rows"])
            for entry in entries:
                _count(counts, entry)
    if (part / "spill/posts").exists():
        pq.write_table(_spilled(part / "spill/posts", POSTS), part / "posts.parquet", compression="zstd")
    return counts, _write_configs(part, shards)


def _rows_by_split(files: list[Path], decisions: Decisions) -> Counter:
    """About how many rows each split will have: enough to choose the number of its files."""
    sizes = Counter(dict.fromkeys(SPLITS, 0))
    number = 0
    for table in map(load, files):
        kept = table.filter(pc.equal(table["fate"], "kept"))
        for n_windows in pc.list_value_length(kept["windows"]).to_pylist():
            if number not in decisions.repeated:
                sizes[decisions.splits[decisions.groups[number]]] += n_windows
            number += 1
    return sizes


def decided(recipe: Recipe, files: list[Path], decisions: Decisions) -> Iterator[list[dict]]:
    """Yield, file by file, each thing that was read with its last fate and the rows that it became."""
    terms = {source.name: source for source in recipe.sources}
    seen: set[str] = set()
    number = 0
    for table in map(load, files):
        entries = table.drop_columns(["exact", "sketch", "opening"]).to_pylist()
        for entry in entries:
            entry |= {"rows": [], "ids": None, "split": None, "label": entry["topic"]}
            if entry["fate"] == "kept":
                _decide(entry, number, decisions, terms, seen)
                number += 1
        yield entries


def _decide(entry: dict, number: int, decisions: Decisions, terms: dict[str, Source], seen: set[str]) -> None:
    group = decisions.groups.get(number)  # of rows that stay
    rows = [row for row in _rows(entry, group, terms) if row["id"] not in seen] if group is not None else []
    if not rows:
        reason = decisions.repeated.get(number, SAME)
        entry |= {"fate": "dropped", "reason": reason, "text": joined(entry["messages"])}
        return
    ids = [row["id"] for row in rows]
    seen.update(ids)
    entry |= {"rows": rows, "ids": ids, "split": decisions.splits[group]}


def _rows(entry: dict, group: str, terms: dict[str, Source]) -> list[dict]:
    source = terms[entry["source"]].for_file(file_of(entry["where"]))
    return [
        {
            "id": window["id"],
            "source": entry["source"],
            "kind": source.kind,
            "messages": entry["messages"][window["start"] : window["end"]],
            "topic": entry["topic"],
            "license": source.license,
            "redistributable": source.redistributable,
            "group": hashlib.sha256(group.encode()).hexdigest()[:16],
            "n_tokens": window["n_tokens"],
        }
        for window in entry["windows"]
    ]


def _count(counts: dict[str, Counter], entry: dict) -> None:
    source = entry["source"]
    counts["read"][source] += 1
    counts["kept"][source] += entry["fate"] == "kept"
    counts["posts"][source] += entry["fate"] == "post"
    counts["cut"][source] += len(entry["rows"]) > 1
    if entry["fate"] == "dropped":
        counts["dropped"][source, entry["reason"]] += 1
    for row in entry["rows"]:
        counts["rows"][source] += 1
        counts["redistributable"][source] += row["redistributable"]
        counts["licenses"][source, row["license"]] += 1
    if entry["rows"]:  # of what stays; a retired help line became the one that replaced it
        counts["removed"].update(kind for kind in entry["removed"] or () if kind != "retired help line")


class Spill:
    """Rows on their way, one file a name, so that a corpus larger than memory is put in order piece by piece."""

    def __init__(self, folder: Path, schema: pa.Schema, stack: ExitStack):
        self.folder, self.schema, self.stack = folder, schema, stack
        self.writers: dict[str, pa.RecordBatchStreamWriter] = {}

    def add(self, named: Iterable[tuple[str, dict]]) -> None:
        rows: dict[str, list[dict]] = defaultdict(list)
        for name, row in named:
            rows[name].append(row)
        for name, values in rows.items():
            if name not in self.writers:
                self.folder.mkdir(exist_ok=True)
                file = self.stack.enter_context(pa.OSFile(str(self.folder / name), "wb"))
                self.writers[name] = self.stack.enter_context(pa.ipc.new_stream(file, self.schema))
            self.writers[name].write_table(pa.Table.from_pylist(values, schema=self.schema))


def _spilled(file: Path, schema: pa.Schema) -> pa.Table:
    if not file.exists():
        return schema.empty_table()
    with pa.OSFile(str(file), "rb") as source:
        return pa.ipc.open_stream(source).read_all()


def _shard(row: dict, split: str, shards: dict[str, int]) -> str:
    """Ids are hashes, so a stretch of them is a fair share of the rows."""
    return f"{PUBLIC if row['redistributable'] else REST}-{split}-{int(row['id'][:8], 16) * shards[split] >> 32:05}"


def _write_configs(part: Path, shards: dict[str, int]) -> dict:
    """`default` holds what may be published; `full` holds all, and is there only where that is more."""
    present = {file.name.split("-")[0] for file in (part / "spill").glob("*-*")}
    configs = {"default": [PUBLIC]} if PUBLIC in present else {}
    configs |= {"full": [PUBLIC, REST]} if REST in present else {}
    return {
        config: {split: _write_split(part, config, kinds, split, shards[split]) for split in SPLITS}
        for config, kinds in configs.items()
    }


def _write_split(part: Path, config: str, kinds: list[str], split: str, n_shards: int) -> dict:
    """Write the files of a split, ordered by id so that reading order leaves no trace.

    Their names end in their hash: `load_dataset` knows a local folder by its name and its card alone, so that with the same file
    names it would go on serving an earlier build's rows from its cache, even those of another folder (datasets 5.2).
    """
    folder = part / "corpus" / ("data" if config == "default" else config)
    folder.mkdir(parents=True, exist_ok=True)
    files, rows, tokens, groups = [], 0, 0, set()
    for number in range(n_shards):
        pieces = [_spilled(part / f"spill/{kind}-{split}-{number:05}", SCHEMA) for kind in kinds]
        table = pa.concat_tables(pieces).sort_by("id")
        rows, tokens = rows + len(table), tokens + (pc.sum(table["n_tokens"]).as_py() or 0)
        groups.update(pc.unique(table["group"]).to_pylist())
        unnamed = folder / "part"
        pq.write_table(table, unnamed, compression="zstd")
        file = unnamed.rename(folder / f"{split}-{number:05}-of-{n_shards:05}-{sha256_of(unnamed)[:16]}.parquet")
        files.append(file.relative_to(part / "corpus").as_posix())
    return {"files": files, "rows": rows, "groups": len(groups), "tokens": tokens}
