"""Whatever breaks, the page opens, help is on it within a second, and nobody reads another person's words.

Faults of the model's source are in tests/test_space.py (no adapter, no hub), more of a remote one in tests/test_remote.py.
"""

import os
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from conftest import ROOT, serving
from conversation import plain
from fake_endpoint import CutOff, delta, endpoint_server, streamed
from texts import text


CRISIS = "I want to kill myself"
FAKE = ROOT / "tests/fake_space.py"


def damaged(folder, **files: str | None):
    """Return a copy of the Space in which files have other contents, or are gone."""
    copy = folder / "space"
    shutil.copytree(ROOT / "space", copy, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name, content in files.items():
        path = copy / name.replace("__", ".")
        path.unlink() if content is None else path.write_text(content)
    return str(copy)


def help_arrives(server, seconds: float = 1.0) -> bool:
    """Whether the page shows help, and a message in danger is answered by a card in time."""
    page = httpx.get(server.url).text
    chat, took = card(server)
    return "findahelpline.com" in page and "findahelpline.com" in str(chat[-1]["content"]) and took < seconds


def answer(server, message: str) -> str:
    return plain(server.say(message)[-1]["content"])


def card(server) -> tuple[list[dict], float]:
    config = httpx.get(f"{server.url}/config").json()
    body = {
        "data": [CRISIS, [], {"country": "US"}],
        "fn_index": server.step(config, "receive"),
        "session_hash": "card",
    }
    # The quickest of three: what else runs on this machine is no fault of the page.
    times = []
    for _ in range(3):
        started = time.monotonic()
        read = httpx.post(f"{server.url}/gradio_api/run/predict", json=body, timeout=60).raise_for_status()
        times.append(time.monotonic() - started)
    return read.json()["data"][0], min(times)


DAMAGE = {
    "rules": {"rules__json": "{"},
    "rules of replies": {"reply_rules__json": None},
    "everything people read": {
        "helplines__json": '{"countries": {"US": {}}}',
        "replies__json": "[]",
        "time_zones__json": None,
        "heavy__json": "null",
        "privacy__md": None,
        "interface__json": "[]",
        "skills__json": "{",
        "checkins__json": None,
        "directories__json": None,
    },
    "learned tier": {
        "learned__safetensors": "x" * 1000,
        "learned_second__safetensors": None,
        "learned_english__safetensors": None,
    },
}


@pytest.mark.parametrize("what", DAMAGE)
def test_with_broken_files_the_page_opens_and_help_is_shown(tmp_path, what):
    with serving(FAKE, tmp_path / "log", FAKE_SPACE=damaged(tmp_path, **DAMAGE[what])) as server:
        assert help_arrives(server)
        said = answer(server, "my week was long")
    assert ("I am listening" in said) == (what == "learned tier"), "a reply that cannot be screened is not shown"
    assert "Traceback" not in server.written()


def test_with_a_full_disk_people_are_answered(tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", full], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may make a full disk")
    try:
        with pytest.raises(OSError, match="No space"):
            (full / "filler").write_bytes(b"x" * 8192)
        everywhere = {name: str(full) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "GRADIO_TEMP_DIR", "HF_HOME")}
        with serving(FAKE, tmp_path / "log", **everywhere) as server:
            assert help_arrives(server)
            assert "I am listening" in answer(server, "my week was long")
    finally:
        subprocess.run(["umount", full], check=True)


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """Two people are answered at once, two may wait."""
    folder = tmp_path_factory.mktemp("faults")
    limits = {"THERAGEN_PEOPLE": "2", "THERAGEN_QUEUE": "2"}
    with serving(FAKE, folder / "log", **limits) as server:
        yield server


@pytest.mark.parametrize("message", ["break now", "out of memory"])
def test_a_model_that_fails_ends_in_a_fixed_text(space, message):
    assert answer(space, message).endswith(text("model_failed"))
    assert help_arrives(space)


def test_who_comes_when_all_places_are_taken_is_told_so_and_gets_help_at_once(space):
    with ThreadPoolExecutor(6) as people:
        replies = list(people.map(lambda _: answer(space, "talk slowly"), range(6)))
        assert replies.count(text("busy")) == 2
        slow = [people.submit(answer, space, "talk slowly") for _ in range(4)]
        time.sleep(1)
        assert help_arrives(space)
        assert answer(space, "hello") == text("busy")
        assert all("word39" in each.result() for each in slow)


def test_who_leaves_gives_the_place_back(space):
    """Both places are taken by people who go away; the next one is answered all the same."""
    closed, ended = (space.written().count(line) for line in ("closed", "word 39"))
    for _ in range(2):
        leave_while_answered(space)
    while space.written().count("closed") < closed + 2:
        time.sleep(0.05)
    assert space.written().count("word 39") == ended, "nobody goes on writing to who is gone"
    assert "I am listening" in answer(space, "hello")


def leave_while_answered(space) -> None:
    config = httpx.get(f"{space.url}/config").json()
    body = {"fn_index": space.step(config, "answer"), "session_hash": os.urandom(4).hex()}
    body["data"] = [[{"role": "user", "content": [{"type": "text", "text": "talk slowly"}]}], {}]
    httpx.post(f"{space.url}/gradio_api/queue/join", json=body)
    stream = {"params": {"session_hash": body["session_hash"]}, "timeout": 30}
    with httpx.stream("GET", f"{space.url}/gradio_api/queue/data", **stream) as events:
        next(line for line in events.iter_lines() if "process_generating" in line)


def test_a_hundred_people_at_once_read_only_their_own_words(tmp_path):
    def one(number: int) -> tuple[int, str]:
        return number, server.run(step, [f"echo mark-{number:03d}-", [], "US"])[0]

    with serving(FAKE, tmp_path / "log") as server, ThreadPoolExecutor(100) as people:
        step = server.step(httpx.get(f"{server.url}/config").json(), "chat")
        for number, said in people.map(one, range(100)):
            assert f"mark-{number:03d}-" in said
            assert said.count("mark-") == 1


def test_a_model_that_hangs_holds_up_nobody_else(tmp_path):
    with serving(FAKE, tmp_path / "log") as server, ThreadPoolExecutor(3) as people:
        for _ in range(3):
            people.submit(server.say, "hang")
        time.sleep(1)
        assert help_arrives(server)
        assert "I am listening" in answer(server, "hello")
        server.process.kill()


def test_before_the_model_is_there_help_is(tmp_path):
    with serving(FAKE, tmp_path / "log", FAKE_LOADING="1") as server:
        assert httpx.get(f"{server.url}/health").json() == {"state": "loading"}
        assert help_arrives(server)


def failing(body: dict):
    """An endpoint's answer that fails in the way that the last message names."""
    message = body["messages"][-1]["content"]
    return (503, {}) if "refuse" in message else slow() if "slowly" in message else cut_off()


def slow():
    time.sleep(3)
    yield from streamed("I hear you.")


def cut_off():
    yield delta("That sounds hard. ")
    raise CutOff


@pytest.fixture(scope="module")
def remote(tmp_path_factory):
    with endpoint_server(failing) as endpoint:
        where = {"THERAGEN_ENDPOINT": endpoint.url, "THERAGEN_ENDPOINT_MODEL": "m"}
        with serving(ROOT / "space/app.py", tmp_path_factory.mktemp("remote") / "log", **where) as server:
            yield server


@pytest.mark.parametrize(
    ("message", "end"),
    [
        ("talk slowly", "I hear you."),
        ("refuse to answer", text("model_failed")),
        ("break off", f"That sounds hard. \n\n{text('model_failed')}"),
    ],
)
def test_an_endpoint_that_fails_leaves_a_page_with_help(remote, message, end):
    with ThreadPoolExecutor(1) as person:
        reply = person.submit(answer, remote, message)
        assert help_arrives(remote)
        assert reply.result(60) == end


def test_a_clock_that_jumps_changes_nothing(tmp_path):
    """The server's wall clock goes back a day between any two looks at it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import itertools, time\n"
        "now, days = time.time, itertools.count()\n"
        "time.time = lambda: now() - 86_400 * next(days) % 10_000_000\n"
    )
    with serving(FAKE, tmp_path / "log", PYTHONPATH=str(tmp_path)) as server:
        assert help_arrives(server)
        assert "word39" in answer(server, "hello")


def test_a_stop_in_the_middle_of_a_reply_ends_soon_and_cleanly(tmp_path):
    with serving(FAKE, tmp_path / "log") as server, ThreadPoolExecutor(1) as person:
        reply = person.submit(server.say, "talk slowly")
        while "word 2" not in server.written():
            time.sleep(0.05)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
        assert reply.exception(10) is not None or "I am listening" in str(reply.result())
    assert "Traceback" not in server.written()
