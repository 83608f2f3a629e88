"""The page around Gradio's: help, who this is, and the way to everything else, as plain HTML that needs no script.

It stands in the document before Gradio's own code is fetched, so help is on screen while that loads, when it fails, and where
JavaScript is off. What it shows beyond that is made in the browser (browser/main.js).
"""

import re
from collections.abc import Callable
from functools import cache
from html import escape
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import helplines
import interface
from interface import word
from settings import Settings
from texts import text


BROWSER = Path(__file__).with_name("browser")
STYLES = ("style", "skills", "checkins", "human")
HEAD = "<title>TheraGen</title>" + "".join(f'<link rel="stylesheet" href="browser/{name}.css">' for name in STYLES)
HEAD += '<script type="module" src="browser/main.js"></script>'
VIEWS = ("skills", "checkins", "human", "settings")


def routes() -> list[Route | Mount]:
    """`/words/LANGUAGE`, and the page's own scripts and styles."""

    def words(request: Request) -> Response:
        asked = request.path_params["language"]
        language = asked if asked in interface.languages() else "en"  # each that is asked for is kept
        return Response(interface.for_browser(language), media_type="application/json")

    return [Route("/words/{language}", words), Mount("/browser", StaticFiles(directory=BROWSER, check_dir=False))]


def dressing(chosen: Settings) -> Callable[[bytes, str], bytes]:
    """Return what puts our HTML into Gradio's page: `dress(page, accept_language)`.

    Where Gradio's page isn't as we know it, ours comes first in the document all the same.
    """

    @cache
    def ours(language: str) -> bytes:
        return body(language, chosen).encode()

    def dress(page: bytes, accepted: str) -> bytes:
        language = interface.language_for(accepted)
        direction = interface.languages().get(language, {"dir": "ltr"})["dir"]
        page = page.replace(b'lang="en"', f'lang="{language}" dir="{direction}"'.encode(), 1)
        page = page.replace(b"</head>", f"{HEAD}</head>".encode(), 1)
        if b"<gradio-app" in page:
            return page.replace(
                b"<gradio-app", ours(language) + b"<gradio-app inert", 1
            )  # until our part of the page is there
        return re.sub(rb"<body[^>]*>", lambda opened: opened[0] + ours(language), page, count=1)

    return dress


def body(language: str, chosen: Settings) -> str:
    """Return our part of the page in one language; `data-` attributes tell the browser's part what the operator chose."""

    def said(name: str, **slots: str) -> str:
        return escape(word(name, language, **slots))

    countries = [(helplines.ANYWHERE, word("another_country", language)), *helplines.countries().items()]
    options = "".join(
        f'<option value="{code}"{" selected" if code == chosen.country else ""}>{escape(name)}</option>'
        for code, name in countries
    )
    buttons = "".join(f'<button type="button" data-view="{name}">{said(f"{name}_title")}</button>' for name in VIEWS)
    feedback, written = int(chosen.feedback), escape(" ".join(chosen.languages))
    return f"""
<a class="skip" href="#message">{said("skip_to_message")}</a>
<aside id="help" aria-label="{said("help_title")}">
  <div id="help-bar">{helplines.bar_html(chosen.country, language)}</div>
  <div id="help-side">
    <label id="country-label"><span>{said("help_lines_for")}</span> <select id="country" autocomplete="off">{options}</select></label>
    <a id="exit" href="https://www.wikipedia.org/" rel="noreferrer" title="{said("quick_exit_explain", key="Esc")}">{said("quick_exit")}</a>
  </div>
</aside>
<header id="banner" data-feedback="{feedback}" data-written="{written}" data-whisper="{int(bool(chosen.whisper))}">
  <h1 tabindex="-1">TheraGen</h1>
  <p id="banner-text">{escape(text("banner", language))}</p>
  <nav id="views" aria-label="TheraGen" inert>{buttons}</nav>
</header>
<noscript><style>#country-label, #views {{ display: none; }}</style><p id="no-script">{said("no_script")}</p></noscript>
<p id="opening">{said("not_opened")}</p>
<div id="view" role="region" hidden></div>
<p id="announced" role="status" aria-live="polite" class="unseen"></p>
"""
