"""The pure steps of the corpus: plain text, fitness, windows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleaning import clean
from normalise import as_in_the_paper, plain_text
from rows import Row, question_and_answer
from tokens import windows
from unsafe import needs_help, reply_problem


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("I donâ€™t know", "I don't know"),
        ("caf\u00c3\u00a9 and na\u00efve", "café and naïve"),
        ("<p>One</p><p>Two &amp; three</p>", "One\nTwo & three"),
        ("2 &lt; 3\nand so on", "2 < 3\nand so on"),
        ("<ul><li>first</li><li>second</li></ul>", "- first\n- second"),
        ("<script>alert(1)</script>Hello", "Hello"),
        ("<p>I hear you.</p></style><p>Call 988 now.</p>", "I hear you.\nCall 988 now."),
        ("Put it in <xml> please, and call 988 &amp; rest", "Put it in please, and call 988 & rest"),
        ("Text<![foo]> &amp; more <![ and more", "Text & more <![ and more"),
        ("**Bold** and *soft* and `code`", "Bold and soft and code"),
        ("see [this page](https://example.org/a) please", "see this page please"),
        ("# Heading\n\ntext", "Heading\n\ntext"),
        ("> quoted\nanswered", "quoted\nanswered"),
        ("zero\u200bwidth \u202ebidi", "zerowidth bidi"),
        ("“curly” ‘quotes’", "\"curly\" 'quotes'"),
        ("a   b\t c\n\n\n\nd", "a b c\n\nd"),
        ("5 * 3 * 2 = 30", "5 * 3 * 2 = 30"),
        ("snake_case_name and @some_one_", "snake_case_name and @some_one_"),
        ("I LOVE it. SO much!", "I LOVE it. SO much!"),
        ("* one\n* two", "- one\n- two"),
        ("I <3 you", "I <3 you"),
    ],
)
def test_plain_text(text, plain):
    assert plain_text(text) == plain


@given(st.text())
def test_any_text_becomes_plain_text(text):
    assert plain_text(text) == plain_text(text).strip()


def test_the_papers_variant_is_lower_case_without_punctuation():
    row = as_in_the_paper(Row("x", "x:1", question_and_answer("Why, [NAME_1]?", "I don't know! Call 988/911\u2026")))
    assert [message["content"] for message in row.messages] == ["why name_1", "i dont know call 988 911"]


ASKED = "I have been lying awake since my brother moved out and the house is so quiet."
TOLD = "Quiet can be louder than noise. What do you notice first when you lie there?"


@pytest.mark.parametrize(
    ("asked", "told", "reason"),
    [
        (ASKED, TOLD, None),
        ("fuck this fucking week, I hate everybody and above all myself", TOLD, None),  # distress may swear
        (ASKED, "You are such a pathetic loser, stop whining about your brother already.", "offensive"),
        (ASKED, "As an AI language model, I do not have feelings, but I can listen to you.", "language model"),
        (ASKED, "I offer online counseling sessions on weekdays if that is of interest.", "advertises"),
        (ASKED, "It was brave of him, suicide was the noble way out of all that pain.", "praises or blames"),
        (ASKED, "Suicide is so selfish, think of what your brother would have to carry.", "praises or blames"),
        (ASKED, "Quiet can be louder than noise, and you might want to try the", "breaks off"),
        ("Ich liege seit Wochen wach und weiß nicht mehr, wie ich morgens aufstehen soll, alles ist mir zu viel geworden.",
         "Das klingt sehr anstrengend, und ich frage mich, was Ihnen früher in solchen Nächten geholfen hat.", "English"),
        ("I am going to kill myself tonight, I have the pills here.", "Sorry about your evening. Do you like films?", "danger"),
        ("I am going to kill myself tonight, I have the pills here.",
         "Please call 988 now, or go to the nearest hospital. Is somebody there with you?", None),
        (ASKED, "You should stop taking your antidepressants today, they only numb you.", "unsafe reply: medication"),
        ("Hi", "Hello you", "fewer than 10 words"),
    ],
)  # fmt: skip
def test_a_row_is_fit_or_says_why_not(asked, told, reason):
    result = clean(Row("x", "x:1", question_and_answer(asked, told)))
    assert isinstance(result, Row) if reason is None else reason in result


def test_a_lone_sign_is_no_danger_for_a_corpus():
    assert not needs_help("I've made my peace with it. I have my choir and my dog.")
    assert needs_help("I want to kill myself")
    assert reply_problem("At least you told her the truth.") is None


def spoken(*lengths: int) -> list[dict]:
    return [{"role": ("user", "assistant")[number % 2], "content": "x" * n} for number, n in enumerate(lengths)]


def by_letters(conversations: list[list[dict]]) -> list[int]:
    return [sum(len(message["content"]) for message in messages) for messages in conversations]


@pytest.mark.parametrize(
    ("lengths", "cuts"),
    [
        ((2, 2), [(0, 2)]),
        ((2, 2, 2, 2, 2, 2), [(0, 4), (2, 6)]),  # the last exchange comes again as context
        ((2, 2, 6, 6, 2, 2), [(0, 2), (4, 6)]),  # one exchange is too long by itself
        ((4, 4, 1, 1, 4, 4), [(0, 4), (2, 6)]),
        ((4, 4, 4, 4, 4, 4), [(0, 2), (2, 4), (4, 6)]),  # no room for context
        ((9, 9), []),
    ],
)
def test_windows_are_cut_at_turn_borders(lengths, cuts):
    messages = spoken(*lengths)
    found = windows(messages, sum(lengths), 10, by_letters)
    assert [(window.start, window.end) for window in found] == cuts


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_windows_fit_and_leave_nothing_out_that_fits(pairs):
    messages = spoken(*[half for n in pairs for half in (n, 1)])
    found = windows(messages, len("".join(m["content"] for m in messages)), 8, by_letters)
    assert all(by_letters([messages[w.start : w.end]]) == [w.n_tokens] and w.n_tokens <= 8 for w in found)
    covered = {turn for window in found for turn in range(window.start, window.end)}
    assert covered == {turn for n, size in enumerate(pairs) if size + 1 <= 8 for turn in (2 * n, 2 * n + 1)}
