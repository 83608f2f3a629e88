"""Put files on the Hub in one commit: all of them or none."""

from pathlib import Path

from httpx2 import HTTPError
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard


CARD = "README.md"
# What an earlier push, or another tool's, may have left. A licence or a note that somebody put there stays.
LEFT_OVERS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".json", ".jsonl", ".jinja", ".model", ".png")


def push(folder: Path, repo: str, *, public: bool = False) -> str:
    """Push the folder's files to the model `repo` and return its address; private unless `public`.

    Raises ValueError where the Hub refuses the card or anything else.
    """
    try:
        ModelCard.load(folder / CARD).validate()
        put(contents(folder), repo, public=public)
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"The Hub did not take {repo}: {first_line(error)} Log in with `hf auth login` or set HF_TOKEN "
            "(with write access), check the name and the network, and run the same command again."
        ) from error
    return f"{HfApi().endpoint}/{repo}"


def check_card(folder: Path, repo: str) -> None:
    """Raise ValueError where the Hub refuses the card: to be asked of all cards before the first push."""
    try:
        ModelCard.load(folder / CARD).validate()
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"The Hub did not take the card of {repo}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def contents(folder: Path) -> dict[str, Path]:
    """Return the folder's files by name, the card last."""
    names = sorted(file.name for file in folder.iterdir() if file.name != CARD)
    return {name: folder / name for name in [*names, CARD]}


def put(files: dict[str, Path | bytes], repo: str, *, public: bool = False) -> str:
    """Push files as a model and return the commit, which stays the same where nothing differs."""
    # Of a repository that is there already the owner has decided who sees it.
    HfApi().create_repo(repo, private=not public, exist_ok=True)
    return commit(files, repo, "model", LEFT_OVERS)


def commit(files: dict[str, Path | bytes], repo: str, kind: str, left_overs: tuple[str, ...]) -> str:
    """Make `repo` hold these files, without what of other files ends like `left_overs`; return the commit.

    Large files are uploaded first and nobody sees them; one commit then brings all files, the card last, and takes away
    what an earlier push left. So weights never stand beside another weights' card, not even when the Hub fails midway.
    """
    api = HfApi()
    old = [
        CommitOperationDelete(file) for file in replaced(api.list_repo_files(repo, repo_type=kind), files, left_overs)
    ]
    new = [CommitOperationAdd(name, content) for name, content in files.items()]
    return api.create_commit(repo, [*old, *new], commit_message=f"{kind.capitalize()} and card", repo_type=kind).oid


def replaced(present: list[str], files: dict, left_overs: tuple[str, ...]) -> list[str]:
    """Return what of an earlier push goes; .gitattributes is the Hub's own."""
    return sorted(
        file for file in present if file.endswith(left_overs) and file not in files and file != ".gitattributes"
    )
