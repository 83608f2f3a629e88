"""Put the whole loop on the Hub: corpus, adapter, on request merged model and GGUF, and the Space that runs the adapter.

    python hub/publish_loop.py --org ORG             say what would go where, and push nothing
    python hub/publish_loop.py --org ORG --confirm   do it

Everything is made and checked before anything is pushed. What is there already and has not changed stays as it is, so a run
that was cut short is finished by the same command.
"""

import argparse
import hashlib
import sys
import tempfile
from pathlib import Path

from httpx2 import HTTPError
from huggingface_hub import HfApi, RepoCard
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils.sha import git_hash


ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "data"), str(ROOT / "train")]

import artefacts  # noqa: E402 - the path is above
import push_corpus  # noqa: E402
import pushing  # noqa: E402
from artefacts import Artefact, Names  # noqa: E402
from base_model import EMBEDDED  # noqa: E402
from files import sha256  # noqa: E402
from refusals import explained  # noqa: E402
from rows import BadInput, run  # noqa: E402


FAILURES = (HTTPError, OSError, RuntimeError, ValueError)
EVERYTHING = ("",)  # a Space holds space/ and nothing else


def main(arguments: list[str] | None = None) -> None:
    options = parse_options(arguments)
    names = artefacts.names_of(options.org)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=options.build if options.build.is_dir() else None) as work:
        loop = prepare(options, names, Path(work))
        present = look(loop, must=options.confirm)
        for one in loop:
            show(one, present, public=options.public)
        show_variables(names, artefacts.base_of(loop[1]), is_private(present, names.adapter, options.public))
        if options.confirm:
            publish(loop, names, present, public=options.public, version=options.tag)
        else:
            print("Nothing was pushed: add --confirm (CONFIRM=yes) to do it.")


def prepare(options: argparse.Namespace, names: Names, work: Path) -> list[Artefact]:
    """Return all there is to publish, in the order in which one needs the other."""
    editions = [edition for edition in ("merged", "gguf") if getattr(options, edition)]
    corpus = artefacts.corpus(options.build, options.recipe, names)
    models = artefacts.models(options.build, names, editions, work)
    return [corpus, *models, artefacts.space(names, artefacts.base_of(models[0]))]


def look(loop: list[Artefact], must: bool) -> dict[str, object] | None:
    """Return what the Hub holds of each repository; a dry run goes on without a Hub, and with None."""
    present = {}
    for one in loop:
        try:
            present[one.repo] = HfApi().repo_info(one.repo, repo_type=one.kind, files_metadata=True)
        except FAILURES as error:
            # It is raised for most refusals of a token, too.
            if isinstance(error, RepositoryNotFoundError) and error.response.status_code == 404:
                continue
            sentence = f"The Hub does not say what it holds: {explained(error)}"
            if must:
                raise BadInput(f"{sentence} Nothing was pushed.") from error
            print(f"{sentence}\n")
            return None
    return present


def is_private(present: dict | None, repo: str, public: bool) -> bool:
    """Of a repository that is there already its owner has decided."""
    return present[repo].private if present and repo in present else not public


def show(one: Artefact, present: dict | None, *, public: bool) -> None:
    """Print a repository's files, each with its size and what a push would do with it."""
    there = (present or {}).get(one.repo)
    state = "not looked for" if present is None else f"there already, at {there.sha[:8]}" if there else "new"
    print(f"{one.kind} {one.repo}: {'private' if is_private(present, one.repo, public) else 'public'}, {state}")
    known = files_there(present, one.repo)
    for name, content in one.files.items():
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        print(f"  {size:>13,}  {name}{'' if present is None else f'  ({compared(content, known.get(name))})'}")
    for name in replaced(one, list(known)):
        print(f"  {'':13}  {name}  (goes)")
    told = [links(one), *artefacts.faults(one)] if one.files else [f"not to be had yet: {one.missing}"]
    print("".join(f"  {sentence}\n" for sentence in told))


def files_there(present: dict | None, repo: str) -> dict[str, RepoSibling]:
    return {file.rfilename: file for file in present[repo].siblings} if present and repo in present else {}


def compared(content: Path | bytes, known: RepoSibling | None) -> str:
    if known is None:
        return "new"
    if known.lfs:
        ours = sha256(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()
        return "same" if ours == known.lfs.sha256 else "changed"
    ours = git_hash(content if isinstance(content, bytes) else content.read_bytes())
    return "same" if ours == known.blob_id else "changed"


def replaced(one: Artefact, present: list[str]) -> list[str]:
    if not one.files:
        return []
    if one.kind == "dataset":
        return push_corpus.replaced(present, one.files)
    return pushing.replaced(present, one.files, pushing.LEFT_OVERS if one.kind == "model" else EVERYTHING)


def links(one: Artefact) -> str:
    head = RepoCard(one.card).data.to_dict()
    named = {name: head.get(name) for name in ("base_model", "models", "datasets") if head.get(name)}
    told = [f"{name} {', '.join([value] if isinstance(value, str) else value)}" for name, value in named.items()]
    return f"The card's head names: {'; '.join(told) or 'no other repository'}."


def show_variables(names: Names, base: str | None, private: bool) -> None:
    print(f"{names.space} runs with THERAGEN_ADAPTER={names.adapter} and THERAGEN_REVISION=the commit of that push.")
    if private:
        print(
            f"It reads a private adapter only with a token of its own: add the secret HF_TOKEN (read access to {names.adapter}) "
            "in its settings. It is not sent from here."
        )
    if base and base != EMBEDDED:
        print(f"If {base} is gated, that Space needs the secret HF_TOKEN too, of somebody who has accepted its terms.")


def publish(loop: list[Artefact], names: Names, present: dict, *, public: bool, version: str | None = None) -> None:
    """Push one after the other and say of each what came of it; raises BadInput where something is missing or refused."""
    if missing := [one.missing for one in loop if not one.files]:
        raise BadInput(f"{' '.join(dict.fromkeys(missing))} Nothing was pushed.")
    if wrong := [f"{one.repo}: {fault}" for one in loop for fault in artefacts.faults(one)]:
        raise BadInput(f"{' '.join(wrong)} Nothing was pushed.")
    for one in loop:
        try_to(check_card, one)
        if version:
            try_to(check_tag, one, present, version)
    commits = {}
    for one in loop:
        variables = {"THERAGEN_ADAPTER": names.adapter, "THERAGEN_REVISION": commits.get(names.adapter, "")}
        commits[one.repo] = try_to(push, one, variables, public)
        before = present[one.repo].sha if one.repo in present else None
        change = "unchanged" if commits[one.repo] == before else "pushed"
        place = "" if one.kind == "model" else f"{one.kind}s/"
        print(f"{change} at {commits[one.repo][:8]}: {HfApi().endpoint}/{place}{one.repo}")
    for one in loop if version else []:
        try_to(tag, one, version, commits[one.repo])


def try_to(do, one: Artefact, *arguments):
    try:
        return do(one, *arguments)
    except FAILURES as error:
        raise BadInput(
            f"The Hub did not take {one.repo}: {explained(error)} Then run the same command: it goes on where it stopped."
        ) from error


def check_card(one: Artefact) -> None:
    RepoCard(one.card).validate(repo_type=one.kind)


def push(one: Artefact, variables: dict[str, str], public: bool) -> str:
    """Push one repository and return its commit."""
    if one.kind == "space":
        return push_space(one, variables, public)
    return (push_corpus if one.kind == "dataset" else pushing).put(one.files, one.repo, public=public)


def push_space(one: Artefact, variables: dict[str, str], public: bool) -> str:
    """Set what differs of the variables, then push the files: a new Space never starts without its adapter."""
    api, sdk = HfApi(), RepoCard(one.card).data.get("sdk")
    api.create_repo(one.repo, repo_type="space", space_sdk=sdk, private=not public, exist_ok=True)
    known = api.get_space_variables(one.repo)
    for name, value in variables.items():
        if name not in known or known[name].value != value:
            api.add_space_variable(one.repo, name, value)
            print(f"{name}={value}")
    return pushing.commit(one.files, one.repo, "space", EVERYTHING)


def check_tag(one: Artefact, present: dict, name: str) -> None:
    """Raise BadInput where a push would leave the tag at what it replaces."""
    if not (there := present.get(one.repo)):
        return
    tagged = tags_of(one).get(name)
    known = files_there(present, one.repo)
    same = all(compared(content, known.get(file)) == "same" for file, content in one.files.items())
    if tagged and (tagged != there.sha or not same or replaced(one, list(known))):
        raise BadInput(f"{one.repo} has a tag {name} at {tagged[:8]}, which is something else: choose a new version.")


def tag(one: Artefact, name: str, commit: str) -> None:
    if name not in tags_of(one):
        HfApi().create_tag(one.repo, tag=name, revision=commit, repo_type=one.kind)


def tags_of(one: Artefact) -> dict[str, str]:
    return {tag.name: tag.target_commit for tag in HfApi().list_repo_refs(one.repo, repo_type=one.kind).tags}


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--org", required=True, help="who owns the repositories: an organisation or a user")
    parser.add_argument("--confirm", action="store_true", help="push (none: only say what would be pushed)")
    parser.add_argument("--public", action="store_true", help="everybody may see new repositories (none: nobody)")
    parser.add_argument("--merged", action="store_true", help="also the adapter merged into its base")
    parser.add_argument("--gguf", action="store_true", help="also that as a GGUF file")
    parser.add_argument(
        "--build", type=Path, default=Path("build/embedded"), help="folder of corpus, adapter and results"
    )
    parser.add_argument("--tag", metavar="VERSION", help="a name for what is pushed, v0.1.0: it never moves")
    parser.add_argument("--recipe", help="the corpus's recipe, where it is a file of your own")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        run(main)
    except KeyboardInterrupt:
        sys.stderr.write("Stopped: run the same command again.\n")
        sys.exit(130)
