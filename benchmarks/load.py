"""The Space under load, beside the Space that most people copy: first text, tokens a second, refusals, memory.

    python benchmarks/load.py                        # embedded model, ours and the common template in turns
    python benchmarks/load.py --stub                 # an engine made of words: the page and the screening alone
    python benchmarks/load.py --stub --soak 600      # sessions one after another for ten minutes: memory
    python benchmarks/load.py --json build/load.json --machine "8 cores" --gpu "one L4"    # ours alone, for hub/capacity.py

Every person is a real client of the real server on this machine: joins the queue, reads the stream, counts the time to the first text
on the page. Servers run one after another, in rounds, and the middle value counts; tokens are those of the embedded base.
"""

import argparse
import asyncio
import json
import os
import shlex
import ssl
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import httpx
import psutil


ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "space"), str(ROOT / "tests")]

from conftest import OFFLINE, free_port  # noqa: E402
from texts import text  # noqa: E402


PROMPTS = (
    "My week was long and I can't sleep before the exam.",
    "My sister and I argued again, and I don't know how to begin.",
    "I moved here in spring and still know nobody.",
    "My boss changed the plan for the third time, and I just nodded.",
    "I keep putting off a letter that I have to write.",
    "Since the baby came we only talk about nappies.",
    "I said no for the first time, and now I feel guilty.",
    "My dog died on Sunday, and the house is so quiet.",
)
SERVERS = {
    "ours": ROOT / "space/app.py",
    "template": ROOT / "benchmarks/template_space.py",
    "stub": ROOT / "tests/fake_space.py",
}


TLS = ssl.create_default_context()  # not spoken here, but each client would make its own, from all certificates


class Reply(NamedTuple):
    """Seconds from sending to the first text and to the last; `said` is empty when the stream failed."""

    first: float
    last: float
    said: str

    @property
    def refused(self) -> bool:
        return self.said == text("busy")


class Endpoint(NamedTuple):
    """What a Space is asked by: found once, so that reading its configuration is no part of what is measured."""

    step: int
    ours: bool

    def data(self, message: str, history: list[dict]) -> list:
        return [message, history, "US"] if self.ours else [message, None]


def endpoint_of(url: str) -> Endpoint:
    config = httpx.get(f"{url}/config", timeout=60).json()
    ours = config["title"] == "TheraGen"
    name = "chat" if ours else "reply"
    return Endpoint(next(step["id"] for step in config["dependencies"] if step["api_name"] == name), ours)


def client_of(url: str) -> httpx.AsyncClient:
    """Return one person's client. With one for all, httpx looks through all connections for each: it took most of what was measured."""
    return httpx.AsyncClient(base_url=url, timeout=300, verify=TLS, trust_env=False)


async def ask(client: httpx.AsyncClient, endpoint: Endpoint, message: str, history: list[dict] | None = None) -> Reply:
    """Send one message to the Space's named endpoint as any client would, and read the stream to its end."""
    session = os.urandom(8).hex()
    # Each is a client of its own, as behind a Space's proxy: the limit of one client is not what is measured.
    head = {"x-forwarded-for": ".".join(map(str, [9, *os.urandom(3)]))}
    started, first, said = time.monotonic(), 0.0, ""
    try:
        body = {"data": endpoint.data(message, history or []), "fn_index": endpoint.step, "session_hash": session}
        (await client.post("/gradio_api/queue/join", json=body, headers=head)).raise_for_status()
        where = {"params": {"session_hash": session}, "headers": head}
        async with client.stream("GET", "/gradio_api/queue/data", **where) as events:
            async for line in events.aiter_lines():
                event = json.loads(line[5:]) if line.startswith("data:") else {}
                if event.get("msg") in ("process_generating", "process_completed"):
                    said = grown(said, event)
                    first = first or (time.monotonic() - started if said.strip() else 0.0)
                if event.get("msg") == "process_completed":
                    assert event["success"], event
                    return Reply(first, time.monotonic() - started, said)
    except (httpx.HTTPError, AssertionError):
        pass
    return Reply(first, time.monotonic() - started, "")


def grown(said: str, event: dict) -> str:
    """Apply one event: the first carries the whole text, later ones what was added to it, the last whole again or nothing."""
    (change,) = event["output"]["data"][:1] or [None]
    if isinstance(change, str):
        return change
    for action, path, value in change or []:
        if not path:
            said = said + value if action == "append" else value
    return said


async def crowd(url: str, endpoint: Endpoint, people: int, number: int) -> tuple[list[Reply], float]:
    """Return the replies of people who all write at the same moment, and the seconds until the last had one."""

    async def write(person: int) -> Reply:
        # A text of their own: screening remembers what it made of one that it has read.
        prompt = f"{PROMPTS[(number + person) % len(PROMPTS)]} That was {number + 1} weeks and {person + 1} days ago."
        async with client_of(url) as client:
            return await ask(client, endpoint, prompt)

    started = time.monotonic()
    return await asyncio.gather(*map(write, range(people))), time.monotonic() - started


@contextmanager
def running(script: Path, **environment: str):
    """Start a server; gives its address, its process and the seconds until a first reply began."""
    port = free_port()
    env = {
        **os.environ,
        **OFFLINE,
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_ANALYTICS_ENABLED": "False",
        **environment,
    }
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(script)], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                if httpx.get(url, timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                assert process.poll() is None, f"{script} ended"
                time.sleep(0.05)
        opened = time.monotonic() - started
        reply = asyncio.run(crowd(url, endpoint_of(url), 1, 0))[0][0]
        assert reply.said, f"{script} does not answer"
        yield url, process, {"page": opened, "first_reply": time.monotonic() - started - reply.last + reply.first}
    finally:
        process.terminate()
        process.wait(20)


def measure(name: str, people: int, number: int, tokens_of) -> dict:
    with running(SERVERS[name]) as (url, process, ready):
        replies, seconds = asyncio.run(crowd(url, endpoint_of(url), people, number))
        served = [reply for reply in replies if reply.said and not reply.refused]
        firsts = sorted(reply.first for reply in served) or [0.0]
        tokens = sum(tokens_of(reply.said) for reply in served)
        return {
            "people": people,
            "tokens_a_second": tokens / seconds,
            "tokens_a_reply": tokens / max(len(served), 1),
            "first_p50": median(firsts),
            "first_p95": firsts[min(len(firsts) - 1, int(0.95 * len(firsts)))],
            "refused": sum(reply.refused for reply in replies),
            "failed": sum(not reply.said for reply in replies),
            "mb": psutil.Process(process.pid).memory_info().rss / 2**20,
            "ready_page": ready["page"],
            "ready_reply": ready["first_reply"],
        }


def middle(rounds: list[dict]) -> dict:
    return {name: round(median(each[name] for each in rounds), 2) for name in rounds[0]}


def conversation(name: str, turns: int) -> list[tuple[int, float]]:
    """One person's talk: characters of history before each message, and seconds to the first text of its answer."""

    async def talk(url: str):
        found, history, endpoint = [], [], endpoint_of(url)
        async with client_of(url) as client:
            for number in range(turns):
                prompt = PROMPTS[number % len(PROMPTS)]
                reply = await ask(client, endpoint, prompt, history)
                found.append((sum(len(turn["content"]) for turn in history), reply.first))
                history += [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply.said}]
        return found

    with running(SERVERS[name]) as (url, _, _):
        return asyncio.run(talk(url))


async def soak(url: str, process: subprocess.Popen, seconds: float) -> dict:
    """Sessions of one message, 32 at a time, until the time is over; memory after the first 500 and at the end."""
    end, sizes, done, failed = time.monotonic() + seconds, [], 0, 0
    endpoint = endpoint_of(url)
    while time.monotonic() < end:
        replies, _ = await crowd(url, endpoint, 32, done)
        done += len(replies)
        failed += sum(not reply.said for reply in replies)
        sizes.append((done, psutil.Process(process.pid).memory_info().rss / 2**20))
    begun = next(size for size in sizes if size[0] >= 500)
    growth = (sizes[-1][1] - begun[1]) / (sizes[-1][0] - begun[0]) * 1000
    return {"sessions": done, "failed": failed, "mb": round(sizes[-1][1]), "mb_per_1000_sessions": round(growth, 2)}


def main(options: argparse.Namespace) -> None:
    if options.soak:
        with running(SERVERS["stub" if options.stub else "ours"]) as (url, process, _):
            print(json.dumps(asyncio.run(soak(url, process, options.soak))))
        return
    names = ["stub"] if options.stub else ["ours"] if options.json else ["ours", "template"]
    crowds = []
    tokens_of = str.split if options.stub else tokenizer().tokenize
    for people in options.people:
        rounds = {name: [] for name in names}
        for number in range(options.rounds):
            for name in names:
                rounds[name].append(measure(name, people, number, lambda said: len(tokens_of(said))))
        for name in names:
            crowds.append(middle(rounds[name]))
            print(name, json.dumps(crowds[-1]), flush=True)
    if options.json:
        write(options, crowds)
    elif not options.stub:
        for characters, first in conversation("ours", 12):
            print(f"history of {characters} characters: first text after {first:.2f} s")


def write(options: argparse.Namespace, crowds: list[dict]) -> None:
    """Write what hub/capacity.py reads."""
    about = {"machine": options.machine, "gpu": options.gpu, "date": time.strftime("%Y-%m-%d")}
    about["command"] = shlex.join(["python", "benchmarks/load.py", *sys.argv[1:]])
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({**about, "crowds": crowds}, indent=2) + "\n", encoding="utf-8")


def tokenizer():
    from transformers import AutoTokenizer

    from base_model import resolve

    return AutoTokenizer.from_pretrained(resolve())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--stub", action="store_true", help="our page with an engine made of words")
    parser.add_argument("--people", type=int, nargs="*", default=[1, 8, 32, 100], help="how many write at once")
    parser.add_argument("--rounds", type=int, default=3, help="times each is measured (default: 3)")
    parser.add_argument("--soak", type=float, help="seconds of one session after another; memory alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="ours alone, and written for hub/capacity.py")
    parser.add_argument("--machine", default="a machine that was not named", help="what goes into that file")
    parser.add_argument("--gpu", help="likewise; the one that writes the replies, wherever it is")
    main(parser.parse_args())
