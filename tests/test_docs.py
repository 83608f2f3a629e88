"""Documents that cannot drift: paths exist, versions agree, the Space imports nothing from outside itself."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
import yaml

from conftest import ROOT


FOLDERS = ("space", "data", "train", "hub")
# Gradio's server, whose middleware is its seam; the openai client's transport; what the Hub installs where it lends GPUs.
BROUGHT = ("starlette", "httpx2", "spaces")


def modules(*folders: str) -> dict:
    return {path.stem: path for folder in folders for path in (ROOT / folder).glob("*.py")}


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "CONTRIBUTING.md",
        "space/README.md",
        "docs/guide.md",
        "docs/releasing.md",
        "docs/past_one_machine.md",
    ],
)
def test_paths_named_in_documents_exist(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w/.-])(?:space|data|train|tests|docs|hub|benchmarks)/[\w./-]*\w", text)
    missing = [path for path in named if not (ROOT / path).exists()]
    assert missing == []


def test_first_two_commands_of_the_readme_are_make_targets():
    commands = re.findall(r"^    (make \w+)", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.M)
    assert commands[:2] == ["make run", "make test"]


def test_space_pins_agree():
    head = yaml.safe_load((ROOT / "space/README.md").read_text(encoding="utf-8").split("---")[1])
    requirements = (ROOT / "space/requirements.txt").read_text().splitlines()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert f"gradio=={head['sdk_version']}" in requirements
    assert {line for line in requirements if not line.startswith("#")} == set(extras["space"])
    assert len(head["short_description"]) <= 60
    assert head["colorFrom"] in head["colorTo"] or {head["colorFrom"], head["colorTo"]} <= {
        "red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray",
    }  # fmt: skip


def test_space_imports_only_itself_and_its_requirements():
    required = (ROOT / "space/requirements.txt").read_text()
    owners = packages_distributions()
    for name, path in modules("space").items():
        for imported in imports(path):
            known = imported in sys.stdlib_module_names or imported in modules("space")
            brought = any(re.search(rf"^{owner}\b", required, re.M | re.I) for owner in owners.get(imported, []))
            assert known or brought or imported in BROUGHT, f"space/{name}.py imports {imported}"


def imports(path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("name", ["screening", "helplines", "texts"])
def test_what_stands_between_a_person_and_harm_needs_only_python(name):
    for imported in imports(ROOT / f"space/{name}.py"):
        assert imported in sys.stdlib_module_names or imported in modules("space")


def test_no_module_hides_another_package():
    theirs = {name for name, owners in packages_distributions().items() if set(owners) != {"theragen"}}
    assert set(modules(*FOLDERS)) & (theirs | sys.stdlib_module_names) == set()


def test_no_two_folders_share_a_module_name():
    names = [path.stem for folder in FOLDERS for path in (ROOT / folder).glob("*.py")]
    assert len(names) == len(set(names))


def test_every_space_module_is_mapped_by_the_install():
    mapped = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["py-modules"]
    assert sorted(mapped) == sorted(set(modules("space")) - {"app"})
