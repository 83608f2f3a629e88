"""The loop reaches a hub on loopback by its real command, whatever breaks on the way, and strangers use what is there."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import safetensors.torch
from gradio_client import Client
from huggingface_hub import HfApi, constants, snapshot_download

import artefacts
import engine
import publish_loop
import refusals
import settings
from artefacts import names_of
from conftest import ROOT, command, serving
from fake_hub import hub_server
from loading import load_conversations
from rows import BadInput
from run_record import fingerprint
from test_build_dataset import built, small  # noqa: F401  (fixtures)
from test_publish_model import BASE, trained  # noqa: F401  (a fixture)


TOKEN = "hf_made_up"
NAMES = names_of("org")
REPOS = [NAMES.corpus, NAMES.adapter, NAMES.space]


@pytest.fixture(scope="module")
def build(built, trained, tmp_path_factory):  # noqa: F811
    """A folder as `make run` leaves it: a corpus, an adapter that was trained on it, its results."""
    folder = tmp_path_factory.mktemp("loop")
    shutil.copytree(built, folder, dirs_exist_ok=True)
    for name in ("adapter", "results.json", "bias.png"):
        (shutil.copytree if (trained / name).is_dir() else shutil.copy)(trained / name, folder / name)
    run = json.loads((folder / "adapter/run.json").read_text())
    run["data"]["sha256"] = fingerprint(load_conversations(str(folder / "corpus"), None, "train"))
    (folder / "adapter/run.json").write_text(json.dumps(run))
    return folder


@contextmanager
def new_hub(trained, home: Path):  # noqa: F811
    """A hub that asks for a token and holds the base; this process's own clients, which have read their environment, use it."""
    with hub_server(TOKEN) as hub, pytest.MonkeyPatch.context() as patch:
        files = {file.name: file.read_bytes() for file in (trained / "base").iterdir()}
        hub.add(BASE, "models", files, private=False, variables={})
        places = {"ENDPOINT": hub.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}
        places |= {"HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}"}
        for name, value in {**places, "HF_HUB_CACHE": str(home / "hub")}.items():
            patch.setattr(constants, name, value)
        patch.setenv("HF_TOKEN", TOKEN)
        yield hub


@pytest.fixture(scope="module")
def published(build, small, trained, tmp_path_factory):  # noqa: F811
    """A hub on which everything was published for everybody, for tests that leave it as it is."""
    with new_hub(trained, tmp_path_factory.mktemp("home")) as hub:
        publish(build, small, "--public")
        yield hub


def publish(build, small, *options: str) -> None:  # noqa: F811
    recipe = ("--recipe", str(small / "small.yaml"))
    publish_loop.main(["--org", "org", "--build", str(build), *recipe, "--confirm", *options])


def reach(hub, home: Path) -> dict[str, str]:
    """The environment of a stranger: no token, nothing in the cache."""
    return {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": "",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(home),
        "OMP_NUM_THREADS": "1",
    }


def head(hub, repo: str) -> str:
    return hub.files[repo]["README.md"].decode().split("---")[1]


def test_each_part_leads_to_the_others_and_the_card_comes_last(published):
    assert list(published.files) == [BASE, *REPOS]
    assert not any(published.private.values())
    for repo in REPOS:
        assert published.commits[repo][-1]["file"][-1] == "README.md"
        assert "README.md" not in [name for commit in published.commits[repo][:-1] for name in commit["file"]]
    assert f"datasets:\n- {NAMES.corpus}" in head(published, NAMES.adapter)
    for linked in (f"models:\n- {BASE}\n- {NAMES.adapter}\n", f"datasets:\n- {NAMES.corpus}\n"):
        assert linked in head(published, NAMES.space)
    for repo in REPOS[:2]:
        card = published.files[repo]["README.md"].decode()
        assert all(f"]({place}/{name})" in card for place, name in zip(PLACES, REPOS, strict=True))
    variables = {"THERAGEN_ADAPTER": NAMES.adapter, "THERAGEN_REVISION": published.sha(NAMES.adapter)}
    assert published.variables[NAMES.space] == variables


PLACES = [f"https://huggingface.co{kind}" for kind in ("/datasets", "", "/spaces")]


def test_the_space_goes_byte_for_byte_but_for_its_head(published):
    names = subprocess.run(["git", "ls-files", "space"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    pushed = published.files[NAMES.space]
    assert sorted(f"space/{name}" for name in pushed) == sorted(names)
    differ = [name for name, content in pushed.items() if content != (ROOT / "space" / name).read_bytes()]
    assert differ == ["README.md"]
    body = (ROOT / "space/README.md").read_text(encoding="utf-8").split("---\n", 2)[2]
    assert pushed["README.md"].decode().split("---\n", 2)[2] == body


def test_a_second_run_changes_nothing_and_says_so(published, build, small, capsys):  # noqa: F811
    before, seen = state(published), len(published.requests)
    publish(build, small, "--public")
    said = capsys.readouterr().out
    assert state(published) == before
    assert [said.count(word) for word in ("unchanged at", "(same)", "(new)", "(changed)")][0::2] == [3, 0]
    assert "(changed)" not in said and said.count("there already, at") == 3
    assert not [
        line for line in published.requests[seen:] if "/commit/" in line or "POST /api/spaces/org/theragen/v" in line
    ]


def state(hub) -> dict:
    """What a hub holds in the end, however it came there."""
    return {
        repo: (hub.kinds[repo], dict(hub.files[repo]), hub.private[repo], dict(hub.variables[repo]))
        for repo in hub.files
    }


STRANGER = """
import json
import torch
from datasets import load_dataset
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer, pipeline

rows = load_dataset("org/theragen-corpus", split="train")
stream = load_dataset("org/theragen-corpus", split="train", streaming=True)
told = {"rows": list(rows["id"]), "stream": [row["id"] for row in stream], "licenses": sorted(set(rows["license"]))}
tokenizer = AutoTokenizer.from_pretrained("org/theragen-adapter")
prompt = tokenizer.apply_chat_template(
    [{"role": "user", "content": "I can't sleep."}], add_generation_prompt=True, tokenize=False
)
ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
how = {"max_new_tokens": 16, "do_sample": False}
model = AutoPeftModelForCausalLM.from_pretrained("org/theragen-adapter", dtype=torch.float32)
told["peft"] = tokenizer.decode(model.generate(**ids, **how)[0][ids["input_ids"].shape[1] :])
with model.disable_adapter():
    told["base"] = tokenizer.decode(model.generate(**ids, **how)[0][ids["input_ids"].shape[1] :])
write = pipeline("text-generation", model="org/theragen-adapter", dtype=torch.float32)
told["pipeline"] = write(prompt, return_full_text=False, **how)[0]["generated_text"]
told["special"] = tokenizer.all_special_tokens
print(json.dumps(told))
"""


def test_a_stranger_loads_corpus_and_adapter_from_a_clean_cache(published, build, tmp_path):
    environment = {**os.environ, **reach(published, tmp_path / "home")}
    line = [sys.executable, "-I", "-c", STRANGER]
    done = subprocess.run(line, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    rows = load_conversations(str(build / "corpus"), None, "train")
    assert told["rows"] == told["stream"] == list(rows["id"])
    assert told["licenses"] == sorted(set(rows["license"]))
    for token in told["special"]:
        told["peft"], told["pipeline"] = (told[name].replace(token, "") for name in ("peft", "pipeline"))
    assert told["pipeline"] == told["peft"] != told["base"]


def test_a_duplicate_of_the_space_answers_with_its_variables_alone(published, tmp_path):
    copy = HfApi().duplicate_repo(NAMES.space, "someone/mine", repo_type="space", private=False)
    assert copy.repo_id == "someone/mine"
    folder = Path(snapshot_download("someone/mine", repo_type="space", local_dir=tmp_path / "mine"))
    assert {file.name for file in folder.iterdir()} - {".cache"} == {
        file.split("/")[0] for file in published.files[NAMES.space]
    }
    places = {**reach(published, tmp_path / "home"), "THERAGEN_CACHE": str(tmp_path / "cache")}
    variables = published.variables["someone/mine"]
    seen = len(published.requests)
    with serving(folder / "app.py", tmp_path / "log", **places, **variables) as server:
        page = httpx.get(server.url).text
        reply = Client(server.url, verbose=False).predict("My week was long.", [], "US", api_name="/chat")
    assert "tel:988" in page
    assert reply and "cannot write" not in str(reply), server.written()
    revision = f"/{NAMES.adapter}/resolve/{published.sha(NAMES.adapter)}/adapter_model.safetensors"
    assert any(line.endswith(revision) for line in published.requests[seen:])
    published.files.pop("someone/mine")


@pytest.fixture
def hub(trained, tmp_path):  # noqa: F811
    with new_hub(trained, tmp_path / "home") as server:
        yield server


@pytest.fixture(scope="module")
def parts(build, small, tmp_path_factory):  # noqa: F811
    """All there is to publish, made once; of the Space three files are enough to see what becomes of them."""
    options = publish_loop.parse_options(
        ["--org", "org", "--build", str(build), "--recipe", str(small / "small.yaml")]
    )
    *others, space = publish_loop.prepare(options, NAMES, tmp_path_factory.mktemp("made"))
    few = {name: space.files[name] for name in ("app.py", "learned.safetensors", "README.md")}
    return [*others, space._replace(files=few)]


def push(parts) -> None:
    publish_loop.publish(parts, NAMES, publish_loop.look(parts, must=True), public=False)


def kind_of(request: str) -> str:
    """What a request is for, whichever repository it is about."""
    method, _, path = request.partition(" ")
    known = ("create", "preupload", "commit", "tree", "batch", "lfs", "variables", "validate-yaml", "revision")
    return f"{method} {next((name for name in known if name in path.split('/')), 'info')}"


@pytest.fixture(scope="module")
def unbroken(parts, trained, tmp_path_factory):  # noqa: F811
    with new_hub(trained, tmp_path_factory.mktemp("home")) as hub:
        push(parts)
        return state(hub), list(hub.requests)


def test_whichever_request_is_refused_the_same_command_ends_in_the_same_state(parts, unbroken, trained, tmp_path):  # noqa: F811
    wanted, requests = unbroken
    assert [repo for repo, (_, _, private, _) in wanted.items() if not private] == [BASE]
    for number in range(len(requests)):
        with new_hub(trained, tmp_path / "home") as hub:
            hub.fault = lambda at, _, first=number: 401 if at >= first else None  # a token that ends
            with pytest.raises(BadInput, match="it does not know this token"):
                push(parts)
            whole = [repo for repo in REPOS if "README.md" in hub.files.get(repo, ())]
            assert all(state(hub)[repo] == wanted[repo] for repo in whole), number
            hub.fault = lambda *_: None
            push(parts)
            assert state(hub) == wanted, f"{number}: {requests[number]}"


@pytest.mark.parametrize("fault", ["cut", "late"])
def test_a_lost_connection_at_each_kind_of_request_can_be_tried_again(parts, unbroken, trained, tmp_path, fault):  # noqa: F811
    wanted, requests = unbroken
    kinds = {kind_of(request): number for number, request in enumerate(requests)}  # the last of each
    assert len(kinds) >= 9
    for kind, number in kinds.items():
        with new_hub(trained, tmp_path / "home") as hub:
            hub.fault = lambda at, _, only=number: fault if at == only else None
            try:
                push(parts)
            except BadInput as error:
                assert "it cannot be reached" in str(error), kind
                push(parts)
            assert state(hub) == wanted, kind


ANSWERS = [
    ("POST create", 401, "it does not know this token (401): log in"),
    ("POST create", 402, "it wants a paid plan"),
    ("POST create", 403, "this token may not write there (As the test asked, 403): take one"),
    ("GET tree", 404, "it finds no such owner or repository"),
    ("POST commit", 409, "somebody else is changing it (409): wait"),
    ("POST create", 429, "it was asked too often (429): wait"),
    ("POST commit", 400, "it answered 400 (As the test asked)"),
    ("POST commit", 503, "it has a fault of its own (503): wait"),
]


@pytest.mark.parametrize(("kind", "status", "sentence"), ANSWERS)
def test_each_refusal_is_one_sentence_that_says_what_to_do(parts, hub, kind, status, sentence):
    hub.fault = lambda _, request: status if kind_of(request) == kind else None
    with pytest.raises(BadInput) as refused:
        push(parts)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_without_a_network_a_dry_run_says_so_and_goes_on(parts, hub, monkeypatch, capsys):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert publish_loop.look(parts, must=False) is None
    assert "it cannot be reached (ConnectError): check the network" in capsys.readouterr().out
    with pytest.raises(BadInput, match=r"it cannot be reached .* Nothing was pushed\."):
        push(parts)


def test_without_a_login_nothing_is_called_new(parts, hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "")
    assert publish_loop.look(parts, must=False) is None  # what is private looks the same as what is not there
    assert "(401): log in" in capsys.readouterr().out


def test_a_gateways_page_in_place_of_data_is_one_sentence():
    try:
        json.loads("<html>")
    except ValueError as error:
        assert refusals.explained(error).startswith("it, or something between, answered with a page")


def test_a_version_names_what_was_pushed_and_not_what_came_after(parts, hub):
    def change(_, request):
        if f"{NAMES.space}/commit" in request:  # the last part; the corpus is there
            hub.history[hub.sha(NAMES.corpus)] = hub.files[NAMES.corpus]
            hub.commits[NAMES.corpus].append({"file": ["README.md"]})

    hub.fault = change
    publish_loop.publish(parts, NAMES, publish_loop.look(parts, must=True), public=False, version="v9.9.9")
    tagged = hub.tags[NAMES.corpus]["v9.9.9"]
    assert tagged != hub.sha(NAMES.corpus) and tagged in hub.history


def test_a_corpus_goes_only_with_the_recipe_that_it_was_built_from(build, small, tmp_path):  # noqa: F811
    text = (small / "small.yaml").read_text(encoding="utf-8")
    assert artefacts.corpus(build, str(small / "small.yaml"), NAMES).files
    (tmp_path / "small.yaml").write_text(text.replace("redistributable: true", "redistributable: false"))
    assert "as it is now: build it again" in artefacts.corpus(build, str(tmp_path / "small.yaml"), NAMES).missing
    folder = shutil.copytree(build, tmp_path / "torn")
    next(folder.glob("corpus/data/*.parquet")).unlink()
    assert "build it again" in artefacts.corpus(folder, str(small / "small.yaml"), NAMES).missing


def test_what_somebody_else_put_into_the_space_goes_and_the_hubs_own_file_stays(parts, hub):
    push(parts)
    hub.files[NAMES.space] |= {"old.py": b"", ".gitattributes": b"*.safetensors filter=lfs"}
    push(parts)
    assert set(hub.files[NAMES.space]) == {".gitattributes", "README.md", "app.py", "learned.safetensors"}


def test_a_new_adapter_is_one_variable_and_so_is_the_way_back(build, small, hub, tmp_path, capsys):  # noqa: F811
    publish(build, small)
    assert "add the secret HF_TOKEN (read access to org/theragen-adapter)" in capsys.readouterr().out
    old, seen = dict(hub.variables[NAMES.space]), len(hub.requests)
    publish(another(build, tmp_path / "another"), small)
    changes = [line for line in hub.requests[seen:] if kind_of(line) in ("POST commit", "POST variables")]
    assert changes == [f"POST /api/models/{NAMES.adapter}/commit/main", f"POST /api/spaces/{NAMES.space}/variables"]
    new = hub.variables[NAMES.space]
    assert {name for name in new if new[name] != old[name]} == {"THERAGEN_REVISION"}
    assert weights_of(new) == (tmp_path / "another/adapter/adapter_model.safetensors").read_bytes()
    HfApi().add_space_variable(NAMES.space, "THERAGEN_REVISION", old["THERAGEN_REVISION"])
    assert weights_of(hub.variables[NAMES.space]) == (build / "adapter/adapter_model.safetensors").read_bytes()


def another(build: Path, folder: Path) -> Path:
    """The same loop with other weights, and results that are about them."""
    shutil.copytree(build, folder)
    file = folder / "adapter/adapter_model.safetensors"
    safetensors.torch.save_file({name: 2 * weight for name, weight in safetensors.torch.load_file(file).items()}, file)
    results = json.loads((folder / "results.json").read_text())
    results["adapter_sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def weights_of(variables: dict[str, str]) -> bytes:
    """What a Space with these variables loads."""
    return (engine.adapter_folder(settings.read(variables)) / "adapter_model.safetensors").read_bytes()


def test_a_version_is_a_tag_that_never_moves(build, small, hub, tmp_path):  # noqa: F811
    for _ in range(2):
        publish(build, small, "--tag", "v1")
    tags = {repo: HfApi().list_repo_refs(repo, repo_type=hub.kinds[repo][:-1]).tags for repo in REPOS}
    assert {repo: [(one.name, one.target_commit) for one in found] for repo, found in tags.items()} == {
        repo: [("v1", hub.sha(repo))] for repo in REPOS
    }
    newer = another(build, tmp_path / "another")
    before = state(hub)
    with pytest.raises(BadInput, match=r"org/theragen-adapter has a tag v1 at .* choose a new version\."):
        publish(newer, small, "--tag", "v1")
    assert state(hub) == before
    publish(newer, small, "--tag", "v2")
    for name, folder in (("v1", build), ("v2", newer)):
        tagged = weights_of({"THERAGEN_ADAPTER": NAMES.adapter, "THERAGEN_REVISION": name})
        assert tagged == (folder / "adapter/adapter_model.safetensors").read_bytes()


def test_merged_model_and_gguf_go_between_the_adapter_and_the_space(build, small, hub):  # noqa: F811
    publish(build, small, "--merged", "--gguf")
    assert list(hub.files) == [BASE, NAMES.corpus, NAMES.adapter, NAMES.merged, NAMES.gguf, NAMES.space]
    assert f"base_model: {NAMES.merged}\n" in head(hub, NAMES.gguf)
    assert {"theragen-F16.gguf", "Modelfile", "README.md"} < set(hub.files[NAMES.gguf])
    assert hub.variables[NAMES.space]["THERAGEN_ADAPTER"] == NAMES.adapter


def test_a_card_that_the_hub_refuses_stops_everything_before_anything_is_pushed(parts, hub):
    hub.refuse_cards = True
    with pytest.raises(BadInput, match="did not take org/theragen-corpus"):
        push(parts)
    assert list(hub.files) == [BASE]


def test_an_unsafe_adapter_stops_everything_before_anything_is_pushed(build, small, hub, tmp_path):  # noqa: F811
    folder = shutil.copytree(build, tmp_path / "unsafe")
    results = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(
        json.dumps({**results, "safety": {"passed": False, "failures": ["It named a dose."]}})
    )
    with pytest.raises(BadInput, match=r"Safety check failed: It named a dose\. Nothing was pushed\."):
        publish(folder, small)
    assert list(hub.files) == [BASE]


def test_an_adapter_of_other_rows_does_not_name_the_corpus(build, small, hub, tmp_path):  # noqa: F811
    folder = shutil.copytree(build, tmp_path / "other")
    run = json.loads((folder / "adapter/run.json").read_text())
    (folder / "adapter/run.json").write_text(json.dumps({**run, "data": {**run["data"], "sha256": "0" * 64}}))
    publish(folder, small)
    assert "datasets:" not in head(hub, NAMES.adapter).split("model-index")[0]


def test_a_wrong_token_is_refused_before_anything_is_pushed(parts, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(BadInput, match=r"does not know this token \(401\): log in .* Nothing was pushed\."):
        push(parts)
    assert list(hub.files) == [BASE]


def test_the_command_lists_a_fresh_clone_and_ends_with_what_is_missing(hub, tmp_path):
    asked = {**reach(hub, tmp_path / "home"), "HF_TOKEN": TOKEN}
    done = command(
        "hub/publish_loop.py", "--org", "org", "--build", tmp_path / "none", "--confirm", check=False, **asked
    )
    for kind in ("dataset org/theragen-corpus", "model org/theragen-adapter", "space org/theragen"):
        assert f"{kind}: private, new" in done.stdout
    wanted = [
        f"There is no {tmp_path}/none/{name}"
        for name in ("report.json: `make run` builds", "adapter: `make run` trains")
    ]
    assert all(f"not to be had yet: {sentence}" in done.stdout for sentence in wanted)
    assert "app.py  (new)" in done.stdout and "__pycache__" not in done.stdout
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, all(sentence in last for sentence in wanted), last[-19:]) == (
        2,
        True,
        "Nothing was pushed.",
    )
    assert list(hub.files) == [BASE]
