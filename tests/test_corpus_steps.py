"""What a reader of the corpus's steps found to go wrong: lost lines of help, words that tell, rows without a reason."""

import json
from types import SimpleNamespace

import pytest

import build_dataset
import cleaning
import corpus
from duplicates import related_groups, repeats, traces
from guidance import SHORTEST_ANSWER, Section, rows_of
from pdf_text import _pieces, sections
from prepare import Settings, prepare
from recipe import load_recipe
from rows import BadInput, Post, Row, question_and_answer
from sources import NEITHER, locate, read, read_esconv
from stage import batches, sketch_matrix


SETTINGS = Settings("HuggingFaceTB/SmolLM2-135M-Instruct", 512)
LISTENS = "That sounds hard, and I am glad that you wrote. What happened before it began?"


def test_a_published_group_does_not_tell_who_asked():
    rows = [
        Row("p", f"p:{n}", question_and_answer("My name is Zelmira Quist and I cannot sleep.", LISTENS))
        for n in (1, 2)
    ]
    groups = prepare(rows, SETTINGS)["group"].to_pylist()
    assert len(set(groups)) == 1 and "Zelmira" not in groups[0]


def test_the_last_words_of_a_section_stay_however_few():
    paragraphs = ["word " * 293 + "ends well.", "If you think of suicide, call or text 988 now."]
    (row,) = rows_of(Section("Depression", "What helps", paragraphs, "a:1"), "s", "g", "")
    assert len(paragraphs[1].split()) < SHORTEST_ANSWER and "988" in row.messages[1]["content"]


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("Please call 988 or visit [URL_1].", "Please call 988."),
        (
            "Text HOME to 741741, or e-mail [EMAIL_1]. Be kind to yourself.",
            "Text HOME to 741741. Be kind to yourself.",
        ),
        ("Be kind to yourself. You can visit [URL_1].", "Be kind to yourself."),
        ("Please call 1-800-799-7233 or visit [URL_1].", "Please call 1-800-799-7233."),
        ("Go to findahelpline.com or [URL_1].", "Go to findahelpline.com."),
        ("Text SHOUT to 85258, or see [URL_1].", "Text SHOUT to 85258."),
    ],
)
def test_a_sentence_that_names_a_line_loses_only_the_address(said, left):
    assert cleaning._contactless(said) == left


def test_an_authors_name_is_no_part_of_a_word():
    row = Row(
        "s", "w", question_and_answer("Hello there.", "An analysis may help, says Ana to you here."), author="Ana"
    )
    assert cleaning.without_signature(row).messages[1]["content"] == "An analysis may help, says [NAME_1] to you here."


def test_what_was_read_before_a_file_failed_stays():
    def items():
        yield from (Post("s", f"a:{number}", "I feel low.") for number in range(700))
        raise BadInput("The second file has no text.")

    found = []
    with pytest.raises(BadInput):
        for batch in batches("s", items()):
            found += batch.items
    assert len(found) == 700


def test_a_repeat_that_goes_still_links_those_that_stay():
    question = "I lie awake every night since the move and count the hours until the alarm goes off again"
    talks = [
        question_and_answer(question.replace("alarm", "clock"), LISTENS),
        question_and_answer(question, LISTENS),
        question_and_answer(
            question, "Leave the clock in another room, and see what the dark feels like without any numbers."
        ),
    ]
    others = ("My dog died on Sunday", "I start a new job in June", "Our son moved to Spain")
    talks += [
        question_and_answer(f"{text}, and I do not know what to feel.", f"{text[:9]}. Tell me more.")
        for text in others
    ]
    left = traces(talks)
    texts = ["\n".join(turn["content"] for turn in talk) for talk in talks]
    kept = SimpleNamespace(
        sources=["theragen-dialogues"] * 6,
        wheres=["w:1"] * 6,
        groups=["H", "G", "G", "1", "2", "3"],
        exact=[one.exact for one in left],
        openings=[one.opening for one in left],
        sketches=sketch_matrix([one.sketch for one in left]),
        text=texts.__getitem__,
        answers=lambda row: talks[row][1]["content"],
    )
    decisions = build_dataset.decide(load_recipe("embedded"), kept)
    assert list(decisions.repeated) == [1] and decisions.groups[0] == decisions.groups[2]


def test_other_answers_to_a_long_question_are_no_repeats():
    question = " ".join(f"word{number}" for number in range(120))
    talks = [
        question_and_answer(question, LISTENS),
        question_and_answer(question, "Try leaving your clock elsewhere tonight and notice how the dark feels."),
    ]
    left, texts = traces(talks), ["\n".join(turn["content"] for turn in talk) for talk in talks]
    answers = [talk[1]["content"] for talk in talks]
    about = [one.exact for one in left], sketch_matrix([one.sketch for one in left]), texts.__getitem__
    assert repeats(*about).reasons and not repeats(*about, answers.__getitem__).reasons


def test_a_source_that_is_added_names_no_older_group_anew():
    left = traces([question_and_answer("My dog died on Sunday and the house is quiet.", LISTENS)] * 2)
    about = [one.opening for one in left], sketch_matrix([one.sketch for one in left]), ["a dog died"] * 2
    assert related_groups(["theragen:1", "esconv:9"], *about[:2], about[2].__getitem__) == ["theragen:1"] * 2


def test_an_override_holds_for_a_file_however_it_is_written(tmp_path):
    public = load_recipe("public")
    source = next(one for one in public.sources if one.overrides)
    name = next(one["files"] for one in source.overrides).replace("*", "x")
    assert source.for_file(name.upper())[:8] == source.for_file(name)[:8] != source[:8]
    recipe = tmp_path / "bad.yaml"
    entry = {
        "reader": "pdf",
        "kind": "guide",
        "license": "x",
        "redistributable": True,
        "overrides": [{"files": "who/*.pdf"}],
    }
    recipe.write_text(json.dumps({"base": "b", "seed": 1, "sources": {"s": entry}}))
    with pytest.raises(BadInput, match="only names of files are compared"):
        load_recipe(str(recipe))


def test_a_folder_that_was_being_filled_is_ours_and_not_whole(tmp_path):
    recipe = load_recipe("embedded")
    (tmp_path / "corpus").mkdir()
    with pytest.raises(BadInput, match="is no build"):
        corpus.is_up_to_date(tmp_path, recipe, "f", keep_going=False)
    (tmp_path / corpus.UNFINISHED).touch()
    assert not corpus.is_up_to_date(tmp_path, recipe, "f", keep_going=False)


def test_a_build_that_went_on_without_a_source_is_whole_only_for_who_goes_on(tmp_path):
    recipe = load_recipe("embedded")
    (tmp_path / "corpus").mkdir()
    report = {"made_by": corpus.MADE_BY, "recipe": "embedded", "fingerprint": "f", "failed": {"esconv": "why"}}
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert corpus.is_up_to_date(tmp_path, recipe, "f", keep_going=True)
    assert not corpus.is_up_to_date(tmp_path, recipe, "f", keep_going=False)


def test_bullets_in_two_columns_keep_their_words():
    row = [("•", 50), ("Eat", 60), ("regular", 85), ("meals", 125), ("•", 300), ("Sleep", 310), ("enough", 345)]
    words = [
        {"text": text, "x0": left, "x1": left + 6 * len(text) - 2, "size": 10, "bottom": 400, "fontname": "Sans"}
        for text, left in row
    ]
    page = SimpleNamespace(height=800, page_number=1)
    assert [piece.text for piece in _pieces(words, page)] == ["• Eat regular meals", "• Sleep enough"]
    assert list(sections([], "", "a")) == []


def test_a_speaker_who_is_neither_is_a_reject(tmp_path):
    file = tmp_path / "ESConv.json"
    talk = {"dialog": [{"speaker": "seeker", "text": "Hello."}, {"speaker": "robot", "text": "Hello."}]}
    file.write_text(json.dumps(talk) + "\n")
    (reject,) = read_esconv(SimpleNamespace(name="esconv"), [file], tmp_path)
    assert reject.reason == NEITHER and "robot" not in NEITHER  # reasons are published


@pytest.mark.parametrize(("asked", "reason"), [("...", "an empty turn"), ("- I am - so - low", "fewer than 10 words")])
def test_the_papers_variant_has_no_turn_and_no_word_of_points_alone(asked, reason):
    row = Row("s", "s:1", question_and_answer(asked, LISTENS if asked == "..." else "What is - it - now?"))
    assert prepare([row], SETTINGS)["fate"].to_pylist() == ["kept"]
    table = prepare([row], SETTINGS._replace(paper=True))
    assert table.select(["fate", "reason"]).to_pylist() == [{"fate": "dropped", "reason": reason}]


@pytest.mark.parametrize(
    ("topic", "left"),
    [
        ("Sleep Problems, Alcohol Abuse", "Sleep Problems, Alcohol Abuse"),
        ("Zelmira, jo.doe@example.org", "[PERSON_1], [EMAIL_1]"),
        ("write to Sarah on 07700 900123", "write to [PERSON_1] on [PHONE_1]"),
    ],
)
def test_a_topic_names_nobody_and_stays_a_topic(topic, left):
    talk = question_and_answer("My name is Zelmira and I cannot sleep at all these days.", LISTENS)
    table = prepare(
        [Row("s", "s:1", talk, topic), Post("s", "s:2", "I am low.", topic.replace("Zelmira", "Amy"))], SETTINGS
    )
    assert table["topic"].to_pylist() == [left, left]


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("invented", "false", "must be true or false, not 'false'"),
        ("redistributable", 1, "must be true or false"),
        ("files", "*.csv", "must be a list"),
        ("columns", ["a"], "must be a mapping"),
        ("revision", 1234567, "must be text in quotes"),
    ],
)
def test_a_value_of_another_kind_is_refused(tmp_path, key, value, sentence):
    entry = {"reader": "pairs", "kind": "qa", "license": "x", "redistributable": True, key: value}
    (tmp_path / "bad.yaml").write_text(json.dumps({"base": "b", "seed": 1, "sources": {"s": entry}}))
    with pytest.raises(BadInput, match=sentence):
        load_recipe(str(tmp_path / "bad.yaml"))


def test_a_recipe_without_sources_is_one_sentence(tmp_path):
    (tmp_path / "bad.yaml").write_text("base: b\nseed: 1\nsources:\n")
    with pytest.raises(BadInput, match=r"Key sources in .* must be a mapping"):
        load_recipe(str(tmp_path / "bad.yaml"))


def test_a_file_that_the_recipe_names_and_nobody_has_is_missed(tmp_path):
    (tmp_path / "esconv").mkdir()
    (tmp_path / "esconv/train.txt").write_text("{}\n")
    source = next(one for one in load_recipe("public").sources if one.name == "esconv")
    with pytest.raises(BadInput, match=r"esconv is not whole: .* has no valid\.txt"):
        locate(source, tmp_path)


@pytest.mark.parametrize(("name", "content"), [("p.csv", b"ask,say\n\xff,b\n"), ("p.parquet", b"PAR1 half")])
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    pairs = load_recipe("embedded").sources[0]._replace(reader="pairs", columns={"question": "ask", "answer": "say"})
    with pytest.raises(BadInput, match="theragen-dialogues cannot be read"):
        list(read(pairs, tmp_path, [tmp_path / name]))
