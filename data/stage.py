"""Prepare batches in worker processes, each into a file of its own: what a killed build has done, the next one finds done."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from duplicates import PERMUTATIONS
from prepare import STAGED, Item, Settings, prepare
from rows import BadInput, joined
from tokens import counter


# Few enough that a build of a thousand rows keeps two cores busy, many enough that starting a batch costs nothing.
BATCH = 500

COLUMNS = ["source", "where", "group", "exact", "opening"]


class Batch(NamedTuple):
    name: str  # source and number: the name of its file
    items: list[Item]


def batches(source: str, items: Iterable[Item]) -> Iterator[Batch]:
    batch: list[Item] = []
    number = 0
    try:
        for item in items:
            batch.append(item)
            if len(batch) == BATCH:
                yield Batch(f"{source}-{number:06}", batch)
                batch, number = [], number + 1
    except BadInput:  # a later file of the source; what was read stays
        if batch:
            yield Batch(f"{source}-{number:06}", batch)
        raise
    if batch:
        yield Batch(f"{source}-{number:06}", batch)


def stage(work: Path, found: Iterable[Batch], settings: Settings, workers: int) -> Iterator[Path]:
    """Yield the file of each prepared batch, in order; batches whose files are in `work` are not prepared again."""
    work.mkdir(parents=True, exist_ok=True)
    counter(settings.base)  # a base whose tokenizer cannot be had ends the build here
    found = iter(found)
    first = list(islice(found, 2))
    found = chain(first, found)
    if workers == 1 or len(first) < 2:  # starting a process takes longer than a batch
        yield from (prepare_into(work, batch, settings) for batch in found)
        return
    # Spawned, not forked: libraries that were loaded here may hold threads, which a fork copies half.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_quiet) as pool:
        yield from _in_order(pool, work, found, settings, 3 * workers)


def _quiet() -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism


def _in_order(pool: Executor, work: Path, found: Iterable[Batch], settings: Settings, ahead: int) -> Iterator[Path]:
    """Yield results in order with at most `ahead` batches in memory."""
    waiting: deque = deque()
    for batch in found:
        done = _file_of(work, batch)
        waiting.append(done if done.exists() else pool.submit(prepare_into, work, batch, settings))
        if len(waiting) > ahead:
            yield _result(waiting.popleft())
    while waiting:
        yield _result(waiting.popleft())


def _result(done) -> Path:
    return done if isinstance(done, Path) else done.result()


def _file_of(work: Path, batch: Batch) -> Path:
    return work / f"{batch.name}.arrow"


def prepare_into(work: Path, batch: Batch, settings: Settings) -> Path:
    """Prepare one batch into its file, whole or not at all."""
    file = _file_of(work, batch)
    if not file.exists():
        part = file.with_suffix(f".part{os.getpid()}")
        table = prepare(batch.items, settings)
        with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, STAGED) as writer:
            writer.write_table(table)
        part.replace(file)
    return file


def load(file: Path) -> pa.Table:
    """Read a prepared batch; its text stays in the file until it is asked for."""
    with pa.memory_map(str(file)) as source:
        return pa.ipc.open_file(source).read_all()


class Kept(NamedTuple):
    """What is known of the kept rows of many files without reading their text, in order."""

    files: list[Path]
    places: np.ndarray  # file and row within it
    sources: list[str]
    wheres: list[str]
    groups: list[str]
    exact: list[bytes]
    openings: list[bytes]
    sketches: np.ndarray

    def text(self, row: int) -> str:
        return joined(self.messages(row))

    def answers(self, row: int) -> str:
        return joined([message for message in self.messages(row) if message["role"] == "assistant"])

    def messages(self, row: int) -> list[dict]:
        file, place = self.places[row]
        return load(self.files[file])["messages"][int(place)].as_py()


def kept_rows(files: list[Path]) -> Kept:
    """Gather it file by file: a million rows take half a gigabyte of sketches, and their files stay on disk."""
    kept = [np.flatnonzero(pc.equal(load(file)["fate"], "kept")) for file in files]
    places = np.empty((sum(map(len, kept)), 2), np.int64)
    sketches = np.empty((len(places), PERMUTATIONS), np.uint32)
    columns: list[list] = [[] for _ in COLUMNS]
    row = 0
    for number, (file, chosen) in enumerate(zip(files, kept, strict=True)):
        part = load(file).select([*COLUMNS, "sketch"]).take(chosen)
        stretch = slice(row, row := row + len(part))
        places[stretch] = np.stack([np.full(len(part), number), chosen], axis=1)
        sketches[stretch] = sketch_matrix(part["sketch"].to_pylist())
        for values, name in zip(columns, COLUMNS, strict=True):
            values += part[name].to_pylist()
    return Kept(files, places, *columns, sketches)


def sketch_matrix(sketches: Sequence[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(sketches), np.uint32).reshape(-1, PERMUTATIONS)
