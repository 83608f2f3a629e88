"""Bring a person in, in Chromium: a summary that stays on the device, on paper and in a file, and where professionals are found."""

import json
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
import pdfplumber
import pytest
from playwright.sync_api import expect

from chromium import NEEDED, say, stored, violations
from conftest import ROOT, serving


pytestmark = NEEDED

DESKTOP = {"viewport": {"width": 1100, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
FIELDS = ("what", "since", "helps", "ask", "take", "name")
DIRECTORIES = json.loads((ROOT / "space/directories.json").read_text(encoding="utf-8"))["countries"]
NO_STORAGE = (
    "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no', 'SecurityError'); }})"
)


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    with serving(ROOT / "tests/fake_space.py", tmp_path_factory.mktemp("human") / "log") as server:
        yield server


@pytest.fixture(scope="module")
def said(space):
    """What the page says in English, by name."""
    return httpx.get(f"{space.url}/words/en").json()["texts"]


@contextmanager
def view(browser, space, script: str = "", **context):
    """Open the view as somebody new does, in a context of its own; `sent` has all requests, `faults` what went wrong."""
    context = browser.new_context(**{**DESKTOP, **context})
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.sent, page.faults = [], []
    page.on("request", lambda request: page.sent.append(f"{request.url} {request.post_data or ''}"))
    page.on("pageerror", lambda fault: page.faults.append(str(fault)))
    if script:
        page.add_init_script(script)
    page.goto(space.url)
    page.click("#accept")
    page.click("[data-view=human]")
    try:
        yield page
        assert page.faults == []
    finally:
        context.close()


def again(page) -> None:
    """Open the page anew, as after a break."""
    page.reload()
    page.click("[data-view=human]")


def values(page) -> list[str]:
    return [page.input_value(f"#human-{name}") for name in FIELDS]


def test_what_is_written_is_never_sent_and_kept_only_when_saved(browser, space, said):
    with view(browser, space) as page:
        for name in FIELDS:
            page.locator(f"#human-{name}").press_sequentially(f"marker {name}")
        page.check("#human-question-3")
        with page.expect_download():
            page.click("#human-text")
        page.click("#view .close")
        page.click("[data-view=human]")
        assert values(page) == [f"marker {name}" for name in FIELDS]  # held until the page is closed
        assert "marker" not in stored(page)
        again(page)
        assert values(page) == [""] * 6
        page.fill("#human-what", "marker kept")
        page.check("#human-question-3")
        page.click("#human-save")
        expect(page.locator("#human-note")).to_have_text(said["saved"])
        assert "marker kept" in stored(page)
        page.locator("#human-what").press_sequentially(" and more")
        expect(page.locator("#human-note")).to_be_empty()  # which is not saved yet
        again(page)
        assert page.input_value("#human-what") == "marker kept"
        assert page.is_checked("#human-question-3") and not page.is_checked("#human-question-2")
        page.wait_for_timeout(300)
        assert not [request for request in page.sent if "marker" in request]
        assert {urlsplit(request.split(" ")[0]).hostname for request in page.sent} <= {"127.0.0.1", None}


@pytest.mark.parametrize("sure", [True, False])
def test_delete_asks_first(browser, space, said, sure):
    with view(browser, space) as page:
        asked = []
        page.on("dialog", lambda box: asked.append(box.message) or (box.accept() if sure else box.dismiss()))
        page.fill("#human-what", "marker")
        page.check("#human-question-1")
        page.click("#human-save")
        page.click("#human-delete")
        assert asked == [said["human_delete_confirm"]]
        assert ("marker" in stored(page)) is not sure
        assert page.input_value("#human-what") == ("" if sure else "marker")
        assert page.is_checked("#human-question-1") is not sure
        expect(page.locator("#human-note")).to_have_text(said["human_deleted" if sure else "saved"])
        again(page)
        assert page.input_value("#human-what") == ("" if sure else "marker")


def test_where_the_browser_keeps_nothing_it_holds_until_the_page_is_closed(browser, space, said):
    with view(browser, space, NO_STORAGE) as page:
        page.fill("#human-what", "marker")
        page.click("#human-save")
        expect(page.locator("#human-note")).to_have_text(said["not_saved"])
        page.click("#view .close")
        page.click("[data-view=human]")
        assert page.input_value("#human-what") == "marker"


def test_what_is_forgotten_is_gone_from_memory(browser, space):
    with view(browser, space) as page:
        page.fill("#human-what", "marker")
        page.click("#view .close")
        page.evaluate("dispatchEvent(new Event('forgotten'))")
        page.click("[data-view=human]")
        assert values(page) == [""] * 6


def test_the_file_holds_what_was_filled_in_and_nothing_else(browser, space, said):
    with view(browser, space) as page:
        page.fill("#human-what", "  I sleep badly.\nSince then I worry.  ")
        page.fill("#human-ask", "Is this common?")
        page.check("#human-question-2")
        page.check("#human-question-6")
        page.fill("#human-name", "Sam")
        today = page.evaluate("new Intl.DateTimeFormat('en-CA').format()")
        with page.expect_download() as given:
            page.click("#human-text")
        assert given.value.suggested_filename == f"theragen-{today}.txt"
        assert given.value.path().read_text(encoding="utf-8") == "\n".join(
            [
                said["human_summary"],
                f"Sam, {today}",
                "",
                said["human_what"],
                "I sleep badly.\nSince then I worry.",
                "",
                said["human_ask"],
                "Is this common?",
                f"– {said['human_question_2']}",
                f"– {said['human_question_6']}",
            ]
        )
        expect(page.locator("#human-note")).to_have_text(said["download_note"])


def test_nothing_is_neither_printed_nor_saved_as_a_file(browser, space, said):
    with view(browser, space, "window.print = () => (window.printed = true)") as page:
        page.fill("#human-since", "   ")
        page.click("#human-print")
        expect(page.locator("#human-note")).to_have_text(said["human_empty"])
        page.click("#human-text")
        assert page.evaluate("window.printed") is None
        page.fill("#human-since", "March")
        page.click("#human-print")
        assert page.evaluate("window.printed") is True
        expect(page.locator("#human-note")).to_be_empty()


def test_paper_shows_the_summary_alone_and_dark_on_light(browser, space, said, tmp_path):
    with view(browser, space, color_scheme="dark", timezone_id="America/Chicago") as page:
        page.fill("#human-what", "I sleep badly.\n\nI worry.")
        page.fill("#human-take", "Nothing.")
        page.check("#human-question-1")
        page.pdf(path=tmp_path / "summary.pdf", format="A4")
        with pdfplumber.open(tmp_path / "summary.pdf") as paper:
            assert len(paper.pages) == 1
            lines = paper.pages[0].extract_text().splitlines()
            inks = {character["non_stroking_color"] for character in paper.pages[0].chars}
        assert lines[0] == said["human_summary"]
        assert lines[2:] == [
            said["human_what"],
            "I sleep badly.",
            "I worry.",
            said["human_ask"],
            f"– {said['human_question_1']}",
            said["human_take"],
            "Nothing.",
        ]
        assert all(max(ink) < 0.2 for ink in inks)  # black, near enough


def test_a_view_that_is_not_this_one_prints_as_before(browser, space):
    with view(browser, space) as page:
        page.fill("#human-what", "marker")
        page.click("#view .close")
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("#help-bar").is_visible()


def test_own_messages_are_taken_over_to_be_edited(browser, space):
    with view(browser, space) as page:
        assert page.locator("#human-from-chat").count() == 0  # nothing was said yet
        page.click("#view .close")
        page.locator("#message textarea").wait_for()
        say(page, "marker **one**\nwith a second line")
        expect(page.locator("#chat")).to_contain_text("word39")
        say(page, "marker two")
        expect(page.locator("#chat .bot")).to_have_count(2)
        page.click("[data-view=human]")
        page.fill("#human-what", "Before.")
        before = len(page.sent)
        page.click("#human-from-chat")
        taken = "Before.\n\nmarker one\nwith a second line\n\nmarker two"
        assert page.input_value("#human-what") == taken
        assert page.evaluate("document.activeElement.id") == "human-what"
        page.click("#human-from-chat")
        assert page.input_value("#human-what") == taken  # not twice
        assert "marker" not in stored(page)
        assert not [request for request in page.sent[before:] if "marker" in request]


def test_another_language_keeps_what_was_written(browser, space):
    with view(browser, space) as page:
        page.fill("#human-what", "marker")
        page.check("#human-question-4")
        page.evaluate("import('/browser/core.js').then(core => core.speak('de'))")
        expect(page.locator("label[for=human-what]")).to_have_text("Was gerade los ist")
        assert page.input_value("#human-what") == "marker"
        assert page.is_checked("#human-question-4")


def test_every_country_has_its_places_and_others_have_advice(browser, space, said):
    with view(browser, space) as page:
        for country, entries in DIRECTORIES.items():
            page.select_option("#country", country)
            shown = page.eval_on_selector_all(
                "#human-found li",
                "all => all.map(one => [...one.querySelectorAll('a')].map(a => [a.getAttribute('href'), a.target, a.rel].join(' ')))",
            )
            assert [[link.split(" ")[0] for link in links] for links in shown] == [
                [
                    entry["url"],
                    *([f"tel:{''.join(c for c in entry['phone'] if c in '+*0123456789')}"] if entry["phone"] else []),
                    entry["source"]["url"],
                ]
                for entry in entries
            ]
            outward = [link for links in shown for link in links if not link.startswith("tel:")]
            assert all(link.endswith(" _blank noopener noreferrer") for link in outward)
        assert page.locator("#human-found li p[lang=en][dir=ltr]").count() == len(entries)
        assert page.locator("#human-found > p").inner_text() == said["human_unvisited"]
        assert entries[0]["checked"] in page.locator("#human-found li").first.inner_text()
        page.select_option("#country", "ZZ")
        assert page.locator("#human-found").inner_text() == ""
        assert page.get_by_text(said["human_find_how"]).is_visible()


def test_what_cannot_be_dialled_or_was_not_checked_is_shown_as_it_is(browser, space, said):
    def altered(route):
        answer = route.fetch()
        words = answer.json()
        words["directories"] = {"US": [{**DIRECTORIES["US"][0], "phone": "119 ext. 8", "checked": None}]}
        route.fulfill(response=answer, json=words)

    with view(browser, space) as page:
        page.route("**/words/*", altered)
        again(page)
        page.select_option("#country", "US")
        shown = page.locator("#human-found li")
        assert "119 ext. 8" in shown.inner_text()
        assert said["human_unchecked"] in shown.inner_text()
        assert shown.locator("a[href^='tel:']").count() == 0


@pytest.mark.parametrize(
    "context",
    [
        {**PHONE, "color_scheme": "light"},
        {**PHONE, "color_scheme": "dark", "locale": "ar", "timezone_id": "Africa/Cairo"},
        {**DESKTOP, "color_scheme": "dark", "timezone_id": "Europe/London"},
    ],
    ids=["phone", "phone, dark, Arabic", "desktop, dark"],
)
def test_axe_finds_nothing(browser, space, context):
    with view(browser, space, bypass_csp=True, **context) as page:
        page.select_option("#country", "EG" if "locale" in context else "US")
        page.fill("#human-what", "I sleep badly.")
        page.check("#human-question-1")
        page.click("#human-save")
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= context["viewport"]["width"]


@pytest.mark.parametrize("locale", ["en", "ar"])
def test_a_narrow_screen_with_large_letters_needs_no_scrolling_sideways(browser, space, locale):
    with view(browser, space, viewport={"width": 320, "height": 640}, locale=locale) as page:
        page.evaluate("document.documentElement.style.fontSize = '200%'")
        for country in DIRECTORIES:
            page.select_option("#country", country)
            assert page.evaluate("document.getElementById('view').scrollWidth") <= 320, country
        small = page.eval_on_selector_all(
            "#view button, #view input, #view textarea, #view .check, .human-name, .human-phone",
            "all => all.filter(one => one.getBoundingClientRect().height < 24).map(one => one.outerHTML)",
        )
        assert small == []


def test_keys_alone_fill_it_in(browser, space):
    with view(browser, space) as page:
        page.focus("#human-what")
        page.keyboard.type("words")
        order = []
        for _ in range(12):
            page.keyboard.press("Tab")
            order.append(page.evaluate("document.activeElement.id"))
        assert order == [
            *(f"human-{name}" for name in ("since", "helps", "ask", "take")),
            *(f"human-question-{number}" for number in range(1, 7)),
            "human-name",
            "human-text",
        ]
        page.focus("#human-question-5")
        page.keyboard.press("Space")
        assert page.is_checked("#human-question-5")
