"""The exercises in the page, in Chromium: read, paced, written, saved and deleted on the device alone, and usable by everybody."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

from chromium import NEEDED, open_chat, stored, violations
from conftest import ROOT, serving


pytestmark = NEEDED

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DESKTOP = {"viewport": {"width": 1280, "height": 900}}
SKILLS = {
    skill["id"]: skill for skill in json.loads((ROOT / "space/skills.json").read_text(encoding="utf-8"))["skills"]
}
TEXTS = json.loads((ROOT / "space/interface.json").read_text(encoding="utf-8"))["languages"]["en"]["texts"]
SECRET = "pomegranate seventeen"
FOCUSED = "document.activeElement.id || document.activeElement.tagName"


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    with serving(ROOT / "tests/fake_space.py", tmp_path_factory.mktemp("skills") / "log") as server:
        yield server


@pytest.fixture
def visit(browser, space):
    """Open the list of exercises as somebody would: `visit(**options of the context)`; `before` is run in the page first."""
    contexts = []

    def visited(before: str = "", **options):
        context = browser.new_context(timezone_id="America/Chicago", **(options or PHONE))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.sent, page.faults = [], []
        page.on("request", lambda request: page.sent.append(f"{request.url} {request.post_data or ''}"))
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.add_init_script(f"window.printed = 0; window.print = () => window.printed++; {before}")
        open_chat(page, space)
        open_list(page)
        return page

    yield visited
    for context in contexts:
        assert [page.faults for page in context.pages] == [[]]
        context.close()


def open_list(page):
    page.click('#views [data-view="skills"]')
    page.wait_for_selector("#skills .skill-cards")


def enter(page, name: str):
    page.click(f"#open-{name}")
    page.wait_for_selector("#skills > h3")


def reopen(page):
    page.reload()
    page.locator("#message textarea").wait_for()
    open_list(page)


def is_seen(page, selector: str) -> bool:
    """Is it on the screen, and not under the help?"""
    return page.evaluate(
        """selector => {
            const box = document.querySelector(selector).getBoundingClientRect();
            return box.top >= document.getElementById("help").getBoundingClientRect().bottom && box.bottom <= innerHeight;
        }""",
        selector,
    )


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_every_exercise_opens_with_its_limit_and_leads_back(visit, size):
    page = visit(**size)
    entries = page.evaluate("history.length")
    assert page.locator(".skill-cards h3").all_inner_texts() == [
        skill["texts"]["en"]["title"] for skill in SKILLS.values()
    ]
    for name, skill in SKILLS.items():
        texts = skill["texts"]["en"]
        assert page.get_by_role("button", name=f"{TEXTS['skill_open']} {texts['title']}").count() == 1
        enter(page, name)
        assert page.evaluate(FOCUSED) == "H3" and is_seen(page, "#skills > h3")
        assert page.locator("#skills > h3").inner_text() == texts["title"]
        shown = page.locator("#skills").inner_text()
        assert all(texts[part] in shown for part in ("why", "limit", "after"))
        assert f"{skill['source']['title']}, {skill['source']['year']}" in shown and TEXTS["not_reviewed"] in shown
        assert page.locator("#announced").inner_text() == TEXTS["minutes"].format(minutes=skill["minutes"])
        page.locator(".skill-back").first.click()
        assert page.evaluate(FOCUSED) == f"open-{name}" and is_seen(page, f"#open-{name}")
    assert page.evaluate("history.length") == entries
    page.go_back()
    expect(page.locator("#view")).to_be_hidden()
    expect(page.locator("#message textarea")).to_be_visible()


def test_steps_come_one_by_one_and_all_can_be_read(visit):
    page = visit()
    steps = SKILLS["grounding"]["texts"]["en"]["steps"]
    enter(page, "grounding")
    said, back, on = (
        page.locator(".skill-now [role=status]"),
        page.locator(".skill-now button").first,
        page.locator(".skill-now .primary"),
    )
    for number, step in enumerate(steps, 1):
        assert said.inner_text().split("\n")[0] == TEXTS["skill_step"].format(n=number, count=len(steps))
        assert step in said.inner_text() and back.is_disabled() == (number == 1)
        assert on.inner_text() == TEXTS["done" if number == len(steps) else "next"]
        on.click()
    assert page.evaluate("document.activeElement.parentNode.className") == "skill-end" and is_seen(page, ".skill-end")
    for _ in steps[1:]:
        back.press("Enter")
    assert steps[0] in said.inner_text()
    assert page.evaluate("document.activeElement.className") == "primary"  # Back is off: the focus is not lost with it
    page.click(".skill-all summary")
    assert page.locator(".skill-all li").all_inner_texts() == steps


WATCH = """() => {
    window.heard = [];
    const part = document.querySelector(".breath-part");
    new MutationObserver(() => heard.push(part.textContent)).observe(part, { childList: true, characterData: true, subtree: true });
}"""


def test_breathing_is_paced_paused_and_ends(visit):
    page = visit()
    stop_clock(page)
    enter(page, "breathing")
    page.evaluate(WATCH)
    button, count = page.locator(".skill-breath .primary"), page.locator(".breath-count")
    assert TEXTS["seconds"].format(seconds=6) in page.locator(".skill-breath").inner_text()
    button.click()
    assert is_seen(page, ".skill-breath") and count.inner_text() == "1"
    page.clock.run_for(3000)
    assert (count.inner_text(), full(page)) == ("4", 1)
    page.clock.run_for(1000)
    assert (page.locator(".breath-part").inner_text(), count.inner_text()) == (TEXTS["breathe_out"], "1")
    button.click()
    assert button.inner_text() == TEXTS["continue"]
    page.clock.run_for(20_000)
    assert count.inner_text() == "1"
    button.click()
    page.clock.run_for(4000)
    assert (count.inner_text(), full(page)) == ("6", 0)
    page.clock.run_for(91_000)
    breath = [TEXTS["breathe_in"], TEXTS["breathe_out"]]
    assert page.evaluate("heard") == [*breath * 10, TEXTS["done"]]  # once for each part, never for a second
    assert button.inner_text() == TEXTS["start"]
    button.click()
    page.locator(".skill-back").first.click()
    page.clock.run_for(5000)
    assert page.evaluate("heard")[21:] == [TEXTS["breathe_in"]]  # left, it stops


def stop_clock(page):
    """From here on only `run_for` lets time pass."""
    page.clock.install(time=0)
    page.clock.pause_at(1000)


def full(page) -> float:
    return float(page.evaluate("document.querySelector('.skill-breath').style.getPropertyValue('--full')"))


def test_without_motion_a_bar_moves_in_steps(visit):
    page = visit(**PHONE, reduced_motion="reduce")
    stop_clock(page)
    enter(page, "breathing")
    assert not page.locator(".breath-circle").is_visible() and page.locator(".breath-bar").is_visible()
    page.locator(".skill-breath .primary").click()
    widths = []
    for _ in range(4):
        widths.append(page.evaluate("document.querySelector('.breath-bar div').offsetWidth"))
        page.clock.run_for(1000)
    whole = page.evaluate("document.querySelector('.breath-bar').clientWidth")
    assert widths == pytest.approx([whole * part / 4 for part in (1, 2, 3, 4)], abs=1)


def test_what_is_written_stays_here_and_is_kept_only_when_saved(visit):
    page = visit()
    enter(page, "thought_record")
    page.get_by_label(SKILLS["thought_record"]["texts"]["en"]["fields"]["thought"], exact=True).fill(SECRET)
    page.locator(".skill-back").last.click()
    enter(page, "thought_record")
    assert page.input_value("#write-thought") == SECRET  # not lost on the way
    assert SECRET not in stored(page)
    reopen(page)
    enter(page, "thought_record")
    assert page.input_value("#write-thought") == ""
    page.fill("#write-thought", SECRET)
    page.click("#skills .row .primary")
    expect(page.locator("#skills p[role=status]")).to_have_text(TEXTS["saved"])
    page.fill("#write-feeling", "later")
    expect(page.locator("#skills p[role=status]")).to_be_empty()  # no longer all of it
    assert SECRET in stored(page) and "later" not in stored(page)
    reopen(page)
    enter(page, "thought_record")
    assert page.input_value("#write-thought") == SECRET and page.input_value("#write-feeling") == ""
    page.wait_for_timeout(300)
    assert not [request for request in page.sent if "pomegranate" in request or "later" in request]


def test_deleting_asks_first_and_leaves_other_exercises_alone(visit):
    page = visit()
    for name, field in (("problem_solving", "problem"), ("thought_record", "thought")):
        enter(page, name)
        page.fill(f"#write-{field}", f"{SECRET} {name}")
        page.click("#skills .row .primary")
        page.locator(".skill-back").first.click()
    assert page.locator(".skill-cards").get_by_text(TEXTS["saved"]).count() == 2
    enter(page, "thought_record")
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.click("#skills .row .quiet")
    assert page.input_value("#write-thought") and f"{SECRET} thought_record" in stored(page)
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("#skills .row .quiet")
    assert page.input_value("#write-thought") == "" and page.locator("#skills p[role=status]").inner_text()
    assert f"{SECRET} thought_record" not in stored(page) and f"{SECRET} problem_solving" in stored(page)
    page.locator(".skill-back").first.click()
    enter(page, "problem_solving")
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("#skills .row .quiet")
    assert "skills" not in json.loads(page.evaluate("localStorage.theragen"))


def test_help_lines_stand_in_the_plan_until_somebody_changes_them(visit):
    page = visit()
    enter(page, "safety_plan")
    lines = page.locator("#write-professionals")
    assert "988" in lines.input_value()
    page.select_option("#country", "GB")
    assert "116 123" in lines.input_value() and "988" not in lines.input_value()
    lines.fill("my doctor")
    page.select_option("#country", "US")
    assert lines.input_value() == "my doctor"
    lines.fill("")
    page.locator(".skill-back").first.click()
    enter(page, "safety_plan")
    assert lines.input_value() == ""


def test_a_file_and_paper_hold_all_of_it_and_nothing_else(visit):
    page = visit(**DESKTOP, color_scheme="dark")
    long = "\n".join([f"{SECRET} {number}" for number in range(12)])
    enter(page, "safety_plan")
    page.fill("#write-own_coping", long)
    with page.expect_download() as given:
        page.locator("#skills .row button").nth(2).click()
    text = Path(given.value.path()).read_text(encoding="utf-8")
    texts = SKILLS["safety_plan"]["texts"]["en"]
    assert given.value.suggested_filename.startswith("theragen-safety_plan-20")
    assert all(part in text for part in (texts["title"], long, "988", texts["limit"], *texts["fields"].values()))
    expect(page.locator("#skills p[role=status]")).to_have_text(TEXTS["download_note"])
    page.locator("#skills .row button").nth(1).click()
    assert page.evaluate("window.printed") == 1
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    written = page.locator(".skill-written").nth(1)
    assert written.is_visible() and written.inner_text() == long
    assert page.locator("#skills > h3").is_visible() and page.locator(".skill-limit").is_visible()
    for hidden in ("#help", "#banner", ".view-head", "#skills textarea", "#skills button", "gradio-app"):
        assert not page.locator(hidden).first.is_visible(), hidden
    assert page.evaluate("getComputedStyle(document.querySelector('.skill-written')).color") == "rgb(0, 0, 0)"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not [request for request in page.sent if "pomegranate" in request]


BLOCKED = (
    "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('blocked', 'SecurityError'); } });"
)


def test_where_nothing_may_be_saved_it_works_until_the_page_is_closed(visit):
    page = visit(before=BLOCKED, **PHONE)
    enter(page, "thought_record")
    page.fill("#write-thought", SECRET)
    page.click("#skills .row .primary")
    expect(page.locator("#skills p[role=status]")).to_have_text(TEXTS["not_saved"])
    page.locator(".skill-back").first.click()
    enter(page, "thought_record")
    assert page.input_value("#write-thought") == SECRET


def test_an_exercise_opens_from_the_talk_and_forgetting_drops_what_was_written(visit):
    page = visit()
    enter(page, "thought_record")
    page.fill("#write-thought", SECRET)
    page.click("#view .close")
    expect(page.locator("#view")).to_be_hidden()
    page.evaluate("dispatchEvent(new CustomEvent('skill', { detail: 'thought_record' }))")
    assert page.input_value("#write-thought") == SECRET
    assert page.evaluate(FOCUSED) == "H3" and is_seen(page, "#skills > h3")
    page.click("#view .close")
    expect(page.locator("#view")).to_be_hidden()
    page.evaluate("dispatchEvent(new Event('forgotten'))")
    page.evaluate("dispatchEvent(new CustomEvent('skill', { detail: 'thought_record' }))")
    assert page.input_value("#write-thought") == ""
    page.evaluate("dispatchEvent(new CustomEvent('skill', { detail: 'no such thing' }))")
    assert page.locator(".skill-cards li").count() == len(SKILLS)


@pytest.mark.parametrize(
    "options",
    [
        {**PHONE, "color_scheme": "light"},
        {**DESKTOP, "color_scheme": "dark"},
        {**PHONE, "viewport": {"width": 320, "height": 640}, "locale": "ar"},
    ],
    ids=["phone", "dark", "narrow and Arabic"],
)
def test_everybody_can_use_them(visit, options):
    page = visit(**options, bypass_csp=True)
    direction = "rtl" if options.get("locale") == "ar" else "ltr"
    assert page.evaluate("document.documentElement.dir || 'ltr'") == direction
    for name in ("", "grounding", "breathing", "safety_plan"):
        if name:
            enter(page, name)
        assert violations(page, "#view") == [], name
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name
        low = "[...document.querySelectorAll('#skills :is(button, summary, textarea)')].filter(it => it.offsetHeight < 44).length"
        assert page.evaluate(low) == 0, name
        if name:
            page.locator(".skill-back").first.click()


def test_text_of_twice_the_size_fits_a_narrow_phone(visit):
    page = visit(viewport={"width": 320, "height": 640}, locale="de")
    page.evaluate("document.documentElement.style.fontSize = '200%'")
    for name in ("grounding", "breathing", "safety_plan"):
        page.evaluate(f"document.getElementById('open-{name}').click()")
        wide = "[...document.querySelectorAll('#skills *')].filter(it => it.getBoundingClientRect().right > 320).map(it => it.outerHTML)"
        assert page.evaluate(wide) == [], name
        page.evaluate("document.querySelector('.skill-back').click()")
