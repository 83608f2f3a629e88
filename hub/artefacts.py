"""What the loop publishes: the files of each repository, or the sentence that says why there are none yet."""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import SpaceCard

import card_check
import push_corpus
import pushing
from base_model import BaseUnavailable
from card_check import MEASURED
from recipe import load_recipe
from rows import BadInput


ROOT = Path(__file__).parents[1]
CARD = "README.md"
OPTIONS = {"merged": "--merge", "gguf": "--gguf"}  # of train/publish.py
LINKS = """
## The other parts

The corpus is [{corpus}](https://huggingface.co/datasets/{corpus}), the adapter [{adapter}](https://huggingface.co/{adapter}). The
chat that screens both sides and keeps help on the page is [{space}](https://huggingface.co/spaces/{space}).
"""


class Names(NamedTuple):
    """The repositories by what is in them."""

    corpus: str
    adapter: str
    merged: str
    gguf: str
    space: str


class Artefact(NamedTuple):
    """One repository: its files by their names there, the card last; or what is `missing`, as a sentence."""

    kind: str  # dataset, model or space, as the Hub says
    repo: str
    files: dict[str, Path | bytes] = {}  # noqa: RUF012  (a NamedTuple's default; nobody writes to it)
    missing: str = ""
    records: list[Path] | None = None  # what the card's numbers were taken from; None: what is among the files

    @property
    def card(self) -> str:
        content = self.files[CARD]
        return content.decode() if isinstance(content, bytes) else content.read_text(encoding="utf-8")


def names_of(org: str) -> Names:
    return Names(*(f"{org}/theragen{end}" for end in ("-corpus", "-adapter", "-merged", "-GGUF", "")))


def corpus(build: Path, recipe: str | None, names: Names) -> Artefact:
    """Return the configuration `default` of a build; its recipe is looked for by name unless one is given."""
    report = build / "report.json"
    if not report.is_file():
        missing = f"There is no {report}: `make run` builds our own dialogues, data/build_dataset.py others."
        return Artefact("dataset", names.corpus, missing=missing)
    try:
        recipe = recipe or json.loads(report.read_text(encoding="utf-8"))["recipe"]
        files = push_corpus.contents(build, load_recipe(recipe), names.corpus)
        return Artefact("dataset", names.corpus, linked(files, names), records=[report, MEASURED])
    except (BadInput, ValueError) as problem:
        return Artefact("dataset", names.corpus, missing=str(problem))


def models(build: Path, names: Names, editions: list[str], work: Path) -> list[Artefact]:
    """Return the adapter, and on request what is made from it (`merged`, `gguf`), all of it checked as train/publish.py does."""
    repos = [names.adapter, *(getattr(names, edition) for edition in editions)]
    try:
        if not (build / "adapter").is_dir():
            raise ValueError(f"There is no {build}/adapter: `make run` trains one, train/sft.py others.")
        made = make(build, names, editions, work)
    except (BaseUnavailable, ValueError) as problem:
        return [Artefact("model", repo, missing=str(problem).split("\n")[0]) for repo in repos]
    return [Artefact("model", repo, linked(pushing.contents(folder), names)) for folder, repo in made.items()]


def make(build: Path, names: Names, editions: list[str], work: Path) -> dict[Path, str]:
    """Write a folder for each model and return it with its repository; raises ValueError where one must not be published."""
    import publish  # seconds of importing, which a look at what is missing does without

    asked = ["--adapter", str(build / "adapter"), "--repo", names.adapter]
    asked += [part for edition in editions for part in (OPTIONS[edition], getattr(names, edition))]
    options = publish.parse_options(asked)
    results, against = publish.checked(options)
    if against:
        raise ValueError(" ".join(against))
    options.dataset = names.corpus if is_trained_on(options.adapter, build / "corpus") else None
    return publish.make(options, results, (), work / "made")


def is_trained_on(adapter: Path, corpus: Path) -> bool:
    """Whether the adapter saw these very rows: only then its card may name the corpus."""
    from loading import load_conversations
    from run_record import fingerprint

    if not corpus.is_dir():
        return False
    trained = json.loads((adapter / "run.json").read_text(encoding="utf-8"))["data"]["sha256"]
    return fingerprint(load_conversations(str(corpus), None, "train")) == trained


def linked(files: dict[str, Path | bytes], names: Names) -> dict[str, Path | bytes]:
    """Return the files with a card that leads to the rest of the loop."""
    content = files[CARD]
    card = content if isinstance(content, bytes) else content.read_bytes()
    return {**files, CARD: card.rstrip() + b"\n" + LINKS.format(**names._asdict()).encode()}


def space(names: Names, base: str | None) -> Artefact:
    """Return what is tracked of space/, byte for byte but for the card's head, which names the models and the corpus."""
    line = ["git", "-C", str(ROOT), "ls-files", "-z", "--", "space"]
    try:
        tracked = subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip("\0").split("\0")
    except (OSError, subprocess.CalledProcessError):
        tracked = [""]
    paths = [ROOT / name for name in tracked]
    if gone := [path for path in paths if not path.is_file()]:
        why = "git does not say which files are the Space's: publish from a clone."
        gone_too = f"{gone[0]} is tracked and not there: restore it or remove it for good."
        return Artefact("space", names.space, missing=gone_too if tracked != [""] else why)
    files = {path.relative_to(ROOT / "space").as_posix(): path for path in paths}
    card = head(files.pop(CARD), names, base)
    return Artefact("space", names.space, {**files, CARD: card})


def head(file: Path, names: Names, base: str | None) -> bytes:
    card = SpaceCard.load(file)
    card.data.models = [*([base] if base else card.data.models), names.adapter]
    card.data.datasets = [names.corpus]
    return str(card).encode()


def base_of(adapter: Artefact) -> str | None:
    config = adapter.files.get("adapter_config.json")
    return json.loads(config.read_text(encoding="utf-8"))["base_model_name_or_path"] if config else None


def faults(artefact: Artefact) -> list[str]:
    """Return what is wrong with the card among the files that would be pushed, one sentence each."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in artefact.files.items():
            place = Path(folder) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content) if isinstance(content, bytes) else place.symlink_to(content.resolve())
        return card_check.problems(Path(folder), artefact.records)
