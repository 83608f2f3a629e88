"""What a person presses while something is on its way, in Chromium: no message, no help card and no word is lost, none comes back."""

import re

import pytest
from playwright.sync_api import expect

from chromium import NEEDED, open_chat, say
from conftest import ROOT, serving


pytestmark = NEEDED

DANGER = "I want to kill myself"
DESK = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
# Makes requests wait whose address holds a name of `waits`; those that are given up end.
WAITING = """const fetched = fetch; window.waits = {}; window.fetch = async (what, options) => {
    for (const [part, wait] of Object.entries(window.waits)) if (String(what.url ?? what).includes(part))
        await new Promise((go, fail) => { setTimeout(go, wait); options?.signal?.addEventListener('abort', () => fail(options.signal.reason)); });
    return fetched(what, options); };"""


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    with serving(ROOT / "tests/fake_space.py", tmp_path_factory.mktemp("races") / "log") as server:
        yield server


@pytest.fixture
def opened(browser, words):
    """Open the chat in a context of its own: `opened(**PHONE)`."""
    contexts = []

    def make(before: str = "", **options):
        contexts.append(browser.new_context(**{**DESK, **options}))
        page = contexts[-1].new_page()
        page.set_default_timeout(30_000)
        page.add_init_script(WAITING + before)
        open_chat(page, words)
        return page

    yield make
    for context in contexts:
        context.close()


def wait(page, **parts: int) -> None:
    """Let requests take so many milliseconds longer: wait(page, join=2000)."""
    page.evaluate("waits => { window.waits = waits; }", parts)


def writing(page) -> None:
    """Ask for a reply that takes eight seconds, and see it begin."""
    say(page, "talk slowly")
    expect(page.locator("#chat .bot").last).to_contain_text("listening")


def messages(page) -> list[str]:
    return [text.strip() for text in page.locator("#chat .user.message").all_inner_texts()]


def shows_danger_and_help(page, after: int = 1500) -> None:
    page.locator(".help-card").wait_for()
    page.wait_for_timeout(after)
    assert page.locator("#chat").get_by_text(DANGER, exact=True).count() == 1
    assert page.locator(".help-card").count() == 1


def test_a_reply_that_was_only_asked_for_is_stopped_by_the_next_message(opened):
    page = opened()
    wait(page, join=2000)
    say(page, "talk slowly")
    page.locator("#chat .user").first.wait_for()
    page.wait_for_timeout(300)
    say(page, DANGER)
    shows_danger_and_help(page, after=5000)


def test_a_reply_that_was_only_asked_for_is_stopped_by_clear(opened):
    page = opened()
    wait(page, join=2000)
    say(page, "talk slowly")
    page.locator("#chat .user").first.wait_for()
    page.click("#clear")
    page.wait_for_timeout(5000)
    assert page.locator("#chat .message").count() == 0


def test_an_empty_box_ends_no_reply(opened):
    page = opened()
    writing(page)
    page.locator("#message textarea").press("Enter")
    page.click("#send")
    page.wait_for_timeout(500)
    assert page.locator("body[data-replying]").count() == 1
    say(page, DANGER)
    shows_danger_and_help(page, after=3000)


@pytest.mark.parametrize("press", ["Enter", "#send"])
def test_messages_sent_one_upon_the_other_all_arrive(opened, press):
    page = opened()
    writing(page)
    wait(page, predict=1500)
    for text in (DANGER, "sorry, never mind"):
        page.locator("#message textarea").fill(text)
        for _ in range(2):  # a double press sends no message twice
            page.locator("#message textarea").press("Enter") if press == "Enter" else page.click("#send")
        page.wait_for_timeout(300)
    expect(page.locator("#chat")).to_contain_text("sorry, never mind")
    page.wait_for_timeout(3000)
    assert messages(page) == ["talk slowly", DANGER, "sorry, never mind"]
    assert page.locator(".help-card").count() >= 1


def test_a_stop_that_the_server_hears_late_is_no_failure_of_the_next_reply(opened):
    page = opened()
    writing(page)
    wait(page, cancel=2000, reset=2000)
    say(page, "hello there")
    expect(page.locator("#chat .bot").last).to_contain_text("word39")
    page.wait_for_timeout(2500)
    assert page.locator("#trouble").inner_text() == ""
    assert page.locator("#chat .bot").count() == 2


def test_not_forgetting_after_all_changes_nothing(opened):
    page = opened()
    page.on("dialog", lambda dialog: dialog.dismiss())
    wait(page, predict=1500)
    say(page, DANGER)
    page.click("#forget")
    shows_danger_and_help(page)
    wait(page)
    say(page, "talk slowly, please")
    expect(page.locator("#chat .bot").last).to_contain_text("listening")
    page.click("#forget")
    expect(page.locator("#chat .bot").last).to_contain_text("word39")


@pytest.mark.parametrize("hangs", ["join", "data"])
def test_a_connection_that_stands_still_after_the_message_was_read_is_not_silent(opened, hangs):
    page = opened()
    wait(page, **{f"queue/{hangs}": 600_000})
    say(page, "hello there")
    expect(page.locator("#trouble")).not_to_be_empty(timeout=25_000)
    wait(page)
    page.click("#retry")
    expect(page.locator("#chat .bot").last).to_contain_text("word39")


def test_words_that_do_not_come_are_asked_for_again(opened):
    page = opened()
    page.add_init_script(
        "let first = true; setTimeout(() => { window.waits = {}; }, 5000); window.waits['words/'] = 600_000;"
    )
    page.reload(wait_until="commit")
    page.locator("#message textarea").fill("x", timeout=40_000)


def test_where_gradios_part_does_not_load_the_page_says_so(browser, words):
    context = browser.new_context(**DESK)
    page = context.new_page()
    page.route(re.compile(r"/assets/Blocks-.*\.js"), lambda route: route.abort())
    page.goto(words.url)
    page.click("#accept")
    page.locator("#opening").wait_for(timeout=20_000)
    assert page.locator("#help-bar").is_visible()
    context.close()


def test_what_was_cleared_on_its_way_does_not_come_back(opened):
    page = opened()
    wait(page, predict=3000)
    say(page, "the first thing")
    page.wait_for_timeout(300)
    page.click("#clear")
    page.locator("#message textarea").fill("hello there")
    page.click("#send")
    expect(page.locator("#chat .bot").last).to_contain_text("word39")
    page.wait_for_timeout(2000)
    assert "the first thing" not in page.locator("#chat").inner_text()
    assert page.locator("#chat .bot").count() == 1


def test_a_card_that_comes_after_stop_is_read_out(opened):
    page = opened()
    wait(page, predict=1500)
    say(page, DANGER)
    page.wait_for_timeout(300)
    page.click("#stop")
    expect(page.locator("#announced")).to_contain_text("988")


@pytest.mark.parametrize("wiping", ["#clear", "#forget"])
def test_nothing_of_a_card_is_left_for_who_comes_next(opened, wiping):
    page = opened()
    page.on("dialog", lambda dialog: dialog.accept())
    say(page, DANGER)
    expect(page.locator("#announced")).to_contain_text("988")
    page.click(wiping)
    expect(page.locator("#announced")).to_be_empty()
    assert "988" not in page.locator("gradio-app").inner_text()


def test_what_is_typed_on_behind_a_message_is_all_that_stays(opened):
    page = opened()
    wait(page, predict=1500)
    say(page, "hello there")
    page.locator("#message textarea").press_sequentially(" and more")
    expect(page.locator("#chat .bot").last).to_contain_text("word39")
    assert page.locator("#message textarea").input_value() == "and more"


def test_close_pressed_twice_leaves_the_view_and_not_the_page(opened):
    page = opened()
    page.click("[data-view=skills]")
    page.evaluate("(close => { close.click(); close.click(); })(document.querySelector('#view .close'))")
    page.wait_for_timeout(500)
    assert page.locator("#message textarea").is_visible()


def test_a_starter_on_a_phone_does_not_take_the_focus_with_it(opened):
    page = opened(**PHONE)
    page.locator("#starters button").first.focus()
    page.keyboard.press("Enter")
    page.locator("#chat .bot").first.wait_for()
    assert page.evaluate("document.activeElement.id") == "send"
