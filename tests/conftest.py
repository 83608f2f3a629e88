"""Shared by all tests: no foreign network, the small loop (corpus, adapter, score) run once by its real commands."""

import ipaddress
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from filelock import FileLock
from hypothesis import settings

import learned
import screening


pytest_plugins = ["chromium", "tiny"]  # the browser; the base and corpus that training tests run on

# A busy machine is no fault of what is tested.
settings.register_profile("theragen", deadline=None)
settings.load_profile("theragen")

ROOT = Path(__file__).parents[1]
# One client for all tests: the limit of one client has tests of its own.
OFFLINE = {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", "THERAGEN_MESSAGES": "1000"}


@pytest.fixture(autouse=True)
def no_foreign_network(monkeypatch):
    """Refuse every connection that leaves this machine."""
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family != socket.AF_UNIX and not ipaddress.ip_address(address[0]).is_loopback:
            raise OSError(f"a test tried to reach {address[0]}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    """Let no test live on a verdict of another one, nor be judged by fewer models because the machine is busy."""
    screening.verdicts.clear()
    monkeypatch.setattr(learned, "BUDGET", 60.0)


# Files that take minutes, the longest first: one process runs a whole file, and a long one begun last is waited for alone.
LONG = (
    "training markers page readme past_one_machine browser hub build_dataset faults screening search publish_model trainer "
    "score hardening space resume crossval page_human page_checkins page_voice page_skills openvino curves remote "
    "processes learned simulate capacity card_check"
)


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # xdist's own order is by number of tests, and the slowest files have few


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {f"test_{name}.py": place for place, name in enumerate(LONG.split())}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


def command(*arguments: object, check: bool = True, **environment: str) -> subprocess.CompletedProcess:
    """Run one of the project's scripts as a user would, from the project's folder."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **OFFLINE, **environment},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="session")
def loop(tmp_path_factory) -> Path:
    """Return the folder of a small loop, made once for all processes of a test run: whoever comes second waits."""
    mine = tmp_path_factory.getbasetemp()
    folder = (mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine) / "loop"
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "results.json").is_file():
            run_loop(folder)
    return folder


def run_loop(folder: Path) -> None:
    """Build the embedded corpus, train two steps, score: by the commands of the README, only shorter."""
    command("data/build_dataset.py", "--recipe", "embedded", "--output", folder)
    recipe = ["--config", "train/recipes/cpu.yaml", "--max_steps", "2", "--gradient_accumulation_steps", "1"]
    short = ["--max_length", "512", "--save_steps", "1", "--learning_rate", "1e-3", "--warmup_steps", "0"]
    where = ["--dataset_name", folder / "corpus", "--output_dir", folder / "adapter"]
    command("train/sft.py", *recipe, *short, *where)
    few = ["--limit", "4", "--scenarios", "2", "--bias", "0", "--timed", "1", "--max-new-tokens", "24"]
    done = command("train/score.py", "--adapter", folder / "adapter", "--corpus", folder / "corpus", *few, check=False)
    assert done.returncode == 0 or "pip install --no-deps" in done.stderr, done.stderr[-3000:]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A running Space: its address, and everything it wrote to its output so far."""

    def __init__(self, process: subprocess.Popen, port: int, output: Path):
        self.process, self.url, self.output = process, f"http://127.0.0.1:{port}", output

    def written(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def say(self, message: str, history: list | None = None, country: str = "US") -> list[dict]:
        """Send one message in two steps as the page does, and return the conversation once the reply is done."""
        config = httpx.get(f"{self.url}/config", timeout=60).json()
        receive, answer = (self.step(config, name) for name in ("receive", "answer"))
        choices = {"country": country}
        step = {"data": [message, history or [], choices], "fn_index": receive, "session_hash": "test"}
        read = httpx.post(f"{self.url}/gradio_api/run/predict", json=step, timeout=60).raise_for_status()
        (chat,) = read.json()["data"]
        result = self.run(answer, [chat, choices])
        return result[0] if result else chat

    @staticmethod
    def step(config: dict, name: str) -> int:
        return next(step["id"] for step in config["dependencies"] if step["api_name"] == name)

    def run(self, step: int, data: list, session: str | None = None) -> list:
        session = session or f"test{time.monotonic_ns()}"
        body = {"data": data, "fn_index": step, "session_hash": session}
        httpx.post(f"{self.url}/gradio_api/queue/join", json=body, timeout=60).raise_for_status()
        last: list = []
        stream = {"params": {"session_hash": session}, "timeout": 120}
        with httpx.stream("GET", f"{self.url}/gradio_api/queue/data", **stream) as events:
            for line in events.iter_lines():
                event = json.loads(line[5:]) if line.startswith("data:") else {}
                if event.get("msg") == "process_completed":
                    assert event["success"], event
                    return event["output"].get("data") or last
        return last


@contextmanager
def serving(script: Path, output: Path, python: str = sys.executable, port: int = 0, **environment: str):
    """Start a Space by its script and wait until the page answers; it is ended by its process, not by its name."""
    port = port or free_port()
    env = {**os.environ, **OFFLINE, "GRADIO_SERVER_PORT": str(port), **environment}
    with output.open("wb") as log:
        process = subprocess.Popen([python, str(script)], cwd=script.parent, env=env, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/", process, output)
        yield Server(process, port, output)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def wait_for(url: str, process: subprocess.Popen, output: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(f"the Space did not open: {output.read_text()[-2000:]}")
