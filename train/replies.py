"""Sample replies of base and adapter side by side, for a person to read."""

from transformers import set_seed


def side_by_side(model, tokenizer, conversations, seed: int, max_new_tokens: int = 96) -> str:
    """Return a Markdown page: each held-out conversation's opening, the written reply, base's and adapter's."""
    openings = [messages[:1] for messages in conversations]
    adapter = sample(model, tokenizer, openings, seed, max_new_tokens)
    with model.disable_adapter():
        base = sample(model, tokenizer, openings, seed, max_new_tokens)
    parts = [
        "# Sample replies\n\nFirst message of held-out conversations; sampled once, seed fixed, nothing picked.\n"
    ]
    for number, (messages, ours, theirs) in enumerate(zip(conversations, adapter, base, strict=True), 1):
        parts.append(
            f"## {number}\n\n**Person:** {flat(messages[0]['content'])}\n\n**Base:** {flat(theirs)}\n\n"
            f"**Adapter:** {flat(ours)}\n\n**In the corpus:** {flat(messages[1]['content'])}\n"
        )
    return "\n".join(parts)


def sample(model, tokenizer, openings, seed: int, max_new_tokens: int) -> list[str]:
    set_seed(seed)
    how = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.1}
    return answer(model, tokenizer, openings, max_new_tokens, **how)


def answer(model, tokenizer, prompts, max_new_tokens: int, **how) -> list[str]:
    """Return one reply to each prompt, in one batch padded on the left so that all replies start together.

    It is the likeliest reply, word by word, unless `how` says otherwise.
    """
    batch = tokenizer.apply_chat_template(
        prompts,
        add_generation_prompt=True,
        padding=True,
        return_tensors="pt",
        tokenizer_kwargs={"padding_side": "left"},
    ).to(model.device)
    how = {"do_sample": False, "repetition_penalty": 1.0, "use_cache": True, **how}
    output = model.generate(**batch, max_new_tokens=max_new_tokens, **how)
    return tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)


def flat(text: str) -> str:
    return " ".join(text.split())
