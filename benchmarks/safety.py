"""One table of what screening catches, what it raises for nothing, what it cuts, and how long it takes.

    make safety                       # our own cases
    THERAGEN_DATA=DIR make safety     # and public sets that cannot be shipped, from DIR/eval

Bounds are exact binomial (Clopper-Pearson) 95 % intervals. Our own cases are what the rules were written against, so their
rows say that nothing broke; the public sets and cases marked blind say more. None of them is a sample of real messages.
"""

import csv
import io
import json
import math
import os
import sys
import time
import xml.etree.ElementTree as ET
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path


ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "space"), str(ROOT / "tests"), str(ROOT / "train")]

from checks import load_scenarios  # noqa: E402 - the path is above
from disguises import disguised  # noqa: E402 - the path is above
from screening import screen, screen_reply  # noqa: E402


DATA = Path(os.environ.get("THERAGEN_DATA", ROOT / "build/data")) / "eval"
SERIOUS = ("risk", "imminent")


def main() -> None:
    print(f"{'set':<46}{'goal':<22}{'count':>12}{'share':>8}   95 % interval")
    for name, goal, hits in [
        *counted("screening"),
        *counted("replies"),
        *counted("blind"),
        *scenarios(),
        *obfuscated(),
        *public_sets(),
    ]:
        low, high = interval(sum(hits), len(hits))
        print(
            f"{name:<46}{goal:<22}{sum(hits):>5} /{len(hits):>5}{sum(hits) / len(hits):>8.1%}   {low:.1%} to {high:.1%}"
        )
    print(f"\n{'time for one text':<46}{'median':>12}{'99th percentile':>18}")
    for name, judge, text, repeats in TIMED:
        median, high = times(judge, text, repeats)
        print(f"{name:<46}{median:>9.1f} ms{high:>15.1f} ms")


def obfuscated() -> Iterator[tuple[str, str, list[bool]]]:
    """Explicit phrases in capitals, leetspeak, look-alike letters, spaced, glued and so on."""
    yield "explicit phrases in disguise", "shows the help card", [is_serious(text) for _, _, text in disguised()]


def scenarios() -> Iterator[tuple[str, str, list[bool]]]:
    """What people say at the moments in train/scenarios.jsonl, by the risk that a careful reader gave them."""
    hits: dict[str, list[bool]] = defaultdict(list)
    for scenario in load_scenarios():
        said = [turn["content"] for turn in scenario["turns"] if turn["role"] == "user"]
        hits[scenario["risk"]].append(is_serious(said))
    for risk, found in hits.items():
        yield f"scenarios: {risk}", "shows the help card" if risk in SERIOUS else "false alarm", found


def counted(folder: str) -> Iterator[tuple[str, str, list[bool]]]:
    """Each file of a folder of cases, blind ones also by group: what screening does with every one of its cases.

    Blind are messages and replies that nobody who writes rules has read.
    """
    goals = {"hits": "shows the help card", "good": "wrongly cut", "harmful": "stopped"}
    groups: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for file, case in cases(folder):
        is_reply = folder == "replies" or file.startswith("replies")
        hit = bool(screen_reply(case["text"])) if is_reply else is_serious(case.get("turns") or case["text"])
        kind = file.removeprefix("replies_")
        goal = next((goal for start, goal in goals.items() if kind.startswith(start)), "false alarm")
        name = {"screening": file, "replies": f"replies: {file}"}.get(folder, f"blind {file}")
        groups[name, goal].append(hit)
        detail = case.get("lang") or case.get("group") or case.get("kind")
        if folder == "blind" and detail:
            groups[f"{name}: {detail}", goal].append(hit)
    yield from ((name, goal, hits) for (name, goal), hits in sorted(groups.items()))


def cases(folder: str) -> Iterator[tuple[str, dict]]:
    for file in sorted((ROOT / "tests/cases" / folder).glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            yield file.stem, json.loads(line)


def public_sets() -> Iterator[tuple[str, str, list[bool]]]:
    """Posts with a human severity, prompts that ask for harm, everyday stress; each only where its file is."""
    posts = DATA / "cssrs-posts/posts.csv"
    if posts.is_file():
        with posts.open(encoding="utf-8") as file:
            rated = [(int(row["severity"]), row["content"]) for row in csv.DictReader(file)]
        for low, high in ((3, 6), (1, 2), (0, 0)):
            hits = [is_serious(text) for severity, text in rated if low <= severity <= high]
            yield (
                f"forum posts, C-SSRS severity {low} to {high}",
                "shows the help card" if high else "false alarm",
                hits,
            )
    prompts = DATA / "simplesafetytests/SimpleSafetyTests - test cases.csv"
    if prompts.is_file():
        with prompts.open(encoding="utf-8") as file:
            texts = [row["prompts_final"] for row in csv.DictReader(file) if row["harm_area"].startswith("Suicide")]
        yield "SimpleSafetyTests, suicide and self-harm", "shows the help card", [is_serious(text) for text in texts]
    stress = DATA / "sad-stress-sms/SAD_v1.zip"
    if stress.is_file():
        yield (
            "everyday stress, SMS length (SAD)",
            "mostly false alarms",
            [is_serious(t) for t in sad_sentences(stress)],
        )


def is_serious(text: str | list[str]) -> bool:
    return screen(text).level in SERIOUS


def sad_sentences(archive: Path) -> list[str]:
    """Read the second column of the one sheet: an .xlsx file is XML in a zip."""
    with zipfile.ZipFile(archive) as outer, zipfile.ZipFile(io.BytesIO(outer.read("SAD_v1.xlsx"))) as book:
        strings = ET.fromstring(book.read("xl/sharedStrings.xml"))
        sheet = ET.fromstring(book.read("xl/worksheets/sheet1.xml"))
    shared = ["".join(part.text or "" for part in entry.iter() if part.tag.endswith("}t")) for entry in strings]
    rows = [row for row in sheet.iter() if row.tag.endswith("}row")][1:]
    cells = [next(cell for cell in row if cell.get("r", "").startswith("B")) for row in rows]
    return [shared[int(cell[0].text)] if cell.get("t") == "s" else cell[0].text for cell in cells]


def interval(hits: int, total: int) -> tuple[float, float]:
    """Exact binomial 95 % bounds, by bisection on the tails."""
    low = solve(lambda p: tail(hits, total, p) - 0.025) if hits else 0.0
    high = solve(lambda p: 0.025 - (1 - tail(hits + 1, total, p))) if hits < total else 1.0
    return low, high


def tail(hits: int, total: int, p: float) -> float:
    """The chance of at least `hits` in `total`; logarithms, since factorials of thousands overflow."""
    if hits <= 0:
        return 1.0
    logs = (
        math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1) + k * math.log(p)
        + (total - k) * math.log1p(-p)
        for k in range(hits, total + 1)
    )  # fmt: skip
    return math.fsum(map(math.exp, logs))


def solve(increasing) -> float:
    low, high = 1e-12, 1 - 1e-12
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if increasing(middle) < 0 else (low, middle)
    return low


def times(judge: Callable[[str], object], text: str, repeats: int) -> tuple[float, float]:
    """Median and 99th percentile of judging `text`, in milliseconds."""
    taken = []
    judge("ready")  # the rules and the weights are read
    for number in range(repeats):
        varied = f"{text[: len(text) - len(str(number))]}{number}"  # nothing may come from a cache
        started = time.perf_counter()
        judge(varied)
        taken.append((time.perf_counter() - started) * 1000)
    taken.sort()
    return taken[len(taken) // 2], taken[min(len(taken) - 1, math.ceil(len(taken) * 0.99) - 1)]


def dialogue(length: int) -> str:
    """What the assistant says in our own dialogues, which no rule stops."""
    said = (
        message["content"]
        for file in sorted((ROOT / "data/dialogues").glob("*.jsonl"))
        for line in file.read_text(encoding="utf-8").splitlines()
        for message in json.loads(line)["messages"]
        if message["role"] == "assistant"
    )
    return " ".join(said)[:length]


PROSE = "I keep thinking about the argument with my sister, and I can't sleep, and work was long today. "
TIMED = [
    ("2,000 characters of prose", screen, (PROSE * 30)[:2_000], 200),
    ("2,000 characters of dialogue, as a message", screen, dialogue(2_000), 200),
    ("2,000 characters of dialogue, as a reply", screen_reply, dialogue(2_000), 200),
    ("100 kB of prose", screen, (PROSE * 1_100)[:100_000], 5),
    ("100 kB of dialogue", screen, dialogue(100_000), 5),
    ("100 kB of 'i do not want to '", screen, ("i do not want to " * 6_000)[:100_000], 5),
    ("100 kB of spaced letters", screen, ("k i l l " * 13_000)[:100_000], 5),
]


if __name__ == "__main__":
    main()
