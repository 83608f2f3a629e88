"""Each kind of source by a tiny file of our own making: what becomes a row, what a post, what a reject, what an error."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recipe import Source, load_recipe
from rows import BadInput, Post, Reject, Row
from sources import read
from tables import NO_RECORD


def source(reader: str, **values) -> Source:
    return Source("made-up", reader, "qa", "CC0-1.0", False, **values)


def read_file(tmp_path, name: str, text: str, found: Source, encoding: str = "utf-8") -> list:
    (tmp_path / name).write_text(text, encoding=encoding)
    return list(read(found, tmp_path, [tmp_path / name]))


def said(row: Row) -> list[str]:
    return [f"{message['role']}: {message['content']}" for message in row.messages]


ANNOMI = "transcript_id,mi_quality,topic,utterance_id,interlocutor,timestamp,utterance_text\n"


def test_a_transcript_is_one_conversation_whatever_the_number_of_annotators(tmp_path):
    lines = [
        "0,high,drinking,0,therapist,00:01,Hello there.",
        "0,high,drinking,1,client,00:02,I had five last night.",
        "0,high,drinking,1,client,00:02,I had five last night.",  # another annotator
        "0,high,drinking,2,client,00:03,Well six.",
        "0,high,drinking,3,therapist,00:04,Six on a Tuesday.",
        "1,low,drinking,0,client,00:01,I came late.",
        "1,low,drinking,1,therapist,00:02,You always do.",
    ]
    row, reject = read_file(tmp_path, "a.csv", ANNOMI + "\n".join(lines) + "\n", source("annomi"))
    assert said(row) == ["user: I had five last night. Well six.", "assistant: Six on a Tuesday."]
    assert (reject.reason, "always" in reject.text) == ("a transcript that shows how not to do it", True)


def test_the_header_of_a_session_reaches_no_row(tmp_path):
    text = (
        "SESSION METADATA\nClinician: Dr. Quill, PsyD\nClient ID: C-1\n\n---\n\nTRANSCRIPT\n\n"
        "Therapist: What brought you?\n\nClient: The stairs.\n[pause]\n\nTherapist: Tell me about\nthe stairs.\n\nClient: No.\n"
    )
    (row,) = read_file(tmp_path, "session_1.txt", text, source("sessions"))
    assert said(row) == ["user: The stairs.", "assistant: Tell me about the stairs."]


def test_pairs_come_from_named_columns_and_share_a_group_by_question(tmp_path):
    records = [{"ask": "Why?", "say": "Because.", "tag": "sleep"}, {"ask": "Why? ", "say": "Who knows.", "tag": ""}]
    text = "\n".join([*map(json.dumps, records), "{half"])
    found = source("pairs", columns={"question": "ask", "answer": "say", "topic": "tag"})
    first, second, reject = read_file(tmp_path, "p.jsonl", text, found)
    assert (said(first), first.topic, second.topic) == (["user: Why?", "assistant: Because."], "sleep", None)
    assert first.group == second.group
    assert isinstance(reject, Reject)


def test_posts_are_never_rows(tmp_path):
    found = source("posts", columns={"text": "text", "label": "label"}, encoding="latin-1")
    posts = read_file(tmp_path, "p.csv", 'text,label\n"I said ""no"", twice",1\ncafé,0\n', found, "latin-1")
    assert posts == [
        Post("made-up", "p.csv:row 1", 'I said "no", twice', "1"),
        Post("made-up", "p.csv:row 2", "café", "0"),
    ]
    tabbed = source("posts", columns={"text": 0, "label": 1})
    assert read_file(tmp_path, "p.tsv", 'a "quote\t3\tx\n', tabbed) == [
        Post("made-up", "p.tsv:row 1", 'a "quote', "3")
    ]
    assert read_file(tmp_path, "p.txt", "one\n\ntwo\n", source("lines"))[1].where == "p.txt:3"


def test_only_empathetic_replies_become_rows(tmp_path):
    header = "sp_id,rp_id,seeker_post,response_post,level,rationales\n"
    rated = {"a.csv": (2, 0), "b.csv": (0, 1)}
    for name, levels in rated.items():
        lines = [f"s{number},r,post {number},reply {number},{level}," for number, level in enumerate(levels)]
        (tmp_path / name).write_text(header + "\n".join([*lines, lines[0]]) + "\n")
    reject, row, post = list(read(source("epitome"), tmp_path, [tmp_path / name for name in rated]))
    assert said(row) == ["user: post 0", "assistant: reply 0"]
    assert (post.text, reject.reason) == ("post 1", "the same as an earlier row")


@pytest.mark.parametrize(
    ("reader", "columns"),
    [("annomi", {}), ("epitome", {}), ("pairs", {"question": "q", "answer": "a"}), ("posts", {"text": "t"})],
)
def test_a_changed_schema_is_one_sentence_that_names_file_and_column(tmp_path, reader, columns):
    with pytest.raises(BadInput, match=r"made-up: .*x\.csv lacks the column \w+"):
        read_file(tmp_path, "x.csv", "one,two\n1,2\n", source(reader, columns=columns))


def test_columns_that_the_recipe_forgot_are_named(tmp_path):
    with pytest.raises(BadInput, match="needs columns answer, question"):
        read_file(tmp_path, "x.csv", "q,a\n1,2\n", source("pairs", columns={"question": "q"}))


def test_pairs_come_from_parquet_too(tmp_path):
    pq.write_table(pa.table({"ask": ["Why?", None], "say": ["Because.", "x"]}), tmp_path / "p.parquet")
    found = source("pairs", columns={"question": "ask", "answer": "say"})
    first, second = read(found, tmp_path, [tmp_path / "p.parquet"])
    assert (said(first), first.where) == (["user: Why?", "assistant: Because."], "p.parquet:row 1")
    assert said(second)[0] == "user: "
    with pytest.raises(BadInput, match="lacks the column reply"):
        list(read(source("pairs", columns={"question": "ask", "answer": "reply"}), tmp_path, [tmp_path / "p.parquet"]))


def test_the_papers_recipe_is_the_public_one_and_two_more_that_stay_at_home():
    public, paper = load_recipe("public"), load_recipe("paper")
    assert paper.sources[: len(public.sources)] == public.sources
    more = paper.sources[len(public.sources) :]
    assert [(one.name, one.redistributable) for one in more] == [("reddit", False), ("x", False)]
    assert (paper.name, paper.seed) == ("paper", public.seed)


def test_a_record_without_a_needed_value_is_a_reject(tmp_path):
    found = source("pairs", columns={"question": "ask", "answer": "say"})
    (reject,) = read_file(tmp_path, "p.jsonl", '{"ask": "Why?"}', found)
    assert (type(reject), reject.reason) == (Reject, "a line that is no record")


@pytest.mark.parametrize("row", ["Why?,Because, I say.,sleep", "Why?,Because."])
def test_a_row_with_more_or_fewer_values_than_columns_is_a_reject(tmp_path, row):
    pairs = source("pairs", columns={"question": "ask", "answer": "say", "topic": "tag"})
    text = f"ask,say,tag\n{row}\nWhy?,Because.,sleep,\n"  # a comma at the end of a line is none too many
    reject, kept = read_file(tmp_path, "p.csv", text, pairs)
    assert (reject.reason, reject.where, said(kept)[1]) == (NO_RECORD, "p.csv:row 1", "assistant: Because.")


def test_a_broken_row_costs_its_transcript_and_ends_no_build(tmp_path):
    lines = [
        "0,high,drinking,0,client,00:01,I had five.",
        "0,high,drinking,x,therapist,00:02,Five?",
        "0,high",
        "1,high,a,0,client,,Hi.",
    ]
    found = read_file(
        tmp_path, "a.csv", ANNOMI + "\n".join([*lines, "1,high,a,1,therapist,,Hello."]) + "\n", source("annomi")
    )
    assert [type(one) for one in found] == [Reject, Reject, Reject, Row]
    assert [one.reason for one in found[:3]] == [NO_RECORD, NO_RECORD, "a transcript that lacks a line"]


@pytest.mark.parametrize(
    ("reader", "line"),
    [
        ("dialogues", {"id": 1, "messages": [{"role": "user", "content": None}]}),
        ("esconv", {"dialog": [{"speaker": "usr", "text": 5}]}),
        ("threads", {"id": 1, "title": "a", "text": "b", "topic": "c", "reply": 5}),
    ],
)
def test_a_turn_that_is_no_text_is_a_reject(tmp_path, reader, line):
    (reject,) = read_file(tmp_path, "a.jsonl", json.dumps(line), source(reader))
    assert isinstance(reject, Reject)


def test_counsel_chat_notices_a_comma_too_many(tmp_path):
    text = "questionID,questionTitle,questionText,answerText\n1,a,b,c\n2,a,b,c,d\n"
    row, reject = read_file(tmp_path, "c.csv", text, source("counsel-chat"))
    assert (said(row)[1], reject.where, reject.reason) == ("assistant: c", "c.csv:row 2", NO_RECORD)
