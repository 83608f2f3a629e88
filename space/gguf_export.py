"""Write a merged model as one GGUF file: for the Space's OpenVINO, for Ollama, LM Studio and llama.cpp.

For Llama-like models (SmolLM2, Llama 2) on the package `gguf`, llama.cpp's own. Their converter is not on the package index
under their name (another's copy of it is, which overwrites `gguf`); it takes the merged folder of any other model.
"""

import json
import re
from pathlib import Path

import torch
from gguf import GGUFWriter, LlamaFileType, SpecialVocab, TokenType, get_tensor_name_map
from gguf.constants import MODEL_ARCH
from transformers import AutoTokenizer


# llama.cpp's name for how text is cut before its pieces are merged, by the steps in tokenizer.json.
CUTS = {("ByteLevel",): "gpt-2", ("Digits", "ByteLevel"): "smollm"}
ELSEWHERE = "convert the merged model by llama.cpp's convert_hf_to_gguf.py instead."


def export(model, folder: Path, file: Path, name: str) -> None:
    """Write a model with the tokenizer and chat template in `folder` as a GGUF.

    A model in float16 or float32 keeps its type, so nothing is rounded again: who wants four bits lets Ollama or
    llama.cpp make them. Raises ValueError for what this cannot convert.
    """
    config = model.config
    refuse_unknown(config)
    writer = GGUFWriter(file, "llama")
    write_settings(writer, config, model.dtype, name)
    write_vocabulary(writer, folder, config.vocab_size)
    write_weights(writer, model)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def refuse_unknown(config) -> None:
    """Raise ValueError for what a GGUF of this kind would not carry, and would be silently wrong without."""
    odd = {
        f"its architecture is {config.architectures[0]}": config.architectures[0] != "LlamaForCausalLM",
        "its attention or feed-forward layers have biases": getattr(config, "attention_bias", 0)
        or getattr(config, "mlp_bias", 0),
        "its positions are scaled": getattr(config, "rope_parameters", {}).get("rope_type", "default") != "default",
    }
    for reason, found in odd.items():
        if found:
            raise ValueError(f"This model cannot become a GGUF here, since {reason}: {ELSEWHERE}")


def write_settings(writer: GGUFWriter, config, dtype: torch.dtype, name: str) -> None:
    writer.add_name(name)
    writer.add_file_type(LlamaFileType.MOSTLY_F16 if dtype == torch.float16 else LlamaFileType.ALL_F32)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def write_vocabulary(writer: GGUFWriter, folder: Path, size: int) -> None:
    """Write pieces, merges and chat template; nothing is put before a text, since the template says all that is."""
    described = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    kind, cut = kind_of(described)
    tokens, types = pieces(described, size)
    writer.add_tokenizer_model(kind)
    writer.add_tokenizer_pre(cut)
    writer.add_token_list(tokens)
    if kind == "llama":
        writer.add_token_scores(scores(described, tokens))
        writer.add_add_space_prefix(puts_space_first(described))
    writer.add_token_types(types)
    special = SpecialVocab(folder, load_merges=kind == "gpt2", n_vocab=size)
    special.add_special_token = {"bos": False, "eos": False}
    special.chat_template = portable(AutoTokenizer.from_pretrained(folder).chat_template)
    special.add_to_gguf(writer, quiet=True)


def kind_of(described: dict) -> tuple[str, str]:
    """Return llama.cpp's names for a tokenizer's family and for how it cuts text; raises ValueError for unknown ones."""
    model, before = described["model"], described["pre_tokenizer"] or {"type": "None"}
    steps = before.get("pretokenizers", [before])
    usual = all(
        step.get("use_regex", True) and step.get("individual_digits", True) and not step.get("add_prefix_space")
        for step in steps
    )
    cut = CUTS.get(tuple(step["type"] for step in steps))
    if model["type"] == "BPE" and model.get("byte_fallback"):
        return "llama", "default"
    if model["type"] == "BPE" and cut and usual and not described["normalizer"]:
        return "gpt2", cut
    raise ValueError(f"This model cannot become a GGUF here, since its tokenizer is none that is known: {ELSEWHERE}")


def puts_space_first(described: dict) -> bool:
    """Say whether a space is put before what follows a special token; at the start of a chat nothing is, in any case."""
    scheme = (described["pre_tokenizer"] or {}).get("prepend_scheme")
    return scheme == "always" or '"Prepend"' in json.dumps(described["normalizer"])


def pieces(described: dict, size: int) -> tuple[list[str], list[TokenType]]:
    """Return the vocabulary in order, padded to the model's, and what each piece is."""
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [TokenType.UNUSED] * size
    for token, number in described["model"]["vocab"].items():
        byte = re.fullmatch(r"<0x[0-9A-F]{2}>", token) and described["model"].get("byte_fallback")
        tokens[number], types[number] = token, TokenType.BYTE if byte else TokenType.NORMAL
    for added in described["added_tokens"]:
        kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        tokens[added["id"]], types[added["id"]] = added["content"], kind
    if unknown := described["model"].get("unk_token"):
        types[described["model"]["vocab"][unknown]] = TokenType.UNKNOWN
    return tokens, types


def scores(described: dict, tokens: list[str]) -> list[float]:
    """Return what SentencePiece orders merges by: the earlier a piece is made, the higher it stands."""
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(described["model"]["merges"]):
        ranks.setdefault("".join(pair.split(" ", 1) if isinstance(pair, str) else pair), rank)
    return [-float(ranks.get(token, 0)) for token in tokens]


def portable(template: str) -> str:
    """Return the chat template without the marks of what the loss sees, which other readers of Jinja do not know."""
    return re.sub(
        r"({%-?\s*)(end)?generation(\s*-?%})",
        lambda mark: f"{mark[1]}{'endif' if mark[2] else 'if true'}{mark[3]}",
        template,
    )


def write_weights(writer: GGUFWriter, model) -> None:
    """Write the weights by llama.cpp's names; norms in float32, since it reads vectors in nothing else."""
    config = model.config
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj.weight": config.num_attention_heads, "k_proj.weight": config.num_key_value_heads}
    weights = model.state_dict()
    if config.tie_word_embeddings:
        del weights["lm_head.weight"]
    for name, weight in weights.items():
        count = next((number for end, number in heads.items() if name.endswith(end)), None)
        weight = by_pairs(weight, count) if count else weight
        dtype = model.dtype if weight.ndim > 1 else torch.float32
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), weight.to(dtype).contiguous().numpy())


def by_pairs(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Reorder a head's rows: transformers rotates its first half with its second, llama.cpp neighbours."""
    rows = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, rows, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
