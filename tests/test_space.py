"""The Space as a server: what it keeps, what it writes down, what it answers to, and how it fails."""

import asyncio
import os
import shutil
import socket
import sys
import time
from concurrent.futures import Future
from importlib.metadata import distribution
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement

import app
from conftest import ROOT, command, serving
from engine import Loaded
from person import Person
from settings import Settings
from test_faults import help_arrives
from texts import text


MARKER = "xylophone-4711-marker"
LONG_WEEK = [{"role": "user", "content": "my week was long"}]


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """A hardened Space whose engine is made of words, started as a process of its own."""
    folder = tmp_path_factory.mktemp("space")
    temporary = folder / "gradio"
    with serving(ROOT / "tests/fake_space.py", folder / "log", GRADIO_TEMP_DIR=str(temporary)) as server:
        yield server


def test_reply_arrives(space):
    chat = space.say("my week was long")
    assert [turn["role"] for turn in chat] == ["user", "assistant"]
    assert "I am listening." in str(chat[-1]["content"])


def test_who_waits_for_the_model_holds_up_nobody_and_is_told_what_came_of_it():
    loading = Future()

    async def told() -> list[str]:
        return [said async for said in app.notice(loading, Settings())]

    async def everybody() -> list[list[str]]:
        waiting = [asyncio.create_task(told()) for _ in range(300)]
        await asyncio.sleep(0.1)
        waiting.pop().cancel()  # who leaves stops the loading for nobody
        await asyncio.sleep(0.1)
        loading.set_result(Loaded(None, "no weights"))
        return await asyncio.gather(*waiting)

    for first, last in asyncio.run(everybody()):
        assert first == "The model is still loading." and "no weights" in last


def test_who_leaves_while_the_model_loads_gives_the_place_back():
    room = app.room_for(Future(), Settings(people=1, queue=1))
    reply = app.words(LONG_WEEK, Person(), room, b"a")
    next(reply)
    began = time.monotonic()
    assert next(reply) == text("waking")
    assert time.monotonic() - began < 5
    reply.close()
    assert [room.door.acquire(blocking=False) for _ in range(3)] == [True, True, False]


def test_who_is_told_that_all_places_are_taken_has_no_message_less():
    loading = Future()
    loading.set_result(Loaded(None, "no weights"))
    room = app.room_for(loading, Settings(people=1, queue=1, messages=1))
    room.door.acquire(), room.door.acquire()
    assert list(app.words(LONG_WEEK, Person(), room, b"a")) == [text("busy")]
    room.door.release()
    assert "no weights" in list(app.words(LONG_WEEK, Person(), room, b"a"))[-1]
    assert list(app.words(LONG_WEEK, Person(), room, b"a")) == [text("pause")]


def test_crisis_shows_help_before_any_word_of_the_model(space):
    before = space.written()
    chat = space.say("I want to kill myself")
    assert 'href="tel:988"' in str(chat[-1]["content"])
    assert space.written() == before  # the engine, which reports every word, was never asked


@pytest.mark.parametrize("message", [f"my name is {MARKER}", f"break {MARKER}", f"I want to kill myself {MARKER}"])
def test_nothing_typed_is_on_disk_or_in_the_output(space, message, tmp_path):
    space.say(message)
    assert MARKER not in space.written()
    for folder in (space.output.parent, Path.home() / ".cache" / "huggingface", ROOT / "space", ROOT / ".gradio"):
        assert not any(MARKER in text_of(file) for file in folder.rglob("*") if file.is_file())


def text_of(file: Path) -> str:
    return "" if file.stat().st_size > 5_000_000 else file.read_bytes().decode("utf-8", "replace")


def test_invalid_request_is_not_quoted_in_the_output(space):
    body = {"data": {"forged": MARKER}, "fn_index": MARKER, "session_hash": ["x"]}
    assert httpx.post(f"{space.url}/gradio_api/queue/join", json=body).status_code >= 400
    forged = {"data": [MARKER, [{"role": MARKER, "content": MARKER}], "US"], "fn_index": 0, "session_hash": "forged"}
    httpx.post(f"{space.url}/gradio_api/queue/join", json=forged)
    with httpx.stream("GET", f"{space.url}/gradio_api/queue/data", params={"session_hash": "forged"}) as events:
        for line in events.iter_lines():
            if "process_completed" in line:
                break
    for forged in (body, {"data": [MARKER], "fn_index": 0}, {"data": [MARKER, {"a": 1}, [MARKER]], "fn_index": 0}):
        httpx.post(f"{space.url}/gradio_api/run/predict", json=forged)
    assert MARKER not in space.written()


def test_what_waits_for_the_model_cannot_jump_its_queue(space):
    config = httpx.get(f"{space.url}/config").json()
    step = {"data": [[{"role": "user", "content": "hi"}], {}], "fn_index": space.step(config, "answer")}
    assert httpx.post(f"{space.url}/gradio_api/run/predict", json=step).status_code == 404


def test_what_lets_conversations_be_shared_does_not_exist(space):
    for path in ("/gradio_api/deep_link?session_hash=x", "/?deep_link=x", "/monitoring/summary", "/gradio_api/runs"):
        assert httpx.get(space.url + path).status_code == 404, path  # tests/test_hardening.py has all of them


def test_an_empty_bucket_stops_the_reply_and_never_the_help(tmp_path):
    with serving(ROOT / "tests/fake_space.py", tmp_path / "log", THERAGEN_MESSAGES="2") as server:
        replies = [str(server.say(f"hello {number}")[-1]["content"]) for number in range(3)]
        danger = str(server.say("I want to kill myself")[-1]["content"])
        chat = server.step(httpx.get(f"{server.url}/config").json(), "chat")
        programs = server.run(chat, ["hello", [], "US"])[0]
    assert programs == text("pause")
    assert all("I am listening" in reply for reply in replies[:2])
    assert "I am listening" not in replies[2] and "the lines at the top of the page" in replies[2]
    assert "tel:988" in danger


def test_health_says_whether_replies_can_be_had():
    loading = Future()
    assert app.readiness(loading) == "loading"
    loading.set_result(Loaded(None, "nothing there"))
    assert app.readiness(loading) == "no model"


def test_no_uploads_and_no_huge_bodies(space):
    assert httpx.post(f"{space.url}/gradio_api/upload", files={"files": ("x.txt", b"a")}).status_code == 404
    big = {"data": ["x" * 1_100_000, [], "US"], "fn_index": 0, "session_hash": "big"}
    assert httpx.post(f"{space.url}/gradio_api/queue/join", json=big).status_code == 413


def test_gradio_offers_nothing_that_keeps_or_shares(space):
    config = httpx.get(f"{space.url}/config").json()
    chat = next(part["props"] for part in config["components"] if part["type"] == "chatbot")
    assert config["run_history"] is False
    assert config["analytics_enabled"] is False
    assert config["footer_links"] == []
    assert chat["buttons"] == []


def test_help_is_in_the_first_html(space):
    assert "tel:988" in httpx.get(space.url).text


def test_port_in_use_is_one_sentence_and_exit_code_2(space):
    port = space.url.rsplit(":", 1)[1]
    done = command("tests/fake_space.py", check=False, GRADIO_SERVER_PORT=port)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith(f"Port {port} is in use")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("port", ["http", "70000"])
def test_a_port_that_is_none_is_one_sentence_and_exit_code_2(port):
    done = command("tests/fake_space.py", check=False, GRADIO_SERVER_PORT=port)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith(f"GRADIO_SERVER_PORT is '{port}'")


def test_space_alone_with_only_its_requirements_starts_and_answers(tmp_path, loop):
    copy = tmp_path / "alone"
    shutil.copytree(ROOT / "space", copy, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copytree(loop / "adapter", tmp_path / "adapter")
    python = environment_of(copy / "requirements.txt", tmp_path / "venv")
    variables = {"THERAGEN_ADAPTER": str(tmp_path / "adapter"), "HF_TOKEN": ""}  # nor with a token of the tester's
    with serving(copy / "app.py", tmp_path / "log", python, **variables) as server:
        chat = server.say("I cannot sleep before the exam.")
    words = str(chat[-1]["content"]).split()
    assert chat[-1]["role"] == "assistant"
    assert len(words) > 3, server.written()
    assert "cannot write" not in str(chat[-1]["content"])


@pytest.mark.parametrize(
    ("variables", "missing"),
    [
        ({"THERAGEN_ADAPTER": "no/such-adapter"}, "such-adapter"),
        ({"THERAGEN_BASE": "no/such-base"}, "could not be loaded"),
    ],
)
def test_without_model_or_network_it_starts_shows_help_and_says_what_is_missing(tmp_path, variables, missing):
    with serving(ROOT / "space/app.py", tmp_path / "log", **variables) as server:
        assert help_arrives(server)
        assert "tel:988" in httpx.get(server.url).text
        reply = str(server.say("hello")[-1]["content"])
        crisis = str(server.say("I want to kill myself")[-1]["content"])
    assert missing in reply
    assert "tel:988" in crisis


def test_an_adapter_of_another_base_is_said_on_the_page(tmp_path, loop):
    variables = {"THERAGEN_ADAPTER": str(loop / "adapter"), "THERAGEN_BASE": "other/base"}
    with serving(ROOT / "space/app.py", tmp_path / "log", **variables) as server:
        reply = str(server.say("hello")[-1]["content"])
    assert "not on other/base" in reply
    assert str(loop) not in reply


def environment_of(requirements: Path, folder: Path) -> str:
    """Make a virtual environment that holds what the requirements name, and what those need, and nothing else.

    Files are linked from this environment, so it takes a second; versions are checked against the pins.
    """
    site = folder / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    command("-m", "venv", "--without-pip", folder)
    wanted = [Requirement(line) for line in requirements.read_text().splitlines() if line and not line.startswith("#")]
    seen = set()
    while wanted:
        requirement = wanted.pop()
        found = distribution(requirement.name)
        assert requirement.specifier.contains(found.version, prereleases=True), f"{requirement} but {found.version}"
        if found.metadata["Name"] not in seen:
            seen.add(found.metadata["Name"])
            link(found, site)
            wanted += [need for need in map(Requirement, found.requires or []) if applies(need)]
    return str(folder / "bin/python")


def applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def link(found, site: Path) -> None:
    for top in {Path(str(file)).parts[0] for file in found.files if ".." not in str(file)}:
        target = site / top
        if not target.exists() and top != "__pycache__":
            target.symlink_to(found.locate_file(top))


def test_the_alone_environment_has_no_other_package(tmp_path):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("packaging\n")
    python = environment_of(requirements, tmp_path / "venv")
    done = os.spawnl(
        os.P_WAIT, python, python, "-c", "import packaging, sys\ntry: import gradio\nexcept ImportError: sys.exit(7)"
    )
    assert done == 7


def test_sockets_are_loopback_only():
    with pytest.raises(OSError, match="tried to reach"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
