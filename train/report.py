"""A page for people to read a score: every number with its interval, plots, and what was said, side by side."""

import base64
import io
from pathlib import Path

import matplotlib
from jinja2 import Environment, FileSystemLoader
from matplotlib.figure import Figure

from checks import check
from files import write, write_text
from results import LEVELS, SIDES, Asked


TEMPLATE = "report.html.jinja"
TALKS, PER_LEVEL = 30, 8  # how much is shown; the files replies_*.jsonl have all of it
BASE, ADAPTER = "#8a8f98", "#1f6f8b"


def write_report(folder: Path, adapter: Path, results: dict, times: dict | None, asked: Asked, said: dict) -> None:
    """Write report.html, which needs no other file."""
    curves = adapter / "curves.png"
    page = (
        environment()
        .get_template(TEMPLATE)
        .render(
            results=results,
            times=times,
            plots={name: embedded(png(draw(results))) for name, draw in PLOTS.items() if name in results},
            curves=embedded(curves.read_bytes()) if curves.is_file() else None,
            talks=[
                {"turns": talk[:-1], "written": talk[-1]["content"], **replies(said, "talks", place)}
                for place, talk in enumerate(asked.talks[:TALKS])
            ],
            scenarios=scenarios_shown(asked, said),
            variants=variants_shown(asked, said),
        )
    )
    write_text(folder / "report.html", page)


def write_plots(folder: Path, results: dict) -> None:
    for name, draw in PLOTS.items():
        if name in results:
            write(folder / f"{name}.png", lambda part, draw=draw: part.write_bytes(png(draw(results))))


def environment() -> Environment:
    # Escaped throughout: what a person or a model wrote must never become a part of the page.
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, trim_blocks=True
    )
    found.filters |= {"shown": shown, "percent": percent, "plain": plain}
    return found


def scenarios_shown(asked: Asked, said: dict) -> list[dict]:
    """Return the first few scenarios of each level, with what failed in each reply."""
    return [
        {**asked.scenarios[place], **replies(said, "scenarios", place), "failed": failures(asked, said, place)}
        for level in LEVELS
        for place in [at for at, each in enumerate(asked.scenarios) if each["risk"] == level][:PER_LEVEL]
    ]


def failures(asked: Asked, said: dict, place: int) -> dict[str, list[str]]:
    results = {side: check(asked.scenarios[place], said[side].scenarios[place].text) for side in SIDES}
    return {side: [plain(name) for name, ok in result.items() if not ok] for side, result in results.items()}


def variants_shown(asked: Asked, said: dict) -> list[dict]:
    """Return every variant of the first prompts, one of each axis in turn."""
    first = {row["axis"]: row["pair"] for row in reversed(asked.variants)}
    return [
        {**row, **replies(said, "variants", place)}
        for place, row in enumerate(asked.variants)
        if row["pair"] in first.values()
    ]


def replies(said: dict, part: str, place: int) -> dict[str, str]:
    return {side: getattr(said[side], part)[place].text for side in SIDES}


def draw_scenarios(results: dict) -> Figure:
    """Draw shares of passed scenarios, base to adapter, for each rubric dimension and each level."""
    rates = results["scenarios"]
    rows = {plain(name): rate for name, rate in rates["dimensions"].items() if rate["n"]}
    rows |= {f"all, level {level}": parts["all"] for level, parts in rates["levels"].items()}
    figure = Figure(figsize=(9, 0.34 * len(rows) + 1.2), layout="constrained")
    panel = figure.add_subplot(xlim=(0, 1), xlabel=f"share of scenarios passed (of {rates['count']} in all)")
    for place, rate in enumerate(reversed(rows.values())):
        panel.plot([rate["base"], rate["adapter"]], [place, place], color=ADAPTER, linewidth=1.5, alpha=0.5)
        panel.plot(rate["base"], place, "o", color=BASE, label="base" if not place else None)
        panel.plot(rate["adapter"], place, "o", color=ADAPTER, label="adapter" if not place else None)
    panel.set_yticks(range(len(rows)), list(reversed(rows)))
    panel.grid(axis="x", alpha=0.3)
    panel.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    return figure


def draw_bias(results: dict) -> Figure:
    """Draw each group's difference to the others of its prompts with intervals that hold for all at once."""
    found = results["bias"]["comparisons"]
    measures = list(dict.fromkeys(each["measure"] for each in found))
    groups = list(dict.fromkeys((each["axis"], each["group"]) for each in found))
    figure = Figure(figsize=(13, 0.24 * len(groups) + 1.4), layout="constrained")
    panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for panel, measure in zip(panels, measures, strict=True):
        panel.set(title=f"{measure}: less or more than others", ylim=(len(groups) - 0.5, -0.5))
        panel.axvline(0, color="black", linewidth=0.8)
        for each in (each for each in found if each["measure"] == measure):
            place = groups.index((each["axis"], each["group"]))
            for side, colour, shift in (("base", BASE, -0.15), ("adapter", ADAPTER, 0.15)):
                panel.plot(each[side]["interval"], [place + shift] * 2, color=colour, linewidth=1.4)
                panel.plot(each[side]["difference"], place + shift, ".", color=colour)
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(groups)), [f"{axis}: {group}" for axis, group in groups])
    return figure


PLOTS = {"scenarios": draw_scenarios, "bias": draw_bias}


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with matplotlib.rc_context({"font.size": 9}):
        figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def embedded(image: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def plain(name: str) -> str:
    return name.replace("_", " ")


def shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def percent(value: float | None) -> str:
    return "none" if value is None else f"{value:.1%}"
