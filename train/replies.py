"""Replies of a model to many prompts, in batches, kept on disk as they come so that a stopped run goes on."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm
from transformers import set_seed

from engine import SAMPLING
from files import write_lines


BATCH = 32


class Reply(NamedTuple):
    """What was said, and whether the model ended it itself before the limit."""

    text: str
    ended: bool


def answer(model, tokenizer, prompts, max_new_tokens: int, **how) -> list[str]:
    """Return one reply to each prompt, in one batch; the likeliest, word by word, unless `how` says otherwise."""
    return [reply.text for reply in answer_batch(model, tokenizer, prompts, max_new_tokens, **how)]


def answer_batch(model, tokenizer, prompts, max_new_tokens: int, **how) -> list[Reply]:
    """The same as `answer`, with whether each reply ended; padded on the left so that all replies start together."""
    batch = tokenizer.apply_chat_template(
        prompts,
        add_generation_prompt=True,
        padding=True,
        return_tensors="pt",
        tokenizer_kwargs={"padding_side": "left"},
    ).to(model.device)
    ids = batch["input_ids"]  # padding repeats a token of its row: the repetition penalty counts padding, too
    batch["input_ids"] = ids.where(batch["attention_mask"].bool(), ids[:, -1:])
    how = {"do_sample": False, "repetition_penalty": 1.0, "use_cache": True, **how}
    output = model.generate(**batch, max_new_tokens=max_new_tokens, **how)[:, batch["input_ids"].shape[1] :]
    texts = tokenizer.batch_decode(output, skip_special_tokens=True)
    ends = model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends])
    return [Reply(text, not ends.isdisjoint(row)) for text, row in zip(texts, output.tolist(), strict=True)]


def answer_all(model, tokenizer, prompts, file: Path, *, about: dict, seed: int, max_new_tokens: int) -> list[Reply]:
    """Answer every prompt as the Space would, in the prompts' order; `file` holds what is done and is gone on with.

    `about` says what else decides the replies (which model, in which number format): with another one, or with other
    prompts, the file is begun anew. Each batch has a seed of its own, so a run that was stopped gives the same replies
    as one that was not.
    """
    # Like with like, so that little is padded; the longest first, so that memory and time show at once.
    order = sorted(range(len(prompts)), key=lambda index: -sum(len(turn["content"]) for turn in prompts[index]))
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    digest = hashlib.sha256(json.dumps(prompts, sort_keys=True).encode()).hexdigest()
    head = {**about, "prompts": digest, "seed": seed, "max_new_tokens": max_new_tokens, "batch": BATCH, **SAMPLING}
    done = read_batches(file, head)
    replies: dict[int, Reply] = {}
    with file.open("a", encoding="utf-8") as store, progress(prompts, about) as bar:
        for number, batch in enumerate(batches):
            if number >= len(done):
                set_seed(seed + number)
                asked = [prompts[index] for index in batch]
                done.append(answer_batch(model, tokenizer, asked, max_new_tokens, **SAMPLING))
                store.write(json.dumps(done[-1], ensure_ascii=False) + "\n")
                store.flush()
            replies.update(zip(batch, done[number], strict=True))
            bar.update(len(batch))
    return [replies[index] for index in range(len(prompts))]


def read_batches(file: Path, head: dict) -> list[list[Reply]]:
    """Return the whole batches of a file that begins with `head`; any other file is begun anew."""
    lines = list(whole_lines(file))
    if lines[:1] != [head]:
        lines = [head]
    write_lines(file, lines)
    return [[Reply(*reply) for reply in batch] for batch in lines[1:]]


def whole_lines(file: Path) -> Iterator[dict | list]:
    """Yield records up to the first that is torn: a process may end in the middle of a line."""
    if not file.is_file():
        return
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            if not line.endswith("\n"):
                return
            yield json.loads(line)


def progress(prompts, about: dict) -> tqdm:
    return tqdm(total=len(prompts), desc=f"Replies of the {about['model']}", unit="reply")
