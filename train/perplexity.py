"""Perplexity on assistant tokens: token-weighted and unsmoothed, with a paired interval between two models."""

import math
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm


class Score(NamedTuple):
    """Summed negative log-likelihood of one conversation's assistant tokens, in nats, and how many there were."""

    nll: float
    tokens: int


@torch.inference_mode()
def negative_log_likelihoods(model, tokenizer, conversations, label: str) -> list[Score]:
    """Score each conversation's replies, end-of-turn token included.

    A mean of batch means (what a trainer's `eval_loss` is) would count short conversations too much, so sums are kept.
    """
    return [score(model, tokenizer, messages) for messages in tqdm(conversations, f"Scoring {label}", unit="row")]


def score(model, tokenizer, messages) -> Score:
    row = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    ids = torch.tensor([row["input_ids"]], device=model.device)
    spoken = torch.tensor(row["assistant_masks"], device=model.device).nonzero().flatten()
    # Only the positions that predict a reply's token get logits: over a vocabulary of 50,000 the rest would cost most.
    logits = model(input_ids=ids, logits_to_keep=spoken - 1).logits[0].float()
    nll = torch.nn.functional.cross_entropy(logits, ids[0, spoken], reduction="sum")
    return Score(nll.item(), len(spoken))


def perplexity(nll, tokens):
    return np.exp(np.sum(nll, axis=-1) / np.sum(tokens, axis=-1))


def compare(base: list[Score], adapter: list[Score], seed: int, resamples: int = 10_000) -> dict:
    """Compare two models on the same conversations by a paired percentile bootstrap over conversations.

    A difference below zero means that the adapter predicts held-out replies better. Tokens of one conversation are not
    independent, so whole conversations are resampled.
    """
    tokens = np.array([score.tokens for score in base])
    nlls = np.array([[score.nll for score in base], [score.nll for score in adapter]])
    picks = np.random.default_rng(seed).integers(0, len(tokens), size=(resamples, len(tokens)))
    before, after = (perplexity(nll[picks], tokens[picks]) for nll in nlls)
    low, high = np.percentile(after - before, [2.5, 97.5])
    base_value, adapter_value = (float(perplexity(nll, tokens)) for nll in nlls)
    assert math.isfinite(base_value) and math.isfinite(adapter_value), "perplexity is not finite"
    return {
        "base": round(base_value, 4),
        "adapter": round(adapter_value, 4),
        "difference": round(adapter_value - base_value, 4),
        "difference_interval_95": [round(float(low), 4), round(float(high), 4)],
        "conversations": len(tokens),
        "assistant_tokens": int(tokens.sum()),
        "resamples": resamples,
    }
