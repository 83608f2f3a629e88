"""A built corpus is pushed to a hub on loopback by the real client and comes back through `load_dataset`."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from conftest import command
from fake_hub import hub_server
from test_build_dataset import build, small  # noqa: F401  (a fixture)


@pytest.fixture
def hub():
    with hub_server() as server:
        yield server


@pytest.fixture(scope="module")
def both(small, tmp_path_factory):  # noqa: F811
    """The small recipe, with a second copy of its source that nobody may pass on."""
    text = (small / "small.yaml").read_text(encoding="utf-8")
    head, source = text.split("sources:\n", 1)
    closed = source.replace("counsel-chat:", "closed:", 1).replace("redistributable: true", "redistributable: false")
    closed = closed.replace("local: counsel-chat", "local: closed")
    folder = tmp_path_factory.mktemp("both")
    (folder / "counsel-chat").mkdir(parents=True)
    (folder / "closed").mkdir()
    lines = (small / "counsel-chat/counselchat-data.csv").read_text(encoding="utf-8").splitlines()
    for name, rows in (("counsel-chat", lines[1:8]), ("closed", lines[8:])):
        (folder / name / "counselchat-data.csv").write_text("\n".join([lines[0], *rows]) + "\n", encoding="utf-8")
    (folder / "small.yaml").write_text(f"{head}sources:\n{source}\n{closed}\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def built(both, tmp_path_factory):
    output = tmp_path_factory.mktemp("built") / "out"
    build(both, output)
    return output


@pytest.fixture
def out(built, tmp_path):
    """A build of its own for each test, up to date."""
    return shutil.copytree(built, tmp_path / "out")


def push(folder, output, hub, *options: str, check: bool = True):
    home = output.parent / "home"
    arguments = (
        "--recipe",
        folder / "small.yaml",
        "--local",
        folder,
        "--output",
        output,
        "--push_to_hub",
        "org/corpus",
    )
    asked = {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": "hf_made_up",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(home),
    }
    return command("data/build_dataset.py", *arguments, *options, check=check, **asked)


def test_only_what_may_be_published_reaches_the_hub_and_the_card_last(both, out, tmp_path, hub):
    push(both, out, hub)
    rows, card = hub.commits["org/corpus"]
    assert set(rows) == {"lfsFile"}
    assert card == {"file": ["README.md"]}
    assert hub.private["org/corpus"] is True
    files = hub.files["org/corpus"]
    assert {name.split("/")[0] for name in files} == {"README.md", "data"}
    (tmp_path / "pushed.parquet").write_bytes(next(content for name, content in files.items() if "train" in name))
    assert set(pq.read_table(tmp_path / "pushed.parquet")["redistributable"].to_pylist()) == {True}
    assert b"config_name: default" in files["README.md"]
    assert b"full" not in files["README.md"]
    assert b'load_dataset("org/corpus")' in files["README.md"]


def test_what_was_pushed_is_what_load_dataset_gives(both, out, tmp_path, hub):
    push(both, out, hub)
    script = tmp_path / "load.py"
    script.write_text(
        "import datasets, json\n"
        "print(json.dumps({name: sorted(rows['id']) for name, rows in datasets.load_dataset('org/corpus').items()}))\n"
    )
    asked = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "other-home")}
    loaded = json.loads(command(script, **asked).stdout.splitlines()[-1])
    built = {
        name: sorted(pq.read_table(next((out / "corpus/data").glob(f"{name}-*")))["id"].to_pylist()) for name in loaded
    }
    assert loaded == built


def test_a_second_push_takes_the_first_ones_rows_away_with_its_card(both, out, tmp_path, hub):
    push(both, out, hub)
    before = {name for name in hub.files["org/corpus"] if name != "README.md"}
    both = shutil.copytree(both, tmp_path / "both")
    file = both / "counsel-chat/counselchat-data.csv"
    file.write_text(file.read_text().replace("Try leaving", "Consider leaving"))
    push(both, out, hub)
    assert len(hub.commits["org/corpus"]) == 4
    last = hub.commits["org/corpus"][-1]
    assert last["file"] == ["README.md"]
    assert set(last["deletedFile"]) == before - set(hub.files["org/corpus"])
    assert last["deletedFile"]


def test_a_hub_that_refuses_is_one_sentence_and_the_next_try_goes_on(both, out, tmp_path, hub):
    hub.refuse_next_commit = True
    result = push(both, out, hub, check=False)
    assert result.returncode == 2
    assert "HF_TOKEN" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert "up to date" in push(both, out, hub).stdout
    assert "README.md" in hub.files["org/corpus"]


def test_the_whole_corpus_is_never_pushed(both, out, tmp_path, hub):
    result = push(both, out, hub, "--config", "full", check=False)
    assert (result.returncode, hub.files) == (2, {})
    assert "only default can be pushed" in result.stderr


def test_a_corpus_of_closed_sources_alone_is_never_pushed(both, out, tmp_path, hub):
    both = shutil.copytree(both, tmp_path / "both")
    text = (both / "small.yaml").read_text(encoding="utf-8")
    (both / "small.yaml").write_text(text.replace("redistributable: true", "redistributable: false"), encoding="utf-8")
    result = push(both, out, hub, check=False)
    assert (result.returncode, hub.files) == (2, {})
    assert "no row that may be published" in result.stderr
