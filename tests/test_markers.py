"""A thousand people, each with a word that nobody else has: afterwards it is nowhere.

Not in the server's memory, on no disk, in no output, and at no time in another person's conversation.
"""

import asyncio
import json
import os
import re
import secrets
import signal
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from conftest import ROOT, serving


PEOPLE = 1000
AT_ONCE = 32
MARKED = re.compile(r"marker-\d+-[0-9a-f]{8}")
LIMITS = {"THERAGEN_MESSAGES": "10000", "THERAGEN_METRICS": "1"}


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watched")
    places = {"GRADIO_TEMP_DIR": str(folder / "gradio"), "WATCHED_REPORT": str(folder / "report.json")}
    with serving(ROOT / "tests/watched_space.py", folder / "log", **places, **LIMITS) as server:
        yield server


class Person:
    """One session: what was said in it, and the marks that came back."""

    def __init__(self, client: httpx.AsyncClient, url: str, number: int, steps: tuple[int, int]):
        self.client, self.url, self.steps = client, f"{url}/gradio_api", steps
        self.mark = f"marker-{number}-{secrets.token_hex(4)}"
        self.session, self.heard = secrets.token_hex(6), ""
        # Each its own address, as proxies would note it: the limits are for one client, not for all.
        self.head = {"x-forwarded-for": f"203.0.{number // 250}.{number % 250 + 1}"}

    async def post(self, path: str, **body) -> httpx.Response:
        body |= {"session_hash": self.session}
        return await self.client.post(f"{self.url}/{path}", json=body, headers=self.head)

    async def send(self, message: str) -> list[dict]:
        read = await self.post(
            "run/predict",
            data=[message, [], {"country": "US", "name": self.mark, "context": f"my note is {self.mark}"}],
            fn_index=self.steps[0],
        )
        self.heard += read.text
        return read.raise_for_status().json()["data"][0]

    async def ask(self, chat: list[dict]) -> None:
        (
            await self.post("queue/join", data=[chat, {"context": f"my note is {self.mark}"}], fn_index=self.steps[1])
        ).raise_for_status()

    async def read(self, until: str) -> None:
        where = {"params": {"session_hash": self.session}, "headers": self.head}
        async with self.client.stream("GET", f"{self.url}/queue/data", **where) as events:
            async for line in events.aiter_lines():
                self.heard += line
                if until in line:
                    return


async def stays(person: Person) -> None:
    await person.ask(await person.send(f"hello {person.mark}"))
    await person.read("close_stream")


async def breaks_it(person: Person) -> None:
    await person.ask(await person.send(f"break {person.mark}"))
    await person.read("close_stream")


async def leaves_in_the_middle(person: Person) -> None:
    await person.ask(await person.send(f"hello {person.mark}"))
    await person.read("process_generating")


async def leaves_before_the_reply(person: Person) -> None:
    await person.ask(await person.send(f"hello {person.mark}"))


async def is_in_danger(person: Person) -> None:
    await person.send(f"I want to kill myself {person.mark}")


async def forges(person: Person) -> None:
    await person.post("queue/join", data={"forged": person.mark}, fn_index=person.mark)
    await person.post("queue/join", data=[person.mark, person.mark, person.mark], fn_index=person.steps[1])
    await person.post("run/predict", data=[{"a": person.mark}, person.mark, [person.mark]], fn_index=person.steps[0])


WAYS = [*[stays] * 8, breaks_it, leaves_in_the_middle, leaves_before_the_reply, is_in_danger, forges]


async def all_people(server) -> list[Person]:
    config = httpx.get(f"{server.url}/config").json()
    steps = server.step(config, "receive"), server.step(config, "answer")
    free = asyncio.Semaphore(AT_ONCE)

    async def come(number: int) -> Person:
        async with free:
            person = Person(client, server.url, number, steps)
            await WAYS[number % len(WAYS)](person)
            return person

    limits = httpx.Limits(max_connections=2 * AT_ONCE)
    async with httpx.AsyncClient(timeout=60, limits=limits) as client:
        return await asyncio.gather(*map(come, range(PEOPLE)))


@pytest.fixture(scope="module")
def people(space) -> list[Person]:
    return asyncio.run(all_people(space))


def remembered(server, folder: Path) -> dict:
    report = folder / "report.json"
    report.unlink(missing_ok=True)
    os.kill(server.process.pid, signal.SIGUSR1)
    end = time.monotonic() + 30
    while not report.is_file() and time.monotonic() < end:
        time.sleep(0.1)
    return json.loads(report.read_text(encoding="utf-8"))


def test_nobody_hears_another_persons_word(people):
    heard = [(person.mark, set(MARKED.findall(person.heard))) for person in people]
    assert not [(mark, other) for mark, other in heard if other - {mark}]
    assert sum(bool(other) for _, other in heard) > PEOPLE * 0.8  # they did hear their own


def test_nothing_is_left_in_memory(space, people):
    end = time.monotonic() + 15
    while (left := remembered(space, space.output.parent))["marks"] and time.monotonic() < end:
        time.sleep(1)
    assert left == {"marks": 0, "holders": []}


def test_memory_is_searched_well_enough_to_find_a_word(space):
    """While a reply nobody fetches is still kept, the search must find it: else finding nothing says nothing."""

    async def once() -> None:
        config = httpx.get(f"{space.url}/config").json()
        steps = space.step(config, "receive"), space.step(config, "answer")
        async with httpx.AsyncClient(timeout=60) as client:
            await leaves_before_the_reply(Person(client, space.url, 1, steps))

    asyncio.run(once())
    assert remembered(space, space.output.parent)["marks"] == 1


def test_nothing_is_in_the_output_or_on_disk(space, people):
    marks = Counter(MARKED.findall(space.written()))
    assert not marks
    homes = (Path.home() / ".cache" / "huggingface", ROOT / "space", ROOT / "tests", ROOT / ".gradio")
    for folder in (space.output.parent, *homes):
        for file in folder.rglob("*"):
            small = file.is_file() and file.stat().st_size < 5_000_000
            assert not (small and MARKED.search(file.read_bytes().decode("utf-8", "replace"))), file.name


def test_what_is_counted_holds_no_word_of_theirs(space, people):
    counts = httpx.get(f"{space.url}/metrics").text
    assert "theragen_requests_total" in counts
    assert "marker" not in counts
