"""Say what is wrong with a card before a hub does: its head, its links and code, and the numbers in its tables.

    python hub/card_check.py build/embedded/adapter build/embedded/corpus space

Nothing is looked up online: what the Hub allows is in hub_fields.json and in the packages that carry it.
"""

import argparse
import difflib
import json
import math
import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from huggingface_hub import SpaceHardware, SpaceStorage
from huggingface_hub.constants import SPACES_SDK_TYPES
from huggingface_hub.errors import HFValidationError
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from huggingface_hub.repocard_data import model_index_to_eval_results
from huggingface_hub.utils import validate_repo_id


HERE = Path(__file__).parent
FIELDS = json.loads((HERE / "hub_fields.json").read_text(encoding="utf-8"))
MOST_CHARACTERS = FIELDS["short_description"]["most_characters"]
# What a card of this project must say; the Hub asks for less.
NEEDED = {
    "model": ("language", "license", "pipeline_tag", "base_model", "base_model_relation"),
    "dataset": ("language", "license", "task_categories", "size_categories", "configs"),
    "space": ("title", "sdk", "sdk_version", "app_file", "license"),
}
# What the numbers of a card were taken from: in its folder, or beside it, where a build and a score are.
RECORDS = ("run.json", "results.json", "report.json")
MEASURED = HERE.parent / "data/measured.yaml"

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```\s*$", re.M | re.S)
NUMBER = r"[-+−]?\d[\d,]*(?:\.\d+)?"
CELL = re.compile(rf"{NUMBER} ?%?(?: \({NUMBER} ?%? to {NUMBER} ?%?\)| of {NUMBER})?")


def main() -> None:
    folders = parse_options().folders
    found = [f"{folder}: {sentence}" for folder in folders for sentence in problems(folder)]
    print("\n".join(found) or "Nothing is wrong with what was looked at.")
    sys.exit(bool(found))


def problems(folder: Path, records: list[Path] | None = None) -> list[str]:
    """Return what is wrong with the card in a folder, one sentence each.

    `records` are the files that its numbers must come from; where none are given, those in the folder or beside it.
    """
    card = folder / "README.md"
    if not card.is_file():
        return ["There is no README.md: a repository without a card says nothing about itself."]
    text = card.read_text(encoding="utf-8")
    block = REGEX_YAML_BLOCK.search(text)
    try:
        head = yaml.safe_load(block.group(2)) if block else None
    except yaml.YAMLError as error:
        return [f"The head is not YAML: {' '.join(str(error).split())}."]
    if not isinstance(head, dict):
        return ["The card has no head: YAML between two lines of --- must stand at its top."]
    kind, body = kind_of(folder), text[block.end() :]
    found = [*head_problems(head, kind, folder), *body_problems(body, folder)]
    if "{{" in text or "{%" in text or "[More Information Needed]" in text:
        found.append("A part of a template is left: look for {{, {% and [More Information Needed].")
    if kind == "space":  # no table of it is made from a record
        return found
    return [*found, *number_problems(head, body, kept(folder, kind) if records is None else records)]


def kind_of(folder: Path) -> str:
    """Tell by the files, since the head is what may be wrong."""
    if (folder / "app.py").is_file():
        return "space"
    return "dataset" if (folder / "data").is_dir() else "model"


# The head


@cache
def known() -> dict[str, set]:
    resources = files("datasets") / "utils/resources"
    theirs = {
        name: json.loads((resources / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("languages", "size_categories", "multilingualities", "creators")
    }
    return {name: set(one["values"]) for name, one in FIELDS["lists"].items()} | {
        "sdks": set(SPACES_SDK_TYPES),
        "hardware": {each.value for each in SpaceHardware},
        "storage": {each.value for each in SpaceStorage},
        "languages": {*theirs["languages"], "multilingual"},
        "size_categories": set(theirs["size_categories"]),
        "multilinguality": set(theirs["multilingualities"]),
        "language_creators": set(theirs["creators"]["language"]),
        "annotations_creators": set(theirs["creators"]["annotations"]),
    }


def listed(value) -> list:
    return value if isinstance(value, list) else [value]


def is_text(value) -> bool:
    return isinstance(value, str) and bool(value.strip())


def is_whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def fits(pattern: str, value) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(pattern, value))


def is_repo(value) -> bool:
    try:
        validate_repo_id(value)
    except HFValidationError:
        return False
    return is_text(value)


def is_emoji(value) -> bool:
    return is_text(value) and all(unicodedata.category(letter) in ("So", "Sk", "Mn", "Me", "Cf") for letter in value)


# By the words of hub_fields.json: what holds for a value, and how a sentence says so.
SHAPES = {
    "free": (lambda value: True, ""),
    "text": (is_text, "words are expected, in quotes if YAML reads them as something else"),
    "texts": (lambda value: all(map(is_text, listed(value))), "a list of words is expected"),
    "flag": (lambda value: isinstance(value, bool), "true or false is expected"),
    "number": (is_whole, "a whole number is expected"),
    "mapping": (lambda value: isinstance(value, dict), "keys with values are expected"),
    "repos": (lambda value: all(map(is_repo, listed(value))), "the Hub writes OWNER/NAME"),
    "emoji": (is_emoji, "an emoji and nothing else is expected"),
    "python": (lambda value: fits(r"3\.\d+(\.\d+)?", value), 'a version in quotes is expected, such as "3.12"'),
    "version": (lambda value: fits(r"\d+\.\d+(\.\d+)?\w*", value), "a whole version is expected, such as 6.31.0"),
    "duration": (lambda value: fits(r"\d+[smh]", value), "a time such as 30m or 1h is expected"),
    "short": (
        lambda value: is_text(value) and len(value) <= MOST_CHARACTERS,
        f"the Hub takes {MOST_CHARACTERS} characters",
    ),
}


def head_problems(head: dict, kind: str, folder: Path) -> list[str]:
    keys = FIELDS["fields"][kind]["keys"]
    found = [f"{name} is missing in the head." for name in NEEDED[kind] if head.get(name) in (None, "", [])]
    for key, value in head.items():
        if key not in keys:
            near = difflib.get_close_matches(str(key), keys, 1)
            found.append(f"{key} is no key of a {kind}'s head{f': did you mean {near[0]}?' if near else '.'}")
        elif value is not None:
            found += value_problems(key, value, keys[key], folder)
    if "other" in listed(head.get("license")) and not head.get("license_name"):
        found.append("license is other, so license_name must say which, and license_link where it can be read.")
    return found + index_problems(head.get("model-index"))


def value_problems(key: str, value, rule: str, folder: Path) -> list[str]:
    """Return what a key's value breaks of its rule in hub_fields.json."""
    what, _, name = rule.partition(":")
    if what in ("one", "all"):
        if what == "one" and isinstance(value, list):
            return [f"{key} is {value!r}: one value is expected."]
        wrong = [one for one in listed(value) if not isinstance(one, str) or one not in known()[name]]
        return [f"{key} is {one!r}, which is not among the Hub's {name}." for one in wrong]
    if what == "configs":
        return config_problems(value, folder)
    if what == "file":
        return [] if is_text(value) and (folder / value).is_file() else [f"{key} is {value!r}: there is no such file."]
    if what == "link":
        return [f"{key}: {sentence}" for sentence in link_problems(str(value), folder, set())]
    if key == "custom_headers" and isinstance(value, dict):
        return [f"{key} has {one!r}: the Hub sets no such header." for one in set(value) - known()[key]]
    holds, expected = SHAPES[what]
    return [] if holds(value) else [f"{key} is {value!r}: {expected}."]


def config_problems(configs, folder: Path) -> list[str]:
    """Check that every file that load_dataset would look for is there."""
    try:
        paths = [
            (one["config_name"], path)
            for one in configs
            for part in one["data_files"]
            for path in listed(part["path"])
            if part["split"]
        ]
    except (KeyError, TypeError):
        return ["configs: each needs config_name, and data_files with split and path."]
    return [
        f"configs: {name} names {path!r}, which is not there." for name, path in paths if not is_there(folder, path)
    ]


def is_there(folder: Path, pattern) -> bool:
    return is_text(pattern) and not Path(pattern).is_absolute() and any(folder.glob(pattern))


def index_problems(index) -> list[str]:
    """Check model-index level by level; what is below a wrong level is not looked at."""
    if index is None:
        return []
    found, results = [], []
    for entry in listed(index):
        found += part_problems("entry", entry)
        results += [] if found else listed(entry["results"])
    for result in results:
        if wrong := part_problems("result", result):
            found += wrong
            continue
        for name in {"task", "dataset", "source"} & set(result):
            found += part_problems(name, result[name])
        for metric in listed(result["metrics"]):
            found += part_problems("metric", metric) or metric_problems(metric)
        if not found and str(result["task"]["type"]) not in known()["pipelines"]:
            found.append(
                f"model-index: task type is {result['task']['type']!r}, which is not among the Hub's pipelines."
            )
        if not found and not is_repo(result["dataset"]["type"]):
            found.append(f"model-index: dataset type is {result['dataset']['type']!r}: the Hub writes OWNER/NAME.")
    return found


def part_problems(name: str, part) -> list[str]:
    rule = FIELDS["model_index"]["parts"][name]
    if not isinstance(part, dict):
        return [f"model-index: {name} is {part!r}: keys with values are expected."]
    lacking = [key for key in rule["needed"] if part.get(key) in (None, "", [])]
    unknown = [key for key in part if key not in [*rule["needed"], *rule["allowed"]]]
    return [
        *(f"model-index: {name} lacks {key}." for key in lacking),
        *(f"model-index: {name} has {key}, which is not for us to set or not known." for key in unknown),
    ]


def metric_problems(metric: dict) -> list[str]:
    """A metric that the Hub does not know may have any name, one that it knows must have the Hub's."""
    kind, value = metric["type"], metric["value"]
    near = {name.replace("_", ""): name for name in known()["metrics"]}.get(
        re.sub(r"\W|_", "", str(kind)).lower(), kind
    )
    found = [] if near == kind else [f"model-index: metric type is {kind!r}, which the Hub writes {near}."]
    if not is_number(value) or not math.isfinite(value):
        found.append(f"model-index: {kind} is {value!r}: a number is expected.")
    return found


# The body


def body_problems(body: str, folder: Path) -> list[str]:
    prose = re.sub(r"`[^`\n]*`", "", FENCE.sub("", body))
    headings = {slug(line) for line in re.findall(r"^#+ (.*)$", FENCE.sub("", body), re.M)}
    targets = re.findall(r"\]\(\s*<?([^)\s>]+)", prose) + re.findall(r"(?:src|href)=[\"']([^\"']+)", prose)
    targets += re.findall(r"(?<![(\"'<])\bhttps?://[^\s)>\]|*]+", prose)
    found = [sentence for target in targets for sentence in link_problems(target, folder, headings)]
    if body.count("\n```") % 2:
        found.append("A block of code is not closed: ``` stands an odd number of times.")
    for language, code in FENCE.findall(body):
        if language in ("python", "py"):
            try:
                compile(code, "README.md", "exec")
            except SyntaxError as error:
                line = [*code.splitlines(), ""][error.lineno - 1].strip()
                found.append(f"Python of the card does not compile: {error.msg} in {line!r}.")
    return found


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def link_problems(target: str, folder: Path, headings: set[str]) -> list[str]:
    """Check where a link leads: a file of the folder, a heading of the card, or a well-formed https address."""
    try:
        parts = urlsplit(target)
    except ValueError:
        return [f"The link {target} is no whole https address."]
    if parts.scheme in ("http", "https"):
        whole = re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.hostname or "")
        return [] if whole and parts.scheme == "https" else [f"The link {target} is no whole https address."]
    if parts.scheme:
        return [] if parts.scheme == "mailto" else [f"The link {target} is neither https nor a file of the folder."]
    if not parts.path:
        return [] if parts.fragment in headings else [f"The link {target} names no heading of the card."]
    # By name, not by where a link of the file system leads: what is to be pushed may be gathered by such.
    place = Path(os.path.normpath(folder / unquote(parts.path)))
    if not place.is_relative_to(os.path.normpath(folder)) or not place.exists():
        return [f"The link {target} leads to no file of the folder."]
    return []


# The numbers


def kept(folder: Path, kind: str) -> list[Path]:
    """Return the records of a card: those in its folder, else those beside it."""
    places = [(folder / name, folder.parent / name) for name in RECORDS]
    found = [next((place for place in pair if place.is_file()), None) for pair in places]
    return [place for place in [*found, MEASURED if kind == "dataset" else None] if place]


def number_problems(head: dict, body: str, records: list[Path]) -> list[str]:
    """Compare each row of each table, and the head's results, with the records.

    A row fits when one part of a record has all its numbers, each as the row rounds it and, where a column or the row is
    called as the record calls it, under that very name. So two rows whose numbers changed places are not always noticed.
    """
    rows = [(header, row) for header, row in table_rows(body) if any(map(CELL.fullmatch, row[1:]))]
    if not records:
        return ["There are numbers, and no run.json, results.json or report.json that they come from."] if rows else []
    parts = [part for record in records for part in parts_of(load(record))]
    there = {number for _, part in parts for number in own_numbers(part)}
    index = head.get("model-index")
    values = (
        [one.metric_value for one in model_index_to_eval_results(index)[1]]
        if index and not index_problems(index)
        else []
    )
    names = ", ".join(record.name for record in records)
    return [
        *(f"model-index: the value {value!r} stands in none of {names}." for value in values if value not in there),
        *(f"The row | {' | '.join(row)} | stands so in none of {names}." for header, row in rows if not stands(header, row, parts)),
    ]  # fmt: skip


def load(record: Path):
    text = record.read_text(encoding="utf-8")
    return json.loads(text) if record.suffix == ".json" else yaml.safe_load(text)


def table_rows(body: str) -> Iterator[tuple[list[str], list[str]]]:
    """Yield each row of each table with the header of its table."""
    for table in re.findall(r"(?:^\|.*\n)+", FENCE.sub("", body) + "\n", re.M):
        header, _, *rows = [
            [cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.splitlines()
        ]
        yield from ((header, row) for row in rows)


def parts_of(value, name: str = "") -> Iterator[tuple[str, dict]]:
    """Yield every mapping within a record with the name it has there."""
    if isinstance(value, dict):
        yield name, value
    for key, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from parts_of(one, str(key) if isinstance(value, dict) else name)


def own_numbers(part: dict) -> list:
    flat = [one for value in part.values() for one in listed(value)]
    return [one for one in flat if is_number(one)]


def stands(header: list[str], row: list[str], parts: list[tuple[str, dict]]) -> bool:
    label = re.sub(r"[`*]|\[(.*?)\]\(.*?\)", r"\1", row[0])
    key = label.replace(" ", "_")
    cells = [
        (name.partition(" ")[0], cell) for name, cell in zip(header[1:], row[1:], strict=False) if CELL.fullmatch(cell)
    ]
    named = [part for name, part in parts if own_numbers(part) and (name in (label, key) or label in part)]
    quoted = {str(part.get(label)) for _, part in parts}
    return all(cell in quoted for _, cell in cells) or any(
        all(cell_stands(part, name, label, cell) for name, cell in cells) for part in named or [part for _, part in parts]
    )  # fmt: skip


def cell_stands(part: dict, name: str, label: str, cell: str) -> bool:
    """Tell whether a part has the numbers of a cell, the first under the column's or the row's name where it has that name."""
    called = part.get(name, part.get(label))
    if isinstance(called, str):
        return called == cell
    scale = 100 if "%" in cell else 1
    first, *rest = re.findall(NUMBER, cell)
    mine = own_numbers(part)
    return any(agree(first, one * scale) for one in ([called] if is_number(called) else mine)) and all(
        any(agree(shown, one * scale) for one in mine) for shown in rest
    )


def agree(shown: str, value: float) -> bool:
    plain = shown.replace(",", "").replace("−", "-")
    return float(format(value, f".{len(plain.partition('.')[2])}f")) == float(plain)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", metavar="FOLDER", type=Path, nargs="+", help="holds a README.md and what it names")
    return parser.parse_args()


if __name__ == "__main__":
    main()
