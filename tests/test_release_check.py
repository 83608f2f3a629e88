"""What `make release` says of a repository that is ready, and of copies in each of which one thing does not hold."""

import json
import shutil
import subprocess
import sys

import pytest

from card import Edition, render
from conftest import ROOT
from test_card import RUN, whole


README = """# A project
<!-- results -->
| | base | adapter | difference (95 % interval) | n |
|---|---:|---:|---:|---:|
| BLEU (0 to 100) | 0.500 | 1.25 | +0.750 (+0.700 to +0.800) | 300 |
<!-- /results -->
"""


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A small repository with a Space, a built adapter, a score and a changelog, all of version 0.1.0 and committed."""
    folder = tmp_path_factory.mktemp("ready") / "project"
    for name in ("hub/release_check.py", "hub/card_check.py", "hub/hub_fields.json", "data/measured.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "space").mkdir()
    for name in ("README.md", "app.py"):
        shutil.copy(ROOT / "space" / name, folder / "space")
    (folder / "pyproject.toml").write_text('[project]\nname = "theragen"\nversion = "0.1.0"\n')
    (folder / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n\n## [0.1.0] - 2026-12-01\n\n- All of it.\n")
    (folder / "README.md").write_text(README)
    (folder / ".gitignore").write_text("build/\n__pycache__/\n")
    (folder / "docs").mkdir()
    (folder / "docs/results.json").write_text(json.dumps(whole()))
    adapter = folder / "build/embedded/adapter"
    adapter.mkdir(parents=True)
    (adapter / "run.json").write_text(json.dumps({**RUN, "version": "0.1.0"}))
    (adapter.parent / "results.json").write_text(json.dumps(whole()))
    (adapter / "README.md").write_text(str(render(RUN, whole(), Edition())), encoding="utf-8")
    git(folder, "init", "--quiet")
    commit(folder)
    return folder


def git(folder, *arguments: str) -> None:
    who = ["-c", "user.name=A Person", "-c", "user.email=person@example.org"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def commit(folder) -> None:
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", "A state")


def check(folder) -> subprocess.CompletedProcess:
    asked = [sys.executable, "hub/release_check.py"]
    return subprocess.run(asked, cwd=folder, capture_output=True, text=True, check=False)


def test_what_is_ready_passes_every_check_and_the_commands_are_told(ready):
    done = check(ready)
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert len([line for line in lines if line.startswith("ok ")]) == 6
    assert not [line for line in lines if line.startswith("not")]
    assert 'git tag -a v0.1.0 -m "TheraGen 0.1.0"' in done.stdout
    assert "hub/publish_loop.py --org ORG --confirm --tag v0.1.0" in done.stdout


def test_a_clone_in_which_nothing_is_built_or_scored_passes(ready, tmp_path):
    folder = shutil.copytree(ready, tmp_path / "project", ignore=shutil.ignore_patterns("build", "results.json"))
    commit(folder)
    assert check(folder).returncode == 0


CHANGED = {
    # what is changed: file, old, new, and what the sentence names
    "a version that the changelog lacks": ("CHANGELOG.md", "[0.1.0]", "[0.0.9]", "pyproject.toml says 0.1.0, the newest section of CHANGELOG.md is 0.0.9"),
    "a section without a day": ("CHANGELOG.md", "2026-12-01", "unreleased", "The section 0.1.0 says unreleased"),
    "changes that no version has": ("CHANGELOG.md", "[Unreleased]\n", "[Unreleased]\n\n- More.\n", "Changes stand under Unreleased"),
    "no section at all": ("CHANGELOG.md", "## [", "## (", "the newest section of CHANGELOG.md is none"),
    "a run of another version": ("build/embedded/adapter/run.json", '"version": "0.1.0"', '"version": "0.0.9"', "run.json was made by 0.0.9"),
    "a card whose licence is none": ("build/embedded/adapter/README.md", "license: apache-2.0", "license: apache", "adapter: license is 'apache'"),
    "a card of another score": ("build/embedded/adapter/README.md", "| 12.34 |", "| 11.34 |", "adapter: The row | base + adapter | 11.34 |"),
    "a Space's colour": ("space/README.md", "colorTo: indigo", "colorTo: teal", "space: colorTo is 'teal'"),
    "a figure in README": ("README.md", "| 1.25 |", "| 1.52 |", "The row | BLEU (0 to 100) | 0.500 | 1.52 |"),
    "a README without its part": ("README.md", "<!-- results -->", "", "README.md has no part between"),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGED)
def test_what_does_not_hold_is_named_and_stops_the_release(ready, tmp_path, case):
    name, old, new, sentence = CHANGED[case]
    folder = shutil.copytree(ready, tmp_path / "project")
    text = (folder / name).read_text(encoding="utf-8")
    assert old in text
    (folder / name).write_text(text.replace(old, new), encoding="utf-8")
    commit(folder)
    done = check(folder)
    assert done.returncode == 2
    assert sentence in done.stdout
    assert len([line for line in done.stdout.splitlines() if line.startswith("not")]) == 1, done.stdout
    assert "git tag" not in done.stdout


def test_a_tree_with_changes_is_not_released(ready, tmp_path):
    folder = shutil.copytree(ready, tmp_path / "project")
    (folder / "new.txt").write_text("new")
    done = check(folder)
    assert (done.returncode, "new.txt is changed or new" in done.stdout) == (2, True)


def test_a_tag_of_an_earlier_commit_is_not_moved(ready, tmp_path):
    folder = shutil.copytree(ready, tmp_path / "project")
    git(folder, "tag", "v0.1.0")
    assert check(folder).returncode == 0  # released, and asked again
    commit(folder)
    done = check(folder)
    assert (done.returncode, "raise the version in pyproject.toml" in done.stdout) == (2, True)
