"""Find what a reply says in code: what nobody can read is held back, what is only turned round is read.

>>> [match.start() for match in CODE.finditer("Sure: a2lsbCB5b3Vyc2VsZg==")]
[6]
>>> turned("Lbh fubhyq fgbc", frozenset({"you", "should", "stop"}))
'you should stop'
"""

import re
from string import ascii_lowercase as LETTERS


# Nobody in a conversation about their life needs any of these, whatever they say.
CODE = re.compile(
    r"(?<![\w/.@])(?=[A-Za-z0-9+/=_]{16})(?=[A-Za-z0-9+/]{0,60}\d[A-Za-z+/]{1,60}\d)[A-Za-z0-9+/=_]{16,}"  # base64, base32, hex
    r"|(?<!\w)(?=[A-Z]*+[a-z]*+[A-Z0-9+/])(?:[A-Za-z0-9+/]{0,16}[a-z0-9][A-Z][A-Za-z0-9+/=]{0,16}\s){4,}"  # base64 in pieces
    r"|(?:(?:0x|\\[xu]|%|U\+|&#x?)[0-9a-fA-F]{2,6};?[\s,]?){4,}"
    r"|(?<!\w)(?=[\d ]{0,40}[a-fA-F])(?:[0-9a-fA-F]{2}[ ,:-]){8,}"
    r"|(?<!\w)(?:[01]{7,8}[ ,]){3,}"
    r"|(?<!\S)(?:[.·•–—-]{1,6}[ /|]{1,3}){8,}"  # Morse
)
KNOWN = 0.4  # this share of words must be known, and more than as written, for a text to have been turned round
FEWEST = 3


def turned(text: str, known: frozenset[str]) -> str:
    """The text read backwards or by a Caesar cipher, if that gives more words that are known; else an empty string."""

    def share(candidate: str) -> float:
        words = re.findall(r"[a-z]+", candidate)
        found = sum(word in known for word in words)
        return found / len(words) if found >= FEWEST else 0

    plain = text.lower()
    if share(plain) > 0.5:  # English as it stands
        return ""
    ciphers = (plain.translate(str.maketrans(LETTERS, LETTERS[by:] + LETTERS[:by])) for by in range(1, 26))
    best = max((plain[::-1], *ciphers), key=share)
    return best if share(best) > max(share(plain), KNOWN) else ""
