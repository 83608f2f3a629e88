"""The empathy term: how unlikely it is that a reply shows each of EPITOME's three mechanisms, as a loss.

For a reply r with tokens t and a mechanism m with cue tokens C_m (train/empathy_cues.yaml),

    c_rm = Σ_t Σ_{v in C_m} p(v | before t)          the number of cues expected, read beside the written reply
    E_r  = -1/3 Σ_m log(1 - exp(-c_rm))              nats: no cue of m has probability exp(-c_rm) for Poisson counts

so one cue of each kind is worth having and a tenth is not. Replies are weighted by their tokens, as the other losses
are, which makes the sum independent of how a batch is cut for gradient accumulation. What counts as empathy here is a
list of words: a means of training, not a measure; benchmarks/empathy.py measures with something else.
"""

from pathlib import Path

import torch
import yaml
from torch.utils.checkpoint import checkpoint

from losses import ROWS


CUES = Path(__file__).with_name("empathy_cues.yaml")


def cue_matrix(tokenizer, vocabulary: int, device=None) -> torch.Tensor:
    """Return V x 3 ones and zeros (float32): which tokens are cues of which mechanism, in the file's order."""
    mechanisms = [set(words) for words in yaml.safe_load(CUES.read_text(encoding="utf-8")).values()]
    matrix = torch.zeros(vocabulary, len(mechanisms))
    for token in range(min(vocabulary, len(tokenizer))):
        text = tokenizer.decode([token]).strip().lower()
        for column, words in enumerate(mechanisms):
            matrix[token, column] = text in words or ("?" in text and "?" in words)
    return matrix.to(device)


def expected_cues(hidden, head, cues) -> torch.Tensor:
    """Return N x 3: the probability that each position's next token is a cue; logits are recomputed, not kept."""
    parts = [
        checkpoint(_cue_probability, hidden[start : start + ROWS], head, cues, use_reentrant=False)
        for start in range(0, len(hidden), ROWS)
    ]
    return torch.cat(parts) if parts else hidden.new_zeros(0, cues.shape[1])


def _cue_probability(hidden, head, cues):
    probabilities = torch.softmax((hidden @ head.T).float(), dim=-1)
    with torch.autocast(
        hidden.device.type, enabled=False
    ):  # bfloat16 takes exp(-0.001) for 1, and the loss is infinite
        return probabilities @ cues


def empathy_loss(probabilities, reply) -> torch.Tensor:
    """Sum E_r weighted by tokens, over replies; `reply` (N, from 0, rising) says which one a position belongs to."""
    if not len(reply):
        return probabilities.sum()
    count = int(reply[-1]) + 1
    expected = probabilities.new_zeros(count, probabilities.shape[1]).index_add(0, reply, probabilities)
    # Below one cue in a thousand replies the slope would grow without bound.
    missing = -torch.log1p(-torch.exp(-expected.clamp(min=1e-3))).mean(1)
    return (missing * torch.bincount(reply, minlength=count)).sum()


def reply_numbers(labelled) -> torch.Tensor:
    """Number the runs of labelled positions of a batch (rows x positions, bool), in the order `[labelled]` gives."""
    starts = labelled.clone()
    starts[:, 1:] &= ~labelled[:, :-1]
    return starts.flatten().cumsum(0).view_as(labelled)[labelled] - 1
