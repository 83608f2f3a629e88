"""Collect posts and the best reply to each from Reddit or X into a file that a recipe reads; who wrote them is never kept.

    python data/collect.py reddit depression anxiety mentalhealth ptsd --output DIR/reddit
    python data/collect.py x "#mentalhealth" "#therapy" "#depression" --output DIR/x

Credentials come from the environment: praw_client_id and praw_client_secret (https://www.reddit.com/prefs/apps), or
X_BEARER_TOKEN (https://developer.x.com). Both clients wait where a rate limit asks for it. What a stopped run has found stays
found; the next one goes on behind it. The files hold people's own words as they wrote them: keep them on this machine, and
collect anew before each build, since people delete what they wrote. Neither site allows to publish them.
"""

import argparse
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from rows import BadInput, run


USER_AGENT = "python:theragen:0.1 (corpus of supportive replies)"
GONE = ("", "[deleted]", "[removed]")
LEAST_SCORE = 2  # a reply that nobody but its writer voted for is not known to be supportive
MENTIONS = re.compile(r"^(?:@\w+\s+)+")


def main(options: argparse.Namespace) -> None:
    options.output.mkdir(parents=True, exist_ok=True)
    client = reddit_client() if options.site == "reddit" else x_client()
    threads = reddit_threads if options.site == "reddit" else x_threads
    for name in options.names:
        file = options.output / f"{re.sub(r'[^A-Za-z0-9]+', '-', name).strip('-').lower()}.jsonl"
        seen = stored_ids(file)
        new = replies = 0
        with file.open("a", encoding="utf-8") as opened:
            for thread in tqdm(threads(client, name, options.limit, seen), desc=name, unit=" posts", disable=None):
                opened.write(json.dumps(thread, ensure_ascii=False) + "\n")
                opened.flush()
                new, replies = new + 1, replies + bool(thread["reply"])
        print(f"{name}: {new} new posts, {replies} with a supportive reply, {len(seen)} known before, in {file}")


def stored_ids(file: Path) -> set[str]:
    """The ids in a file, from which half a last line is cut off."""
    if not file.exists():
        return set()
    whole, newline, _ = file.read_bytes().rpartition(b"\n")
    with file.open("r+b") as opened:
        opened.truncate(len(whole) + len(newline))
    return {json.loads(line)["id"] for line in whole.splitlines() if line}


def reddit_client():
    from praw import Reddit
    from praw.exceptions import MissingRequiredAttributeException

    try:
        return Reddit(user_agent=USER_AGENT, check_for_updates=False, ratelimit_seconds=600)
    except MissingRequiredAttributeException as error:
        raise BadInput(
            "Reddit needs credentials: set praw_client_id and praw_client_secret, see https://www.reddit.com/prefs/apps."
        ) from error


def reddit_threads(reddit, subreddit: str, limit: int, seen: set[str]) -> Iterator[dict]:
    """Yield the most voted posts of a subreddit with the most voted reply by somebody else; Reddit lists 1,000 at most."""
    from prawcore import PrawcoreException

    try:
        for post in reddit.subreddit(subreddit).top(time_filter="all", limit=limit):
            if post.id in seen or post.stickied or post.author is None or post.selftext.strip() in GONE:
                continue
            post.comment_sort, post.comment_limit = "top", 20
            post.comments.replace_more(limit=0)
            reply = best(
                (comment.score, comment.body)
                for comment in post.comments
                if comment.author not in (None, post.author) and not comment.stickied and not comment.distinguished
                and comment.author.name != "AutoModerator"
            )  # fmt: skip
            yield {"id": post.id, "topic": subreddit, "title": post.title, "text": post.selftext, "reply": reply}
    except PrawcoreException as error:
        raise BadInput(
            f"Reddit did not answer for r/{subreddit} ({type(error).__name__}: {error}): check its name, the credentials and the "
            "network; the same command goes on from here."
        ) from error


def x_client():
    from tweepy import Client

    token = os.environ.get("X_BEARER_TOKEN")
    if not token:
        raise BadInput("X needs a token: set X_BEARER_TOKEN, see https://developer.x.com.")
    return Client(token, wait_on_rate_limit=True)


def x_threads(client, query: str, limit: int, seen: set[str]) -> Iterator[dict]:
    """Yield recent English posts that fit the query with the most liked reply by somebody else."""
    from requests import RequestException
    from tweepy import Paginator, TweepyException

    fields = ["author_id", "conversation_id", "public_metrics", "referenced_tweets"]
    original = f"{query} lang:en -is:retweet -is:reply -has:links"
    try:
        pages = Paginator(
            client.search_recent_tweets, original, tweet_fields=fields, max_results=min(100, max(10, limit))
        )
        for post in pages.flatten(limit=limit):
            if str(post.id) in seen:
                continue
            answers = ()
            if post.public_metrics["reply_count"]:
                conversation = f"conversation_id:{post.conversation_id} is:reply"
                answers = client.search_recent_tweets(conversation, tweet_fields=fields, max_results=100).data or ()
            reply = best(
                (answer.public_metrics["like_count"], MENTIONS.sub("", answer.text))
                for answer in answers
                if answer.author_id != post.author_id and post.id in [one.id for one in answer.referenced_tweets or ()]
            )
            yield {"id": str(post.id), "topic": query, "title": "", "text": post.text, "reply": reply}
    except (TweepyException, RequestException) as error:
        raise BadInput(
            f"X did not answer for {query} ({type(error).__name__}: {str(error).splitlines()[0]}): check the token, its quota and "
            "the network; the same command goes on from here."
        ) from error


def best(scored: Iterator[tuple[int, str]]) -> str | None:
    """The text with the highest score, if that is enough and the text is still there; of equals the first."""
    fitting = [(score, text) for score, text in scored if score >= LEAST_SCORE and text.strip() not in GONE]
    return max(fitting, key=lambda one: one[0])[1] if fitting else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", choices=["reddit", "x"])
    parser.add_argument("names", nargs="+", help="subreddits, or search terms of X")
    parser.add_argument("--output", required=True, type=Path, help="folder; one .jsonl file for each name")
    parser.add_argument("--limit", type=int, default=1000, help="posts of each name (default: 1000)")
    run(main, parser.parse_args(), extra="collect")
