"""Every command of README.md and docs/guide.md is run as it stands there, or stands below with the reason why it is not.

They run in a folder like the project's and in the reader's order: each finds what those before it made. In place of the embedded
base there is a model of four layers, in place of the Hub a server on loopback, and DATA, ORG and NAME are taken at their word.
"""

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from accelerate.commands.launch import launch_command_parser
from huggingface_hub import constants

import base_model
import crossval
import readme
import score
import search
import simulate
from arguments import parse
from conftest import ROOT, free_port, serving
from fake_hub import Hub, hub_server
from test_build_dataset import small  # noqa: F401  (a fixture)
from test_card import whole
from test_recipes import ON_CPU
from tiny import make_base


DOCUMENTS = ("README.md", "docs/guide.md")
FOLDERS = ("benchmarks", "data", "hub", "space", "tests", "train")

# What stands there, what is run in its place, for the time it takes.
SHORTER = {
    "score.py --adapter build/public/adapter --corpus build/public/corpus --limit 300": "score.py --adapter "
    "build/public/adapter --corpus build/public/corpus --limit 4 --scenarios 4 --bias 0 --timed 1 --max-new-tokens 8",
    "sft.py --config train/recipes/cpu.yaml": "sft.py --config train/recipes/cpu.yaml --max_steps 2",
    "--limit 40 --scenarios 24": "--limit 4 --scenarios 2 --max-new-tokens 8",  # of make run
    "simulate.py --output": "simulate.py --limit 2 --output",
    # So short a score is partial, and the tiny base is not safe: without it, publishing refuses.
    "--repo ORG/NAME ": "--force --repo ORG/NAME ",
}


class Parsed(NamedTuple):
    """Why a command is not run, and the program's own parser, which takes its arguments all the same."""

    reason: str
    parser: Callable[[list[str]], object]


def on_cpu(arguments: list[str]) -> None:
    parse([*arguments, *ON_CPU])


def launched(arguments: list[str]) -> None:
    given = launch_command_parser().parse_args(arguments)
    assert Path(given.training_script) == Path("train/sft.py")
    parse(given.training_script_args)


def publishes(arguments: list[str]) -> None:
    from publish_loop import parse_options

    parse_options(arguments)


NOT_RUN = {
    "make test": Parsed("these tests are part of it", lambda _: None),
    "CONFIRM=yes": Parsed("refuses a partial score; tests/test_hub.py publishes all", publishes),
    "train/recipes/recommended.yaml": Parsed("needs a GPU; tests/test_recipes.py trains it on a tiny base", on_cpu),
    "train/search.py": Parsed(
        "takes minutes; tests/test_search.py searches on less", partial(parse, also=[search.Search])
    ),
    "train/crossval.py": Parsed(
        "takes minutes; tests/test_crossval.py has less to fold", partial(parse, also=[crossval.CrossValidation])
    ),
    "accelerate launch": Parsed("tests/test_processes.py runs it on a tiny base", launched),
    "--epitome": Parsed("needs EPITOME's data; tests/test_epitome.py has some like it", score.parse_options),
    "score.py --adapter build/public/adapter --corpus build/public/corpus --limit 300 --judge-url": Parsed(
        "needs a model that judges; tests/test_score.py has an endpoint that answers", score.parse_options
    ),
    "--player-url": Parsed("needs a model that plays; tests/test_simulate.py has one", simulate.parse_options),
}
# What stops for lack of what nobody has here, and how its sentence begins.
STOPS = {"data/collect.py reddit": "Reddit needs", "data/collect.py x": "X needs a token"}


class Command(NamedTuple):
    where: str
    language: str  # sh or python
    text: str


def blocks(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line, language and text of each fenced or indented block; an indented one is sh."""
    fenced = r"^```(?P<language>.*)\n(?P<fenced>(?:.*\n)*?)```$"
    indented = r"(?<=\n\n)(?P<indented>(?:    .*\n|\n(?=    ))+)"
    for found in re.finditer(f"{fenced}|{indented}", text, flags=re.M):
        language = "sh" if found["indented"] else found["language"]
        yield text[: found.start()].count("\n") + 1, language, found["indented"] or found["fenced"]


def commands(document: str) -> Iterator[Command]:
    for line, language, text in blocks((ROOT / document).read_text(encoding="utf-8")):
        where = f"{document}:{line}"
        if language == "python":
            yield Command(where, language, text)
        elif language != "text":
            lines = re.sub(r"\\\n", " ", text).splitlines()
            yield from (Command(where, language, " ".join(each.split())) for each in lines if each.strip())


COMMANDS = [command for document in DOCUMENTS for command in commands(document)]


class Place:
    """Where commands run: a folder, the variables that a reader would have set, a hub, the Spaces that were started."""

    def __init__(self, folder: Path, environment: dict[str, str], hub: Hub, spaces: ExitStack):
        self.folder, self.environment, self.hub, self.spaces = folder, environment, hub, spaces
        self.expanded: dict[str, list[str]] = {}  # what make would have run before any of it was

    def shell(self, line: str, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["bash", "-ec", line],
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=400,
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory, small):  # noqa: F811
    folder = tmp_path_factory.mktemp("reader") / "theragen"
    (folder / "docs").mkdir(parents=True)
    for name in (*FOLDERS, "Makefile", "README.md", "model_card.md", "dataset_card.md", "pyproject.toml"):
        if (ROOT / name).exists():
            (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "DATA").symlink_to(small)
    home = folder.parent / "home"
    with pytest.MonkeyPatch.context() as patch, ExitStack() as spaces:
        for name in ("THERAGEN_CACHE", "XDG_CACHE_HOME", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # also within make test
            patch.delenv(name, raising=False)
        patch.setenv("HOME", str(home))
        patch.setattr(base_model, "fetch", lambda work: work)
        patch.setattr(base_model, "convert", lambda weights, converted: make_base(converted))
        base_model.embedded_folder()
        hub = spaces.enter_context(hub_server())
        ours = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_made_up", "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        path = f"{sys.prefix}/bin:{os.environ['PATH']}"
        environment = {**os.environ, **ours, "PATH": path, "GRADIO_SERVER_PORT": str(free_port())}
        yield Place(folder, {**environment, "OMP_NUM_THREADS": "1"}, hub, spaces)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.where} {command.text[:60]}")
def test_a_command_does_what_it_says(command, place, monkeypatch):
    if command.language == "python":
        run_python(command.text, place)
        return
    for line in expanded(command.text, place):
        if unfit := next((unfit for text, unfit in NOT_RUN.items() if text in command.text), None):
            unfit.parser(words_of(line)[1][2:])  # what the script, or the launcher, is given
        elif reason := next((sentence for text, sentence in STOPS.items() if text in line), None):
            done = place.shell(line)
            assert (done.returncode, done.stderr.splitlines()[-1].startswith(reason)) == (2, True), done.stderr
        else:
            run_line(shorter(line), place, monkeypatch)


def expanded(line: str, place: Place) -> list[str]:
    """Return the lines that make would run, installing left out: whoever runs tests has installed; others as they are."""
    if not line.startswith("make "):
        return [line]
    if line in place.expanded:
        return place.expanded[line]
    installed = ["-o", ".venv/.ready", "-o", ".venv/.vectors"]
    done = place.shell(
        shlex.join(["make", "-n", "--no-print-directory", *installed, *shlex.split(line, comments=True)[1:]])
    )
    assert done.returncode == 0, done.stderr
    lines = re.sub(r"\\\n", " ", done.stdout).splitlines()
    place.expanded[line] = [each for each in lines if each.split()[0] not in ("make", "test")]
    return place.expanded[line]


def shorter(line: str) -> str:
    for text, other in SHORTER.items():
        line = line.replace(text, other)
    return line


def words_of(line: str) -> tuple[dict[str, str], list[str]]:
    """Split a line into the variables that it sets and the words of its command."""
    words = shlex.split(line, comments=True)
    count = next((place for place, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)), len(words))
    return dict(word.split("=", 1) for word in words[:count]), words[count:]


def run_line(line: str, place: Place, monkeypatch) -> None:
    variables, words = words_of(line)
    python = words[0].split("/")[-1].startswith("python")
    if python and words[1] == "space/app.py":
        open_space(line, place)
    elif python and words[1].startswith("train/"):
        run_here(words[1:], variables, place, monkeypatch)
    else:
        done = place.shell(line)
        assert done.returncode == 0, done.stderr[-3000:]


def run_here(words: list[str], variables: dict[str, str], place: Place, monkeypatch) -> None:
    """Run a script in this process: what it imports takes ten seconds each time."""
    monkeypatch.chdir(place.folder)
    monkeypatch.setattr(sys, "argv", words)
    # This process has read its own environment already.
    hub = {"ENDPOINT": place.environment["HF_ENDPOINT"], "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}
    for name, value in hub.items():
        monkeypatch.setattr(constants, name, value)
    for name, value in {"HF_TOKEN": place.environment["HF_TOKEN"], **variables}.items():
        monkeypatch.setenv(name, value)
    try:
        runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        assert not end.code


def open_space(line: str, place: Place) -> None:
    """Start the page as the line says, and leave it open for the commands that ask it."""
    script = place.folder / "open.sh"
    script.write_text(f"exec env {line}\n", encoding="utf-8")
    environment = {name: place.environment[name] for name in ("HOME", "OMP_NUM_THREADS")}
    port = int(place.environment["GRADIO_SERVER_PORT"])
    place.spaces.enter_context(serving(script, place.folder / "space.log", "bash", port, **environment))


def run_python(block: str, place: Place) -> None:
    """Run a block as somebody without a hub would, by the variables that README names for that."""
    (variables,) = re.findall(r"`(HF_HUB_OFFLINE=1 [^`]+)`", (ROOT / "README.md").read_text(encoding="utf-8"))
    script = place.folder / "block.py"
    script.write_text(block.replace("7860", place.environment["GRADIO_SERVER_PORT"]), encoding="utf-8")
    done = place.shell(f"{variables} python block.py")
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_space_on_the_hub_and_its_copy_are_the_folder_and_nothing_else(place):
    """After the commands above."""
    folder = ROOT / "space"
    files = {
        file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file() and file.suffix != ".pyc"
    }
    files = {file for file in files if ".egg-info/" not in file}  # installing puts it there
    assert set(place.hub.files["ORG/theragen"]) - {".gitattributes"} == files
    assert place.hub.files["ORG/theragen-copy"] == place.hub.files["ORG/theragen"]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\((?!https://)([^)]+)\)", (ROOT / document).read_text(encoding="utf-8")):
        name, _, heading = target.partition("#")
        file = (ROOT / document).parent / name
        assert file.is_file(), target
        headings = re.findall(r"^#+ (.*)", file.read_text(encoding="utf-8"), flags=re.M) if heading else []
        assert not heading or heading in [re.sub(r"[^\w-]", "", each.lower().replace(" ", "-")) for each in headings]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_within_sentences_exist(document, place):
    """Those that a figure was measured by, above all: make's targets are known, scripts are there."""
    words = re.findall(r"`([^`\n]+)`", (ROOT / document).read_text(encoding="utf-8"))
    for target in {each.split()[1] for each in words if each.startswith("make ")}:
        expanded(f"make {target}", place)
    scripts = {word for each in words for word in each.split() if re.fullmatch(r"[a-z]+/[\w/]+\.py", word)}
    assert [script for script in scripts if not (ROOT / script).is_file()] == []


@pytest.mark.parametrize(
    "line", [each.text for each in COMMANDS if each.text.startswith("make ") and "=" in each.text]
)
def test_make_uses_every_variable_that_it_is_given(line, place):
    for variable in re.findall(r"[A-Z_]+=\S+", line):
        given, without = (place.shell(f"make -n {each[5:]}").stdout for each in (line, line.replace(variable, "")))
        assert given != without, f"make makes nothing of {variable}"


def test_every_block_has_a_language_that_is_known():
    found = [(document, *block[:2]) for document in DOCUMENTS for block in blocks((ROOT / document).read_text())]
    assert [where for where in found if where[2] not in ("sh", "python", "text")] == []
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("text", [*NOT_RUN, *STOPS, *SHORTER])
def test_no_exception_has_outlived_its_command(text, place):
    lines = [
        line
        for command in COMMANDS
        if command.language == "sh"
        for line in (command.text, *expanded(command.text, place))
    ]
    assert [line for line in lines if text in line]


def a_score() -> tuple[dict, dict]:
    results = whole()
    pair = results["replies"]["measures"]["bleu"]
    results["scenarios"]["dimensions"] |= {"all": pair, "safe": pair}
    times = {"first_words": {"p50": 0.4, "p95": 0.8}, "whole_reply": {"p50": 9.61, "p95": 12.0}}
    return results, {"prompts": 20, "adapter": times}


def test_a_score_is_put_between_the_marks_and_nothing_else_changes(tmp_path, monkeypatch):
    results, times = a_score()
    (tmp_path / "docs").mkdir()
    for name, content in (("results", results), ("times", times)):
        (tmp_path / f"docs/{name}.json").write_text(json.dumps(content))
    (tmp_path / "README.md").write_text(f"before\n{readme.BEGIN}old\n{readme.END}\nafter\n")
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    readme.main()
    text = (tmp_path / "README.md").read_text()
    assert text == f"before\n{readme.BEGIN}{readme.score_part(results, times)}{readme.END}\nafter\n"
    assert "| perplexity | 14.50 | 12.34 | -2.160 (-2.210 to -2.110) | 300 |\n" in text
    assert "| BLEU (0 to 100) | 0.500 | 1.25 | +0.750 (+0.700 to +0.800) | 300 |\n" in text
    assert "240 prompts in 880 variants; differences found in the base 0, in the adapter 0" in text
    assert "one person at a time: 0.4 and 9.6 (median)" in text


def test_a_score_that_is_partial_or_not_safe_says_so():
    results = {**a_score()[0], "missing": ["1056 scenarios"], "safety": {"passed": False, "failures": ["Too few."]}}
    part = readme.score_part(results, {})
    assert "**Partial: 1056 scenarios not measured.**" in part
    assert "Safety checks: **not passed.** Too few." in part


@pytest.mark.parametrize("text", ["", readme.BEGIN, f"{readme.END}{readme.BEGIN}", 2 * f"{readme.BEGIN}{readme.END}"])
def test_a_readme_without_its_marks_is_one_sentence(text):
    with pytest.raises(ValueError, match="once each, in this order"):
        readme.with_score(text, "part\n")


def test_the_table_is_that_of_the_last_whole_score():
    score_file, times = ROOT / "docs/results.json", ROOT / "docs/times.json"
    if not score_file.is_file():
        pytest.skip("docs/results.json is not here: README's table is still written by hand")
    part = readme.score_part(
        json.loads(score_file.read_text()), json.loads(times.read_text()) if times.is_file() else {}
    )
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.with_score(text, part) == text
