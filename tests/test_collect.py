"""Reddit, X and Kaggle by their real clients, against servers on loopback that speak what those ask for."""

import io
import json
import time
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest
from requests.adapters import HTTPAdapter

from collect import stored_ids, x_threads
from conftest import command
from recipe import Source
from rows import BadInput, Post, Row
from sources import locate, read


ASKED = "I lie awake since March and count the cars outside."
ANSWERED = "Counting cars at night sounds lonely. Is there somebody you could ring at that hour?"


@contextmanager
def server(answer, port: int = 0):
    """Serve what answer(method, path, query) returns: status, body and headers."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            status, body, headers = answer(self.command, parts.path, parse_qs(parts.query))
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", "Content-Length": len(content), **headers}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

    try:
        bound = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError:
        pytest.skip(f"port {port} is taken")
    Thread(target=bound.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{bound.server_address[1]}"
    finally:
        bound.shutdown()
        bound.server_close()


def post(name: str, **values) -> dict:
    usual = {"id": name, "name": f"t3_{name}", "title": f"Title {name}", "selftext": ASKED, "author": "poster", "stickied": False,
             "subreddit": "depression", "num_comments": 3}  # fmt: skip
    return {"kind": "t3", "data": {**usual, **values}}


def comment(name: str, body: str, score: int, **values) -> dict:
    usual = {"id": name, "name": f"t1_{name}", "body": body, "score": score, "author": "helper", "stickied": False,
             "distinguished": None, "replies": "", "link_id": "t3_a"}  # fmt: skip
    return {"kind": "t1", "data": {**usual, **values}}


def listing(*children: dict) -> dict:
    return {"kind": "Listing", "data": {"children": list(children), "after": None, "before": None}}


POSTS = [
    post("a"),
    post("b", selftext="[removed]"),
    post("c", author="[deleted]", selftext="[deleted]"),
    post("d", stickied=True),
    post("e", title="Nobody answers me"),
]
COMMENTS = {
    "a": [
        comment("1", "Read the rules.", 90, author="AutoModerator"),
        comment("2", "Thank you all.", 80, author="poster"),
        comment("3", "[removed]", 70),
        comment("4", "[deleted]", 60, author="[deleted]"),
        comment("5", "As a moderator I lock this.", 50, distinguished="moderator"),
        comment("6", ANSWERED, 40),
        comment("7", "Same here.", 30),
    ],
    "e": [comment("8", "Me neither.", 1)],
}


class Reddit:
    def __init__(self):
        self.asked: list[str] = []
        self.broken_at = None
        self.remaining = 500

    def __call__(self, method, path, query):
        self.asked.append(path)
        limits = {"x-ratelimit-remaining": self.remaining, "x-ratelimit-reset": 2, "x-ratelimit-used": 1}
        if path == "/api/v1/access_token":
            return 200, {"access_token": "t", "token_type": "bearer", "expires_in": 3600, "scope": "*"}, {}
        if path.rstrip("/") == self.broken_at:
            return 404, {"message": "Not Found", "error": 404}, limits
        if path == "/r/depression/top":
            return 200, listing(*POSTS), limits
        name = path.strip("/").split("/")[-1]
        found = next(one for one in POSTS if one["data"]["id"] == name)
        return 200, [listing(found), listing(*COMMENTS[name])], limits


@pytest.fixture
def reddit():
    answers = Reddit()
    with server(answers) as url:
        answers.url = url
        yield answers


def collect(reddit, folder, **options):
    """Run the command with PRAW's own file of addresses."""
    settings = folder / "settings"
    settings.mkdir(exist_ok=True)
    (settings / "praw.ini").write_text(
        f"[DEFAULT]\nreddit_url={reddit.url}\noauth_url={reddit.url}\nshort_url={reddit.url}\n"
    )
    credentials = {"praw_client_id": "id", "praw_client_secret": "secret", "XDG_CONFIG_HOME": str(settings)}
    return command("data/collect.py", "reddit", "depression", "--output", folder, **credentials, **options)


def rows_of(file) -> list:
    return list(read(Source("reddit", "threads", "qa", "none", False), file.parent, [file]))


def test_reddit_gives_posts_with_the_best_reply_of_somebody_else(reddit, tmp_path):
    assert "2 new posts, 1 with a supportive reply" in collect(reddit, tmp_path).stdout
    row, left = rows_of(tmp_path / "depression.jsonl")
    assert [message["content"] for message in row.messages] == [f"Title a\n\n{ASKED}", ANSWERED]
    assert (type(row), type(left), left.text) == (Row, Post, f"Nobody answers me\n\n{ASKED}")
    stored = (tmp_path / "depression.jsonl").read_text()
    assert not [word for word in ("helper", "poster", "AutoModerator") if word in stored]


def test_a_stopped_collection_goes_on_where_it_was(reddit, tmp_path):
    reddit.broken_at = "/comments/e"
    failed = collect(reddit, tmp_path, check=False)
    assert (failed.returncode, "goes on from here" in failed.stderr, "Traceback" in failed.stderr) == (2, True, False)
    with (tmp_path / "depression.jsonl").open("a") as file:
        file.write('{"id": "half')
    reddit.broken_at = None
    reddit.asked.clear()
    assert "1 new posts, 0 with a supportive reply, 1 known before" in collect(reddit, tmp_path).stdout
    assert not [path for path in reddit.asked if path.startswith("/comments/a")]
    assert stored_ids(tmp_path / "depression.jsonl") == {"a", "e"}


def test_a_rate_limit_is_waited_for(reddit, tmp_path):
    reddit.remaining = 0
    started = time.monotonic()
    collect(reddit, tmp_path)
    assert time.monotonic() - started > 2


def test_what_cannot_be_had_is_one_sentence(reddit, tmp_path):
    reddit.broken_at = "/r/depression/top"
    failed = collect(reddit, tmp_path, check=False)
    assert (failed.returncode, "r/depression (NotFound" in failed.stderr, failed.stderr.count("\n")) == (2, True, 1)
    for site, word in (("reddit", "praw_client_id"), ("x", "X_BEARER_TOKEN")):
        failed = command("data/collect.py", site, "any", "--output", tmp_path, check=False)
        assert (failed.returncode, word in failed.stderr, "Traceback" in failed.stderr) == (2, True, False)


def tweet(name: int, text: str, author: int, likes: int = 0, replies: int = 0, to: int | None = None) -> dict:
    found = {"id": str(name), "text": text, "author_id": str(author), "conversation_id": "1", "edit_history_tweet_ids": [str(name)],
             "public_metrics": {"like_count": likes, "reply_count": replies, "retweet_count": 0, "quote_count": 0}}  # fmt: skip
    return found | ({"referenced_tweets": [{"type": "replied_to", "id": str(to)}]} if to else {})


ANSWERS = [
    tweet(11, "@poster Thanks everybody", author=7, likes=90, to=1),
    tweet(12, "@poster @other You are not the only one awake", author=8, likes=5, to=1),
    tweet(13, "@other To somebody else", author=9, likes=50, to=12),
]


class ToLoopback(HTTPAdapter):
    """Sends what is meant for X to a server here."""

    def __init__(self, url):
        super().__init__()
        self.address = url

    def send(self, request, **options):
        parts = urlsplit(request.url)
        request.url = f"{self.address}{parts.path}?{parts.query}"
        return super().send(request, **options)


def x(url):
    from tweepy import Client

    client = Client("token", wait_on_rate_limit=True)
    client.session.mount("https://", ToLoopback(url))
    return client


def test_x_gives_posts_with_the_best_direct_reply_and_waits_for_its_limit():
    limited = [True]

    def answer(method, path, query):
        if limited and limited.pop():
            return 429, {"title": "Too Many Requests"}, {"x-rate-limit-reset": int(time.time()) + 1}
        asked = query["query"][0]
        found = (
            ANSWERS
            if asked.startswith("conversation_id:1")
            else [tweet(1, ASKED, 7, replies=3), tweet(2, "Alone again", 7)]
        )
        return 200, {"data": found, "meta": {"result_count": len(found)}}, {}

    with server(answer) as url:
        first, second = x_threads(x(url), "#mentalhealth", 10, set())
        assert (first["text"], first["reply"]) == (ASKED, "You are not the only one awake")
        assert (second["text"], second["reply"]) == ("Alone again", None)
        assert [one["id"] for one in x_threads(x(url), "#mentalhealth", 10, {"1"})] == ["2"]


def test_x_that_refuses_is_one_sentence():
    with (
        server(lambda *_: (401, {"title": "Unauthorized", "status": 401}, {})) as url,
        pytest.raises(BadInput, match="check the token"),
    ):
        list(x_threads(x(url), "#therapy", 10, set()))


def test_kaggle_files_are_a_source(tmp_path, monkeypatch):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("pairs.csv", f"ask,say\n{ASKED},{ANSWERED}\n")
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")  # Kaggle's own name for http://localhost:7777
    monkeypatch.setenv("KAGGLE_API_TOKEN", "made-up")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    found = Source(
        "k",
        "pairs",
        "qa",
        "CC0-1.0",
        True,
        kaggle="org/set/versions/1",
        files=("*.csv",),
        columns={"question": "ask", "answer": "say"},
    )
    with server(lambda *_: (200, archive.getvalue(), {"Content-Type": "application/zip"}), 7777):
        folder, files = locate(found, None)
    (row,) = read(found, folder, files)
    assert row.messages[0]["content"] == ASKED
    with (
        server(lambda *_: (403, {"message": "Forbidden"}, {}), 7777),
        pytest.raises(BadInput, match="KAGGLE_API_TOKEN"),
    ):
        locate(found._replace(kaggle="org/other/versions/1"), None)
