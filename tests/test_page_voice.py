"""Speaking and listening in Chromium.

Chromium without its maker's keys recognises and says nothing, so both are stood in for by scripts that do as their
specifications say, put in before the page's own. The recorder that feeds the server's model is the real one, at a made-up microphone.
"""

import json
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
from playwright.sync_api import expect

from chromium import CHROMIUM, FLAGS, NEEDED, open_chat, say, violations
from conftest import ROOT, serving
from test_voice import SAID, make_whisper


pytestmark = NEEDED

# `window.did` tells what the page asked for; `recognition.says("words")` is what a test makes the browser hear.
FAKE_EARS = """
window.did = [];
window.SpeechRecognition = window.webkitSpeechRecognition = class {
  static available = async () => window.local ?? "unavailable";
  start() { did.push(`start ${this.lang} ${this.processLocally}`); window.recognition = this; }
  stop() { did.push("stop"); setTimeout(() => this.onend()); }
  abort() { did.push("abort"); this.fails("aborted"); }
  says(transcript, isFinal = true) { this.onresult({ resultIndex: 0, results: [Object.assign([{ transcript }], { isFinal })] }); }
  fails(error) { this.onerror({ error }); this.onend(); }
};
"""
FAKE_MOUTH = """
window.spoken = [];
window.SpeechSynthesisUtterance = class { constructor(text) { this.text = text; } };
const mouth = {
  getVoices: () => window.voices ?? [{ lang: "en-US", localService: false, name: "far" }, { lang: "en-US", localService: true, name: "near" }],
  speak: (one) => spoken.push(one),
  cancel: () => { const cut = spoken.splice(0); for (const one of cut) one.onerror({ error: "canceled" }); },
};
Object.defineProperty(window, "speechSynthesis", { value: mouth });
"""
NEITHER = """
for (const name of ["SpeechRecognition", "webkitSpeechRecognition", "speechSynthesis"])
  Object.defineProperty(window, name, { value: undefined });
"""


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """A Space whose operator chose a model for speech: a tiny one, which always says the same."""
    folder = tmp_path_factory.mktemp("voice")
    chosen = {"THERAGEN_WHISPER": make_whisper(folder / "whisper")}
    with serving(ROOT / "tests/fake_space.py", folder / "log", **chosen) as server:
        yield server


@pytest.fixture(scope="module")
def said(space):
    """What the page says in English, by name."""
    return httpx.get(f"{space.url}/words/en").json()["texts"]


@pytest.fixture(scope="module")
def microphone(browser):
    """A Chromium that has a microphone, which beeps, and lets the page use it."""
    media = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    opened = browser.browser_type.launch(executable_path=CHROMIUM, args=[*FLAGS, *media])
    yield opened
    opened.close()


@contextmanager
def chat(browser, space, script: str = FAKE_EARS + FAKE_MOUTH, whisper: bool = False, **context):
    context = browser.new_context(**{"viewport": {"width": 900, "height": 800}, **context})
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.faults = []
    page.on("pageerror", lambda fault: page.faults.append(str(fault)))
    page.add_init_script(script)
    if not whisper:
        page.route(f"{space.url}/", without_whisper)
    open_chat(page, space)
    page.locator("#speak").wait_for(state="attached")
    try:
        yield page
        assert page.faults == []
    finally:
        context.close()


def without_whisper(route) -> None:
    """The page as the server gives it where the operator chose no model."""
    answer = route.fetch()
    assert 'data-whisper="1"' in answer.text()
    route.fulfill(response=answer, body=answer.text().replace('data-whisper="1"', 'data-whisper="0"'))


def listen(page) -> None:
    page.click("#speak")
    page.locator("#voice-note button").first.click()
    page.wait_for_function("window.recognition")


def note(page):
    return page.locator("#voice-note")


def box(page):
    return page.locator("#message textarea")


def test_what_is_spoken_joins_what_was_written_and_is_not_sent(browser, space, said):
    with chat(browser, space) as page:
        box(page).fill("I wrote this.")
        page.click("#speak")
        expect(note(page)).to_contain_text(said["voice_privacy"])
        assert page.evaluate("did") == []  # not before the person knows
        note(page).get_by_text(said["continue"]).click()
        expect(note(page)).to_have_text(said["voice_listening"])
        expect(page.locator("#speak")).to_have_text(said["voice_stop"])
        page.evaluate("recognition.says('not yet certa', false)")
        page.evaluate("recognition.says('and I said this')")
        page.evaluate("recognition.says(' and that ')")
        expect(box(page)).to_have_value("I wrote this. and I said this and that")
        assert page.evaluate("document.activeElement.id") == "speak"
        page.click("#speak")
        expect(page.locator("#speak")).to_have_text(said["speak"])
        expect(note(page)).to_be_empty()
        page.wait_for_timeout(300)
        assert page.locator("#chat .user").count() == 0
        page.click("#speak")  # now it is known
        expect(page.locator("#speak")).to_have_text(said["voice_stop"])
        assert page.evaluate("did") == ["start en-US false", "stop", "start en-US false"]


def test_whoever_would_rather_not_is_not_listened_to(browser, space, said):
    with chat(browser, space) as page:
        page.click("#speak")
        note(page).get_by_text(said["cancel"]).click()
        expect(note(page)).to_be_empty()
        assert page.evaluate("document.activeElement.id") == "speak"
        page.click("#speak")
        expect(note(page)).to_contain_text(said["voice_privacy"])
        assert page.evaluate("did") == []


FAULTS = {
    "not-allowed": "voice_refused",
    "service-not-allowed": "voice_refused",
    "no-speech": "voice_nothing",
    "network": "voice_unavailable",
    "language-not-supported": "voice_unavailable",
}


def test_a_fault_is_explained_and_the_button_is_as_before(browser, space, said):
    with chat(browser, space) as page:
        page.click("#speak")
        note(page).get_by_text(said["continue"]).click()
        for error, name in FAULTS.items():
            expect(page.locator("#speak")).to_have_text(said["voice_stop"])
            page.wait_for_function("window.recognition")
            page.evaluate("error => { const was = recognition; window.recognition = null; was.fails(error); }", error)
            expect(note(page)).to_have_text(said[name])
            expect(page.locator("#announced")).to_have_text(said[name])
            expect(page.locator("#speak")).to_have_text(said["speak"])
            page.click("#speak")


@pytest.mark.parametrize(
    ("locale", "local", "begun"),
    [
        ("es-MX", "available", "start es-MX true"),
        ("ja", "downloadable", "start en false"),
        ("zh-CN", "", "start zh-CN false"),
    ],
)
def test_it_listens_in_the_language_of_the_page_and_on_the_device_where_it_can(browser, space, locale, local, begun):
    with chat(browser, space, FAKE_EARS + f"window.local = {json.dumps(local)};", locale=locale) as page:
        listen(page)
        assert page.evaluate("did") == [begun]
        page.evaluate("recognition.says('一'); recognition.says('二')")
        expect(box(page)).to_have_value("一二" if locale == "zh-CN" else "一 二")


ELSEWHERE = [
    "document.querySelector('[data-view=settings]').click()",
    "dispatchEvent(new Event('forgotten'))",
    "document.getElementById('clear').click()",
    "import('/browser/core.js').then(core => core.speak('de'))",
    "dispatchEvent(new Event('pagehide'))",
    "document.body.replaceChildren()",  # as the quick exit does
]


def test_turning_to_something_else_ends_it_and_drops_what_was_half_said(browser, space):
    with chat(browser, space) as page:
        page.evaluate("window.box = document.querySelector('#message textarea')")
        listen(page)
        for act in ELSEWHERE:
            page.evaluate(act)
            page.wait_for_function("did.at(-1) === 'abort'")
            page.evaluate("recognition.says('too late')")
            assert page.evaluate("box.value") == "", act
            if page.locator("#view .close").is_visible():
                page.click("#view .close")
            if page.locator("#speak").is_visible():
                page.click("#speak")
                page.wait_for_function("did.at(-1).startsWith('start')")


def test_without_either_there_are_no_such_buttons(browser, space):
    with chat(browser, space, NEITHER) as page:
        say(page, "hello there")
        expect(page.locator("#chat")).to_contain_text("word39")
        assert page.locator("#copy").is_visible()
        assert not page.locator("#speak").is_visible()
        assert not page.locator("#read_aloud").is_visible()


def reply(page, message: str = "hello there") -> None:
    say(page, message)
    expect(page.locator("#chat")).to_contain_text("word39")


def test_the_last_reply_is_read_sentence_by_sentence(browser, space, said):
    with chat(browser, space) as page:
        reply(page)
        page.click("#read_aloud")
        expect(page.locator("#read_aloud")).to_have_text(said["read_stop"])
        assert page.evaluate("spoken.map(one => one.text)")[0] == "I am listening."
        assert page.evaluate("spoken.at(-1).text").endswith("word39")
        assert page.evaluate("[spoken.length, spoken[0].lang, spoken[0].voice.name]") == [2, "en-US", "near"]
        page.evaluate("spoken.at(-1).onend()")
        expect(page.locator("#read_aloud")).to_have_text(said["read_aloud"])
        page.click("#read_aloud")
        page.click("#read_aloud")  # which stops it
        expect(page.locator("#read_aloud")).to_have_text(said["read_aloud"])
        assert page.evaluate("spoken") == []
        expect(note(page)).to_have_count(0)  # no fault, nothing to say
        page.click("#read_aloud")
        page.click("[data-view=settings]")
        page.wait_for_function("spoken.length === 0")


def test_a_voice_that_may_be_far_away_is_told_of_first(browser, space, said):
    with chat(browser, space, FAKE_MOUTH + "window.voices = [{ lang: 'en-US', localService: false }]") as page:
        reply(page)
        page.click("#read_aloud")
        expect(note(page)).to_contain_text(said["read_privacy"])
        assert page.evaluate("spoken.length") == 0
        note(page).get_by_text(said["continue"]).click()
        page.wait_for_function("spoken.length === 2")
        assert page.evaluate("[spoken[0].voice, spoken[0].lang]") == [None, "en-US"]
        page.evaluate("spoken[0].onerror({ error: 'synthesis-failed' })")
        expect(note(page)).to_have_text(said["voice_unavailable"])
        expect(page.locator("#read_aloud")).to_have_text(said["read_aloud"])


def test_of_a_reply_that_is_folded_up_only_its_topic_is_read(browser, space):
    with chat(browser, space) as page:
        say(page, "tell me a story")
        page.locator("#chat details.heavy summary").wait_for()
        expect(page.locator("body")).not_to_have_attribute("data-replying", "")
        page.click("#read_aloud")
        read = page.evaluate("spoken.map(one => one.text).join(' ')")
        assert "death" in read and "murdered" not in read
        page.click("#read_aloud")
        page.locator("#chat details.heavy summary").click()
        page.click("#read_aloud")
        assert "murdered" in page.evaluate("spoken.map(one => one.text).join(' ')")


KEEP_STREAMS = """
const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
window.tracks = [];
navigator.mediaDevices.getUserMedia = async (...what) => {
  const stream = await ask(...what);
  tracks.push(...stream.getTracks());
  return stream;
};
"""


def answering(page, **answer) -> list[bytes]:
    """Stand in for the server's /transcribe; returns the sounds that arrive there."""
    sounds = []

    def answered(route):
        sounds.append((route.request.url.rsplit("/", 1)[-1], route.request.post_data_buffer))
        if answer:
            route.fulfill(**answer)
        else:
            route.abort()

    page.route("**/transcribe*", answered)
    return sounds


def record(page, said, milliseconds: int = 1200) -> None:
    page.click("#speak")
    page.locator("#voice-note button").first.click()
    expect(page.locator("#speak")).to_have_text(said["voice_stop"])
    page.wait_for_timeout(milliseconds)
    page.click("#speak")


def test_the_server_turns_a_recording_into_words(microphone, space, said):
    with chat(microphone, space, FAKE_EARS + KEEP_STREAMS, whisper=True) as page:
        sounds = answering(page, json={"text": "what I said"})
        box(page).fill("I wrote this.")
        page.click("#speak")
        expect(note(page)).to_contain_text(said["voice_privacy_here"])
        note(page).get_by_text(said["cancel"]).click()
        record(page, said)
        expect(box(page)).to_have_value("I wrote this. what I said")
        expect(page.locator("#speak")).to_have_text(said["speak"])
        expect(note(page)).to_be_empty()
        assert page.evaluate("did") == []  # the browser's own ears stay out of it
        assert page.evaluate("tracks.map(track => track.readyState)") == ["ended"]
        assert page.locator("#chat .user").count() == 0
    (asked, sound) = sounds[0]
    samples = np.frombuffer(sound, "<i2").astype(float) / 32768
    assert asked == "transcribe?language=en"
    assert 0.8 < len(samples) / 16_000 < 4  # seconds
    assert 0.02 < np.abs(samples).max() <= 1  # the beeps are in it


def test_the_whole_way_from_the_microphone_to_the_box(microphone, space, said):
    with chat(microphone, space, whisper=True) as page:
        record(page, said)
        expect(box(page)).to_have_value(SAID, timeout=60_000)  # the model is loaded now
    assert "tea" not in space.written()


def test_what_the_server_cannot_do_is_said(microphone, space, said):
    answers = [
        ({"json": {"text": ""}}, "voice_nothing"),
        ({"status": 503, "body": "later"}, "busy"),
        ({"status": 429, "body": "later"}, "busy"),
        ({"status": 500, "body": "sorry"}, "voice_failed"),
        ({}, "voice_failed"),  # no answer at all
    ]
    with chat(microphone, space, whisper=True) as page:
        page.click("#speak")
        page.locator("#voice-note button").first.click()
        for answer, name in answers:
            answering(page, **answer)
            expect(page.locator("#speak")).to_have_text(said["voice_stop"])
            page.wait_for_timeout(300)
            page.click("#speak")
            expect(note(page)).to_have_text(said[name])
            expect(page.locator("#speak")).to_have_text(said["speak"])
            page.click("#speak")
        assert box(page).input_value() == ""


def test_half_a_minute_ends_by_itself(microphone, space, said):
    shorter = "const wait = setTimeout; window.setTimeout = (then, time, ...more) => wait(then, time === 30000 ? 700 : time, ...more);"
    with chat(microphone, space, shorter, whisper=True) as page:
        sounds = answering(page, json={"text": "so far"})
        page.click("#speak")
        page.locator("#voice-note button").first.click()
        expect(box(page)).to_have_value("so far")
        assert len(sounds) == 1


def test_a_recording_is_dropped_by_whoever_turns_to_something_else(microphone, space, said):
    with chat(microphone, space, KEEP_STREAMS, whisper=True) as page:
        sounds = answering(page, json={"text": "never"})
        page.click("#speak")
        page.locator("#voice-note button").first.click()
        expect(page.locator("#speak")).to_have_text(said["voice_stop"])
        page.click("[data-view=settings]")
        page.wait_for_function("tracks.every(track => track.readyState === 'ended')")
        page.wait_for_timeout(500)
        assert sounds == []


def test_a_blocked_microphone_is_explained(browser, space, said):
    blocked = "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('no', 'NotAllowedError'); };"
    with chat(browser, space, blocked, whisper=True) as page:
        page.click("#speak")
        page.locator("#voice-note button").first.click()
        expect(note(page)).to_have_text(said["voice_refused"])
        expect(page.locator("#speak")).to_have_text(said["speak"])


def test_no_microphone_is_explained(browser, space, said):
    with chat(browser, space, "", whisper=True, permissions=["microphone"]) as page:
        page.click("#speak")
        page.locator("#voice-note button").first.click()
        expect(note(page)).to_have_text(said["voice_unavailable"])


@pytest.mark.parametrize("context", [{"color_scheme": "light"}, {"color_scheme": "dark", "locale": "ar"}])
def test_axe_finds_nothing_in_what_is_said_of_privacy(browser, space, context):
    phone = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
    with chat(browser, space, bypass_csp=True, **phone, **context) as page:
        page.click("#speak")
        expect(note(page).locator("button")).to_have_count(2)
        assert violations(page, "#voice-note") == []
