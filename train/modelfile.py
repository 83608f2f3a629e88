"""Ollama's files for a model: its Modelfile, and the parts of it under the names that `ollama run hf.co/...` reads.

They are worked out from the tokenizer's chat template, so there is one copy of it: a conversation with marks in place of what
people say is rendered, and what stands between the marks is the format.
"""

import json

from engine import MAX_NEW_TOKENS, SAMPLING, TOP_K


# What the Space samples with, by Ollama's names.
PARAMETERS = {
    "temperature": SAMPLING["temperature"],
    "top_p": SAMPLING["top_p"],
    "top_k": TOP_K,
    "repeat_penalty": SAMPLING["repetition_penalty"],
    "repeat_last_n": -1,  # the whole context, as transformers
    "num_predict": MAX_NEW_TOKENS,
}
SYSTEM, FIRST, REPLY, SECOND = MARKS = ("<#1#>", "<#2#>", "<#3#>", "<#4#>")


def ollama_files(tokenizer, gguf: str) -> dict[str, str]:
    """Return the text of each file by its name; raises ValueError for a format that Ollama's template could not follow."""
    template, system = go_template(tokenizer), default_system(tokenizer)
    if '"""' in template + system:
        raise ValueError(
            'The chat template holds three quotation marks in a row ("""), which a Modelfile cannot carry.'
        )
    lines = [f"PARAMETER {name} {value}" for name, value in PARAMETERS.items()]
    lines.append(f"PARAMETER stop {json.dumps(tokenizer.eos_token)}")
    blocks = [f'TEMPLATE """{template}"""', f'SYSTEM """{system}"""']
    return {
        "Modelfile": "\n".join([f"FROM ./{gguf}", *blocks, *lines]) + "\n",
        "template": template,
        "system": system,
        "params": json.dumps({**PARAMETERS, "stop": [tokenizer.eos_token]}, indent=2) + "\n",
    }


def go_template(tokenizer) -> str:
    """Return the chat template as Go's: the system message first, then the turns, ready for a reply."""
    before, after_system, after_first, after_reply, end = pieces(tokenizer)
    if not after_first.startswith(end):
        raise ValueError(
            "The chat template ends a conversation otherwise than a turn: Ollama's template cannot say that."
        )
    lead = after_first.removeprefix(end)
    user = f'{{{{ if eq .Role "user" }}}}{{{{ .Content }}}}{end}'
    assistant = f'{{{{ else if eq .Role "assistant" }}}}{lead}{{{{ .Content }}}}{after_reply}{{{{ end }}}}'
    return f"{before}{{{{ .System }}}}{after_system}{{{{ range .Messages }}}}{user}{assistant}{{{{ end }}}}"


def pieces(tokenizer) -> list[str]:
    """Return what the format puts before, between and after a system message, a person's, a reply and a person's."""
    roles = ("system", "user", "assistant", "user")
    talk = [{"role": role, "content": mark} for role, mark in zip(roles, MARKS, strict=True)]
    rest, found = render(tokenizer, talk), []
    for mark in MARKS:
        piece, seen, rest = rest.partition(mark)
        if not seen:
            raise ValueError("The chat template drops or moves a message: Ollama's template cannot do that.")
        found.append(piece)
    return [*found, rest]


def default_system(tokenizer) -> str:
    """Return the system message that the template puts in when a conversation has none."""
    before, after_system, *_ = pieces(tokenizer)
    text = render(tokenizer, [{"role": "user", "content": FIRST}])
    system, seen, _ = text.removeprefix(before).partition(after_system + FIRST)
    if not (seen and text.startswith(before)):
        raise ValueError("The chat template has no system message of its own: Ollama's template cannot leave it out.")
    return system


def render(tokenizer, talk: list[dict]) -> str:
    return tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
