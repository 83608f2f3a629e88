"""Chromium, for the tests that meet the page as a person does."""

import shutil

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
NEEDED = pytest.mark.skipif(not CHROMIUM, reason="Chromium is missing: apt-get install chromium")
# The browser must not call home either: the test counts requests.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-features=LocalNetworkAccessChecks",  # a Space on loopback within a frame of huggingface.co
]

WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]

expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


def open_chat(page, server):
    """Open the page as somebody new does: the notice is read and accepted."""
    page.goto(server.url)
    page.click("#accept")
    page.locator("#message textarea").wait_for()
    return page.locator("#message textarea")


def say(page, text):
    box = page.locator("#message textarea")
    box.fill(text)
    box.press("Enter")


def violations(page, within: str | None = None) -> list[str]:
    """What axe-core has against the page, or against the part of it that a selector names, by WCAG 2.2 AA."""
    page.evaluate("scrollTo(0, 0)")  # half under the help, a button would count as too small
    found = Axe().run(page, within, options={"runOnly": WCAG}).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]} {one['nodes'][0]['failureSummary'][:300]}" for one in found]


def stored(page) -> str:
    """All that the page has kept in this browser."""
    return page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})")
