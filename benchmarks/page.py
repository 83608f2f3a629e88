"""What a person waits for on the page: until it takes a message, and until help stands there, also while every place is taken.

    python benchmarks/page.py

Chromium and the server share this machine's cores. The engine is made of words: none of this waits for a model. Each figure is
the middle of `--rounds`, with the longest behind it.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from threading import Event, Thread
from urllib.parse import urlsplit

from load import ROOT, ask, client_of, endpoint_of
from playwright.sync_api import Browser, sync_playwright


sys.path.insert(0, str(ROOT / "tests"))

from chromium import CHROMIUM, FLAGS, open_chat, say
from conftest import serving


DANGER = "I want to kill myself"
PAUSE = 3  # seconds: nobody who is refused asks again within the same millisecond, as clients without it did, using up both cores


def opening(browser: Browser, server) -> tuple[float, float, set[str]]:
    """Return the seconds until the notice can be accepted, those until a message can be written by who comes back, and the hosts asked."""
    context = browser.new_context()
    page, hosts = context.new_page(), set()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    begun = time.monotonic()
    page.goto(server.url, wait_until="commit")
    page.locator("#accept").click()
    noticed = time.monotonic() - begun
    begun = time.monotonic()
    page.reload(wait_until="commit")
    page.locator("#message textarea").fill("x")  # waits until it can be filled in
    again = time.monotonic() - begun
    context.close()
    return noticed, again, hosts


def card(browser: Browser, server) -> float:
    """Return the seconds from sending a message that speaks of danger until its card is on the page."""
    context = browser.new_context()
    page = context.new_page()
    open_chat(page, server)
    begun = time.monotonic()
    say(page, DANGER)
    page.locator(".help-card").wait_for()
    took = time.monotonic() - begun
    context.close()
    return took


def fill(url: str, people: int, over: Event) -> None:
    """Let this many people ask for slow replies until it is over, each anew a few seconds after one was answered or refused."""

    endpoint = endpoint_of(url)

    async def person() -> None:
        async with client_of(url) as client:
            while not over.is_set():
                await ask(client, endpoint, "Tell me a story, slowly.")
                await asyncio.sleep(PAUSE)

    async def crowd() -> None:
        await asyncio.gather(*(person() for _ in range(people)))

    asyncio.run(crowd())


def said(what: str, seconds: list[float]) -> None:
    print(f"{what}: {median(seconds):.2f} s, at most {max(seconds):.2f}", flush=True)


def main(options: argparse.Namespace) -> None:
    rounds = range(options.rounds)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        with serving(ROOT / "tests/fake_space.py", Path(folder) / "log") as server:
            opened = [opening(browser, server) for _ in rounds]
            said("until the notice can be accepted", [noticed for noticed, _, _ in opened])
            said("until who comes back can write", [again for _, again, _ in opened])
            print(f"hosts asked: {', '.join(sorted(set().union(*(hosts for *_, hosts in opened))))}")
            said("from danger to its card, alone", [card(browser, server) for _ in rounds])
            over = Event()
            crowd = Thread(target=fill, args=(server.url, options.people, over))
            crowd.start()
            time.sleep(10)
            said(f"from danger to its card, beside {options.people} people", [card(browser, server) for _ in rounds])
            over.set()
            crowd.join()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="times each is measured (default: 9)")
    parser.add_argument(
        "--people", type=int, default=200, help="who ask for slow replies; 160 find a place or a queue (default: 200)"
    )
    main(parser.parse_args())
