"""The page as a person meets it, in Chromium: help first, a streaming reply, Stop, Clear, a crisis, no other host."""

import re
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import expect

from chromium import NEEDED, open_chat, say
from conftest import ROOT, serving


pytestmark = NEEDED


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    with serving(ROOT / "tests/fake_space.py", tmp_path_factory.mktemp("words") / "log") as server:
        yield server


@pytest.fixture
def page(browser):
    opened = browser.new_page(viewport={"width": 900, "height": 720})
    opened.set_default_timeout(30_000)
    yield opened
    opened.close()


def last_reply(page):
    return page.locator("#chat .bot").last


def test_help_is_on_screen_before_the_first_word(page, words):
    open_chat(page, words)
    assert page.locator('#help-bar a[href="tel:988"]').first.is_visible()
    assert "not a person" in page.locator("#banner").inner_text()


@pytest.mark.parametrize(("width", "height"), [(390, 800), (320, 568)])
def test_help_stays_on_screen_on_a_phone(browser, words, width, height):
    page = browser.new_page(viewport={"width": width, "height": height}, is_mobile=True, has_touch=True)
    open_chat(page, words)
    page.wait_for_timeout(1000)  # a box that takes the focus late would scroll the page down to it
    assert is_in_view(page, height)
    say(page, "hello there")
    expect(page.locator("#chat")).to_contain_text("word39")
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    assert is_in_view(page, height)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def is_in_view(page, height) -> bool:
    box = page.locator('#help-bar a[href="tel:988"]').bounding_box()
    return box["y"] >= 0 and box["y"] + box["height"] <= height


def test_reply_streams(page, words):
    open_chat(page, words)
    say(page, "talk slowly")
    expect(page.locator("#chat")).to_contain_text("listening")
    assert "word39" not in page.locator("#chat").inner_text()


def test_a_heavy_reply_is_hidden_until_opened(page, words):
    open_chat(page, words)
    say(page, "tell me a story")
    summary = page.locator("#chat details.heavy summary")
    summary.wait_for()
    assert "death" in summary.inner_text()
    assert not page.get_by_text("He was murdered").is_visible()
    summary.click()
    page.get_by_text("He was murdered").wait_for()


def test_a_heavy_reply_opened_while_it_is_written_stays_open_until_closed(page, words):
    open_chat(page, words)
    say(page, "tell me a story slowly")
    page.locator("#chat details.heavy summary").click()
    page.get_by_text("word20").wait_for()
    page.locator("#chat details.heavy summary").click()
    expect(page.locator("#chat .bot").last).to_contain_text("word30")
    assert not page.get_by_text("word30").is_visible()


def test_stop_ends_the_engine(page, words):
    open_chat(page, words)
    closed = words.written().count("closed")
    say(page, "talk slowly")
    expect(page.locator("#chat")).to_contain_text("listening")
    page.click("#stop")
    page.wait_for_timeout(1500)
    at_stop = words.written()
    page.wait_for_timeout(1500)
    assert words.written() == at_stop
    assert at_stop.count("closed") == closed + 1
    assert "word 39" not in at_stop.rsplit("closed", 2)[-2]


def test_clear_empties_the_conversation(page, words):
    open_chat(page, words)
    say(page, "hello there")
    expect(page.locator("#chat")).to_contain_text("word39")
    page.click("#clear")
    expect(page.locator("#chat")).not_to_contain_text("hello there")


def test_clear_in_the_middle_of_a_reply_ends_it(page, words):
    open_chat(page, words)
    say(page, "talk slowly")
    expect(page.locator("#chat")).to_contain_text("listening")
    page.click("#clear")
    page.wait_for_timeout(2000)
    assert "listening" not in page.locator("#chat").inner_text()
    assert words.written().rstrip().endswith("closed")


def test_crisis_shows_tappable_lines_at_once(page, words):
    open_chat(page, words)
    before = words.written()
    say(page, "I want to kill myself")
    page.wait_for_selector('.help-card a[href="tel:988"]', timeout=5_000)
    assert words.written() == before


def test_another_country_changes_the_bar(page, words):
    open_chat(page, words)
    page.select_option("#country", "GB")
    page.wait_for_selector('#help-bar a[href*="tel:116123"]')


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("America/Chicago", "tel:911"),
        ("Europe/London", "tel:999"),
        ("Asia/Calcutta", "tel:112"),
        ("America/Lima", "findahelpline.com"),
        ("Etc/UTC", "findahelpline.com"),
    ],
)
def test_country_is_guessed_from_the_time_zone_in_the_browser(browser, words, zone, shown):
    page = browser.new_page(timezone_id=zone)
    sent = []
    page.on("request", lambda request: sent.append(request.post_data or ""))
    open_chat(page, words)
    page.wait_for_selector(f'#help-bar a[href*="{shown}"]', timeout=10_000)
    page.wait_for_timeout(500)
    assert not any(zone in body for body in sent)
    if zone in ("America/Lima", "Etc/UTC"):
        assert "your local emergency number" in page.locator("#help-bar").inner_text()
    say(page, "I want to kill myself")
    page.wait_for_selector(".help-card", timeout=5_000)
    assert shown in page.locator(".help-card").inner_html()
    page.close()


@pytest.mark.parametrize(
    ("zone", "message", "number", "words_of_card"),
    [
        ("Europe/Madrid", "ya no quiero vivir, quiero morirme", "tel:024", "Soy una IA"),
        ("Europe/Paris", "je veux mourir", "tel:3114", "Je suis une IA"),
        ("America/New_York", "i want to die", "tel:988", "I'm an AI"),
    ],
)
def test_a_crisis_in_another_language_and_country(browser, words, zone, message, number, words_of_card):
    page = browser.new_page(timezone_id=zone)
    open_chat(page, words)
    page.wait_for_selector(f'#help-bar a[href*="{number}"]', timeout=10_000)
    before = words.written()
    say(page, message)
    page.wait_for_selector(f'.help-card a[href="{number}"]', timeout=5_000)
    assert words_of_card in page.locator(".help-card").inner_text()
    assert words.written() == before
    page.close()


def test_privacy_and_protocol_are_on_the_page(page, words):
    open_chat(page, words)
    page.click("#about button")
    for heading in ("Privacy", "Crisis protocol", "Threat model", "Legal checklist"):
        page.get_by_role("heading", name=heading).scroll_into_view_if_needed()
        assert page.get_by_role("heading", name=heading).is_visible()


def test_html_in_a_message_is_shown_not_run(page, words):
    open_chat(page, words)
    say(page, "<img src=x onerror=\"document.title='broken'\"> <script>document.title='broken'</script> hello")
    expect(page.locator("#chat")).to_contain_text("word39")
    assert page.title() == "TheraGen"


def test_page_asks_no_foreign_host_and_stores_nothing(browser, words):
    page = browser.new_page()
    hosts = set()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname or request.url[:5]))
    open_chat(page, words)
    say(page, "hello there")
    expect(page.locator("#chat")).to_contain_text("word39")
    assert hosts <= {"127.0.0.1", "data:", "blob:"}
    assert "hello there" not in page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})")
    assert page.context.cookies() == []
    page.close()


def test_a_real_conversation_and_its_picture(page, loop, tmp_path):
    """Talk with the adapter of `make run` where there is one, else with the two-step one, and take the picture."""
    trained = ROOT / "build/embedded/adapter"
    adapter = trained if (trained / "run.json").is_file() else loop / "adapter"
    with serving(ROOT / "space/app.py", tmp_path / "log", THERAGEN_ADAPTER=str(adapter)) as server:
        open_chat(page, server)
        expect(page.locator("#status")).to_contain_text("with adapter", timeout=60_000)
        say(page, "I can't switch off after work. I keep going over what my manager said.")
        # A sampled reply may be short; what counts is that the model's own words arrive, not a fixed text for a fault.
        expect(page.locator("#chat .bot").first).to_have_text(re.compile(r"\S.{2,}\S", re.DOTALL), timeout=60_000)
        wait_until_quiet(page)
        assert "went wrong on my side" not in last_reply(page).inner_text()
        assert httpx.get(server.url).status_code == 200
        (ROOT / "build").mkdir(exist_ok=True)
        page.screenshot(path=ROOT / "build/chat.png")


def wait_until_quiet(page) -> None:
    seen = None
    while seen != (seen := page.locator("#chat").inner_text()):
        page.wait_for_timeout(2000)
