"""The builder by its real command: a corpus of our dialogues and a small made-up source, and how bad input ends."""

import json
import os
import random
import shutil
import subprocess
import sys
import time

import pytest

from cleaning import without_signature
from conftest import ROOT, command
from rows import Row


BUILD = "data/build_dataset.py"


# Title, question, answer; no comma in them, so that the CSV below needs no quoting.
ASKED = [
    ("Why do I wake at four?", "Every night I lie there counting the hours until the alarm", "Try leaving the clock in another room and see what the dark feels like without numbers."),
    ("My sister stopped calling", "We argued about the wedding in May and it has been silence since", "Silence often hides hurt on both ends; what would a short message without any argument say?"),
    ("Can shyness go away?", "I eat lunch in my car because the canteen makes my hands shake", "Perhaps begin with one colleague and one coffee rather than the whole noisy room."),
    ("I shout at my kids", "By bedtime I am so tired that small spills make me explode", "Tired parents have short fuses; who could take one evening a week off your shoulders?"),
    ("New job and new fear", "I keep expecting somebody to find out that I know nothing", "Many beginners feel like impostors; keep a list of what you solved each Friday."),
    ("How long does grief last?", "My grandfather died two winters ago and his coat still hangs in our hall", "There is no timetable for missing someone; what does the coat mean to you today?"),
    ("Is crying at films odd?", "Adverts with dogs set me off and my mates laugh at me", "Tears show that something touched you; plenty of gentle men cry at dogs."),
    ("Moving away from home", "University is four hundred miles off and I have never even done laundry", "Skills such as laundry come quickly; missing people deserves more of your attention."),
    ("He checks my phone", "My boyfriend reads my messages and calls it love", "Love leaves room for privacy; a domestic abuse worker can help you think this through safely."),
    ("Exam panic", "My mind empties as soon as the paper is turned over", "Slow breathing before opening the booklet helps some people find their first sentence."),
    ("Lonely after retiring", "Thirty years on the railway and now the phone never rings", "Where did railway friends gather in the past and could you suggest meeting there again?"),
    ("Angry at everything", "Queues and slow walkers and my own shoes all make me furious", "Anger sometimes stands guard over sadness; what happened around the time it started?"),
]  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A recipe over a tiny counsel-chat of our own making, with a repeat, an advertisement and an empty answer."""
    folder = tmp_path_factory.mktemp("small")
    rows = ["questionID,questionTitle,questionText,topics,therapistInfo,therapistURL,answerText,upvotes"]
    rows += [f"{number},{title},{asked},sleep,Jo Doe,x,{told},1" for number, (title, asked, told) in enumerate(ASKED)]
    rows.append(rows[1])
    rows.append("90,Alone?,I am alone in a new town and know nobody,x,Jo,x,,1")
    (folder / "counsel-chat").mkdir()
    (folder / "counsel-chat/counselchat-data.csv").write_text("\n".join(rows) + "\n")
    public = (ROOT / "data/recipes/public.yaml").read_text(encoding="utf-8")
    head, sources = public.split("sources:\n", 1)
    entry = next(part for part in sources.split("\n\n") if "counsel-chat:" in part)
    (folder / "small.yaml").write_text(f"{head}sources:\n{entry}\n", encoding="utf-8")
    return folder


def build(folder, output, **options):
    return command(BUILD, "--recipe", folder / "small.yaml", "--local", folder, "--output", output, **options)


@pytest.fixture(scope="module")
def built(small, tmp_path_factory):
    """What the recipe gives; made once, for tests that change nothing in it."""
    folder = tmp_path_factory.mktemp("built") / "out"
    build(small, folder)
    return folder


def test_every_row_is_accounted_for(built):
    report = json.loads((built / "report.json").read_text())
    source = report["sources"]["counsel-chat"]
    assert source["read"] == 14
    assert source["kept"] + sum(source["dropped"].values()) == source["read"]
    rejects = [json.loads(line) for line in (built / "rejects.jsonl").read_text().splitlines()]
    assert len(rejects) == sum(source["dropped"].values()) == 2
    assert "Jo Doe" not in (built / "corpus/README.md").read_text()


def test_twice_gives_the_same_bytes(small, built, tmp_path):
    build(small, tmp_path / "again")
    files = [path.relative_to(built) for path in built.rglob("*") if path.is_file()]
    assert len(files) > 4
    assert all((built / file).read_bytes() == (tmp_path / "again" / file).read_bytes() for file in files)


def test_an_unchanged_build_is_not_repeated(small, built):
    assert "up to date" in build(small, built).stdout


def test_a_changed_corpus_is_not_served_from_an_earlier_ones_cache(small, built, tmp_path):
    """Both builds are called `corpus`, as all of ours are; only what is in them differs."""
    from datasets import load_dataset

    before = load_dataset(str(built / "corpus"), split="train")
    changed = tmp_path / "changed"
    shutil.copytree(small, changed)
    file = changed / "counsel-chat/counselchat-data.csv"
    file.write_text(file.read_text().replace("Try leaving", "Consider leaving"))
    build(changed, tmp_path / "two")
    after = load_dataset(str(tmp_path / "two/corpus"), split="train")
    assert len(before) == len(after)
    assert "Consider leaving" in str(after["messages"][:])
    assert "Consider leaving" not in str(before["messages"][:])


def test_splits_never_cut_a_group(loop):
    from datasets import load_dataset

    corpus = load_dataset(str(loop / "corpus"))
    groups = {name: set(rows["group"]) for name, rows in corpus.items()}
    assert set(groups) == {"train", "validation", "test"}
    assert (
        not groups["train"] & groups["test"]
        | groups["train"] & groups["validation"]
        | groups["test"] & groups["validation"]
    )
    assert all(corpus["train"]["redistributable"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda folder: (folder / "counsel-chat/counselchat-data.csv").write_text("a,b\n1,2\n"), "column"),
        (lambda folder: (folder / "counsel-chat/counselchat-data.csv").unlink(), "is empty"),
        (lambda folder: (folder / "counsel-chat/counselchat-data.csv").write_text(""), "is empty"),
        (lambda folder: shutil.rmtree(folder / "counsel-chat"), "is missing"),
        (lambda folder: (folder / "small.yaml").write_text("colour: red\n"), "colour"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(small, tmp_path, change, sentence):
    folder = tmp_path / "copy"
    (folder / "counsel-chat").mkdir(parents=True)
    for file in ("small.yaml", "counsel-chat/counselchat-data.csv"):
        (folder / file).write_bytes((small / file).read_bytes())
    change(folder)
    done = build(folder, tmp_path / "out", check=False)
    assert done.returncode == 2
    assert sentence in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_unknown_recipe_and_foreign_folder_are_refused(small, tmp_path):
    assert command(BUILD, "--recipe", "none", "--output", tmp_path / "out", check=False).returncode == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear diary")
    done = build(small, tmp_path / "mine", check=False)
    assert (done.returncode, "is no build of this script" in done.stderr) == (2, True)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]


def test_the_folder_of_another_build_is_refused_and_kept(small, tmp_path):
    build(small, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    done = command(BUILD, "--recipe", "embedded", "--output", tmp_path / "out", check=False)
    assert (done.returncode, "holds a build of recipe small" in done.stderr) == (2, True)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("content", "sentence"), [(b"%PDF-1.4 broken", "PDF"), (None, "has no text in it")])
def test_a_pdf_without_text_is_one_sentence(tmp_path, content, sentence):
    (tmp_path / "guideline-pdfs").mkdir()
    (tmp_path / "guideline-pdfs/scan.pdf").write_bytes(content or EMPTY_PDF)
    public = (ROOT / "data/recipes/public.yaml").read_text(encoding="utf-8")
    head, sources = public.split("sources:\n", 1)
    (tmp_path / "pdf.yaml").write_text(
        f"{head}sources:\n  guideline-pdfs:{sources.split('  guideline-pdfs:')[1].split(chr(10) * 2)[0]}"
    )
    recipe = ["--recipe", tmp_path / "pdf.yaml", "--local", tmp_path, "--output", tmp_path / "out"]
    done = command(BUILD, *recipe, check=False)
    assert done.returncode == 2
    assert "scan.pdf" in done.stderr.strip().splitlines()[-1]
    assert sentence in done.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "out").exists()


# One page, nothing on it.
EMPTY_PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]>>endobj\ntrailer<</Root 1 0 R>>\n"
)


def test_a_broken_line_is_a_reject_and_the_build_goes_on(tmp_path):
    lines = (ROOT / "data/dialogues/loss.jsonl").read_text(encoding="utf-8").splitlines()
    (tmp_path / "dialogues").mkdir()
    (tmp_path / "dialogues/broken.jsonl").write_text("\n".join([*lines[:6], '{"id": "half', *lines[6:9]]) + "\n")
    recipe = (ROOT / "data/recipes/embedded.yaml").read_text().replace("data/dialogues", str(tmp_path / "dialogues"))
    (tmp_path / "broken.yaml").write_text(recipe)
    command(BUILD, "--recipe", tmp_path / "broken.yaml", "--output", tmp_path / "out")
    rejects = [json.loads(line) for line in (tmp_path / "out/rejects.jsonl").read_text().splitlines()]
    assert [reject["where"] for reject in rejects] == ["broken.jsonl:7"]


@pytest.mark.parametrize(
    ("reply", "left"),
    [
        ("Be well.\nRobin J. Doe, DBH, LPC", "Be well."),
        ("Be well. ~Robin ([URL_1])", "Be well."),
        ("I wish you the best!\n\nDr. Robin Doe  [URL_1]", "I wish you the best!"),
        ("Be well.\nWarm regards, Jo Roe, LMHC", "Be well."),
        ("It was Robin Doe who said so, long ago, in a book that I like and that many people read.",
         "It was [NAME_1] who said so, long ago, in a book that I like and that many people read."),
        ("A robin sang at dawn.\nTell me about the robin.", "A robin sang at dawn.\nTell me about the robin."),
        ("Robin Doe", "[NAME_1]"),
        ("Be well.\n- [PERSON_2]", "Be well."),
        ("I hear you.\nCall 988 any time. Robin Doe", "I hear you.\nCall 988 any time."),
        ("That is hard. If it gets worse call 988 or see an RN.", "That is hard. If it gets worse call 988 or see an RN."),
        ("Who told you?\n[PERSON_2] or somebody else", "Who told you?\n[PERSON_2] or somebody else"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_reply_is_not_signed(reply, left):
    row = Row(
        "x", "x:1", [{"role": "user", "content": "?"}, {"role": "assistant", "content": reply}], author="Robin Doe"
    )
    assert without_signature(row).messages[-1]["content"] == left


def test_a_row_is_followed_from_its_source_to_its_shard_or_its_reason(small, tmp_path):
    import pyarrow.parquet as pq

    build(small, tmp_path / "out")
    kept = command("data/follow.py", tmp_path / "out", "counselchat-data.csv:row 2").stdout
    row, file = kept.split()[-3], kept.split()[-1]
    assert "kept" in kept
    assert row in pq.read_table(tmp_path / "out/corpus" / file)["id"].to_pylist()
    assert "counselchat-data.csv:row 2:" in command("data/follow.py", tmp_path / "out", row).stdout
    dropped = command("data/follow.py", tmp_path / "out", "counselchat-data.csv:row 14").stdout
    assert "dropped: an empty turn" in dropped
    lost = command("data/follow.py", tmp_path / "out", "nowhere:1", check=False)
    assert (lost.returncode, "no place and no id" in lost.stderr) == (2, True)


def with_posts(small, folder, name: str, text: str, reader: str):
    """A copy of the small recipe with one more source, of posts."""
    shutil.copytree(small, folder)
    (folder / "posts").mkdir()
    (folder / "posts" / name).write_text(text)
    recipe = folder / "small.yaml"
    entry = f"  posts:\n    {reader}\n    kind: post\n    local: posts\n    files: [{name}]\n    license: none\n    redistributable: false\n"
    recipe.write_text(recipe.read_text() + entry)
    return folder


def test_a_source_that_fails_is_left_out_only_when_asked(small, tmp_path):
    folder = with_posts(
        small, tmp_path / "copy", "p.csv", "body\nI am here\n", "reader: posts\n    columns: {text: text}"
    )
    refused = build(folder, tmp_path / "out", check=False)
    assert (refused.returncode, "posts" in refused.stderr) == (2, True)
    assert not (tmp_path / "out").exists()
    done = command(
        BUILD, "--recipe", folder / "small.yaml", "--local", folder, "--output", tmp_path / "out", "--keep_going"
    )
    assert "lacks the column text" in done.stderr
    assert "lacks the column text" in json.loads((tmp_path / "out/report.json").read_text())["failed"]["posts"]


def test_posts_lie_beside_the_corpus_and_never_in_it(small, tmp_path):
    import pyarrow.parquet as pq

    text = "cannot sleep, mail me at jo.doe@example.org\n"
    folder = with_posts(small, tmp_path / "copy", "p.txt", text, "reader: lines")
    build(folder, tmp_path / "out")
    assert pq.read_table(tmp_path / "out/posts.parquet")["text"].to_pylist() == ["cannot sleep, mail me at [EMAIL_1]"]
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert (report["sources"]["posts"]["posts"], report["sources"]["posts"]["rows"]) == (1, 0)
    assert not any("cannot sleep" in str(pq.read_table(file)) for file in (tmp_path / "out/corpus").rglob("*.parquet"))


def test_killed_at_any_point_the_next_build_gives_the_same_bytes(small, tmp_path):
    """With THERAGEN_KILLS=20 at twenty points; a few of them are enough for every day."""
    order = [sys.executable, BUILD, "--recipe", small / "small.yaml", "--local", small, "--output", tmp_path / "out"]
    started = time.monotonic()
    build(small, tmp_path / "whole")
    lasts = time.monotonic() - started
    chance = random.Random(4)
    for _ in range(int(os.environ.get("THERAGEN_KILLS", "3"))):
        process = subprocess.Popen(order, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.3, 1.1) * lasts)
        process.kill()
        process.wait()
        if (tmp_path / "out/report.json").exists():  # it was quicker: begin again
            shutil.rmtree(tmp_path / "out")
    build(small, tmp_path / "out")
    whole = {path.relative_to(tmp_path / "whole"): path.read_bytes() for path in (tmp_path / "whole").rglob("*.*")}
    again = {path.relative_to(tmp_path / "out"): path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    assert whole == again
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".out")]


def test_full_disk_leaves_the_last_good_build(small, built, tmp_path):
    shutil.copytree(built, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    changed = tmp_path / "changed"
    shutil.copytree(small, changed)
    file = changed / "counsel-chat/counselchat-data.csv"
    file.write_text(file.read_text().replace("Try leaving", "Consider leaving"))
    limited = f"ulimit -f 4; exec {sys.executable} {BUILD} --recipe {changed}/small.yaml --local {changed} --output {tmp_path}/out"
    done = subprocess.run(["bash", "-c", limited], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
