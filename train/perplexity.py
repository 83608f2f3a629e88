"""Perplexity on assistant tokens: token-weighted and unsmoothed, with a paired interval between two models."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from paired import RESAMPLES, comparison, middle, weights


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


def compare(base: list[Score], adapter: list[Score], seed: int, groups: Sequence | None = None) -> dict:
    """Compare two models on the same conversations by a paired percentile bootstrap over groups of conversations.

    A difference below zero means that the adapter predicts held-out replies better. Tokens of one conversation are not
    independent, nor are answers to one question, so whole groups are resampled.
    """
    tokens = np.array([score.tokens for score in base])
    nlls = np.array([[score.nll for score in base], [score.nll for score in adapter]])
    draws = weights(tuple(groups or range(len(tokens))), seed)
    before, after = (np.exp(draws @ nll / (draws @ tokens)) for nll in nlls)
    values = [float(perplexity(nll, tokens)) for nll in nlls]
    assert all(map(math.isfinite, values)), "perplexity is not finite"
    found = comparison(*values, middle(after - before), n=len(tokens))
    found["conversations"] = found.pop("n")
    return {**found, "assistant_tokens": int(tokens.sum()), "resamples": RESAMPLES}
