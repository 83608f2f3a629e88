"""Chromium, for the tests that meet the page as a person does."""

import shutil

import pytest
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
]

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
