"""The page under its own content policy, in Chromium: nothing it needs is blocked, nothing foreign runs, refusals are readable."""

import httpx
import pytest
from playwright.sync_api import expect

from chromium import NEEDED, open_chat, say
from conftest import ROOT, serving


pytestmark = NEEDED


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    with serving(ROOT / "tests/watched_space.py", tmp_path_factory.mktemp("policy") / "log") as server:
        yield server


@pytest.fixture
def page(browser):
    opened = browser.new_page(timezone_id="America/Chicago")
    opened.set_default_timeout(30_000)
    opened.said = []
    opened.on("console", lambda message: opened.said.append(message.text) if message.type != "log" else None)
    opened.on("pageerror", lambda error: opened.said.append(str(error)))
    opened.add_init_script("addEventListener('securitypolicyviolation', event => console.error(event.blockedURI))")
    yield opened
    opened.close()


def test_all_that_the_page_does_works_under_the_policy(page, space):
    open_chat(page, space)
    page.wait_for_selector('#help-bar a[href*="tel:911"]')  # the browser's own script ran
    say(page, "hello there")
    expect(page.locator("#chat")).to_contain_text("Thank you.")
    say(page, "I want to kill myself")
    page.wait_for_selector('.help-card a[href="tel:988"]')
    page.click("#about button")
    page.select_option("#country", "GB")
    page.wait_for_selector('#help-bar a[href*="tel:116123"]')
    page.click("#clear")
    expect(page.locator("#chat")).not_to_contain_text("hello there")
    assert page.said == []


def test_what_is_slipped_into_the_page_neither_runs_nor_calls_out(page, space):
    open_chat(page, space)
    page.evaluate("""() => {
        const script = document.createElement('script');
        script.textContent = 'window.slipped = 1';
        document.body.append(script);
        const image = document.createElement('img');
        image.setAttribute('onerror', 'window.slipped = 2');
        image.src = 'https://example.invalid/x.png';
        document.body.append(image);
        const foreign = document.createElement('script');
        foreign.src = 'https://example.invalid/x.js';
        document.body.append(foreign);
    }""")
    sent = page.evaluate(
        "fetch('https://example.invalid/', {method: 'POST', body: 'x'}).then(() => 'sent', () => 'blocked')"
    )
    page.wait_for_timeout(300)
    assert sent == "blocked"
    assert page.evaluate("window.slipped") is None
    assert sum("Content Security Policy" in said for said in page.said) >= 4


def test_only_hugging_face_may_show_the_page_in_a_frame(browser, space):
    page = browser.new_page()
    other = space.url.replace("127.0.0.1", "localhost")
    page.goto(f"{other}/robots.txt")  # another origin
    page.set_content(f'<iframe src="{space.url}"></iframe>')
    page.wait_for_timeout(1500)
    inside = page.frames[1]
    assert not inside.url.startswith("http") or inside.locator("#help-bar a").count() == 0
    page.close()


def test_help_stays_on_a_page_that_is_refused_for_a_flood(page, tmp_path):
    with serving(ROOT / "tests/watched_space.py", tmp_path / "log", WATCHED_FLOOD="20") as server:
        flooding = {"x-forwarded-for": "8.8.8.8"}
        page.set_extra_http_headers(flooding)
        open_chat(page, server)
        page.wait_for_timeout(500)
        with httpx.Client(headers=flooding) as client:
            while client.get(f"{server.url}/health").status_code != 429:
                pass
        say(page, "hello there")
        expect(page.locator("#trouble")).to_contain_text("call your local emergency number")
        assert page.locator('#help-bar a[href="tel:988"]').first.is_visible()


def test_the_bucket_refuses_kindly_and_never_help(page, tmp_path):
    with serving(ROOT / "tests/watched_space.py", tmp_path / "log", THERAGEN_MESSAGES="1") as server:
        open_chat(page, server)
        page.wait_for_selector('#help-bar a[href*="tel:911"]')
        say(page, "hello there")
        expect(page.locator("#chat")).to_contain_text("Thank you.")
        say(page, "hello again")
        expect(page.locator("#chat .bot").nth(1)).to_contain_text("the lines at the top of the page")
        assert "hello again. Thank you" not in page.locator("#chat").inner_text()
        say(page, "I want to kill myself")
        page.wait_for_selector('.help-card a[href="tel:988"]')
