"""Numbers about replies: likeness to the written ones, variety, coherence, questions, length, repetition.

None of them measures help. Likeness is to one reply among many good ones, so a better one may score lower. Words and
sentences are found by two regular expressions, made for languages that put spaces between words; "Dr. Who" counts as
two sentences, and a sentence that ends in dots goes on.
"""

import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import pairwise
from math import comb
from statistics import fmean

import sacrebleu
from nltk import ngrams
from rouge_score.rouge_scorer import RougeScorer


WORD = re.compile(r"\w+(?:['’-]\w+)*")
LIST_MARK = re.compile(r"^\s*(?:\d+[.)]|[-*•])\s+", re.MULTILINE)
SENTENCE_END = re.compile(r"""((?:(?<!\.)\.|[!?؟])["'”’»)*_]*)\s+""")
# Eight replies of 13 words: what a handful of prompts gives.
SAMPLE = 100


def measure(replies: list[str], references: list[str], vectors: Callable | None = None) -> dict[str, float | None]:
    """Return every number by its name; coherence only with `vectors` (sentence_vectors.sentence_vectors).

    None stands for a number that these replies do not have: none of two sentences, or too few words.
    """
    each = {name: mean(values) for name, values in per_reply(replies, references, vectors).items()}
    return {"bleu": bleu(replies, references), **each, **{name: of(replies) for name, of in OF_ALL.items()}}


def per_reply(replies: list[str], references: list[str], vectors: Callable | None = None) -> dict[str, list]:
    """Return the numbers that each reply has by itself, in the replies' order; None where it has not."""
    return {
        **rouge(replies, references),
        **({"coherence": coherence(replies, vectors)} if vectors else {}),
        "words": [len(words(reply)) for reply in replies],
        **questions(replies),
        "repetition": [repetition(reply) for reply in replies],
    }


def bleu(replies: list[str], references: list[str]) -> float:
    """Return corpus BLEU, 0 to 100 (Papineni et al. 2002), by sacrebleu: tok:13a, smooth:exp, case:mixed.

    N-gram hits are summed over all replies before they are divided: it is no mean over replies.
    """
    return sacrebleu.corpus_bleu(replies, [references]).score


def rouge(replies: list[str], references: list[str]) -> dict[str, list[float]]:
    """Return each reply's F1 of ROUGE-1, -2 and -L, 0 to 1 (Lin 2004), by rouge-score without stemming.

    Its words are runs of a-z and 0-9: "früher" is read as "fr" and "her", other scripts not at all.
    """
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    scores = [scorer.score(reference, reply) for reply, reference in zip(replies, references, strict=True)]
    return {name: [score[name].fmeasure for score in scores] for name in scorer.rouge_types}


def coherence(replies: list[str], vectors: Callable) -> list[float | None]:
    """Return the mean cosine of consecutive sentences' vectors, for each reply that has two (TheraGen, 2024).

    `vectors` gives N x D unit rows for N sentences. A weak measure: a reply that says one sentence again and again
    gets 1, so read it beside `repetition`.
    """
    texts = [sentences(reply) for reply in replies]
    rows = iter(vectors([sentence for reply in texts for sentence in reply]))
    found = [[next(rows) for _ in reply] for reply in texts]
    return [mean([float(a @ b) for a, b in pairwise(reply)]) for reply in found]


def distinct(replies: list[str], n: int) -> float | None:
    """Return distinct n-grams divided by all n-grams of the whole set (Li et al. 2016, arXiv 1510.03055; the paper's).

    It falls as the set grows: our dialogues' replies have a distinct-1 of 0.57 by 16 and 0.17 by 512. Compare only
    sets of one size.
    """
    found = all_ngrams(replies, n)
    return len(set(found)) / len(found) if found else None


def distinct_of_sample(replies: list[str], n: int, size: int = SAMPLE) -> float | None:
    """Return distinct-n expected in `size` n-grams drawn from the set without replacement; None for a smaller set.

    With count f of an n-gram and N in all, Σ_f [1 - C(N - f, size) / C(N, size)] / size: rarefaction (Hurlbert 1971),
    which lexical research knows as HD-D (McCarthy & Jarvis 2010). It does not depend on how much was generated: 0.77
    for our dialogues by 16 and by 512. Expectation-adjusted distinct (Liu et al. 2022, arXiv 2202.13587) takes words
    for evenly spread over a vocabulary whose size must be chosen: 0.57 and 0.21 there, and more than 1 for bigrams
    of a large set.
    """
    found = Counter(all_ngrams(replies, n))
    if found.total() < size:
        return None
    draws = comb(found.total(), size)
    often = Counter(found.values())
    return sum(many * (1 - comb(found.total() - count, size) / draws) for count, many in often.items()) / size


def questions(replies: list[str]) -> dict[str, list]:
    """Return of each reply whether it holds a question, and the share of its sentences that are one."""
    asked = [[is_question(sentence) for sentence in sentences(reply)] for reply in replies]
    return {"replies_asking": [any(reply) for reply in asked], "sentences_asking": [mean(reply) for reply in asked]}


def repetition(reply: str, n: int = 4) -> float | None:
    """Return the share of its n-grams that a reply has said before; None for one too short to have any.

    1 - distinct / all, which is seq-rep-4 of Welleck et al. 2020 (arXiv 1908.04319), on words.
    """
    found = list(ngrams(words(reply), n))
    return 1 - len(set(found)) / len(found) if found else None


@lru_cache(maxsize=10_000)
def words(text: str) -> tuple[str, ...]:
    return tuple(WORD.findall(text.lower()))


def sentences(text: str) -> list[str]:
    """Cut at line ends and after . ! ? with a space behind; marks of lists, and pieces without a letter, are left out.

    >>> sentences('1. I hear you... really. "What now?" Rest.')
    ['I hear you... really.', '"What now?"', 'Rest.']
    """
    lines = SENTENCE_END.sub(r"\1\n", LIST_MARK.sub("", text)).splitlines()
    return [line.strip() for line in lines if any(map(str.isalpha, line))]


def is_question(sentence: str) -> bool:
    return sentence.rstrip("\"'”’»)*_!").endswith(("?", "؟"))


def all_ngrams(replies: list[str], n: int) -> list[tuple]:
    return [gram for reply in replies for gram in ngrams(words(reply), n)]


def mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


# What only a whole set of replies has.
OF_ALL = {
    "distinct_1": partial(distinct, n=1),
    "distinct_2": partial(distinct, n=2),
    f"distinct_1_of_{SAMPLE}": partial(distinct_of_sample, n=1),
    f"distinct_2_of_{SAMPLE}": partial(distinct_of_sample, n=2),
}
