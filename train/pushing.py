"""Put a folder on the Hub as a model: all of it or nothing."""

from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard
from huggingface_hub.errors import HfHubHTTPError


CARD = "README.md"
# What an earlier push, or another tool's, may have left. A licence or a note that somebody put there stays.
LEFT_OVERS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".json", ".jsonl", ".jinja", ".model", ".png")


def push(folder: Path, repo: str, *, public: bool = False) -> str:
    """Push the folder's files to the model `repo` and return its address; private unless `public`.

    Large files are uploaded first and nobody sees them; one commit then brings all files, the card last, and takes away
    what an earlier push left. So weights never stand beside another weights' card, not even when the Hub fails midway.
    Raises ValueError where the Hub refuses the card or anything else.
    """
    api = HfApi()
    try:
        ModelCard.load(folder / CARD).validate()
        # Of a repository that is there already the owner has decided who sees it.
        repo = api.create_repo(repo, private=not public, exist_ok=True).repo_id
        files = sorted(file.name for file in folder.iterdir() if file.name != CARD)
        left = [file for file in sorted(api.list_repo_files(repo)) if file.endswith(LEFT_OVERS) and file not in files]
        old = [CommitOperationDelete(file) for file in left]
        new = [CommitOperationAdd(file, folder / file) for file in [*files, CARD]]
        api.create_commit(repo, [*old, *new], commit_message="Model and card")
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise ValueError(
            f"The Hub did not take {repo}: {str(error).strip().splitlines()[0]} Log in with `hf auth login` or set HF_TOKEN "
            "(with write access), check the name and the network, and run the same command again."
        ) from error
    return f"{api.endpoint}/{repo}"
