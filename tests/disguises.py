"""Explicit phrases and the ways people disguise them, to be combined: what screening must undo."""

import re
from collections.abc import Callable, Iterator


PHRASES = """
i want to die|i want to kill myself|i am going to kill myself|i will kill myself tonight|i wanna kill myself|i am suicidal
i am going to commit suicide|i want to commit suicide|i am thinking about suicide|i have suicidal thoughts|i plan to end my life
i want to end my life|i am going to end my life tonight|i want to take my own life|i am ready to die|i wish i was dead
i wish i were dead|i would rather be dead|i do not want to live anymore|i do not want to be alive|i am better off dead
i am going to hang myself|i want to hang myself|i am going to shoot myself|i want to shoot myself|i am going to drown myself
i am going to overdose tonight|i want to overdose|i took an overdose|i am about to kill myself|i am planning to kill myself
i keep thinking about killing myself|i have been thinking of killing myself|i tried to kill myself|i tried to commit suicide
i need to kill myself|i should kill myself|i might kill myself|i can not stop thinking about suicide|suicide is the only way out
suicide is my only option|i am writing my suicide note|i wrote a suicide note|i have decided to kill myself
tonight i am going to kill myself|please let me die|i just want to die|i really want to die|i want to die so badly
i want to be dead|i hope i die|i cut myself again|i want to cut myself|i want to hurt myself|i am going to hurt myself
i am going to kill someone|i want to kill him|my friend wants to kill herself|my son is suicidal|my sister tried to kill herself
my husband says he wants to die
"""
LOOK_ALIKE = str.maketrans("aeiocpxys", "аеіосрхуѕ")  # Cyrillic
LEET = str.maketrans({"a": "4", "e": "3", "i": "1", "o": "0"})
FULL_WIDTH = str.maketrans({chr(code): chr(code + 0xFEE0) for code in range(33, 127)})
BOLD = str.maketrans({chr(97 + n): chr(0x1D41A + n) for n in range(26)})
SCRIPT = str.maketrans({chr(97 + n): chr(0x1D4EA + n) for n in range(26)})
SMALL_CAPITALS = str.maketrans("abcdefghiklmnoprtuvwyz", "ᴀʙᴄᴅᴇꜰɢʜɪᴋʟᴍɴᴏᴘʀᴛᴜᴠᴡʏᴢ")


def middle(text: str, change: Callable[[str], str]) -> str:
    """Change the inside of every word of four letters or more."""
    return re.sub(r"\b(\w)(\w{2,})(\w)\b", lambda match: match[1] + change(match[2]) + match[3], text)


DISGUISES: dict[str, Callable[[str], str]] = {
    "capitals": str.upper,
    "title": str.title,
    "every other capital": lambda text: "".join(c.upper() if n % 2 else c for n, c in enumerate(text)),
    "leet": lambda text: text.translate(LEET),
    "i as 1": lambda text: text.replace("i", "1"),
    "i as !": lambda text: text.replace("i", "!"),
    "s as $": lambda text: text.replace("s", "$"),
    "a as @": lambda text: text.replace("a", "@"),
    "e as 3": lambda text: text.replace("e", "3"),
    "cyrillic": lambda text: text.translate(LOOK_ALIKE),
    "cyrillic i": lambda text: text.replace("i", "і"),
    "full width": lambda text: text.translate(FULL_WIDTH),
    "bold": lambda text: text.translate(BOLD),
    "script": lambda text: text.translate(SCRIPT),
    "small capitals": lambda text: text.translate(SMALL_CAPITALS),
    "zero width": "\u200b".join,
    "soft hyphens": "\u00ad".join,
    "joiners": "\u2060".join,
    "direction marks": lambda text: f"\u202a{text}\u202c",
    "struck through": lambda text: "".join(c + "\u0336" for c in text),
    "accents": lambda text: text.translate(str.maketrans("aeiou", "áéíóú")),
    "umlauts": lambda text: text.translate(str.maketrans("aeiou", "äëïöü")),
    "spaced": lambda text: " ".join(text.replace(" ", "")),
    "spaced with gaps": lambda text: "   ".join(" ".join(word) for word in text.split()),
    "dots": lambda text: " ".join(".".join(word) for word in text.split()),
    "hyphens": lambda text: " ".join("-".join(word) for word in text.split()),
    "glued": lambda text: text.replace(" ", ""),
    "underscores": lambda text: text.replace(" ", "_"),
    "line breaks": lambda text: text.replace(" ", "\n"),
    "wide spaces": lambda text: text.replace(" ", "\u3000"),
    "dots between words": lambda text: text.replace(" ", "... "),
    "long vowels": lambda text: re.sub("([aeiou])(?=[a-z])", r"\1\1\1", text),
    "long ends": lambda text: re.sub(r"(\w)\b", r"\1\1\1", text),
    "no vowel in the middle": lambda text: re.sub(r"\b(k|d|s)(i|u)(ll|e|icid)", r"\1*\3", text),
    "emoji between": lambda text: text.replace(" ", " 😭 "),
    "hashtag": lambda text: f"#{text.replace(' ', '')}",
    "quoted and loud": lambda text: f'"{text}"!!!',
}


def disguised() -> Iterator[tuple[str, str, str]]:
    """Every phrase in every disguise: (name of the disguise, phrase, text)."""
    for name, disguise in DISGUISES.items():
        for phrase in re.split(r"[|\n]", PHRASES.strip()):
            yield name, phrase, disguise(phrase)
