"""See through codes in which a model may answer what it must not say: base64, hex, percent signs, rot13, backwards.

>>> [way for way, _ in hidden("Fher, urer vf ubj lbh qb vg.", frozenset("sure here is how you do it".split()))]
['rot13']
"""

import base64
import binascii
import codecs
import re
from collections.abc import Iterator
from urllib.parse import unquote


BLOB = re.compile(
    r"(?:[A-Za-z0-9+/_-]{16,}={0,6}|(?:%[0-9A-Fa-f]{2}){6,}|(?:[01]{8}[ ,]?){4,}|(?:[.\-]{1,5}[ /]{1,3}){8,})"
)
DECODERS = {
    "hex": bytes.fromhex,
    "base32": base64.b32decode,
    "base64": lambda blob: base64.b64decode(blob + "=" * (-len(blob) % 4), altchars=b"-_" if re.search("[-_]", blob) else None, validate=True),
    "percent": lambda blob: unquote(blob).encode() if "%" in blob else b"",
}  # fmt: skip
FEWEST, SHARE = 4, 0.6  # words of a text that must be known ones before it counts as read
WORD = re.compile(r"[a-z']+")


def hidden(text: str, known: frozenset[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Each passage of the text that says something in a code, as the way it is said and where it stands.

    `known` are words by which a decoded text is told from noise. A support chat has no need of codes at all, so blobs of
    bits or Morse are named without being read.
    """
    for match in BLOB.finditer(text):
        blob = match[0]
        if re.match(r"[01]{8}|[.\-]{1,5}[ /]", blob):
            yield "bits", match.span()
            continue
        for way, decode in DECODERS.items():
            try:
                decoded = decode(blob).decode()
            except (ValueError, binascii.Error):
                continue
            if BLOB.fullmatch(decoded) or is_words(decoded, known):  # a code may hold a code
                yield way, match.span()
                break
    if not is_words(text, known):
        for way, turned in (("rot13", codecs.encode(text, "rot13")), ("backwards", text[::-1])):
            if is_words(turned, known):
                yield way, (0, len(text))


def is_words(text: str, known: frozenset[str]) -> bool:
    words = WORD.findall(text.lower())
    return len(words) >= FEWEST and sum(word in known for word in words) >= SHARE * len(words)
