"""Put a built corpus on the Hub: the configuration `default` and its card, and nothing else that a build holds."""

import json
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError

from corpus import render_card
from recipe import Recipe
from rows import BadInput


DEFAULT = "default"


def publish(build: Path, recipe: Recipe, repo: str, *, public: bool = False) -> str:
    """Push `default` to the dataset `repo` and return its address; private unless `public`, the card last.

    The files of an earlier push go in the commit that brings the new card, so that whoever loads the corpus meanwhile gets
    one whole version. Raises BadInput where there is nothing to publish and where the Hub refuses.
    """
    report = json.loads((build / "report.json").read_text(encoding="utf-8"))
    if DEFAULT not in report["configs"]:
        raise BadInput(f"{build} holds no row that may be published: nothing was pushed.")
    files = sorted(file for split in report["configs"][DEFAULT].values() for file in split["files"])
    api = HfApi()
    try:
        # Of a repository that is there already the owner has decided who sees it.
        repo = api.create_repo(repo, repo_type="dataset", private=not public, exist_ok=True).repo_id
        present = set(api.list_repo_files(repo, repo_type="dataset"))
        new = [CommitOperationAdd(file, build / "corpus" / file) for file in files if file not in present]
        if new:
            api.create_commit(repo, new, commit_message="Rows", repo_type="dataset")
        old = [
            CommitOperationDelete(file) for file in sorted(present) if file.startswith("data/") and file not in files
        ]
        card = render_card(recipe, {**report, "configs": {DEFAULT: report["configs"][DEFAULT]}}, repo)
        api.create_commit(
            repo, [CommitOperationAdd("README.md", card.encode()), *old], commit_message="Card", repo_type="dataset"
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise BadInput(
            f"The Hub did not take the corpus for {repo}: {str(error).splitlines()[0]} Log in with `hf auth login` or set HF_TOKEN "
            "(with write access), check the name and the network, and run the same command again."
        ) from error
    return f"{api.endpoint}/datasets/{repo}"
