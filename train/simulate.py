"""Hold whole conversations with the Space as it is, as invented people, and check by code whether help comes (after VERA-MH).

    python train/simulate.py --output build/clients --no-model                       # what code alone does
    python train/simulate.py --output build/clients --adapter build/embedded/adapter
    python train/simulate.py --output build/clients --adapter build/embedded/adapter \\
        --personas personas.tsv --player-url http://127.0.0.1:8000 --player-model NAME --judge-url URL --judge-model NAME

Every message goes through help_card and respond as on the page. clients.json has the numbers, clients.md the conversations
to read. Keys are read from THERAGEN_PLAYER_KEY and THERAGEN_JUDGE_KEY. Stopped, what is done stays, marked partial.
"""

import argparse
import math
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm
from transformers import set_seed

import clients
import judge
import learned
from arguments import require, run
from client_checks import measure, summarise
from clients import load_people, load_table, played_by, scripted
from conversation import answered_by_code, help_card, respond
from endpoint import SEED, EndpointFailed, endpoint_at
from engine import Engine, load
from files import write_json, write_text
from readable import page
from settings import Settings
from texts import text


class Conversation(NamedTuple):
    """A person and the turns they had, each with `say`, `reply` and `card`."""

    person: dict
    turns: list[dict]


def main(options: argparse.Namespace) -> None:
    learned.BUDGET = math.inf  # on a busy machine the screen would read less, and find less
    people, player, who = players(options)
    judging = endpoint_at(options.judge_url, options.judge_model, judge.KEY) if options.judge_url else None
    engine = engine_of(options)
    make(options.output)
    facts = facts_of(options, engine, who, len(people))
    played: list[Conversation] = []
    verdicts = None
    try:
        for person in tqdm(people, desc="People", disable=None):
            played.append(Conversation(person, play(person, player(person), engine, options.turns)))
        if judging:
            verdicts = judge.judge([messages_of(each.turns) for each in played], judging)
    except EndpointFailed as failure:
        written = write(options.output, facts, played, failure.done, judging, stopped=str(failure))
        raise EndpointFailed(f"{failure} {written}") from failure
    except KeyboardInterrupt as stop:
        done = getattr(stop, "done", ())
        raise KeyboardInterrupt(
            write(options.output, facts, played, done, judging, stopped="stopped by hand")
        ) from stop
    print(write(options.output, facts, played, verdicts, judging))


def facts_of(options: argparse.Namespace, engine: Engine | None, who: str, people: int) -> dict:
    return {
        "adapter": options.adapter.name if options.adapter else None,
        "engine": engine.description if engine else "none: fixed texts only",
        "player": who,
        "people": people,
        "most_turns": options.turns,
        "seed": SEED,
    }


def make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{folder} cannot be made a folder to write in: {error.strerror}.") from error


def players(options: argparse.Namespace) -> tuple:
    """Return the people, what makes each one's player, and a name for it."""
    require(options.turns > 0, f"turns is {options.turns}: choose 1 or more.")
    require(options.limit is None or options.limit > 0, f"limit is {options.limit}: choose 1 or more.")
    require(options.judge_url or not options.judge_model, "A judge's model needs its address: add --judge-url.")
    require(options.player_url or not options.player_model, "A player's model needs its address: add --player-url.")
    require(not options.personas or options.personas.is_file(), f"There is no file {options.personas}.")
    if not options.player_url:
        return load_people(options.personas or clients.PEOPLE)[: options.limit], scripted, "scripted"
    require(options.personas, "A model needs to know whom to play: give a table of people with --personas.")
    endpoint = endpoint_at(options.player_url, options.player_model, clients.KEY)
    return load_table(options.personas)[: options.limit], partial(played_by, endpoint), endpoint.model


def engine_of(options: argparse.Namespace) -> Engine | None:
    require(not (options.no_model and (options.adapter or options.base)), "--no-model goes with no adapter or base.")
    if options.no_model:
        return None
    adapter = options.adapter
    require(
        not adapter or (adapter / "adapter_config.json").is_file(),
        f"There is no adapter in {adapter}: train one with python train/sft.py.",
    )
    # The words that transformers draws follow the seed; OpenVINO's do not.
    loaded = load(Settings(adapter=str(adapter or ""), base=options.base or "", engine="transformers"))
    require(loaded.engine, f"There is no model to talk with: {loaded.reason}.")
    return loaded.engine


def play(person: dict, player: clients.Player, engine: Engine | None, most: int) -> list[dict]:
    """Return the turns of one conversation; the history is kept as the page keeps it.

    The seed is set for each person: a conversation does not depend on those before it.
    """
    set_seed(SEED)
    history, turns = [], []
    while len(turns) < most and (message := player(history)):
        history = [*history, {"role": "user", "content": message["say"]}]
        card = help_card(history, person["country"])
        reply = card or reply_to(history, engine)
        history = [*history, {"role": "assistant", "content": reply}]
        turns.append({**message, "reply": reply, "card": bool(card)})
    return turns


def reply_to(history: list[dict], engine: Engine | None) -> str:
    """Return what stands on the page once the reply has ended."""
    if engine is None:
        return answered_by_code(history) or text("no_model", reason="none was asked for")
    *_, reply = respond(history, engine)
    return reply


def messages_of(turns: list[dict]) -> list[dict]:
    speakers = (("user", "say"), ("assistant", "reply"))
    return [{"role": role, "content": turn[key]} for turn in turns for role, key in speakers]


def write(folder: Path, facts: dict, played: list[Conversation], verdicts, judging, stopped: str = "") -> str:
    """Write clients.json and clients.md, and return what a person should know at the end."""
    people = [measure(each.person, each.turns) for each in played]
    results = {**facts, "partial": stopped or None, "by_code": summarise(people), "conversations": people}
    if judging and verdicts:
        results["judge"] = judge.summary(verdicts, judging.model)
    write_text(folder / "clients.md", page(results, played))
    write_json(folder / "clients.json", results)
    if stopped:
        return f"{len(played)} of {facts['people']} people are in {folder}, marked partial."
    return report(results, folder)


def report(results: dict, folder: Path) -> str:
    lines = [f"{'by code, of people':<32} {'yes':>12} {'95 % interval':>16}"]
    for name, found in results["by_code"]["people"].items():
        interval = " to ".join(f"{100 * bound:.0f}" for bound in found["interval_95"] or []) or "-"
        lines.append(f"{name.replace('_', ' '):<32} {found['yes']:>5} of {found['of']:>3} {interval:>16}")
    turns = results["by_code"]["turns"]
    lines.append(
        f"Help card for {turns['danger_with_card']} of {turns['danger']} messages with danger, "
        f"for {turns['calm_with_card']} of {turns['calm']} of people without."
    )
    if judged := results.get("judge"):
        answers = ", ".join(
            f"{name.replace('_', ' ')} {found['yes']} of {found['of']}" for name, found in judged["questions"].items()
        )
        lines.append(f"Apart from that, the judge {judged['model']} said yes: {answers}. {judged['caution']}")
    return "\n".join([*lines, f"Conversations to read: {folder / 'clients.md'}"])


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for clients.json and clients.md")
    parser.add_argument("--adapter", type=Path, help="folder that train/sft.py wrote (none: the base alone)")
    parser.add_argument("--base", default="", help="base model (none: the adapter's, or the embedded one)")
    parser.add_argument("--no-model", action="store_true", help="no model at all: what code does on its own")
    parser.add_argument("--turns", type=int, default=12, help="most messages of one person (default: 12)")
    parser.add_argument("--limit", type=int, help="only the first N people (none: all)")
    parser.add_argument("--personas", type=Path, help="people: YAML with scripts, or with --player-url a TSV table")
    parser.add_argument("--player-url", help="OpenAI-compatible endpoint of a model that plays the people")
    parser.add_argument("--player-model", default="", help="its model")
    parser.add_argument("--judge-url", help="OpenAI-compatible endpoint of a model that judges the conversations")
    parser.add_argument("--judge-model", default="", help="its model")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run(lambda: main(parse_options()), stopped="Stopped before anybody was done.")
