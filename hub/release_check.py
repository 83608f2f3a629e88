"""Check that a release would be what it says: one version everywhere, cards and README that agree with what was measured.

    python hub/release_check.py [--build build/embedded]

Prints every check and, when all hold, the commands that a person then runs; exit code 2 when one does not. Changes nothing.
"""

import argparse
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from card_check import number_problems, problems


ROOT = Path(__file__).parents[1]
SECTION = re.compile(r"^## \[([^\]]+)\](?: - (\S+))?[^\n]*\n(.*?)(?=^## |\Z)", re.M | re.S)
PART = re.compile(r"<!-- results -->\n(.*?)<!-- /results -->", re.S)
RESULTS = ROOT / "docs/results.json"


def main() -> None:
    named = parse_options().build
    build = ROOT / named
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    checks = {
        "nothing is changed and not committed": tree_problems(),
        f"{version} is the newest section of CHANGELOG.md, with its day": changelog_problems(version),
        f"v{version} is no other commit's tag": tag_problems(version),
        f"what is built in {named} is of {version}, where it says so"
        if build.is_dir()
        else f"nothing is built in {named}": built_problems(version, build),
        "the cards hold": card_problems(build),
        "README's results are those of docs/results.json"
        if RESULTS.is_file()
        else "there is no docs/results.json to compare README with": readme_problems(),
    }
    for name, found in checks.items():
        print("\n     ".join([f"{'not' if found else 'ok '}  {name}", *found]))
    if any(checks.values()):
        sys.stderr.write("Not to be released yet: see what stands below each line that begins with not.\n")
        sys.exit(2)
    print(f"\n{commands(version, named)}")


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def tree_problems() -> list[str]:
    changed = git("status", "--porcelain").splitlines()
    return [f"{line[3:]} is changed or new: commit it, or take it away." for line in changed]


def changelog_problems(version: str) -> list[str]:
    file = ROOT / "CHANGELOG.md"
    sections = SECTION.findall(file.read_text(encoding="utf-8")) if file.is_file() else []
    waiting = [text for name, _, text in sections if name == "Unreleased" and text.strip()]
    newest, day, _ = next((one for one in sections if one[0] != "Unreleased"), ("none", "", ""))
    found = ["Changes stand under Unreleased: move them into the section of the version."] if waiting else []
    if newest != version:
        found.append(f"pyproject.toml says {version}, the newest section of CHANGELOG.md is {newest}.")
    elif not re.fullmatch(r"\d{4}-\d{2}-\d{2}", day):
        found.append(f"The section {newest} says {day or 'no day'}: write the day of the release, as 2026-12-31.")
    return found


def tag_problems(version: str) -> list[str]:
    if not git("tag", "--list", f"v{version}").strip():
        return []
    tagged, here = git("rev-list", "-n", "1", f"v{version}").strip(), git("rev-parse", "HEAD").strip()
    return (
        []
        if tagged == here
        else [f"v{version} is {tagged[:10]}, this is {here[:10]}: raise the version in pyproject.toml."]
    )


def built_problems(version: str, build: Path) -> list[str]:
    """Compare the version that a run or a build wrote down; records older than that habit name none."""
    found = []
    for file in (build / "report.json", build / "adapter/run.json"):
        said = json.loads(file.read_text(encoding="utf-8")).get("version", version) if file.is_file() else version
        if said != version:
            found.append(f"{file.relative_to(build)} was made by {said}: make it again with {version}.")
    return found


def card_problems(build: Path) -> list[str]:
    folders = [ROOT / "space", *(folder for folder in (build / "corpus", build / "adapter") if folder.is_dir())]
    return [f"{folder.name}: {sentence}" for folder in folders for sentence in problems(folder)]


def readme_problems() -> list[str]:
    """Compare README's table with the score it was made from; without docs/results.json there is nothing to compare."""
    if not RESULTS.is_file():
        return []
    if not (part := PART.search((ROOT / "README.md").read_text(encoding="utf-8"))):
        return ["README.md has no part between <!-- results --> and <!-- /results -->."]
    return number_problems({}, part.group(1), [file for file in (RESULTS, ROOT / "docs/times.json") if file.is_file()])


def commands(version: str, build: Path) -> str:
    return f"""All checks hold. A person who may now runs, with the owner's name for ORG:

    git tag -a v{version} -m "TheraGen {version}"
    git push origin v{version}
    python hub/publish_loop.py --org ORG --confirm --tag v{version} --build {build}"""


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--build", type=Path, default="build/embedded", help="folder with corpus and adapter, if there is one"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
