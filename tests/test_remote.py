"""An endpoint over HTTP as it works, as it fails and as it is left alone; what leaves this machine and what stays."""

import itertools
import logging
import socket
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed

import pytest

import engine
import remote_engine
from base_model import BaseUnavailable
from conftest import free_port
from conversation import respond
from fake_endpoint import DONE, CutOff, delta, endpoint_server, event, streamed
from remote_engine import RemoteEngine, RemoteFailed, later_half
from texts import text


KEY, WORDS = "sk-of-the-operator", "nobody else may read this"
PERSON = [{"role": "user", "content": WORDS}]
SOON = 5.0  # seconds, on a machine that is busy


class Local:
    """A second engine, of one sentence, that says when it is closed early."""

    description = "local"
    closed = False

    def stream(self, messages):
        try:
            yield from ["I am ", "local."]
        except GeneratorExit:
            self.closed = True
            raise


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(remote_engine, "WAITS", (0.02, 0.02))
    monkeypatch.setattr(remote_engine, "SILENCE", 5.0)


def asking(server, model="m", key="", fallback=None) -> RemoteEngine:
    return RemoteEngine(server.url, model, key, fallback)


def reply(remote, messages=PERSON) -> str:
    return "".join(remote.stream(messages))


def failing(remote, messages=PERSON) -> tuple[str, str]:
    """What was said before the failure, and the failure."""
    said = []
    with pytest.raises(RemoteFailed) as failure:
        said.extend(remote.stream(messages))
    return "".join(said), str(failure.value)


def test_a_reply_streams_as_it_is_written_with_the_settings_of_our_own_engine():
    go_on = threading.Event()

    def answer(body):
        yield from itertools.islice(streamed("I hear "), 2)
        assert go_on.wait(SOON)
        yield from streamed("you.\u2028\x85Go on ", "🫶")

    with endpoint_server(answer) as server:
        pieces = asking(server).stream(PERSON)
        assert next(filter(None, pieces)) == "I hear "
        go_on.set()
        assert "".join(pieces) == "you.\u2028\x85Go on 🫶"
    (request,) = server.requests
    assert request["body"] == {
        "model": "m",
        "messages": PERSON,
        "stream": True,
        "max_tokens": engine.MAX_NEW_TOKENS,
        "temperature": 0.7,
        "top_p": 0.9,
        "repetition_penalty": 1.1,
        "repeat_penalty": 1.1,
    }


@pytest.mark.parametrize("given", ["", "/", "/v1", "/v1/", "/api/v1"])
def test_addresses_with_and_without_a_path(given):
    with endpoint_server(lambda body: streamed("hi")) as server:
        assert reply(RemoteEngine(server.url + given, "m")) == "hi"
    assert server.requests[0]["path"] == f"{given.rstrip('/') or '/v1'}/chat/completions"


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://example.org",
        "https://example.org/v1",
        "http://localhost:8000",
        "http://127.0.0.1:8000",
        "http://[::1]:8000",
        "http://10.1.2.3",
        "http://[fd00::1]",
        "http://vllm:8000/v1",
        "http://vllm.chat.svc:8000",
        "http://gpu.local",
        "http://local",
    ],
)
def test_addresses_that_may_be_used(endpoint):
    described = RemoteEngine(endpoint, "theragen", KEY).description
    assert described.startswith("theragen at ") and KEY not in described and "/" not in described


@pytest.mark.parametrize(
    "endpoint, why",
    [
        ("http://example.org/v1", "example.org unencrypted"),
        ("http://8.8.8.8", "8.8.8.8 unencrypted"),
        ("http://134744072", "unencrypted"),  # 8.8.8.8 as one number
        (f"https://example.org/v1?key={KEY}", "THERAGEN_ENDPOINT_KEY"),
        (f"https://me:{KEY}@example.org", "THERAGEN_ENDPOINT_KEY"),
        (f"https://example.org/#{KEY}", "THERAGEN_ENDPOINT_KEY"),
        ("example.org", "no address"),
        ("ftp://example.org", "no address"),
        ("https://", "no address"),
        ("https://example.org:port", "no address"),
        ("", "no address"),
    ],
)
def test_addresses_that_may_not(endpoint, why):
    with pytest.raises(BaseUnavailable, match=why) as failure:
        RemoteEngine(endpoint, "m")
    assert KEY not in str(failure.value) and "\n" not in str(failure.value)


@pytest.mark.parametrize("key", ["", f" {KEY}\n"])
def test_only_the_key_that_is_named_leaves_and_nothing_else_of_the_environment(monkeypatch, key):
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID", "WEBHOOK_SECRET"):
        monkeypatch.setenv(f"OPENAI_{name}", "not-yours")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer not-yours\nX-Mine: not-yours")
    monkeypatch.setenv("HF_TOKEN", "hf_not-yours")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with endpoint_server(lambda body: streamed("hi"), models=("first", "second")) as server:
        assert reply(asking(server, model="", key=key)) == "hi"
    assert len(server.requests) == 2
    for request in server.requests:
        headers = {name.lower(): value for name, value in request["headers"].items()}
        assert headers.pop("authorization", "") == (f"Bearer {KEY}" if key else "")
        assert headers.keys() <= remote_engine.HEADERS and "not-yours" not in str(request)


def test_a_model_without_a_name_is_the_servers_first_and_asked_for_once():
    with endpoint_server(lambda body: streamed("hi"), models=("/srv/models/first", "second")) as server:
        remote = asking(server, model="")
        assert remote.description == "the model at 127.0.0.1"
        assert [reply(remote), reply(remote)] == ["hi", "hi"]
        assert remote.description == "first at 127.0.0.1"
    assert [request["path"][-7:] for request in server.requests] == ["/models", "letions", "letions"]
    assert {request["body"]["model"] for request in server.requests[1:]} == {"/srv/models/first"}


def test_a_server_that_calls_its_model_otherwise_after_a_restart_is_asked_again():
    names = ["first"]

    def answer(body):
        return streamed("hi") if body["model"] in names else (404, {"error": "no such model"})

    with endpoint_server(answer, models=names) as server:
        remote = asking(server, model="")
        assert reply(remote) == "hi"
        names[:] = ["second"]
        assert failing(remote) == ("", "The endpoint failed: status 404.")
        assert reply(remote) == "hi"
        assert remote.description == "second at 127.0.0.1"


def test_a_server_without_models_is_a_failure_and_no_crash():
    with endpoint_server(lambda body: streamed("hi"), models=()) as server:
        assert failing(asking(server, model="")) == ("", "The endpoint failed: IndexError.")


def waiting(seconds):
    time.sleep(seconds)
    return streamed("late")


def silent_after(*pieces, keep_alive=b"", every=0.05, seconds=12.0):
    yield from map(delta, pieces)
    for _ in range(round(seconds / every)):
        time.sleep(every)
        yield keep_alive


@pytest.mark.parametrize(
    "answer",
    [
        lambda body: waiting(12),
        lambda body: silent_after(),
        lambda body: silent_after("I hear "),
        lambda body: silent_after("I hear ", keep_alive=b": ping\n\n"),
        lambda body: silent_after("I hear ", keep_alive=b": "),
        lambda body: silent_after("I hear ", keep_alive=delta(None, reasoning_content="hm")),
        lambda body: silent_after("I hear ", keep_alive=event({"choices": [], "usage": None})),
    ],
    ids=["no header", "no word", "then nothing", "pings", "no line", "thoughts", "usage"],
)
def test_silence_ends_a_reply_however_much_else_is_sent(monkeypatch, answer):
    monkeypatch.setattr(remote_engine, "SILENCE", 0.4)
    with endpoint_server(answer) as server:
        started = time.monotonic()
        said, failure = failing(asking(server))
        assert 0.3 < time.monotonic() - started < 8
    assert said in ("", "I hear ") and "Timeout" in failure and len(server.requests) == 1


def test_a_slow_reply_that_goes_on_is_waited_for(monkeypatch):
    monkeypatch.setattr(remote_engine, "SILENCE", 2.0)

    def answer(body):
        for piece in streamed(*"slowly"):
            time.sleep(0.3)  # nine times: longer than SILENCE in all
            yield piece

    with endpoint_server(answer) as server:
        assert reply(asking(server)) == "slowly"


def cut_after(number, how):
    yield from itertools.islice(streamed(*"abcdef"), number + 1)
    if how == "connection":
        raise CutOff


@pytest.mark.parametrize("how", ["connection", "stream"])
@pytest.mark.parametrize("number", [0, 1, 4])
def test_a_reply_that_is_cut_off_is_never_asked_for_again_nor_continued_by_another(number, how):
    with endpoint_server(lambda body: cut_after(number, how)) as server:
        said, _ = failing(asking(server))
        assert said == "abcdef"[:number]
        if number:
            assert failing(asking(server, fallback=Local()))[0] == said
        else:
            assert reply(asking(server, fallback=Local())) == "I am local."
    assert len(server.requests) == 2


@pytest.mark.parametrize("status, asked", [(401, 1), (403, 1), (404, 1), (429, 3), (500, 3), (503, 3), (529, 1)])
def test_a_refusal_is_tried_again_only_where_that_can_help(status, asked):
    with endpoint_server(lambda body: (status, {"error": {"message": WORDS}})) as server:
        assert failing(asking(server)) == ("", f"The endpoint failed: status {status}.")
        assert len(server.requests) == asked
        assert reply(asking(server, fallback=Local())) == "I am local."


def test_a_server_that_recovers_gives_the_reply():
    answers = iter([(503, b"<html>"), (429, {}), streamed("here I am")])
    with endpoint_server(lambda body: next(answers)) as server:
        assert reply(asking(server, fallback=Local())) == "here I am"


@pytest.mark.parametrize(
    "after, silence, waited, asked",
    [
        ("1", 20.0, 1.0, 2),
        ("5", 4.0, 0, 1),
        ("20", 100.0, 0, 1),
        ("Mon, 30 Nov 2026 09:00:00 GMT", 20.0, 0, 2),
    ],
)
def test_the_server_says_how_long_to_wait_unless_nobody_would(monkeypatch, after, silence, waited, asked):
    monkeypatch.setattr(remote_engine, "SILENCE", silence)
    answers = iter([(429, {}, {"Retry-After": after}), streamed("here I am")])
    with endpoint_server(lambda body: next(answers)) as server:
        started = time.monotonic()
        said = reply(asking(server, fallback=Local()))
        assert waited <= time.monotonic() - started < waited + 4
    assert said == ("here I am" if asked == 2 else "I am local.") and len(server.requests) == asked


def test_a_server_that_is_not_there_and_one_that_comes_while_we_wait(monkeypatch):
    port = free_port()
    remote = RemoteEngine(f"http://127.0.0.1:{port}", "m")
    assert failing(remote) == ("", "The endpoint failed: ConnectError.")
    monkeypatch.setattr(remote_engine, "WAITS", (0.5, 0.5))
    with ThreadPoolExecutor(1) as pool:
        waiting_for = pool.submit(reply, remote)
        time.sleep(0.2)
        with endpoint_server(lambda body: streamed("here I am"), port=port):
            assert waiting_for.result(SOON) == "here I am"


def test_a_host_that_swallows_what_is_sent_is_given_up_after_one_try(monkeypatch):
    monkeypatch.setattr(remote_engine, "CONNECT", 0.3)
    monkeypatch.setattr(remote_engine, "WAITS", (4.0, 4.0))
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        with socket.create_connection(address):  # nobody takes it, and there is no room for another
            started = time.monotonic()
            assert failing(RemoteEngine(f"http://127.0.0.1:{address[1]}", "m"))[1].endswith("ConnectTimeout.")
            assert time.monotonic() - started < 4


GARBAGE = {
    "a page": (200, b"<html>Sign in</html>"),
    "nothing": (200, b""),
    "an error with status 200": (200, {"error": {"message": WORDS, "code": 503}}),
    "no stream": (200, {"choices": [{"message": {"content": "hi"}}]}),
    "no JSON": (200, b"data: {nonsense\n\n"),
    "no UTF-8": (200, b"data: \xff\xfe\n\n"),
    "half a line": (200, b'data: {"choices": [{"delta"'),
    "a number": (200, event(5)),
    "null": (200, event("null")),
    "no choices": (200, event({"choices": None})),
    "no delta": (200, event({"choices": [{"delta": None, "finish_reason": "stop"}]})),
    "parts": (200, delta([{"type": "text", "text": "hi"}])),
    "an error in the stream": (200, event({"error": {"message": WORDS, "type": "server_error"}})),
    "an error as event": (200, b'event: error\ndata: {"message": "x"}\n\n'),
    "done at once": (200, DONE),
    "usage alone": (200, event({"choices": [], "usage": {}}) + DONE),
    "an end without a word": (200, delta("", "stop") + DONE),
    "thoughts alone": (200, delta(None, "stop", reasoning_content=WORDS) + DONE),
}


@pytest.mark.parametrize("sent", GARBAGE.values(), ids=GARBAGE)
def test_what_is_no_reply_fails_without_a_word_and_the_fallback_answers(sent):
    with endpoint_server(lambda body: sent) as server:
        said, failure = failing(asking(server))
        assert said == "" and WORDS not in failure
        assert reply(asking(server, fallback=Local())) == "I am local."


def test_what_people_write_is_not_carried_on_to_another_host():
    with endpoint_server(lambda body: streamed("stolen")) as other:
        to = {"Location": f"{other.url}/v1/chat/completions"}
        with endpoint_server(lambda body: (307, b"", to)) as server:
            assert failing(asking(server, key=KEY)) == ("", "The endpoint failed: status 307.")
    assert other.requests == []


def test_thoughts_are_not_shown_and_a_reply_of_full_length_is_a_reply():
    def answer(body):
        yield delta(None, reasoning_content="they are sad")
        yield from streamed("I hear ", "you", finish="length")

    with endpoint_server(answer) as server:
        assert reply(asking(server)) == "I hear you"


def test_a_filter_that_cuts_in_is_a_failure_but_not_of_the_endpoint():
    with endpoint_server(lambda body: streamed("I ", finish="content_filter")) as server:
        remote = asking(server)
        for _ in range(remote_engine.FAILURES + 2):
            assert failing(remote) == ("I ", "The endpoint failed: its filter cut in.")
    assert len(server.requests) == remote_engine.FAILURES + 2


def test_a_conversation_that_is_too_long_loses_its_older_half_until_it_fits():
    turns = [{"role": role, "content": str(n)} for n, role in enumerate(["user", "assistant"] * 10)][:19]
    system = {"role": "system", "content": "be kind"}

    def answer(body):
        return (400, {"error": {"message": "too long"}}) if len(body["messages"]) > 6 else streamed("hi")

    with endpoint_server(answer) as server:
        assert reply(asking(server), [system, *turns]) == "hi"
    sent = [request["body"]["messages"] for request in server.requests]
    assert [len(messages) for messages in sent] == [20, 10, 6]
    assert all(messages[0] == system and messages[-1] == turns[-1] for messages in sent)
    assert all(messages[1]["role"] == "user" for messages in sent)


@pytest.mark.parametrize("number", range(1, 40))
def test_the_later_half_ends_with_the_last_message_and_is_always_shorter(number):
    turns = [{"role": "assistant" if (number - n) % 2 == 0 else "user", "content": str(n)} for n in range(number)]
    half = later_half(turns)
    assert half == turns[-len(half) :] and half[0]["role"] == "user"
    assert len(half) < number or number == 1


def test_what_does_not_fit_at_all_is_refused_and_is_no_failure_of_the_endpoint():
    with endpoint_server(lambda body: (422, {"error": "no"})) as server:
        remote = asking(server)
        for _ in range(remote_engine.FAILURES + 2):
            assert failing(remote) == ("", "The endpoint failed: status 422.")
    assert len(server.requests) == remote_engine.FAILURES + 2


def test_a_server_that_knows_no_penalty_is_asked_without_from_then_on():
    def answer(body):
        unknown = "repetition_penalty" in body
        return (400, {"error": {"message": "Unrecognized: repetition_penalty"}}) if unknown else streamed("hi")

    with endpoint_server(answer) as server:
        remote = asking(server)
        assert [reply(remote), reply(remote)] == ["hi", "hi"]
        assert ["repeat_penalty" in request["body"] for request in server.requests] == [True, False, False]
        assert asking(server).penalties, "another endpoint may know it"


def test_a_broken_endpoint_is_left_alone_then_tried_once_and_used_again_when_it_works():
    works, answered = threading.Event(), threading.Semaphore(0)

    def answer(body):
        if not works.is_set():
            return 404, {}
        for _ in range(7):  # the others are kept away for as long as the trial lasts
            answered.acquire(timeout=SOON)
        return streamed("hi")

    with endpoint_server(answer) as server, ThreadPoolExecutor(8) as pool:
        remote = asking(server, fallback=Local())

        def rested():
            remote.breaker.open_until = time.monotonic()

        def eight():
            before, said = len(server.requests), []
            for done in as_completed([pool.submit(reply, remote) for _ in range(8)]):
                said.append(done.result())
                answered.release()
            return said.count("hi"), len(server.requests) - before

        assert [reply(remote) for _ in range(remote_engine.FAILURES)] == ["I am local."] * remote_engine.FAILURES
        assert eight() == (0, 0), "open: the fallback answers at once"
        rested()
        assert eight() == (0, 1), "half open: one trial, which fails"
        assert eight() == (0, 0), "open again"
        rested()
        works.set()
        while answered.acquire(blocking=False):
            pass
        assert eight() == (1, 1), "half open: one trial, which works"
        answered.release(8 * 7)
        assert eight() == (8, 8), "closed"


def test_an_open_breaker_without_a_fallback_fails_at_once_and_a_success_starts_the_count_anew():
    answers = itertools.chain([404] * (remote_engine.FAILURES - 1), [200], itertools.repeat(404))

    def answer(body):
        status = next(answers)
        return streamed("hi") if status == 200 else (status, {})

    with endpoint_server(answer) as server:
        remote = asking(server)
        for _ in range(remote_engine.FAILURES - 1):
            failing(remote)
        assert reply(remote) == "hi"
        for _ in range(remote_engine.FAILURES):
            assert "404" in failing(remote)[1]
        asked = len(server.requests)
        assert "left alone" in failing(remote)[1] and len(server.requests) == asked


def endless(heard: threading.Event):
    try:
        for number in itertools.count():
            yield delta(f"{number} ")
            time.sleep(0.01)
    finally:
        heard.set()


def test_closing_stops_the_server_at_once():
    heard = threading.Event()
    with endpoint_server(lambda body: endless(heard)) as server:
        pieces = asking(server).stream(PERSON)
        assert next(filter(None, pieces)) == "0 "
        assert not heard.is_set()
        pieces.close()
        assert heard.wait(SOON)


def test_a_reply_that_nobody_waits_for_any_more_stops_through_the_whole_turn():
    heard = threading.Event()
    with endpoint_server(lambda body: endless(heard)) as server:
        turn = respond(PERSON, asking(server))
        next(turn)
        turn.close()
        assert heard.wait(SOON)


def test_closing_closes_the_fallback():
    local = Local()
    pieces = RemoteEngine(f"http://127.0.0.1:{free_port()}", "m", fallback=local).stream(PERSON)
    assert next(pieces) == "I am "
    pieces.close()
    assert local.closed


def test_32_people_at_once_each_get_their_own_reply():
    together = threading.Barrier(32)

    def answer(body):
        together.wait(SOON * 4)
        return streamed(*[f"{body['messages'][-1]['content']} "] * 20)

    def ask(number):
        return reply(remote, [{"role": "user", "content": f"person {number}"}])

    with endpoint_server(answer) as server, ThreadPoolExecutor(32) as pool:
        remote = asking(server)
        said = list(pool.map(ask, range(32)))
    assert said == [f"person {number} " * 20 for number in range(32)]


FAILURES = {
    **{str(status): (status, {"error": {"message": f"{WORDS} {KEY}"}}) for status in (400, 401, 404, 429, 500)},
    **{name: GARBAGE[name] for name in ("no JSON", "half a line", "an error in the stream", "thoughts alone")},
}


@pytest.mark.parametrize("sent", FAILURES.values(), ids=FAILURES)
def test_nothing_of_what_was_said_and_no_key_is_written_or_raised(caplog, capfd, sent):
    caplog.set_level(logging.DEBUG)
    with endpoint_server(lambda body: sent) as server, pytest.raises(RemoteFailed) as failure:
        reply(asking(server, key=KEY))
    problem = failure.value
    assert problem.__cause__ is None and problem.__context__ is None
    written = "".join([*traceback.format_exception(problem), repr(problem), caplog.text, *capfd.readouterr()])
    assert "The endpoint failed: " in caplog.text and KEY not in written and WORDS not in written
    ours = [record for record in caplog.records if record.name == "remote_engine"]
    assert len(ours) == 1 and "\n" not in ours[0].getMessage()


def test_a_turn_that_breaks_in_the_middle_keeps_what_was_said_and_ends_in_the_fixed_text():
    def answer(body):
        yield delta("That sounds hard. ")
        yield delta("What")
        raise CutOff

    with endpoint_server(answer) as server:
        *_, last = respond([{"role": "user", "content": "I had a bad day"}], asking(server))
    assert last == f"That sounds hard. \n\n{text('model_failed')}"
