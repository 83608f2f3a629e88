"""How many people one machine serves at a given first-text p95, and what 1,000 conversations cost, from what was measured.

    python hub/capacity.py --people 500 --hour 0.40
    python hub/capacity.py --people 500 --measured build/load.json --gpu-hour 2.50     # a machine of your own, measured there

People are in conversation at the same moment, and most of them read or type: that pause is assumed (--pause), the rest measured.
Of the crowds that benchmarks/load.py measured, the largest whose 95th percentile meets the target says how many replies may be
written at once. One machine takes as many people as leave 95 of 100 messages in such company or less. How many write at once
is a closed queue, one machine that all who wait share and a pause for each person: only the means of pauses and lengths count
there, not how they spread (Baskett, Chandy, Muntz, Palacios 1975), and the mean is Little's law. Between two measured crowds
a straight line is taken, which is careful, since speed flattens and waiting steepens; beyond the largest no speed is added and
no waiting time claimed. Everybody in a measured crowd began at the same moment, which people do not. Prices are yours.
"""

import argparse
import json
import sys
from itertools import pairwise, takewhile
from math import ceil, exp, log
from pathlib import Path


MEASURED = Path(__file__).with_name("measured.json")
SHARE = 0.95  # of messages that must not meet more replies at once than the target allows
NEEDED = {"people", "tokens_a_second", "tokens_a_reply", "first_p95"}


def between(crowds: list[dict], people: int, value) -> float:
    """Return `value` of a crowd of that size on the line between its measured neighbours; raises ValueError outside them."""
    for lower, upper in pairwise([crowds[0], *crowds]):
        if lower["people"] <= people <= upper["people"]:
            share = (people - lower["people"]) / max(upper["people"] - lower["people"], 1)
            return value(lower) + share * (value(upper) - value(lower))
    raise ValueError(f"{people} replies at once lie outside what was measured (1 to {crowds[-1]['people']}).")


def replies_a_second(crowds: list[dict], at_once: int) -> float:
    """Return how many replies end each second while `at_once` are written; more than were measured end no more often."""
    at_once = min(at_once, crowds[-1]["people"])
    return between(crowds, at_once, lambda crowd: crowd["tokens_a_second"] / crowd["tokens_a_reply"])


def allowed_at_once(crowds: list[dict], target: float) -> int:
    """Return up to how many replies at once, of those measured, first texts come within `target` seconds; 0 for none."""
    waits = (between(crowds, n, lambda crowd: crowd["first_p95"]) for n in range(1, crowds[-1]["people"] + 1))
    return len(list(takewhile(lambda wait: wait <= target, waits)))


def shares(crowds: list[dict], people: int, pause: float) -> list[float]:
    """Return the share of time in which 0, 1, ... replies are written at once for `people` in conversation."""
    rates = [replies_a_second(crowds, n) for n in range(1, crowds[-1]["people"] + 1)]
    logs = [0.0]
    for n in range(1, people + 1):
        logs.append(logs[-1] + log((people - n + 1) / (pause * rates[min(n, len(rates)) - 1])))
    highest = max(logs)
    weights = [exp(value - highest) for value in logs]
    total = sum(weights)
    return [weight / total for weight in weights]


def people_of_one(crowds: list[dict], target: float, pause: float) -> int:
    """Return how many people one machine takes; a message meets what the others write, as if its person were not there."""
    allowed = allowed_at_once(crowds, target)

    def fits(people: int) -> bool:
        return sum(shares(crowds, people - 1, pause)[:allowed]) >= SHARE

    if not allowed:
        return 0
    low, high = 1, 2
    while fits(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def messages_an_hour(crowds: list[dict], people: int, pause: float) -> float:
    parts = enumerate(shares(crowds, people, pause))
    return 3600 * sum(share * replies_a_second(crowds, n) for n, share in parts if n)


def plan(crowds: list[dict], people: int, target: float, pause: float) -> dict:
    """Return machines, people on the fullest one, messages an hour of all; raises ValueError where no machine is fast enough."""
    most = people_of_one(crowds, target, pause)
    if not most:
        raise ValueError(
            f"One person alone waits {crowds[0]['first_p95']} s for the first text here, longer than {target} s: "
            "a faster machine, a smaller model or a larger --first is needed."
        )
    machines = ceil(people / most)
    fullest = ceil(people / machines)
    hourly = messages_an_hour(crowds, fullest, pause) * people / fullest
    return {"most": most, "machines": machines, "fullest": fullest, "messages_an_hour": hourly}


def read_measured(file: Path) -> dict:
    """Return what benchmarks/load.py --json wrote, crowds by size; raises ValueError with one sentence."""
    try:
        measured = json.loads(file.read_text(encoding="utf-8"))
        crowds = sorted(measured["crowds"], key=lambda crowd: crowd["people"])
        good = all(crowd[name] > 0 for crowd in crowds for name in NEEDED) and crowds[0]["people"] == 1
        about = {name: measured[name] for name in ("machine", "gpu", "date", "command")}
    except FileNotFoundError as error:
        raise ValueError(f"There is no file {file}: python benchmarks/load.py --json {file} writes it.") from error
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{file} is not what benchmarks/load.py --json writes: {error!r}.") from error
    if not good:
        raise ValueError(f"{file} lacks a crowd of one, or has a value of 0: measure with --people 1 and more.")
    for crowd in crowds:
        if turned_away := crowd.get("refused", 0) + crowd.get("failed", 0):
            raise ValueError(
                f"{turned_away:g} of {crowd['people']} people had no reply in {file}: leave that crowd out."
            )
    return {**about, "crowds": crowds}


def check(options: argparse.Namespace, measured: dict) -> None:
    for name in ("people", "first", "pause", "messages", "hour", "gpu_hour"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise ValueError(f"--{name.replace('_', '-')} is {value:g}: choose more than 0.")
    if options.gpu_hour is not None and not measured["gpu"]:
        raise ValueError(
            f"{options.measured} was measured without a GPU ({measured['machine']}): run python benchmarks/load.py --json FILE "
            "on yours, and give FILE with --measured."
        )
    if options.hour is not None and measured["gpu"]:
        raise ValueError(f"{options.measured} was measured on {measured['gpu']}: give its price with --gpu-hour.")


def report(options: argparse.Namespace, measured: dict) -> str:
    crowds, target = measured["crowds"], options.first
    found = plan(crowds, options.people, target, options.pause)
    allowed, largest = allowed_at_once(crowds, target), crowds[-1]["people"]
    writing = sum(n * share for n, share in enumerate(shares(crowds, found["fullest"], options.pause)))
    lines = [
        f"Measured {measured['date']} on {measured['gpu'] or measured['machine']} by `{measured['command']}`.",
        f"Assumed: {options.pause:g} s between a reply and the next message, {options.messages:g} messages a conversation.",
        f"First text within {target:g} s (95th percentile): up to {counted(allowed, 'reply', 'replies')} at once, "
        f"{counted(found['most'], 'person', 'people')} on one machine.",
        f"{counted(options.people, 'person', 'people')}: {counted(found['machines'], 'machine', 'machines')}, "
        f"{found['fullest']} on the fullest, where {writing:.1f} replies are written at once on average.",
    ]
    if allowed == largest:
        lines.insert(
            3, f"No more than {largest} at once were measured: more people may fit, but nothing here says so."
        )
    price = options.gpu_hour or options.hour
    if price:
        conversations = found["messages_an_hour"] / options.messages
        cost = 1000 * found["machines"] * price / conversations
        lines.append(
            f"1,000 conversations cost {cost:.2f} while that many talk; a machine without people costs the same."
        )
    return "\n".join(lines)


def counted(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"


def main(options: argparse.Namespace) -> None:
    measured = read_measured(options.measured)
    check(options, measured)
    print(report(options, measured))


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--people", type=int, default=100, help="in conversation at the same moment (default: 100)")
    parser.add_argument("--first", type=float, default=2.0, help="seconds to the first text, 95th percentile (2)")
    parser.add_argument("--pause", type=float, default=60.0, help="seconds of reading and typing, assumed (60)")
    parser.add_argument("--messages", type=float, default=10, help="of a person in one conversation, assumed (10)")
    parser.add_argument("--hour", type=float, metavar="PRICE", help="of a measured machine without a GPU")
    parser.add_argument("--gpu-hour", type=float, metavar="PRICE", help="of a measured machine with a GPU")
    parser.add_argument("--measured", type=Path, default=MEASURED, metavar="FILE", help="by benchmarks/load.py --json")
    return parser


if __name__ == "__main__":
    try:
        main(arguments().parse_args())
    except ValueError as problem:
        sys.stderr.write(f"{problem}\n")
        sys.exit(2)
