"""Check-ins as a person meets them: sums, help before everything, nothing sent, nothing kept that was not saved."""

import json
import random
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from playwright.sync_api import expect

from chromium import NEEDED, open_chat, violations
from conftest import ROOT, serving


pytestmark = NEEDED

CHECKINS = json.loads((ROOT / "space/checkins.json").read_text(encoding="utf-8"))
INSTRUMENTS = {instrument["id"]: instrument for instrument in CHECKINS["instruments"]}
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1100, "height": 800}
LOCALES = {"en": "en-US", "de": "de-DE", "es": "es-ES", "ar": "ar"}
EARLIER = [
    {"date": "2026-03-01", "id": "phq9", "score": 14},
    {"date": "2026-03-20", "id": "gad7", "score": 9},
    {"date": "2026-03-20", "id": "mood", "score": 3},
    {"date": "2026-04-02", "id": "phq9", "score": 8},
    {"date": "2026-04-02", "id": "phq2", "score": 3},
    {"date": "2026-04-03", "id": "gad2", "score": 0},
]
# Presses answers as fast as a script can; what a press sets off is the page's own.
ANSWER = (
    "given => given.forEach(([name, points]) => document.querySelector(`[name=${name}][value='${points}']`).click())"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(ROOT / "tests/fake_space.py", tmp_path_factory.mktemp("checkins") / "log") as running:
        yield running


@pytest.fixture
def visit(browser, server):
    """Return what opens the check-ins as somebody who comes from a place, with what was kept there before."""
    contexts = []

    def opened(language="en", kept=None, viewport=PHONE, before="", **more):
        context = browser.new_context(
            viewport=viewport, locale=LOCALES[language], **{"timezone_id": "America/Chicago", **more}
        )
        contexts.append(context)
        context.set_default_timeout(15_000)
        if kept is not None:
            stored = json.dumps(json.dumps({"checkins": kept}))
            context.add_init_script(f"localStorage.theragen ??= {stored}")
        context.add_init_script(before)
        page = context.new_page()
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        open_chat(page, server)
        enter(page)
        return page

    yield opened
    for context in contexts:
        assert [page.faults for page in context.pages if page.faults] == []
        context.close()


def enter(page):
    page.click("#views [data-view=checkins]")
    page.wait_for_selector("#mood")


def texts(server, language="en") -> dict:
    return httpx.get(f"{server.url}/words/{language}").json()["texts"]


def answer(page, name, points, done=True):
    page.evaluate(ANSWER, [[f"{name}_{n}", one] for n, one in enumerate(points, 1)])
    if done:
        page.click("#checkins-done")


def back(page):
    page.click("#checkins button:text-is('Back')")


def keep(page, checkins):
    page.evaluate(
        "checkins => { localStorage.theragen = JSON.stringify({ ...JSON.parse(localStorage.theragen), checkins }) }",
        checkins,
    )


def kept(page):
    return (json.loads(page.evaluate("localStorage.theragen ?? null") or "{}")).get("checkins")


def points_for(name, total) -> list[int]:
    """Answers with a given sum, the first questions highest."""
    return [min(3, max(0, total - 3 * n)) for n in range(len(INSTRUMENTS[name]["items"]))]


def band_of(name, total) -> dict:
    return next(band for band in INSTRUMENTS[name]["bands"] if band["from"] <= total <= band["to"])


def test_sums_and_both_edges_of_every_band(visit):
    page = visit()
    some = random.Random(9)
    for name, instrument in INSTRUMENTS.items():
        given = [points_for(name, band[edge]) for band in instrument["bands"] for edge in ("from", "to")]
        given += [[some.randrange(4) for _ in instrument["items"]] for _ in range(3)]
        for points in given:
            page.click(f"#start-{name}")
            answer(page, name, points)
            assert page.inner_text("#checkins-score") == f"{sum(points)} of {instrument['scoring']['most']}"
            assert page.inner_text("#checkins-reading") == band_of(name, sum(points))["reading"]["en"]
            assert instrument["texts"]["en"]["title"] in page.inner_text("#checkins")
            back(page)
    assert kept(page) is None


def test_a_result_by_hand_and_a_high_sum_whose_help_presumes_no_thoughts(visit, server):
    """Worked on paper: 2+1+0+3+1+0+2+1+0 = 10, the lowest sum of the third band."""
    page = visit(viewport=DESKTOP)
    page.click("#start-phq9")
    for n, points in enumerate([2, 1, 0, 3, 1, 0, 2, 1, 0], 1):
        page.check(f"[name=phq9_{n}][value='{points}']")
    page.click("#checkins-done")
    assert page.inner_text("#checkins-score") == "10 of 27"
    assert "quite a few signs" in page.inner_text("#checkins-reading")
    assert page.locator("#checkins [role=alert]").count() == 0
    back(page)
    for points, helped in (([3] * 6 + [1, 0, 0], 0), ([3] * 6 + [2, 0, 0], 1)):
        page.click("#start-phq9")
        answer(page, "phq9", points)
        assert page.locator("#checkins [role=alert]").count() == helped, points
        if not helped:
            back(page)
    first = page.locator("#checkins > :first-child")
    assert first.get_attribute("role") == "alert" and first.locator('a[href="tel:988"]').first.is_visible()
    assert texts(server)["checkins_heavy"] in first.inner_text() and "Such thoughts" not in first.inner_text()


def test_thoughts_of_self_harm_bring_help_at_once_and_first_in_the_result(visit, server):
    page = visit()
    said = texts(server)["checkins_safety"]
    for points in (3, 2, 1):
        page.click("#start-phq9")
        box = page.locator("#checkins [role=alert]")
        page.check("[name=phq9_9][value='0']")
        assert box.inner_text() == ""
        page.check(f"[name=phq9_9][value='{points}']")
        assert said in box.inner_text() and box.locator('a[href="tel:988"]').first.is_visible()
        assert box.evaluate("box => box.getBoundingClientRect().bottom <= innerHeight")
        page.check("[name=phq9_9][value='0']")
        assert said in box.inner_text()  # whoever takes it back still sees it
        page.check(f"[name=phq9_9][value='{points}']")
        answer(page, "phq9", [0] * 8)
        first = page.locator("#checkins > :first-child")
        assert first.get_attribute("role") == "alert" and said in first.inner_text()
        assert first.evaluate("box => box === document.activeElement")
        assert page.inner_text("#checkins-score") == f"{points} of 27"
        if points > 1:
            back(page)
    page.select_option("#country", "GB")
    assert first.locator('a[href="tel:116123"]').is_visible() and not first.locator('a[href="tel:988"]').count()


def test_every_question_is_needed_and_the_open_ones_are_named(visit):
    page = visit()
    page.click("#start-gad7")
    page.evaluate(ANSWER, [[f"gad7_{n}", 1] for n in (1, 2, 4, 6)])
    page.click("#checkins-done")
    assert page.inner_text(".checkins-missing") == "Still to answer: 3, 5, and 7"
    assert page.locator("#checkins-score").count() == 0
    assert page.evaluate("document.activeElement.name") == "gad7_3"
    assert page.locator("fieldset[aria-describedby=checkins-missing]").count() == 3
    page.keyboard.press("Space")
    assert page.locator("fieldset[aria-describedby=checkins-missing]").count() == 2
    page.click("#checkins-done")
    assert page.inner_text(".checkins-missing") == "Still to answer: 5 and 7"
    page.evaluate(ANSWER, [["gad7_5", 3], ["gad7_7", 2]])
    page.click("#checkins-done")
    assert page.inner_text("#checkins-score") == "9 of 21"


def test_by_keyboard_the_help_never_covers_what_has_the_focus(visit):
    page = visit()
    page.focus("#start-phq9")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "Mood (PHQ-9)"
    page.check("[name=phq9_3][value='3']")
    page.evaluate("document.querySelector('[name=phq9_4]').focus()")
    page.evaluate("scrollBy(0, document.querySelector('[name=phq9_3][value=\"3\"]').getBoundingClientRect().top - 20)")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.name") == "phq9_3"
    covered = "document.activeElement.getBoundingClientRect().top < document.getElementById('help').offsetHeight"
    assert not page.evaluate(covered)


@pytest.mark.parametrize("language", LOCALES)
def test_questions_are_in_the_language_only_where_their_wording_is_known(visit, server, language):
    page = visit(language)
    ours, own = texts(server, language), INSTRUMENTS["phq9"]["wordings"].get(language)
    wording = own or INSTRUMENTS["phq9"]["wordings"]["en"]
    page.click("#start-phq9")
    assert page.locator(".checkins-prompt").inner_text() == wording["prompt"]
    legends = page.locator("legend").all_inner_texts()
    assert legends == [f"{n}. {item}" for n, item in enumerate(wording["items"], 1)]
    assert page.locator("#phq9_9 label").all_inner_texts() == wording["answers"]
    assert page.locator(".checkins-english").all_inner_texts() == ([] if own else [ours["checkins_english"]])
    for asked in page.locator("fieldset, .checkins-prompt").all():
        assert (asked.get_attribute("lang"), asked.get_attribute("dir")) == ((None, None) if own else ("en", "ltr"))
    answer(page, "phq9", [0] * 8 + [1])
    assert ours["checkins_safety"] in page.locator("#checkins > [role=alert]").inner_text()
    assert page.inner_text("#checkins-reading") == band_of("phq9", 1)["reading"][language]


def test_the_longer_questions_are_offered_and_begin_where_the_short_ones_ended(visit):
    page = visit()
    for points, offered in (([1, 1], 0), ([1, 2], 1)):
        page.click("#start-phq2")
        answer(page, "phq2", points)
        assert page.locator("#checkins-longer").count() == offered
        if not offered:
            back(page)
    page.click("#checkins-longer")
    assert page.locator("legend").count() == 9
    begun = page.locator("input:checked").evaluate_all("all => all.map(one => [one.name, one.value])")
    assert begun == [["phq9_1", "1"], ["phq9_2", "2"]]


def test_asking_again_soon_is_noted_never_refused(visit, server):
    page = visit(timezone_id="UTC")
    for days, noted in ((14, 0), (13, 1), (0, 1)):
        date = (datetime.now(UTC).date() - timedelta(days)).isoformat()
        keep(page, [{"date": date, "id": "gad2", "score": 4}])
        page.click("#start-gad7")
        assert page.locator(".checkins-often").count() == 0
        back(page)
        page.click("#start-gad2")
        assert page.locator(".checkins-often").all_inner_texts() == [texts(server)["checkins_often"]] * noted
        answer(page, "gad2", [1, 0])
        assert page.inner_text("#checkins-last").endswith(": 4 of 6")
        back(page)


def test_only_what_is_saved_is_kept_and_nothing_is_sent(visit):
    page = visit(timezone_id="UTC")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    today = datetime.now(UTC).date().isoformat()
    page.locator("#mood").focus()
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    assert page.get_attribute("#mood", "aria-valuetext") == "1 of 10 · very bad"
    assert CHECKINS["mood"]["texts"]["en"]["low_note"] in page.inner_text("#checkins")
    page.keyboard.press("ArrowRight")
    assert CHECKINS["mood"]["texts"]["en"]["low_note"] not in page.inner_text("#checkins")
    assert kept(page) is None
    save = page.locator("#checkins button:text-is('Save')")
    save.click()
    save.click(force=True)  # twice is once
    page.click("#start-phq9")
    answer(page, "phq9", [2, 1, 0, 3, 1, 0, 2, 1, 1])
    before = kept(page)
    assert before == [{"date": today, "id": "mood", "score": 2}]
    page.click("#checkins button:text-is('Save')")
    expect(page.locator("#checkins")).to_contain_text("Saved on this device")
    saved = [*before, {"date": today, "id": "phq9", "score": 11}]
    assert kept(page) == saved
    back(page)
    page.click("#start-gad7")
    answer(page, "gad7", [3] * 7)
    assert asked == []
    page.reload()
    enter(page)
    assert kept(page) == saved
    assert page.locator("#checkins-over svg").count() == 2 and "21 of 21" not in page.inner_text("#view")


def test_a_browser_that_keeps_nothing_still_works(visit, server):
    page = visit(before="Object.defineProperty(window, 'localStorage', { get() { throw new Error('no') } })")
    page.click("#checkins button:text-is('Save')")
    assert texts(server)["not_saved"] in page.inner_text("#checkins")
    assert page.locator("#checkins-over svg").count() == 1


def test_pictures_and_table_show_all_that_is_kept(visit):
    page = visit(kept=EARLIER)
    shapes = page.locator("#checkins-over figure").evaluate_all(
        "all => all.map(one => [...one.querySelectorAll('.mark')].map(mark => mark.getAttribute('d')))"
    )
    assert [len(marks) for marks in shapes] == [1, 2, 1, 1, 1]
    assert len({marks[0] for marks in shapes}) == 5
    picture = page.locator("#checkins-over svg").nth(1)
    assert picture.get_attribute("role") == "img"
    assert "Mood (PHQ-9). Apr 2, 2026: 8 of 27" in picture.locator("title").text_content()
    numbers = picture.locator("text").all_text_contents()
    assert numbers[:4] == ["0", "9", "18", "27"] and "Mar 1, 2026" in numbers[4] and "Apr 3, 2026" in numbers[5]
    heights = picture.locator(".mark").evaluate_all("all => all.map(one => one.getBoundingClientRect().y)")
    assert heights[0] < heights[1]  # 14 stands above 8
    page.click("#checkins summary")
    rows = page.locator("#checkins tbody tr").all_inner_texts()
    assert len(rows) == 6 and rows[0].split("\t") == ["Apr 3, 2026", "Anxiety (GAD-2)", "0 of 6"]


def test_the_export_holds_dates_and_sums_alone(visit, server):
    page = visit(kept=EARLIER[:3], viewport=DESKTOP)
    with page.expect_download() as given:
        page.click("#checkins-export")
    assert given.value.suggested_filename.endswith(".csv")
    assert given.value.path().read_bytes().decode("ascii") == (
        "date,questionnaire,score,most\r\n2026-03-01,PHQ-9,14,27\r\n2026-03-20,GAD-7,9,21\r\n2026-03-20,mood,3,10\r\n"
    )
    assert texts(server)["download_note"] in page.inner_text("#checkins-over")


def test_deleting_asks_first_and_leaves_nothing(visit):
    page = visit(kept=EARLIER)
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.click("#checkins-delete")
    assert kept(page) == EARLIER
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("#checkins-delete")
    assert kept(page) is None and page.locator("#checkins-over svg, #checkins-delete").count() == 0
    assert page.inner_text("#announced") == "Done" and "notice" in page.evaluate("localStorage.theragen")


def test_what_is_kept_may_be_damaged(visit):
    page = visit()
    for damaged in (
        "words",
        [None, 3, {"id": "gone", "date": "2026-03-01", "score": 1}, {"id": "gad2", "date": "x"}],
        {},
    ):
        keep(page, damaged)
        page.click("#start-gad2")
        answer(page, "gad2", [1, 1])
        page.click("#checkins button:text-is('Save')")
        back(page)
        assert page.locator("#checkins-over svg .mark").count() == 1


def test_leaving_the_view_or_forgetting_drops_the_answers(visit):
    page = visit()
    for drop in ("history.back()", "dispatchEvent(new Event('forgotten'))"):
        page.click("#start-gad2")
        page.check("[name=gad2_1][value='3']")
        page.evaluate(drop)
        page.wait_for_function("!document.querySelector('[name=gad2_1]')")
        if not page.locator("#mood").count():
            enter(page)
    page.click("#start-gad2")
    assert page.locator("input:checked").count() == 0


@pytest.mark.parametrize(
    ("language", "scheme", "viewport"), [("en", "light", DESKTOP), ("de", "dark", PHONE), ("ar", "light", PHONE)]
)
def test_accessible_in_every_state(visit, language, scheme, viewport):
    page = visit(language, kept=EARLIER, viewport=viewport, color_scheme=scheme, bypass_csp=True)
    page.click("#checkins summary")
    states = [violations(page)]
    page.click("#start-phq9")
    page.check("[name=phq9_9][value='1']")
    page.click("#checkins-done")
    page.wait_for_selector(".checkins-missing")
    states.append(violations(page))
    answer(page, "phq9", [1] * 8)
    page.click("#checkins .primary")
    states.append(violations(page))
    assert states == [[], [], []]


def test_nothing_is_wider_than_a_small_phone_and_everything_can_be_hit(visit):
    page = visit("de", kept=EARLIER, viewport={"width": 320, "height": 640})
    for size in ("100%", "200%"):
        page.evaluate("size => { document.documentElement.style.fontSize = size }", size)
        page.click("#checkins summary")
        fits(page)
        page.click("#start-phq9")
        page.check("[name=phq9_9][value='2']")
        fits(page)
        answer(page, "phq9", [1] * 8)
        fits(page)
        page.click("#checkins button.quiet")


def fits(page):
    wide = """all => all.map(one => one.getBoundingClientRect())
        .filter(box => box.left + scrollX < 0 || box.right + scrollX > 320).length"""
    assert page.locator("#checkins :not(table, table *)").evaluate_all(wide) == 0
    small = """all => all.map(one => (one.closest('label') ?? one).getBoundingClientRect())
        .filter(box => Math.min(box.width, box.height) < 24).length"""
    assert page.locator("#checkins :is(button, input, a, summary)").evaluate_all(small) == 0
