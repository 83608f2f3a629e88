"""Read tables (CSV, TSV, JSON lines): questions with answers, posts without, and EPITOME's rated replies."""

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow.parquet as pq

from recipe import Source
from rows import BadInput, Post, Reject, Row, question_and_answer


# Of three mechanisms rated 0 to 2 (emotional reaction, interpretation, exploration): one strong, or two weak ones.
SUPPORTIVE = 2

NO_RECORD = "a line that is no record"


def read_pairs(source: Source, files: list[Path], folder: Path) -> Iterator[Row | Reject]:
    """Yield a question and its answer from each record; the recipe's `columns` say what question, answer and topic are called.

    Records with one question become one group (prepare.py), so that no split parts its answers.
    """
    names = _columns(source, {"question", "answer"}, {"topic"})
    for where, record in _records(source, files, folder, names.values()):
        if record is None or not {names["question"], names["answer"]} <= record.keys():
            yield Reject(source.name, where, NO_RECORD, "")
            continue
        question, answer = str(record[names["question"]] or ""), str(record[names["answer"]] or "")
        topic = str(record.get(names.get("topic")) or "") or None
        yield Row(source.name, where, question_and_answer(question, answer), topic)


def read_posts(source: Source, files: list[Path], folder: Path) -> Iterator[Post | Reject]:
    """Yield each record as a post; `columns` say what text and label are called, or their numbers in a file without a header."""
    names = _columns(source, {"text"}, {"label"})
    for where, record in _records(source, files, folder, names.values()):
        if record is None or not str(record.get(names["text"]) or "").strip():
            yield Reject(source.name, where, NO_RECORD, "")
            continue
        label = str(record.get(names.get("label")) or "") or None
        yield Post(source.name, where, str(record[names["text"]]), label)


def read_threads(source: Source, files: list[Path], folder: Path) -> Iterator[Row | Post | Reject]:
    """Yield what collect.py wrote, post and best reply a line; a post without a reply stays a post."""
    for where, line, value in json_lines(files, folder):
        try:
            asked = titled(value["title"], value["text"])
            reply, topic, group = (value["reply"] or "").strip(), value["topic"], f"{source.name}:{value['id']}"
        except (TypeError, KeyError, AttributeError):
            yield Reject(source.name, where, "a line that is no JSON object with id, title, text and reply", line)
            continue
        if reply:
            yield Row(source.name, where, question_and_answer(asked, reply), topic, group)
        else:
            yield Post(source.name, where, asked, topic)


def titled(title: str, text: str) -> str:
    title, text = title.strip(), text.strip()
    return text if text.lower().startswith(title.lower()) else f"{title}\n\n{text}".strip()


def read_lines(source: Source, files: list[Path], folder: Path) -> Iterator[Post]:
    """Yield each line of a text file as a post, as TweetEval keeps them; X's "@user" stands for somebody's name."""
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if line.strip():
                yield Post(source.name, f"{file.relative_to(folder)}:{number}", line)


def read_epitome(source: Source, files: list[Path], folder: Path) -> Iterator[Row | Post | Reject]:
    """Yield post and reply where raters found enough empathy in it (Sharma et al. 2020), else the post alone.

    The set is three files with the same pairs, each rated for one mechanism; the sum of the ratings counts.
    """
    needed = ("sp_id", "rp_id", "seeker_post", "response_post", "level")
    ratings: dict[tuple[str, str], int] = {}
    pairs: dict[tuple[str, str], tuple[str, dict]] = {}
    for file in files:
        rated = set()
        for where, record in _records(source, [file], folder, needed):
            if record is None or not str(record["level"]).strip().isdigit():
                yield Reject(source.name, where, NO_RECORD, "")
                continue
            pair = record["sp_id"], record["rp_id"]
            if pair in rated:
                if file == files[0]:
                    yield Reject(source.name, where, "the same as an earlier row", record["response_post"])
                continue
            rated.add(pair)
            ratings[pair] = ratings.get(pair, 0) + int(record["level"])
            pairs.setdefault(pair, (where, record))
    for pair, (where, record) in pairs.items():
        if ratings[pair] >= SUPPORTIVE:
            messages = question_and_answer(record["seeker_post"], record["response_post"])
            yield Row(source.name, where, messages, None, f"{source.name}:{pair[0]}")
        else:
            yield Post(source.name, where, record["seeker_post"])


def _columns(source: Source, needed: set[str], allowed: set[str]) -> dict[str, str]:
    names = {role: str(name) for role, name in source.columns.items()}
    if needed - set(names) or set(names) - needed - allowed:
        raise BadInput(
            f"Source {source.name} needs columns {', '.join(sorted(needed))} (and may have {', '.join(sorted(allowed))})."
        )
    return names


def _records(source: Source, files: list[Path], folder: Path, needed) -> Iterator[tuple[str, dict | None]]:
    """Yield the place and the values of each record; None is a line that is no JSON object."""
    csv.field_size_limit(2**24)
    for file in files:
        name = file.relative_to(folder)
        if file.suffix == ".jsonl":
            for where, _, value in json_lines([file], folder):
                yield where, value if isinstance(value, dict) else None
            continue
        if file.suffix == ".parquet":
            table = pq.ParquetFile(file)
            _check_columns(source, file, needed, table.schema_arrow.names)
            records = (record for batch in table.iter_batches(1000) for record in batch.to_pylist())
            yield from ((f"{name}:row {number}", record) for number, record in enumerate(records, 1))
            continue
        with file.open(encoding=source.encoding, newline="") as opened:
            reader = csv.reader(opened, delimiter="\t" if file.suffix == ".tsv" else ",", quoting=_quoting(file))
            numbered = all(column.isdigit() for column in needed)
            header = None if numbered else next(reader, [])
            if not numbered:
                _check_columns(source, file, needed, header)
            for number, values in enumerate(reader, 1):
                keys = header or [str(place) for place in range(len(values))]
                whole = has_all(values, keys) and (header or set(needed) <= set(keys))
                yield f"{name}:row {number}", dict(zip(keys, values, strict=False)) if whole else None


def has_all(values: list, keys: list) -> bool:
    """Whether a row has a value for each column and no more: one comma too many, and every answer stands in another column."""
    return len(values) >= len(keys) and not any(values[len(keys) :])


def is_whole(record: dict) -> bool:
    """The same for a row of csv.DictReader, which keeps what is too much under None and fills what is missing with None."""
    return None not in record.values() and not any(record.get(None) or ())


def _check_columns(source: Source, file: Path, needed, present: Iterable[str]) -> None:
    for column in sorted(set(needed) - set(present)):
        raise BadInput(f"Source {source.name}: {file} lacks the column {column}. Has its schema changed?")


def _quoting(file: Path) -> int:
    return csv.QUOTE_NONE if file.suffix == ".tsv" else csv.QUOTE_MINIMAL


def json_lines(files: list[Path], folder: Path) -> Iterator[tuple[str, str, object]]:
    """Yield place, line and value; the value of a line that is not JSON is None. Blank lines are no lines."""
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except json.JSONDecodeError:
                value = None
            yield f"{file.relative_to(folder)}:{number}", line, value
