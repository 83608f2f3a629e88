"""Turn what a person typed into plain words that rules can match, without losing where each word came from.

Hidden characters, look-alike letters, "k1ll", "k i l l", "kiiill", "k*ll" and glued words are undone. Repairs only ever
turn a token into a word that some rule mentions, so ordinary text passes unchanged.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate, pairwise, product
from typing import NamedTuple


class Token(NamedTuple):
    word: str
    start: int
    end: int


class Lexicon(NamedTuple):
    """What the reader needs from the rules: the words they mention and how people write them."""

    words: frozenset[str]
    strong: frozenset[str]  # words worth undoing a disguise for: "suicide", "kill", "myself"
    rewrite: dict[str, tuple[str, ...]]  # "wanna" -> ("want", "to"); a filler word -> ()
    squeezed: dict[str, str]  # "kil" -> "kill": how "kiiill" finds its word
    slips: dict[str, str]  # one typing slip away from a long strong word


class Passage(NamedTuple):
    """Words joined by single spaces, with a full stop between sentences and a space at both ends."""

    text: str
    offsets: list[int]  # where each token starts in `text`
    tokens: list[Token]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where `text[start:end]` lies in the original; the end is the end of the last word touched."""
        first = max(0, bisect_right(self.offsets, start) - 1)
        last = max(first, bisect_right(self.offsets, end - 1) - 1)
        return self.tokens[first].start, self.tokens[last].end


# Pairs: the look-alike, then the letter it passes for.
PAIRS = (
    "аa вb сc ԁd еe һh іi јj κk кk ӏl мm оo рp ԛq гr ѕs тt υu ѵv ԝw хx уy αa βb εe ιi οo ρp τt νv χx ωw "
    "ʟl ɪi ɴn ᴀa ʙb ᴄc ᴅd ᴇe ꜰf ɢg ʜh ᴊj ᴋk ᴍm ᴏo ᴘp ʀr ꜱs ᴛt ᴜu ᴠv ᴡw ʏy ᴢz ɑa ɡg ⅼl ոn ғf өo ҝk ҡk"
)
LOOK_ALIKES = {pair[0]: pair[1] for pair in PAIRS.split()}
PLAIN_LATIN = {"ı": "i", "ł": "l", "ø": "o", "đ": "d", "ß": "ss", "æ": "ae", "œ": "oe", "’": "'", "‘": "'", "ʼ": "'", "ς": "σ", "′": "'", "`": "'", "´": "'",
               "ى": "ي", "ة": "ه", "ک": "ك", "ی": "ي", "ँ": "ं"}  # fmt: skip
LONGEST = 240  # tokens of one spelled-out run; longer runs are read in parts, so that hostile text costs little
HIDDEN = re.compile(
    r"[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0000-\U000e01ef]"
)
DIGITS_AS_LETTERS = {"0": "o", "1": "il", "!": "il", "|": "il", "3": "e", "4": "a", "@": "a", "5": "s", "$": "s", "7": "t", "+": "t", "8": "b", "9": "g", "€": "e"}  # fmt: skip
MARKS = "".join(chr(code) for code in range(0x0900, 0x0E80) if unicodedata.category(chr(code))[0] == "M")
TOKEN = re.compile(
    rf"(?P<word>[$@]?(?:[^\W_]+|[{MARKS}]+)+(?:['*@$!|#+€]+[^\W_]+)*(?:(?<=[a-z])[$@](?!\w))?)"
    r"|(?P<pause>\.{2,}|,|[\u2013\u2014()\"«»“”、،]|\n(?!\s*\n))|(?P<stop>[.!?;:。।؟؛]|\n\s*\n)|(?P<other>[^\s\w])"
)
ELISION = re.compile(r"^(j|m|t|s|l|d|c|n|qu|un|dell|all|nell|dall|sull)'")  # French and Italian: d'adieu, dell'acqua
LONE_I = re.compile(r"(?<!\S)[1!|](?=\s+\S*[a-z])")  # "1 want to d1e"
DRAWN_OUT = re.compile(r"([a-z])\1{2,}")
INNER_MARKS = re.compile(r"[*@$!|#+€]+")
DISGUISED = re.compile(r"[\d*@$!|#+€]|(.)\1|[^\x00-\x7f]")


@cache
def fold_character(character: str) -> str:
    if HIDDEN.match(character):
        return ""
    if 0x1F1E6 <= ord(character) <= 0x1F1FF:  # regional indicators spell words too
        return chr(ord(character) - 0x1F1E6 + ord("a"))
    plain = unicodedata.normalize("NFKD", PLAIN_LATIN.get(character, character)).lower()
    kept = (
        c
        for c in plain
        if not ("\u0300" <= c <= "\u036f" or "\u064b" <= c <= "\u065f" or c in "\u0670\u093c\u3099\u309a")
    )
    return "".join(PLAIN_LATIN.get(c, c) for c in kept)


def fold(text: str) -> tuple[str, Sequence[int]]:
    """Return the text in plain lower-case letters and, for each of its characters, the original's index."""
    if text.isascii():
        return text.lower(), range(len(text))
    folded = [fold_character(character) for character in text]
    return "".join(folded), [index for index, piece in enumerate(folded) for _ in piece]


def undisguise(word: str, lexicon: Lexicon) -> str | None:
    """The rule word that `word` stands for ("su1c1de", "k*ll", "dieee", "кill"), or None."""
    latin = any("a" <= c <= "z" for c in word)
    word = "".join(LOOK_ALIKES.get(c, c) for c in word)
    if word in (lexicon.words if latin else lexicon.strong):  # Russian "то" is no disguised "to"
        return word
    if not word.isdigit():
        spelled = [DIGITS_AS_LETTERS.get(c, c) for c in word[:24]]
        if sum(len(letters) > 1 for letters in spelled) <= 4:
            for candidate in map("".join, product(*spelled)):
                if candidate in lexicon.words:
                    return candidate
    squeezed = lexicon.squeezed.get(re.sub(r"(.)\1+", r"\1", word))
    if squeezed and (squeezed in lexicon.strong or re.search(r"(.)\1\1", word)):
        return squeezed
    if "*" in word or "#" in word:
        shape = re.compile(re.sub(r"(?:\\\*|\\\#)+", ".{1,4}", re.escape(word)))
        return next((strong for strong in sorted(lexicon.strong) if shape.fullmatch(strong)), None)
    return None


def split_glued(word: str, lexicon: Lexicon) -> list[str] | None:
    """Cut "iwanttodie" into rule words; None unless the whole of it can be cut and a strong word is inside."""
    if not any_of(lexicon.strong).search(word):
        return None
    best: list[list[str] | None] = [[]] + [None] * len(word)
    for end in range(1, len(word) + 1):
        for start in range(max(0, end - 12), end):
            piece, before = word[start:end], best[start]
            if before is not None and piece in lexicon.words and (len(piece) > 1 or piece in "ia"):
                best[end] = [*before, piece]
                break
    cut = best[-1]
    return cut if cut and any(piece in lexicon.strong for piece in cut) else None


@cache
def any_of(words: frozenset[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(words))))


def repair(word: str, lexicon: Lexicon) -> tuple[str, ...]:
    if word in lexicon.words:
        return (word,)
    if word in lexicon.slips:
        return (lexicon.slips[word],)
    disguised = DISGUISED.search(word)
    if disguised and (found := undisguise(word, lexicon)):
        return (found,)
    if 6 <= len(word) <= 80 and (cut := split_glued(word, lexicon)):
        return tuple(cut)
    if not disguised:  # then nothing in it is drawn out or marked
        return (word,)
    word = DRAWN_OUT.sub(r"\1", word)  # "reeeally": one letter is as good as any
    return tuple(piece for piece in INNER_MARKS.split(word) if piece) or (word,)


def raw_tokens(folded: str, origin: Sequence[int], emoji: dict[str, str]) -> list[Token]:
    tokens = []
    new = tuple.__new__  # what Token() does, without a call of Python's for each word
    for match in TOKEN.finditer(folded):
        first, last = match.span()
        start, end = origin[first], origin[last - 1] + 1
        if match.lastgroup == "word":
            tokens.append(new(Token, (match[0], start, end)))
        elif match.lastgroup == "other":
            if match.group() in emoji:
                tokens.append(Token(emoji[match.group()], start, end))
        elif tokens and tokens[-1].word in ".,":
            tokens[-1] = Token("." if match.lastgroup == "stop" else tokens[-1].word, tokens[-1].start, end)
        else:
            tokens.append(Token("." if match.lastgroup == "stop" else ",", start, end))
    return tokens


def join_spelled_out(tokens: list[Token], lexicon: Lexicon) -> list[Token]:
    """Put "k i l l", "s.u.i.c.i.d.e" and "sui cide" back together."""
    words = [token.word for token in tokens]
    lengths = list(map(len, words))
    spelled = any(one == two == three == 1 for one, two, three in zip(lengths, lengths[1:], lengths[2:], strict=False))
    if not spelled and lexicon.strong.isdisjoint(map("".join, pairwise(words))):
        return tokens
    joined: list[Token] = []
    position = 0
    while position < len(tokens):
        token = tokens[position]
        run = spelled_out_until(tokens, position) if len(token.word) == 1 else position
        if run - position >= 3:
            joined += spelled_word(tokens[position:run], lexicon)
            position = run
            continue
        pair = token.word + tokens[position + 1].word if position + 1 < len(tokens) else ""
        if pair in lexicon.strong and token.word not in lexicon.strong:
            joined.append(Token(pair, token.start, tokens[position + 1].end))
            position += 2
            continue
        joined.append(token)
        position += 1
    return joined


def spelled_out_until(tokens: list[Token], position: int) -> int:
    """Where a run of single letters that starts at `position` ends; long runs are cut, so that hostile text costs little."""
    end = position
    while (
        end < min(len(tokens), position + LONGEST)
        and len(tokens[end].word) == 1
        and (end > position or tokens[end].word not in ".,")
    ):
        end += 1
    return end


def spelled_word(run: list[Token], lexicon: Lexicon) -> list[Token]:
    """Read "w a n t   t o" by its wider gaps; without any, cut the letters into rule words."""
    letters = [token for token in run if token.word not in ".,"]
    gaps = [after.start - before.end for before, after in pairwise(letters)]
    if gaps and min(gaps) < max(gaps) and gaps.count(min(gaps)) > len(gaps) / 2:
        words = [letters[:1]]
        for letter, gap in zip(letters[1:], gaps, strict=True):
            if gap > min(gaps):
                words.append([])
            words[-1].append(letter)
        return [Token("".join(token.word for token in word), word[0].start, word[-1].end) for word in words]
    cut = split_glued("".join(token.word for token in letters), lexicon)
    return [Token(word, letters[0].start, letters[-1].end) for word in cut] if cut else run


def read(text: str, lexicon: Lexicon, emoji: dict[str, str]) -> list[Passage]:
    """Read a message as typed and, where that differs, with disguises undone: two passages, so a repair can only add."""
    return [plain_passage(tokens, lexicon) for tokens in read_tokens(text, lexicon, emoji)]


def read_tokens(text: str, lexicon: Lexicon, emoji: dict[str, str]) -> list[list[Token]]:
    folded, origin = fold(text)
    typed = raw_tokens(folded, origin, emoji)
    # Emoji are words of the first reading only: between the words of a phrase they part it.
    same = not LONE_I.search(folded) and (folded.isascii() or emoji.keys().isdisjoint(folded))
    plainer = typed if same else raw_tokens(LONE_I.sub("i", folded), origin, {})
    repaired = rewritten(join_spelled_out(plainer, lexicon), lambda word: repair(word, lexicon))
    return [typed] if repaired == typed else [typed, repaired]


def rewritten(tokens: list[Token], rewrite: Callable[[str], Sequence[str]]) -> list[Token]:
    """The tokens with their words rewritten, each different word once."""
    ways = {word: rewrite(word) for word in {token.word for token in tokens}}
    ways = {word: way for word, way in ways.items() if len(way) != 1 or way[0] != word}
    if not ways:
        return tokens
    written: list[Token] = []
    for token in tokens:
        if token.word in ways:
            written += [Token(word, *token[1:]) for word in ways[token.word]]
        else:
            written.append(token)
    return written


def plain_passage(tokens: list[Token], lexicon: Lexicon) -> Passage:
    return passage(rewritten(tokens, lambda word: plain_words(word, lexicon)))


def plain_words(typed: str, lexicon: Lexicon) -> Sequence[str]:
    if typed in lexicon.rewrite:
        return lexicon.rewrite[typed]
    return ELISION.sub(r"\1 ", typed).replace("'", "").split() if "'" in typed else (typed,)


def passage(tokens: list[Token], space: str = " ") -> Passage:
    """Lay tokens out as a passage; `space=""` is for scripts that write without spaces."""
    tokens = [Token(".", tokens[0].start, tokens[0].start) if tokens else Token(".", 0, 0), *tokens]
    words = [token.word for token in tokens]
    offsets = list(accumulate((len(word) + len(space) for word in words[:-1]), initial=1))
    return Passage(f" {space.join(words)} ", offsets, tokens)
