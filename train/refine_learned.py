"""Go on training the learned tier of screening from the weights that are shipped, or from an encoder.

    python train/refine_learned.py --steps 2500 --output build/learned.safetensors
    python train/refine_learned.py --encoder intfloat/multilingual-e5-small --rate 6e-5 --output build/second.safetensors
    python train/refine_learned.py --encoder sentence-transformers/all-mpnet-base-v2 --language en --window 48 \\
        --teacher_steps 1600 --steps 1000 --rate 1e-4 --output build/english.safetensors

For new lines in data/messages: minutes instead of the hour of train/fit_learned.py, and, but for --teacher_steps, no teacher. A long text is read
in windows, as learned.py reads it, and answers for its worst one. Replies are held to what the old weights said of them:
trained on labels alone, it forgot more about harmful replies that it had never seen than it learned.

With --encoder it begins from a pre-trained encoder, or some of its layers, in place of the shipped weights: deeper, some 15 to
50 MB, for learned.py to read in the same way; with --teacher_steps the whole encoder is trained first and teaches the one
that is cut out of it. train/encoder_from_package.py makes the multilingual one where no hub is reached.
"""

import argparse
import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file
from torch import nn

from fit_learned import (
    ROOT,
    Row,
    Student,
    Teacher,
    Vocabulary,
    batches_by_length,
    case_rows,
    choose_pieces,
    dialogue_rows,
    fine_tune,
    goals_of,
    loss_of,
    noisy,
    padded,
    public_rows,
    report,
    train,
    turn_rows,
    write,
    written_rows,
)
from learned import LANGUAGES, OUTPUTS, WEIGHTS, WINDOW, pieces_of, stride_of, unpack


READ = 3  # windows of one text at most
BATCH = 32
DANGER, HARMFUL = OUTPUTS.index("danger"), OUTPUTS.index("harmful")


def main(options: argparse.Namespace) -> None:
    torch.manual_seed(0)
    rows = written_rows() + dialogue_rows() + turn_rows() + case_rows() + public_rows(options.public)
    if options.language:
        spoken = OUTPUTS.index(f"language/{options.language}")
        rows = [row for row in rows if row.target[spoken] != 0]
    learning, held_out = ([row for row in rows if row.held_out == kept] for kept in (False, True))
    print(f"{len(learning)} texts, {len(held_out)} held out")
    teacher = None
    if options.encoder:
        encoder = Teacher(options.encoder)
        if options.teacher_steps:
            teacher = encoder
            fine_tune(teacher, learning, options.teacher_steps * BATCH / len(learning))
            report("teacher", held_out, lambda rows: teacher.judge(rows)[0])
        student = begun(encoder, learning, options.layers, options.window)
    else:
        student = shipped(options.weights)
        report("before", held_out, lambda rows: judge(student, rows))
        learning = anchored(student, learning)
    refine(student, learning, options.steps, options.rate, 1e-3 if options.encoder else options.rate, teacher)
    report("after", held_out, lambda rows: judge(student, rows))
    write(student, learning, options.output)


def begun(teacher: Teacher, rows: list[Row], layers: int | None, window: int = WINDOW) -> Student:
    """Return a student with every inner unit of the layers, or of so many from the first to the last, and a head that knows nothing yet."""
    size = teacher.encoder.config
    deep = size.num_hidden_layers
    if layers and not 0 < layers <= deep:
        raise SystemExit(f"The encoder has {deep} layers, not {layers}.")
    chosen = [round(layer) for layer in np.linspace(0, deep - 1, layers or deep)]
    student = Student(teacher.encoder, choose_pieces(teacher, rows), chosen, size.intermediate_size)
    student.shorten(window)
    student.rounded = True
    return student


def shipped(path: Path) -> Student:
    """Return the student of a weights file, its int4 numbers as float32."""
    tensors = load_file(path)
    pieces = bytes(tensors["pieces"]).decode().split("\n")
    student = Student.__new__(Student)
    nn.Module.__init__(student)
    student.vocabulary = Vocabulary(pieces, [], tensors["scores"].astype(np.float32), tensors["weights"])
    student.index = {piece: number for number, piece in enumerate(pieces)}
    student.message, student.reply, student.unknown, student.padding = range(len(pieces), len(pieces) + 4)
    student.rounded = True
    for name in ("centroids", "special", "position", "relative"):
        kept = tensors.get(name)
        setattr(student, name, None if kept is None else nn.Parameter(torch.tensor(kept.astype(np.float32))))
    student.register_buffer("codes", torch.tensor(tensors["codes"]))
    student.project, student.first, student.head = (part(tensors, name) for name in ("project", "first", "head"))
    student.imitate = nn.Linear(*student.head.weight.shape[::-1])  # shipped by nobody, trained by nobody here
    layers = sorted({int(name.split(".")[1]) for name in tensors if name.startswith("layers.")})
    names = ("qkv", "mix", "norm1", "inner", "outer", "norm2")
    student.layers = nn.ModuleList(
        nn.ModuleDict({name: part(tensors, f"layers.{layer}.{name}") for name in names}) for layer in layers
    )
    return student


def part(tensors: dict, name: str) -> nn.Linear | nn.LayerNorm:
    bias = torch.tensor(tensors[f"{name}.bias"].astype(np.float32))
    if f"{name}.weight.packed" in tensors:
        weight = unpack(tensors[f"{name}.weight.packed"], tensors[f"{name}.weight.scale"].astype(np.float32))
    else:
        weight = tensors[f"{name}.weight"].astype(np.float32)
    weight = torch.tensor(weight.T.copy() if name == "head" else weight)
    module = nn.Linear(*weight.shape[::-1]) if weight.ndim == 2 else nn.LayerNorm(len(weight), eps=1e-12)
    module.weight.data, module.bias.data = weight, bias
    return module


def windows(student: Student, text: str, reply: bool) -> list[list[int]]:
    """Cut a text as learned.py does, but without choosing: the first READ windows."""
    pieces = pieces_of(text, student.index, student.vocabulary.scores, student.unknown)
    window = len(student.position)
    room, stride = window - 1, stride_of(window)
    starts = range(0, max(1, len(pieces) - room + stride), stride)
    speaker = student.reply if reply else student.message
    return [[speaker, *pieces[start : start + room]] for start in list(starts)[:READ]]


def worst(logits: torch.Tensor, owner: torch.Tensor, reply: torch.Tensor) -> list[int]:
    """Return the row of each text's worst window; `owner` says whose window each row is."""
    verdict = torch.where(reply[owner], logits[:, HARMFUL], logits[:, DANGER]).detach()
    return [int(torch.where(owner == text, verdict, -torch.inf).argmax()) for text in range(len(reply))]


def outputs_of(student: Student, texts: list[tuple[str, bool]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs and the imitated sentence vector of each text, in the window that is worst for it."""
    cut = [windows(student, text, reply) for text, reply in texts]
    owner = torch.tensor([text for text, parts in enumerate(cut) for _ in parts])
    logits, imitated = student(*padded([window for parts in cut for window in parts], student.padding))
    chosen = worst(logits, owner, torch.tensor([reply for _, reply in texts]))
    return logits[chosen], imitated[chosen]


@torch.no_grad()
def judge(student: Student, rows: list[Row]) -> torch.Tensor:
    student.eval()
    logits = torch.zeros(len(rows), len(OUTPUTS))
    for chosen in batches_by_length([list(row.text) for row in rows], 64):
        logits[chosen], _ = outputs_of(student, [(rows[index].text, rows[index].reply) for index in chosen])
    return logits


def anchored(student: Student, rows: list[Row]) -> list[Row]:
    """Return the rows, those of replies with the student's own judgement as what is wanted."""
    replies = [row for row in rows if row.reply]
    said = torch.sigmoid(judge(student, replies)).numpy()
    of_replies = np.array([name == "harmful" or name.startswith("reply/") for name in OUTPUTS])
    said[:, ~of_replies] = np.nan
    return [row for row in rows if not row.reply] + [
        row._replace(target=target) for row, target in zip(replies, said, strict=True)
    ]


def refine(
    student: Student, rows: list[Row], steps: int, rate: float, head_rate: float, teacher: Teacher | None = None
) -> None:
    """Train on texts drawn at random, those written for this four times as often as public sentences; a teacher's judgement counts as much as labels."""
    chances = np.array([1.0 if row.weight == 1 else 0.25 for row in rows])
    chances /= chances.sum()
    draw = np.random.default_rng(0)

    def epoch():
        picked = [rows[index] for index in draw.choice(len(rows), BATCH * 100, p=chances)]
        picked.sort(key=lambda row: len(row.text))
        batches = [picked[start : start + BATCH] for start in range(0, len(picked), BATCH)]
        random.shuffle(batches)
        for batch in batches:
            heard = [row._replace(text=noisy(row.text)) for row in batch]
            logits, imitated = outputs_of(student, [(row.text, row.reply) for row in heard])
            target = torch.tensor(np.stack([row.target for row in batch]))
            if not teacher:
                yield loss_of(logits, target, torch.tensor([row.weight for row in batch]))
                continue
            judged, vectors = teacher.judge(heard)
            goals = goals_of(target, judged, torch.tensor([row.reply for row in batch]))
            unlike = 1 - F.cosine_similarity(imitated, F.layer_norm(vectors, vectors.shape[1:]))
            yield loss_of(logits, goals, torch.ones(len(batch))) + 0.5 * unlike.mean()

    parameters = dict(student.named_parameters())
    groups = [
        {"params": [one for name, one in parameters.items() if name.startswith(("head", "imitate"))], "lr": head_rate},
        {"params": [one for name, one in parameters.items() if not name.startswith(("head", "imitate"))], "lr": rate},
    ]
    train(student, torch.optim.AdamW(groups, weight_decay=0.01), steps, epoch)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--weights", type=Path, default=WEIGHTS, help="weights to begin with (default: the shipped ones)"
    )
    parser.add_argument("--encoder", help="Hub id or folder of an encoder to begin with in their place")
    parser.add_argument("--teacher_steps", type=int, default=0, help="of the whole encoder, which then teaches")
    parser.add_argument("--layers", type=int, help="how many of its layers, spread evenly (default: all)")
    parser.add_argument("--window", type=int, default=WINDOW, help=f"pieces read at a time (default: {WINDOW})")
    parser.add_argument("--language", choices=LANGUAGES, help="leave messages in other languages out")
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="where to write (default: over the shipped ones)")
    parser.add_argument("--steps", type=int, default=2500, help="batches of 32 texts (default: 2500)")
    parser.add_argument("--rate", type=float, default=2e-4, help="highest learning rate (default: 2e-4)")
    parser.add_argument("--public", type=Path, default=ROOT / "build/data", help="folder with corpus/ and eval/")
    options = parser.parse_args()
    if not 8 <= options.window <= WINDOW:
        parser.error(f"--window is {options.window}: give it from 8 to {WINDOW}.")
    main(options)
