"""Put a built corpus on the Hub: the configuration `default` and its card, and nothing else that a build holds."""

import json
from pathlib import Path

from httpx2 import HTTPError
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, DatasetCard, HfApi

from corpus import render_card, terms_of
from recipe import Recipe
from rows import BadInput


DEFAULT = "default"
CARD = "README.md"


def publish(build: Path, recipe: Recipe, repo: str, *, public: bool = False) -> str:
    """Push `default` to the dataset `repo`, named in full, and return its address; private unless `public`.

    Raises BadInput where there is nothing to publish and where the Hub refuses.
    """
    files = contents(build, recipe, repo)
    try:
        DatasetCard(files[CARD].decode()).validate()
        put(files, repo, public=public)
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        raise BadInput(
            f"The Hub did not take the corpus for {repo}: {next(iter(str(error).strip().splitlines()), type(error).__name__)} Log in with `hf auth login` or set HF_TOKEN "
            "(with write access), check the name and the network, and run the same command again."
        ) from error
    return f"{HfApi().endpoint}/datasets/{repo}"


def contents(build: Path, recipe: Recipe, repo: str) -> dict[str, Path | bytes]:
    """Return what is published by its name there, the card last; raises BadInput where nothing may be."""
    report = json.loads((build / "report.json").read_text(encoding="utf-8"))
    if DEFAULT not in report["configs"]:
        raise BadInput(f"{build} holds no row that may be published: nothing was pushed.")
    if report["recipe"] != recipe.name or report.get("recipe_sha256") != terms_of(recipe):
        raise BadInput(f"{build} was built from another recipe than {recipe.name} as it is now: build it again.")
    files = sorted(file for split in report["configs"][DEFAULT].values() for file in split["files"])
    if gone := [file for file in files if not (build / "corpus" / file).is_file()]:
        raise BadInput(f"{build}/corpus lacks {gone[0]}: build it again.")
    card = render_card(recipe, {**report, "configs": {DEFAULT: report["configs"][DEFAULT]}}, repo)
    return {**{file: build / "corpus" / file for file in files}, CARD: card.encode()}


def put(files: dict[str, Path | bytes], repo: str, *, public: bool = False) -> str:
    """Push rows, then the card, and return the commit, which stays the same where nothing differs.

    The files of an earlier push go in the commit that brings the new card, so that whoever loads the corpus meanwhile gets
    one whole version. A name holds its file's hash, so one that is there already is the same.
    """
    api = HfApi()
    # Of a repository that is there already the owner has decided who sees it.
    api.create_repo(repo, repo_type="dataset", private=not public, exist_ok=True)
    present = api.list_repo_files(repo, repo_type="dataset")
    new = [CommitOperationAdd(file, files[file]) for file in files if file not in present and file != CARD]
    if new:
        api.create_commit(repo, new, commit_message="Rows", repo_type="dataset")
    old = [CommitOperationDelete(file) for file in replaced(present, files)]
    card = CommitOperationAdd(CARD, files[CARD])
    return api.create_commit(repo, [card, *old], commit_message="Card", repo_type="dataset").oid


def replaced(present: list[str], files: dict) -> list[str]:
    """Return what of an earlier push goes: rows. A note or a licence that somebody put beside them stays."""
    return sorted(file for file in present if file.startswith("data/") and file not in files)
