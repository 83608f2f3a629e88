"""How fast a corpus is built, how much memory that takes, and whether every planted repeat is found.

    python benchmarks/corpus.py --rows 100000 1000000 --real build/public/corpus
    python benchmarks/corpus.py --rows 20000 --peers

Rows are made of sentences of real conversations (--real, a built corpus; else our own dialogues), drawn at random, one word in
seven replaced by one drawn from them all, so that no two rows are alike but by chance. Then repeats are planted: exact
ones in other capitals and spaces, and near ones with a true Jaccard similarity of 0.8 or more over runs of three words.
The build is the whole of `data/build_dataset.py`, in a process of its own.
"""

import argparse
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pyarrow.parquet as pq
import yaml


ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "data"), str(ROOT / "space")]

import base_model  # noqa: E402
from duplicates import repeats, shingles, similarity, traces  # noqa: E402
from prepare import Settings, prepare  # noqa: E402
from rows import Row, joined, question_and_answer  # noqa: E402
from stage import Batch, batches, sketch_matrix, stage  # noqa: E402
from tokens import MOST_TOKENS  # noqa: E402


EXACT, NEAR = 0.03, 0.05  # shares of planted rows
REPLACED = 1 / 7
FILE = 100_000
BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
SETTINGS = Settings(BASE, MOST_TOKENS)


def exchanges(real: Path | None) -> list[tuple[str, str]]:
    """Each user's turn with the reply to it, of a built corpus or of our own dialogues."""
    if real:
        files = sorted(real.glob("full/*.parquet")) or sorted(real.glob("data/*.parquet"))
        rows = [row for file in files for row in pq.read_table(file, columns=["messages"])["messages"].to_pylist()]
    else:
        lines = (
            line for file in sorted((ROOT / "data/dialogues").glob("*.jsonl")) for line in file.open(encoding="utf-8")
        )
        rows = [json.loads(line)["messages"] for line in lines]
    return [(row[place]["content"], row[place + 1]["content"]) for row in rows for place in range(0, len(row) - 1, 2)]


def sentences(texts: list[str]) -> list[str]:
    return [piece for text in texts for piece in re.split(r"(?<=[.!?])\s+|\n+", text) if piece.strip()]


def made_rows(number: int, real: Path | None, seed: int = 20) -> Iterator[dict]:
    """Yield rows with a question, an answer and, where they are planted, what they repeat and how."""
    pick = random.Random(seed)
    pairs = exchanges(real)
    asked, answered = sentences([pair[0] for pair in pairs]), sentences([pair[1] for pair in pairs])
    lengths = [(max(1, len(sentences([one]))), max(1, len(sentences([other])))) for one, other in pairs]
    words = [word for pair in pairs for text in pair for word in re.findall(r"[a-z']+", text)]

    def turn(pool: list[str], size: int) -> str:
        text = " ".join(pick.choices(pool, k=size))
        return re.sub(
            r"\b[a-z]{2,}\b", lambda match: pick.choice(words) if pick.random() < REPLACED else match[0], text
        )

    kept: list[dict] = []
    for place in range(number):
        kind = pick.random()
        if kept and kind < EXACT + NEAR:
            origin = pick.choice(kept)
            yield exact_copy(origin) if kind < EXACT else near_copy(origin, words, pick)
            continue
        size = pick.choice(lengths)
        # Two sentences at least, so that the paper's fewest words take few rows out.
        row = {"question": turn(asked, size[0] + 1), "answer": turn(answered, size[1] + 1), "row": place}
        yield row
        kept[: len(kept) - 1000] = []
        kept.append(row)


def exact_copy(row: dict) -> dict:
    return {
        "question": row["question"].upper(),
        "answer": row["answer"].replace(" ", "  "),
        "of": row["row"],
        "how": "exact",
    }


def near_copy(row: dict, words: list[str], pick: random.Random) -> dict:
    """Another word in one place, then in more, for as long as the true similarity stays at 0.8 or more."""
    first = shingles(f"{row['question']}\n{row['answer']}")
    answer, changed = row["answer"].split(" "), None
    for place in pick.sample(range(len(answer)), min(4, len(answer))):
        answer[place] = pick.choice(words)
        if similarity(first, shingles(f"{row['question']}\n{' '.join(answer)}")) < 0.8:
            break
        changed = " ".join(answer)
    if changed is None or changed == row["answer"]:
        return exact_copy(row)
    return {"question": row["question"], "answer": changed, "of": row["row"], "how": "near"}


def write_rows(folder: Path, number: int, real: Path | None) -> dict[str, dict[int, int]]:
    """Write the rows as files of the recipe; return what was planted: by kind, the row and the one that it repeats."""
    planted: dict[str, dict[int, int]] = {"exact": {}, "near": {}}
    folder.mkdir()
    characters, opened = 0, None
    for place, row in enumerate(made_rows(number, real)):
        if place % FILE == 0:
            opened = (folder / f"rows-{place // FILE:03}.jsonl").open("w", encoding="utf-8")
        if "of" in row:
            planted[row["how"]][place] = row["of"]
        characters += len(row["question"]) + len(row["answer"])
        opened.write(json.dumps({key: row[key] for key in ("question", "answer")}, ensure_ascii=False) + "\n")
    opened.close()
    print(f"{number} rows of {characters / number:.0f} characters on average")
    return planted


def recipe(folder: Path) -> Path:
    source = {
        "reader": "pairs", "kind": "qa", "local": "rows", "files": ["rows-*.jsonl"], "license": "made for a benchmark",
        "redistributable": True, "columns": {"question": "question", "answer": "answer"},
    }  # fmt: skip
    file = folder / "benchmark.yaml"
    file.write_text(yaml.safe_dump({"base": BASE, "seed": 20, "sources": {"rows": source}}), encoding="utf-8")
    return file


def measured(command: list[str]) -> tuple[float, float]:
    """Run a command; return seconds and the most memory, in GiB, that it and all its processes held at once."""
    started, most, ended = time.perf_counter(), 0.0, threading.Event()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.5):
            most = max(most, sum(map(held, family(process.pid))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    ended.set()
    watcher.join()
    if code:
        sys.exit(code)
    return time.perf_counter() - started, most / 2**30


def family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(other for child in children for other in family(int(child)))]


def held(pid: int) -> int:
    """Bytes of a process, its share of what it shares."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return 1024 * int(re.search(r"^Pss: +(\d+)", rollup, re.MULTILINE)[1])


def found(build: Path, planted: dict[str, dict[int, int]]) -> dict[str, str]:
    """Of the planted rows whose original passed the quality rules, how many were taken out."""
    ledger = pq.read_table(build / "ledger.parquet", columns=["fate", "reason"]).to_pylist()
    repeated = {row for row, entry in enumerate(ledger) if "same as an earlier" in (entry["reason"] or "")}
    result = {}
    for kind, pairs in planted.items():
        judged = [
            row
            for row, first in pairs.items()
            if row in repeated or (ledger[first]["fate"], ledger[row]["fate"]) == ("kept", "kept")
        ]
        result[kind] = f"{sum(row in repeated for row in judged)} of {len(judged)}"
    result["taken for repeats without being planted"] = str(
        len(repeated - planted["exact"].keys() - planted["near"].keys())
    )
    result["kept"] = str(sum(entry["fate"] == "kept" for entry in ledger))
    return result


WAYS = {
    "cleaning: ours, two processes": lambda folder, out, rows: list(stage(out, in_batches(rows), SETTINGS, 2)),
    "cleaning: ours in datasets.map(batched, num_proc=2)": lambda folder, out, rows: mapped(folder, out),
    "cleaning: datatrove's PII, ftfy and token blocks, two tasks": lambda folder, out, rows: datatrove_blocks(
        folder, out
    ),
    "repeats: ours, one process": lambda folder, out, rows: our_repeats(rows),
    "repeats: datasketch, one process": lambda folder, out, rows: datasketch_repeats(rows),
    "repeats: datatrove, two tasks": lambda folder, out, rows: datatrove_repeats(folder, out),
}


def rows_a_second(way: str, folder: Path, out: Path) -> float:
    with (folder / "rows/rows-000.jsonl").open(encoding="utf-8") as file:
        rows = [question_and_answer(**json.loads(line)) for line in file]
    started = time.perf_counter()
    WAYS[way](folder, out, rows)
    return len(rows) / (time.perf_counter() - started)


def peers(number: int, real: Path | None, folder: Path, rounds: int = 3) -> None:
    """Print rows a second of ours and of others on the same rows, in turn, each in a process of its own; median of three rounds.

    Ours does much more to a row than the blocks of datatrove do: the ratio compares what people run, not equal work.
    """
    write_rows(folder / "rows", number, real)
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(rounds):
        for place, way in enumerate(WAYS):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                found[way].append(pool.submit(rows_a_second, way, folder, folder / f"out-{turn}-{place}").result())
    for way, speeds in found.items():
        print(f"  {way}: {statistics.median(speeds):.0f} rows a second")


def in_batches(conversations: list[list[dict]]) -> Iterator[Batch]:
    return batches(
        "rows", (Row("rows", f"rows:{row}", messages, None, str(row)) for row, messages in enumerate(conversations))
    )


def mapped(folder: Path, out: Path) -> None:
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    rows = load_dataset("json", data_files=str(folder / "rows/*.jsonl"), split="train", cache_dir=str(out))
    rows.map(in_map, batched=True, batch_size=500, num_proc=2, remove_columns=rows.column_names).to_parquet(
        out / "rows.parquet"
    )


def in_map(columns: dict) -> dict:
    asked = zip(columns["question"], columns["answer"], strict=True)
    rows = [Row("rows", "rows:0", question_and_answer(*pair), None, "0") for pair in asked]
    table = prepare(rows, SETTINGS).select(["fate", "reason", "messages"])
    return table.to_pydict()


def datatrove_reader(folder: Path):
    from datatrove.pipeline.readers import JsonlReader

    def adapter(_, data: dict, path: str, place: int) -> dict:
        return {"text": f"{data['question']}\n{data['answer']}", "id": f"{path}/{place}"}

    return JsonlReader(str(folder / "rows"), adapter=adapter, glob_pattern="*.jsonl")


def run_datatrove(out: Path, *pipelines: list, tasks: int = 2) -> None:
    from datatrove.executor import LocalPipelineExecutor
    from loguru import logger

    logger.remove()  # its own reports, a screenful a stage
    for place, pipeline in enumerate(pipelines):
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=2, logging_dir=str(out / f"logs-{place}")).run()


def datatrove_blocks(folder: Path, out: Path) -> None:
    from datatrove.pipeline.formatters import FTFYFormatter, PIIFormatter
    from datatrove.pipeline.tokens import TokensCounter
    from datatrove.pipeline.writers import JsonlWriter

    tokenizer = str(Path(base_model.resolve(BASE)) / "tokenizer.json")
    run_datatrove(
        out,
        [
            datatrove_reader(folder),
            FTFYFormatter(),
            PIIFormatter(),
            TokensCounter(tokenizer),
            JsonlWriter(str(out / "rows")),
        ],
    )


def datatrove_repeats(folder: Path, out: Path) -> None:
    from datatrove.pipeline.dedup import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )

    config = MinhashConfig(n_grams=3, num_buckets=16, hashes_per_bucket=8)
    names = [str(out / name) for name in ("signatures", "buckets", "remove")]
    run_datatrove(
        out, [datatrove_reader(folder), MinhashDedupSignature(names[0], config=config, skip_existing_sigs=False)]
    )
    run_datatrove(out / "2", [MinhashDedupBuckets(names[0], names[1], config=config)], tasks=config.num_buckets)
    run_datatrove(out / "3", [MinhashDedupCluster(names[1], names[2], config=config)], tasks=1)
    run_datatrove(out / "4", [datatrove_reader(folder), MinhashDedupFilter(names[2])])


def our_repeats(conversations: list[list[dict]]) -> None:
    texts, left = list(map(joined, conversations)), traces(conversations)
    repeats([one.exact for one in left], sketch_matrix([one.sketch for one in left]), texts.__getitem__)


def datasketch_repeats(conversations: list[list[dict]]) -> None:
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=0.7, num_perm=128)
    for row, text in enumerate(map(joined, conversations)):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([run.encode() for run in shingles(text)])
        if not index.query(sketch):
            index.insert(row, sketch)


def main(options: argparse.Namespace) -> None:
    if options.peers:
        with tempfile.TemporaryDirectory(dir=options.temporary) as name:
            peers(options.rows[0], options.real, Path(name))
        return
    for number in options.rows:
        with tempfile.TemporaryDirectory(dir=options.temporary) as name:
            folder = Path(name)
            planted = write_rows(folder / "rows", number, options.real)
            command = [sys.executable, str(ROOT / "data/build_dataset.py"), "--recipe", str(recipe(folder)), "--local", name,
                       "--output", str(folder / "build")]  # fmt: skip
            seconds, memory = measured(command)
            print(f"  built in {seconds:.0f} s, {number / seconds:.0f} rows a second, {memory:.2f} GiB at most")
            for what, count in found(folder / "build", planted).items():
                print(f"  {what}: {count}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000], help="sizes of corpora to build")
    parser.add_argument("--real", type=Path, help="folder of a built corpus whose sentences are used")
    parser.add_argument(
        "--peers", action="store_true", help="others on the same rows: pip install -e '.[peers,scale]'"
    )
    parser.add_argument("--temporary", type=Path, help="where to put rows and builds (about 4 GB for a million)")
    main(parser.parse_args())
