"""Crisis lines by country, and the line of help that is always on screen.

Numbers of crisis lines live in helplines.json beside this file and nowhere else. If that file is missing or broken, everything here
still answers, with emergency advice and findahelpline.com: a person must never meet an empty bar.
"""

import json
import re
from functools import cache
from html import escape
from pathlib import Path

from texts import text


DATA = Path(__file__).with_name("helplines.json")
ZONES = Path(__file__).with_name("time_zones.json")
ANYWHERE = "ZZ"  # stands for a country that has no lines here: its bar holds anywhere
FIND = '<a href="https://findahelpline.com" target="_blank" rel="noopener noreferrer">findahelpline.com</a>'
ELSEWHERE = "988"  # the one number known without the file: the United States' 988 Lifeline
SHOWN = 3  # lines in the bar; the rest is one click away


@cache
def _countries() -> dict[str, dict]:
    """The file's countries, or none: any fault in the file must end in the fallback bar, so every exception is caught."""
    try:
        countries = json.loads(DATA.read_text(encoding="utf-8"))["countries"]
        for country in countries.values():
            _check(country)
        return countries
    except Exception:
        return {}


def _check(country: dict) -> None:
    """Touch all that the bar will touch, so that a fault shows up here and not in front of a person."""
    texts = [country["name"], *country["emergency"]]
    for line in country["lines"]:
        texts += [line["service"], line["text"] or "", *line["phones"]]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError


def _country(code: str) -> dict:
    return _countries().get(str(code or "").upper(), {})


def countries() -> dict[str, str]:
    """Country codes and names, by name; some have an emergency number and no line."""
    return dict(sorted(((code, entry["name"]) for code, entry in _countries().items()), key=lambda pair: pair[1]))


def lines(country: str) -> list[dict]:
    """The country's lines as in helplines.json, best known first; an unknown country has none."""
    return _country(country).get("lines", [])


def emergency(country: str) -> list[str]:
    """The country's emergency numbers; an unknown country has none, so advise "your local emergency number"."""
    return _country(country).get("emergency", [])


def phone_href(number: str) -> str | None:
    """`tel:` for a number that can simply be dialled, else None ("119 ext. 8" must not become a call to 119).

    Short codes have no country code: `tel:988`, `tel:*4141`.
    """
    return "tel:" + re.sub(r"[^\d+*]", "", number) if re.fullmatch(r"[+*]?\d[\d\s()-]*", number) else None


def text_href(text: str) -> str | None:
    """`sms:` for "Text 988", "SMS 31393" or "Text HOME to 741741"; None for other services (WhatsApp)."""
    match = re.fullmatch(r"(?:Text|SMS) (?:([A-Z]+) to )?(\d[\d ]*)", text)
    if not match:
        return None
    return f"sms:{match[2].replace(' ', '')}" + (f"?body={match[1]}" if match[1] else "")


def _link(label: str, href: str | None) -> str:
    return f'<a href="{escape(href)}">{escape(label)}</a>' if href else escape(label)


def _line_html(line: dict) -> str:
    ways = [_link(number, phone_href(number)) for number in line["phones"]]
    if line["text"]:
        ways.append(_link(line["text"], text_href(line["text"])))
    return f"<bdi>{escape(line['service'])}</bdi> {' · '.join(ways)}"


def bar_html(country: str, language: str = "en") -> str:
    """The lines of help as an HTML list; for an unknown country, emergency advice that holds anywhere."""
    numbers = emergency(country)
    danger = " / ".join(_link(number, phone_href(number)) for number in numbers) or escape(
        text("local_number", language)
    )
    parts = [f"{escape(text('in_danger', language))}: {danger}", *map(_line_html, lines(country)[:SHOWN])]
    if not numbers:
        parts.append(f"{escape(text('united_states', language))}: {_link(ELSEWHERE, phone_href(ELSEWHERE))}")
    parts.append(f"{escape(text('anywhere', language))}: {FIND}")
    return f'<ul class="helplines">{"".join(f"<li>{part}</li>" for part in parts)}</ul>'


def zones() -> dict[str, str]:
    """Return the country that each time zone suggests, for the browser to guess with; a broken file suggests none."""
    try:
        grouped = json.loads(ZONES.read_text(encoding="utf-8"))["zones"]
        return {zone: country for country, names in grouped.items() for zone in names}
    except Exception:
        return {}


def known_numbers() -> set[str]:
    """The digits of every number a person may be shown."""
    known = {ELSEWHERE}
    for entry in _countries().values():
        texts = [*entry["emergency"]]
        for line in entry["lines"]:
            texts += [*line["phones"], line["text"] or ""]
        known |= {re.sub(r"\D", "", text) for text in texts}
    return known - {""}


def known_sites() -> set[str]:
    """The domains of every address in the data."""
    addresses = [
        line[key] for entry in _countries().values() for line in entry["lines"] for key in ("url", "chat_url")
    ]
    hosts = {re.sub(r"^https?://(www\.)?|/.*$", "", address) for address in addresses if address}
    return hosts | {"findahelpline.com"}
