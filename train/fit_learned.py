"""Train the learned tier of screening: space/learned.safetensors, a small transformer that NumPy can run.

    python train/fit_learned.py --teacher intfloat/multilingual-e5-small

The teacher, a multilingual sentence encoder, is fine-tuned on the messages and replies in data/messages, which were written
for this, and on public sentences of everyday life. The student learns from the teacher's judgement of those texts and of
more public ones. Two CPU cores take about an hour; stages are kept in --work and not run twice. space/learned.md is the card.
"""

import argparse
import csv
import json
import random
import re
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from torch import nn
from transformers import AutoModel, AutoTokenizer

from hits import RISK, read_hits
from learned import GROUP, HEADS, KINDS, LANGUAGES, LONGEST, OUTPUTS, REPLY_KINDS, WINDOW, pieces_of, plain
from screening import highest, said_wrongly


ROOT = Path(__file__).parents[1]
HELD_OUT = 10  # one written text in this many is kept for choosing thresholds
PIECES, WIDTH = 36_000, 8  # vocabulary of the student; numbers of a piece's vector that one byte stands for
LAST = "\u2026"  # letter of a WordPiece vocabulary that is kept; with the quotation marks and dashes that people type
LAYERS, INNER = 3, 1024  # of the teacher's 12 layers of 1,536 inner units
WEAK = 0.3  # how much a public sentence counts that nobody has labelled for this


OF_DANGER = re.compile(
    r"suicid|kill(?:ing)? (?:your|my|him|her)self|lifeline|crisis|\b(?:988|999|000|911|112|116|741741)\b|samaritans|emergency|overdose|"
    r"safe tonight|end(?:ing)? (?:it|your life|my life)|hurt(?:ing)? yourself|want(?:ing)? to die|be dead|not be here|being dead|on living|to live\b",
    re.IGNORECASE,
)


class Row(NamedTuple):
    text: str
    reply: bool
    target: np.ndarray  # (len(OUTPUTS),), NaN where nothing is known
    weight: float
    held_out: bool


def main(argv: list[str] | None = None) -> "Student":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="intfloat/multilingual-e5-small", help="Hub id or folder of an encoder")
    parser.add_argument("--public", type=Path, default=ROOT / "build/data", help="folder with corpus/ and eval/")
    parser.add_argument("--harmless", type=Path, nargs="*", default=[], help="files of everyday texts, one a line")
    parser.add_argument("--work", type=Path, default=ROOT / "build/learned", help="where stages are kept")
    parser.add_argument("--output", type=Path, default=ROOT / "space/learned.safetensors")
    parser.add_argument("--teacher_epochs", type=float, default=2.5)
    parser.add_argument("--student_epochs", type=float, default=8)
    arguments = parser.parse_args(argv)
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)

    rows = written_rows() + dialogue_rows() + turn_rows() + case_rows()
    rows += public_rows(arguments.public) + everyday_rows(arguments.harmless)
    unlabelled = unlabelled_texts(arguments.public)
    print(f"{len(rows)} texts, {sum(row.held_out for row in rows)} held out; {len(unlabelled)} more without labels")
    teacher = Teacher(arguments.teacher)
    kept = arguments.work / "teacher.pt"
    if kept.exists():
        teacher.load_state_dict(torch.load(kept, weights_only=True))
    else:
        fine_tune(teacher, [row for row in rows if not row.held_out], arguments.teacher_epochs)
        torch.save(teacher.state_dict(), kept)
    report("teacher", [row for row in rows if row.held_out], lambda rows: teacher.judge(rows)[0])

    lessons = [row for row in rows if not row.held_out] + unlabelled
    kept = arguments.work / "lessons.pt"
    if not kept.exists():
        torch.save(teacher.judge(lessons), kept)
    judged, vectors = torch.load(kept, weights_only=True)
    vocabulary = choose_pieces(teacher, lessons)
    student = Student(Teacher(arguments.teacher).encoder, vocabulary, range(LAYERS), INNER)
    distil(student, lessons, judged, vectors, arguments.student_epochs)
    report("student", [row for row in rows if row.held_out], student.judge)
    write(student, [row for row in rows if not row.held_out], arguments.output)
    return student


# Texts


def written_rows() -> list[Row]:
    """The messages and replies of data/messages; a text is held out if its line is a tenth one; its neighbours, which may share its words, are not."""
    rows = []
    for path in sorted((ROOT / "data/messages").glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
            entry = json.loads(line)
            reply = path.stem.startswith("replies")
            target = reply_target(entry) if reply else message_target(entry, path.stem)
            rows.append(Row(entry["text"], reply, target, 1.0, number % HELD_OUT == HELD_OUT - 1))
    return rows


def dialogue_rows() -> list[Row]:
    """What the assistant says in data/dialogues, which is how a good reply sounds here."""
    good = reply_target({"kind": "good"})
    return [
        Row(message["content"], True, good, 1.0, False)
        for path in sorted((ROOT / "data/dialogues").glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
        for message in json.loads(line)["messages"]
        if message["role"] == "assistant"
    ]


def turn_rows() -> list[Row]:
    """What people say in data/dialogues where nobody is in danger: ordinary life, which is no hint of anything.

    A dialogue in which a rule sees danger, or in which help for it is named, is left out whole; one in four is kept to check.
    """
    rows = []
    for path in sorted((ROOT / "data/dialogues").glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
            messages = json.loads(line)["messages"]
            turns = [message["content"] for message in messages if message["role"] == "user"]
            spoken_of = any(OF_DANGER.search(message["content"]) for message in messages)
            if not spoken_of and all(highest(read_hits(turn)) < RISK for turn in turns):
                rows += [Row(turn, False, CALM, 1.0, number % 4 == 3) for turn in turns]
    return rows


def case_rows() -> list[Row]:
    """The cases that the rules were written against; never tests/cases/blind, and not the "wild" ones, kept to check."""
    rows = []
    for path in sorted((ROOT / "tests/cases").glob("[rs]*/*.jsonl")):
        name = path.stem
        if name.endswith(("wild", "turns")) or not name.startswith(("hits", "near_misses", "harmful", "good")):
            continue
        for entry in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            if path.parent.name == "replies":
                kind = entry.get("kind", "harmful") if name.startswith("harmful") else "good"
                target = reply_target({"kind": {"dose": "method"}.get(kind, kind)})
                target[OUTPUTS.index("harmful")] = name.startswith("harmful")
                if kind != "contact":  # what may not be shown there is no matter of words
                    rows.append(Row(entry["text"], True, target, 1.0, False))
                continue
            danger = name.startswith("hits")
            known = {"danger": danger} | {f"language/{name}": name == entry.get("lang", "en") for name in LANGUAGES}
            if not danger or entry.get("kind") in KINDS:
                known |= {kind: danger and kind == entry.get("kind") for kind in KINDS}
            rows.append(Row(entry["text"], False, target_of(known), 1.0, False))
    return rows


def message_target(entry: dict, language: str) -> np.ndarray:
    danger = entry["kind"] in KINDS
    known = {"danger": danger, "other": entry.get("subject") == "other" if danger else np.nan}
    known |= {kind: entry["kind"] == kind for kind in KINDS}
    known |= {"imminent": entry.get("level") == "imminent", "distress": danger or entry["kind"] == "distress"}
    known |= {f"language/{name}": name == language for name in LANGUAGES}
    return target_of(known)


def reply_target(entry: dict) -> np.ndarray:
    known = {"harmful": entry["kind"] in REPLY_KINDS} | {
        f"reply/{kind}": entry["kind"] == kind for kind in REPLY_KINDS
    }
    return target_of(known)


def target_of(known: dict) -> np.ndarray:
    return np.array([float(known.get(name, np.nan)) for name in OUTPUTS], np.float32)


CALM = target_of({"danger": False} | dict.fromkeys([*KINDS, "imminent"], False))


def public_rows(folder: Path) -> list[Row]:
    """Everyday sentences and counsellors' answers in which the rules find nothing: taken as harmless, at a low weight."""
    messages = sad_sentences(folder)[::2] + goemotions(folder)[:6000:2]
    rows = [Row(text, False, CALM, WEAK, False) for text in messages if highest(read_hits(text)) < RISK]
    good = reply_target({"kind": "good"})
    rows += [Row(text, True, good, WEAK, False) for text in counsellors(folder)[:2500] if not any(said_wrongly(text))]
    return rows


def everyday_rows(files: list[Path]) -> list[Row]:
    """Small talk and quotations in many languages; without them other languages' everyday talk is taken for danger."""
    texts = [line for path in files for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [Row(text, False, CALM, WEAK, False) for text in texts if highest(read_hits(text)) < RISK]


def unlabelled_texts(folder: Path) -> list[Row]:
    unknown = target_of({})
    rows = [
        Row(text, False, unknown, WEAK, False) for text in goemotions(folder)[1:24_000:2] + sad_sentences(folder)[1::2]
    ]
    return rows + [Row(text, True, unknown, WEAK, False) for text in counsellors(folder)[2500:10_000]]


def goemotions(folder: Path) -> list[str]:
    path = folder / "corpus/goemotions/train.tsv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row[0] for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


def sad_sentences(folder: Path) -> list[str]:
    path = folder / "eval/sad-stress-sms/SAD_v1.zip"
    if not path.exists():
        return []
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from safety import sad_sentences as read

    return read(path)


def counsellors(folder: Path) -> list[str]:
    """Single sentences of the answers in counsel-chat (MIT) and mentalchat-synth (Apache-2.0), shuffled."""
    texts: list[str] = []
    path = folder / "corpus/counsel-chat/20200325_counsel_chat.csv"
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            texts += [row["answerText"] for row in csv.DictReader(file) if row.get("answerText")]
    for path in sorted((folder / "corpus/mentalchat-synth").glob("*.json*")):
        texts += [
            json.loads(line)["response"] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()
        ]
    sentences = [
        sentence for text in texts for sentence in re.split(r"(?<=[.!?])\s+", re.sub("<[^>]+>|&nbsp;", " ", text))
    ]
    sentences = sorted({s.strip() for s in sentences if 20 < len(s) < 300})
    random.Random(0).shuffle(sentences)
    return sentences


# Teacher


class Teacher(nn.Module):
    def __init__(self, name: str):
        super().__init__()
        self.tokenizer = AutoTokenizer.from_pretrained(name)
        self.encoder = AutoModel.from_pretrained(name, add_pooling_layer=False)
        self.encoder.embeddings.word_embeddings.weight.requires_grad_(False)
        self.head = nn.Linear(self.encoder.config.hidden_size, len(OUTPUTS))

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            hidden = self.encoder(tokens, attention_mask=mask).last_hidden_state
        pooled = (hidden.float() * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return self.head(pooled), pooled

    def tokens_of(self, rows: list[Row]) -> list[list[int]]:
        prefixed = [("passage: " if row.reply else "query: ") + row.text for row in rows]
        return self.tokenizer(prefixed, truncation=True, max_length=128)["input_ids"] if rows else []

    @torch.no_grad()
    def judge(self, rows: list[Row]) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (rows, outputs) and sentence vectors (rows, hidden)."""
        self.eval()
        tokens = self.tokens_of(rows)
        logits, vectors = torch.zeros(len(rows), len(OUTPUTS)), torch.zeros(len(rows), self.encoder.config.hidden_size)
        for part in batches_by_length(tokens, 64):
            logits[part], vectors[part] = self(*padded([tokens[index] for index in part], self.tokenizer.pad_token_id))
        return logits, vectors


def batches_by_length(tokens: list[list[int]], size: int) -> list[list[int]]:
    order = sorted(range(len(tokens)), key=lambda index: len(tokens[index]))
    return [order[start : start + size] for start in range(0, len(order), size)]


def padded(rows: list[list[int]], padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.full((len(rows), max(map(len, rows))), padding)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = torch.tensor(row)
    lengths = torch.tensor([len(row) for row in rows])
    return tokens, (torch.arange(tokens.shape[1]) < lengths[:, None]).float()


def loss_of(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy over what is known; the verdict counts as much as everything else together."""
    known = ~target.isnan()
    loss = F.binary_cross_entropy_with_logits(logits, target.nan_to_num(0).clamp(0.01, 0.99), reduction="none")
    share = torch.full((len(OUTPUTS),), 0.1)
    share[[OUTPUTS.index("danger"), OUTPUTS.index("harmful")]] = 1.0
    return ((loss * known * share).sum(1) * weight).mean()


def fine_tune(teacher: Teacher, rows: list[Row], epochs: float) -> None:
    tokens = teacher.tokens_of(rows)
    groups = [
        {"params": [p for p in teacher.encoder.parameters() if p.requires_grad], "lr": 6e-5},
        {"params": teacher.head.parameters(), "lr": 1e-3},
    ]
    size = 32
    train(
        teacher,
        torch.optim.AdamW(groups, weight_decay=0.01),
        int(epochs * len(rows) / size),
        lambda: fine_tune_batches(teacher, rows, tokens, size),
    )


def fine_tune_batches(teacher: Teacher, rows: list[Row], tokens: list[list[int]], size: int):
    for part in shuffled_batches(list(range(len(rows))), lambda index: len(tokens[index]), size):
        logits, _ = teacher(*padded([tokens[index] for index in part], teacher.tokenizer.pad_token_id))
        target = torch.tensor(np.stack([rows[index].target for index in part]))
        yield loss_of(logits, target, torch.tensor([rows[index].weight for index in part]))


def shuffled_batches(items: list, length, size: int) -> list[list]:
    """Batches of like lengths in random order: twenty batches at a time are sorted, so that little is padding."""
    random.shuffle(items)
    batches = []
    for start in range(0, len(items), size * 20):
        chunk = sorted(items[start : start + size * 20], key=length)
        batches += [chunk[place : place + size] for place in range(0, len(chunk), size)]
    random.shuffle(batches)
    return batches


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, epoch) -> None:
    warm = max(1, steps // 12)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / warm) * max(0.02, 1 - step / steps)
    )
    random.seed(0)
    step, started = 0, time.monotonic()
    while step < steps:
        model.train()
        for loss in epoch():
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            if step % 100 == 0:
                print(
                    f"step {step} of {steps}, loss {loss.item():.4f}, {time.monotonic() - started:.0f} s", flush=True
                )
            if step == steps:
                break


# Student


class Vocabulary(NamedTuple):
    pieces: list[str]
    ids: list[int]  # in the teacher's vocabulary
    scores: np.ndarray  # log-probability, as in the teacher's unigram model, or words_and_endings' own
    counts: np.ndarray  # how often it stands in the texts


def choose_pieces(teacher: Teacher, rows: list[Row]) -> Vocabulary:
    """The teacher's pieces, lower case only: those that the texts use, every letter, then the most probable."""
    model = json.loads(teacher.tokenizer.backend_tokenizer.to_str())["model"]
    if model["type"] == "WordPiece":
        return words_and_endings(model, rows)
    if model["type"] != "Unigram":
        raise SystemExit(f"The teacher's tokenizer is {model['type']}; only Unigram and WordPiece can be cut down.")
    table = model["vocab"]
    counts: Counter[int] = Counter()
    for row in rows:
        times = 20 if row.weight == 1 else 1
        for index in teacher.tokenizer(plain(row.text), add_special_tokens=False)["input_ids"]:
            counts[index] += times
    special = set(teacher.tokenizer.all_special_ids)
    usable = [
        index
        for index, (piece, _) in enumerate(table)
        if index not in special and piece == piece.lower() and 0 < len(piece) <= LONGEST and piece.strip()
    ]
    by_score = sorted(usable, key=lambda index: -table[index][1])
    letters = [index for index in by_score if len(table[index][0].strip("▁")) <= 1][:7000]
    chosen = dict.fromkeys([*(index for index in usable if counts[index] >= 6), *letters])
    words = (index for index in by_score if re.fullmatch(r"▁?[^\W\d_]+(?:[^\W\d_]|['’]|\w)*", table[index][0]))
    for index in words:
        if len(chosen) >= PIECES:
            break
        chosen.setdefault(index)
    ids = sorted(chosen)
    scores = np.array([table[index][1] for index in ids], np.float32)
    return Vocabulary([table[index][0] for index in ids], ids, scores, np.array([counts[index] for index in ids]))


def words_and_endings(model: dict, rows: list[Row]) -> Vocabulary:
    """WordPiece's pieces but for East Asia's, written and scored so that pieces_of takes the fewest and, of as many, the longest.

    It cuts at spaces alone: a mark is a piece inside a word too, and what follows it ("don't") an ending.
    """
    inside = model["continuing_subword_prefix"]
    table: dict[str, int] = {}
    for piece, index in model["vocab"].items():
        bare = piece.removeprefix(inside)
        if not 0 < len(bare) <= LONGEST or (piece[0] in "[<" and len(piece) > 1) or max(bare) > LAST:
            continue
        if piece.startswith(inside) or not bare.isalnum():
            table.setdefault(bare, index)
        if not piece.startswith(inside):
            table.setdefault(f"▁{bare}", index)
    pieces = list(table)
    scores = np.array([len(piece.strip("▁")) ** 2 / 50 - 10 for piece in pieces], np.float32)
    index, counts = {piece: number for number, piece in enumerate(pieces)}, np.zeros(len(pieces) + 1)
    for row in rows:
        np.add.at(counts, pieces_of(row.text, index, scores, len(pieces)), 20 if row.weight == 1 else 1)
    return Vocabulary(pieces, list(table.values()), scores, counts[:-1])


def quantise(vectors: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Product quantisation: codes (pieces, bytes) uint8, centroids (bytes, 256, WIDTH), and the way back.

    The axes are principal components dealt out to the groups in turn, so that every group holds as much variance; the
    last matrix (width, width), applied as a linear layer, turns them back into the teacher's axes.
    """
    centred = vectors - vectors.mean(0)
    _, axes = np.linalg.eigh(np.cov(centred.T))
    groups = vectors.shape[1] // WIDTH
    axes = axes[:, ::-1][:, np.argsort(np.tile(np.arange(groups), WIDTH), kind="stable")].astype(np.float32)
    turned = torch.tensor(centred @ axes)
    weights = torch.tensor((counts + 3.0) ** 0.5).float()
    chances = weights.double().numpy() / weights.double().sum().item()
    random_state = np.random.default_rng(0)
    codes, centroids, lost = (
        np.zeros((len(vectors), groups), np.uint8),
        np.zeros((groups, 256, WIDTH), np.float32),
        0.0,
    )
    for group, part in enumerate(turned.split(WIDTH, 1)):
        centres = part[random_state.choice(len(part), 256, replace=len(part) < 256, p=chances)]
        for _ in range(15):
            nearest = torch.cdist(part, centres).argmin(1)
            total = torch.zeros_like(centres).index_add_(0, nearest, part * weights[:, None])
            weight = torch.zeros(256).index_add_(0, nearest, weights)[:, None]
            centres = torch.where(weight > 0, total / weight.clamp(min=1e-9), centres)
        nearest = torch.cdist(part, centres).argmin(1)
        codes[:, group], centroids[group] = nearest.numpy(), centres.numpy()
        lost += ((part - centres[nearest]) ** 2).sum().item()
    print(f"vectors of {len(vectors)} pieces: {lost / (turned**2).sum().item():.1%} of their variance is lost")
    return codes, centroids, axes


class Student(nn.Module):
    """What learned.py runs: some layers of an encoder, as it was trained, with fewer inner units and smaller vectors."""

    def __init__(self, encoder: nn.Module, vocabulary: Vocabulary, layers: Iterable[int], inner: int):
        super().__init__()
        encoder = deepcopy(encoder)  # a teacher may keep its own
        width, embeddings = encoder.config.hidden_size, encoder.embeddings
        vectors = embeddings.word_embeddings.weight.detach().numpy()
        codes, centroids, back = quantise(vectors[vocabulary.ids], vocabulary.counts)
        self.vocabulary = vocabulary
        self.index = {piece: number for number, piece in enumerate(vocabulary.pieces)}
        count = len(vocabulary.pieces)
        self.message, self.reply, self.unknown, self.padding = range(count, count + 4)
        self.register_buffer("codes", torch.tensor(codes))
        self.centroids = nn.Parameter(torch.tensor(centroids))
        self.project = nn.Linear(width, width)
        self.project.weight.data = torch.tensor(back)
        self.project.bias.data = torch.tensor(vectors[vocabulary.ids].mean(0))
        self.special = nn.Parameter(torch.tensor(vectors[[0, 0, 3]]))  # "<s>" twice, "<unk>"
        self.special.data[:2] += torch.randn(2, width) * 0.01
        self.position, self.relative = places_of(encoder)
        self.first = embeddings.LayerNorm
        self.layers = nn.ModuleList(layer_of(encoder.encoder.layer[layer], inner) for layer in layers)
        for norm in (part for part in self.modules() if isinstance(part, nn.LayerNorm)):
            norm.eps = 1e-12  # as learned.py has it
        self.head = nn.Linear(2 * width, len(OUTPUTS))
        self.imitate = nn.Linear(2 * width, width)  # the teacher's sentence vector; not shipped
        self.rounded = False  # whether to compute with the int4 weights that will be shipped

    def shorten(self, window: int) -> None:
        """Read no more than this many pieces at a time."""
        beyond = len(self.position) - window
        self.position.data = self.position.data[:window]
        if self.relative is not None:
            self.relative.data = self.relative.data[beyond : len(self.relative) - beyond]

    def tokens_of(self, text: str, *, reply: bool) -> list[int]:
        pieces = pieces_of(text, self.index, self.vocabulary.scores, self.unknown)
        return [self.reply if reply else self.message, *pieces][: len(self.position)]

    def linear(self, layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        weight = layer.weight
        if self.rounded:
            weight = weight + (rounded(weight.detach()) - weight).detach()
        return F.linear(x, weight, layer.bias)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            count = len(self.vocabulary.pieces)
            codes = self.codes[tokens.clamp(max=count - 1)].long()
            vectors = self.centroids[torch.arange(codes.shape[-1]), codes].flatten(2)
            special = self.special[(tokens - count).clamp(0, 2)]
            hidden = torch.where((tokens >= count)[..., None], special, self.linear(self.project, vectors).float())
            hidden = F.dropout(self.first(hidden + self.position[: tokens.shape[1]]), 0.1, self.training)
            seen = torch.where(mask[:, None, None, :] > 0, 0.0, -1e4)
            if self.relative is not None:
                places = torch.arange(tokens.shape[1])
                seen = seen + self.relative[places - places[:, None] + len(self.position) - 1].permute(2, 0, 1)
            for layer in self.layers:
                qkv = self.linear(layer["qkv"], hidden).view(*tokens.shape, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
                mixed = F.scaled_dot_product_attention(*qkv, attn_mask=seen.to(qkv.dtype))
                mixed = self.linear(layer["mix"], mixed.transpose(1, 2).flatten(2))
                hidden = layer["norm1"](hidden + F.dropout(mixed, 0.1, self.training))
                inner = self.linear(layer["inner"], hidden)
                inner = self.linear(layer["outer"], inner * torch.sigmoid(1.702 * inner))
                hidden = layer["norm2"](hidden + F.dropout(inner, 0.1, self.training))
        hidden = hidden.float()
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        pooled = torch.cat([mean, hidden.masked_fill(mask[..., None] == 0, -1e4).max(1).values], 1)
        return self.head(pooled), self.imitate(pooled)

    @torch.no_grad()
    def judge(self, rows: list[Row]) -> torch.Tensor:
        self.eval()
        tokens = [self.tokens_of(row.text, reply=row.reply) for row in rows]
        logits = torch.zeros(len(rows), len(OUTPUTS))
        for part in batches_by_length(tokens, 64):
            logits[part] = self(*padded([tokens[index] for index in part], self.padding))[0]
        return logits


def places_of(encoder: nn.Module) -> tuple[nn.Parameter, nn.Parameter | None]:
    """What an encoder adds for a place (WINDOW, width), and, of MPNet, to attention for a distance (2 * WINDOW - 1, heads), the key's minus the query's."""
    positions = encoder.embeddings.position_embeddings.weight.detach()
    if encoder.config.model_type != "mpnet":
        kind = encoder.embeddings.token_type_embeddings.weight[0].detach()
        return nn.Parameter(positions[:WINDOW] + kind), None
    begun = encoder.embeddings.padding_idx + 1
    biases = encoder.encoder.compute_position_bias(torch.zeros(1, WINDOW, 1))[0].detach()  # (heads, query, key)
    by_distance = torch.cat([biases[:, :, 0].flip(1), biases[:, 0, 1:]], 1)
    return nn.Parameter(positions[begun : begun + WINDOW].clone()), nn.Parameter(by_distance.T.clone())


def layer_of(layer: nn.Module, most: int) -> nn.ModuleDict:
    """One layer of BERT or MPNet with its queries, keys and values in one matrix and the `most` inner units that weigh most."""
    attention = layer.attention
    if hasattr(attention, "attn"):  # MPNet
        queries, mix, norm = (
            (attention.attn.q, attention.attn.k, attention.attn.v),
            attention.attn.o,
            attention.LayerNorm,
        )
    else:
        own, output = attention.self, attention.output
        queries, mix, norm = (own.query, own.key, own.value), output.dense, output.LayerNorm
    inner, outer = layer.intermediate.dense, layer.output.dense
    strength = inner.weight.norm(dim=1) * outer.weight.norm(dim=0)
    kept = strength.topk(min(most, len(strength))).indices
    parts = {
        "qkv": linear_of(torch.cat([one.weight for one in queries]), torch.cat([one.bias for one in queries])),
        "mix": mix,
        "norm1": norm,
        "inner": linear_of(inner.weight[kept], inner.bias[kept]),
        "outer": linear_of(outer.weight[:, kept], outer.bias),
        "norm2": layer.output.LayerNorm,
    }
    return nn.ModuleDict(parts)


def linear_of(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight.data, linear.bias.data = weight.detach().clone(), bias.detach().clone()
    return linear


def int4(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Whole numbers from 0 to 15 (8 is nothing), (rows, columns), and scales (rows, columns / GROUP)."""
    parts = weight.unflatten(1, (-1, GROUP))
    signed_most = parts.gather(2, parts.abs().argmax(2, keepdim=True))
    scale = (signed_most / -8).half().float()
    scale = torch.where(scale == 0, 1.0, scale)
    return (parts / scale).round().clamp(-8, 7).flatten(1) + 8, scale.squeeze(2)


def rounded(weight: torch.Tensor) -> torch.Tensor:
    numbers, scale = int4(weight)
    return ((numbers - 8).unflatten(1, (-1, GROUP)) * scale[..., None]).flatten(1)


def goals_of(targets: torch.Tensor, judged: torch.Tensor, reply: torch.Tensor) -> torch.Tensor:
    """Halfway between what is known and the teacher's judgement, that alone where nothing is; a message has no reply's kinds, and a reply no message's."""
    soft = torch.sigmoid(judged)
    goals = torch.where(targets.isnan(), soft, (targets + soft) / 2)
    of_replies = torch.tensor([name == "harmful" or name.startswith("reply/") for name in OUTPUTS])
    goals[reply[:, None] != of_replies[None, :]] = torch.nan
    return goals


def distil(student: Student, rows: list[Row], judged: torch.Tensor, vectors: torch.Tensor, epochs: float) -> None:
    vectors = F.layer_norm(vectors, vectors.shape[1:])
    targets = torch.tensor(np.stack([row.target for row in rows]))
    goals = goals_of(targets, judged, torch.tensor([row.reply for row in rows]))
    # Of what was written for this most is dangerous or harmful; what is not counts twice, or grief passes for danger.
    calm = (targets[:, [OUTPUTS.index("danger"), OUTPUTS.index("harmful")]].nan_to_num(0).sum(1) == 0).numpy()
    chances = np.array(
        [(1.0 + harmless) if row.weight == 1 else 0.35 for row, harmless in zip(rows, calm, strict=True)]
    )
    chances /= chances.sum()
    random_state, size = np.random.default_rng(0), 32
    steps = int(epochs * len(rows) / size)
    alike = [[index for index, row in enumerate(rows) if row.reply == reply] for reply in (False, True)]

    done = 0

    def epoch():
        nonlocal done
        done += 1
        student.rounded = done * 100 > steps / 2  # the second half learns to live with int4
        items = []
        for index in random_state.choice(len(rows), size * 100, p=chances):
            text, goal, alone = rows[index].text, goals[index], True
            if random.random() < (0.4 if rows[index].reply else 0.2):  # danger among other talk
                other = random.choice(alike[rows[index].reply])
                pair = [text, rows[other].text]
                random.shuffle(pair)
                text, goal, alone = ". ".join(pair), torch.maximum(goal, goals[other]), False
            items.append((student.tokens_of(noisy(text), reply=rows[index].reply), goal, index, alone))
        for part in shuffled_batches(items, lambda item: len(item[0]), size):
            logits, imitated = student(*padded([item[0] for item in part], student.padding))
            alone = torch.tensor([item[3] for item in part])
            wanted = vectors[[item[2] for item in part]]
            unlike = 1 - F.cosine_similarity(imitated, wanted)
            yield (
                loss_of(logits, torch.stack([item[1] for item in part]), torch.ones(len(part)))
                + 0.5 * (unlike * alone).mean()
            )

    new = [*student.head.parameters(), *student.imitate.parameters()]
    known = {id(parameter) for parameter in new}
    old = [parameter for parameter in student.parameters() if id(parameter) not in known]
    groups = [{"params": old, "lr": 3e-4}, {"params": new, "lr": 1e-3}]
    train(student, torch.optim.AdamW(groups, weight_decay=0.01), steps, epoch)


def noisy(text: str) -> str:
    """The text as hurried people type it: without marks and accents, with slips."""
    if random.random() < 0.3:
        text = re.sub("[.,!?;:¿¡…،؟。！？]", " ", text)
    if random.random() < 0.15:
        text = "".join(
            c
            for c in unicodedata.normalize("NFD", text)
            if not ("\u0300" <= c <= "\u036f" or "\u064b" <= c <= "\u0652")
        )
    if random.random() < 0.3:
        text = re.sub("['’]", "", text)
    if random.random() < 0.25:
        text = " ".join(slip(word) if random.random() < 0.08 and len(word) > 3 else word for word in text.split(" "))
    return text


def slip(word: str) -> str:
    place = random.randrange(1, len(word) - 1)
    before, here, after = word[:place], word[place : place + 2], word[place + 2 :]
    return before + random.choice([here[1:], here[0] + here, here[::-1]]) + after


# Results


def report(name: str, rows: list[Row], judge) -> None:
    """At a few thresholds, what is found of the dangerous or harmful held-out texts and what is raised for nothing."""
    scores = torch.sigmoid(judge(rows)).numpy()
    for output in ("danger", "harmful"):
        column = OUTPUTS.index(output)
        truth = np.array([row.target[column] for row in rows])
        for threshold in (0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95):
            found = scores[:, column] >= threshold
            (hits, hit_count), (alarms, calm_count) = ((found[truth == v].sum(), (truth == v).sum()) for v in (1, 0))
            print(
                f"{name}: {output} at {threshold}: {hits} of {hit_count} found, {alarms} of {calm_count} for nothing"
            )


def write(student: Student, rows: list[Row], path: Path) -> None:
    """The weights as learned.py reads them; nobody ever sees a half-written file."""
    tensors = {
        "pieces": np.frombuffer("\n".join(student.vocabulary.pieces).encode(), np.uint8),
        "scores": student.vocabulary.scores.astype(np.float16),
        "weights": weights_of_pieces(student, rows),
    }
    for name, value in student.state_dict().items():
        if name.startswith("imitate"):
            continue
        if name == "head.weight":
            tensors[name] = value.T.numpy().astype(np.float16)
        elif name.endswith("weight") and value.ndim == 2:
            numbers, scale = int4(value)
            numbers = numbers.numpy().astype(np.uint8)
            tensors[name.replace("weight", "weight.packed")] = numbers[:, ::2] | numbers[:, 1::2] << 4
            tensors[name.replace("weight", "weight.scale")] = scale.numpy().astype(np.float16)
        else:
            tensors[name] = value.numpy() if value.dtype == torch.uint8 else value.numpy().astype(np.float16)
    partial = path.with_suffix(".partial")
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, partial)
    partial.replace(path)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def weights_of_pieces(student: Student, rows: list[Row]) -> np.ndarray:
    """How much more often a piece stands in dangerous and harmful texts, as a logarithm; nothing where it is rarer there."""
    columns = [OUTPUTS.index("danger"), OUTPUTS.index("harmful")]
    counts = np.ones((2, len(student.vocabulary.pieces)))
    for row in rows:
        for piece in set(student.tokens_of(row.text, reply=row.reply)[1:]):
            if piece < counts.shape[1]:
                counts[int(np.nansum(row.target[columns]) > 0.5), piece] += row.weight
    shares = counts / counts.sum(1, keepdims=True)
    return np.maximum(0, np.log(shares[1] / shares[0])).astype(np.float16)


if __name__ == "__main__":
    main()
