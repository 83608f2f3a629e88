"""Cross-entropy of the assistant's tokens from hidden states, without keeping logits.

Under LoRA the output head is frozen, so the loss needs only the gradient of the hidden states. It is computed together
with the loss, a few rows at a time: memory beyond the hidden states is `ROWS` x vocabulary x 4 bytes (50 MB for 49,152).
"""

from typing import NamedTuple

import torch


ROWS = 256


class TokenLoss(NamedTuple):
    """Sums over N tokens: `loss` (smoothed, differentiable), `nll` (unsmoothed, nats), `correct` (top-1 hits)."""

    loss: torch.Tensor
    nll: torch.Tensor
    correct: torch.Tensor


def frozen_head_loss(hidden, head, targets, smoothing: float = 0.0) -> TokenLoss:
    """Score `targets` (N) by a frozen linear `head` (V x H, no bias) on `hidden` (N x H).

    `smoothing` ε spreads ε evenly over the vocabulary, as `torch.nn.functional.cross_entropy(label_smoothing=ε)` does.
    No gradient reaches the head. Softmax is in float32 whatever the inputs are.
    """
    return TokenLoss(*_FrozenHeadLoss.apply(hidden, head, targets, smoothing))


class _FrozenHeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, head, targets, smoothing):
        with_gradient = ctx.needs_input_grad[0]
        gradient = torch.empty_like(hidden) if with_gradient else None
        # The mean of a token's logits is one product with the head's mean row: smoothing needs no pass of its own.
        mean_row = head.float().mean(0) if smoothing else None
        sums = torch.zeros(3, dtype=torch.float64, device=hidden.device)
        for start in range(0, len(hidden), ROWS):
            rows = slice(start, start + ROWS)
            loss, nll, correct, softmax = _score(hidden[rows], head, targets[rows, None], smoothing, mean_row)
            sums += torch.stack([loss.sum(), nll.sum(), correct.sum()])
            if with_gradient:
                softmax.scatter_add_(1, targets[rows, None], softmax.new_full((len(softmax), 1), smoothing - 1.0))
                gradient[rows] = softmax.to(head.dtype) @ head
                if smoothing:
                    gradient[rows] -= (smoothing * mean_row).to(gradient.dtype)
        ctx.save_for_backward(gradient)
        loss, nll, correct = sums.float()
        ctx.mark_non_differentiable(nll, correct)
        return loss, nll, correct

    @staticmethod
    def backward(ctx, grad_loss, *_):
        (gradient,) = ctx.saved_tensors
        return gradient * grad_loss.to(gradient.dtype), None, None, None


def _score(hidden, head, targets, smoothing, mean_row):
    """Return loss, nll and hits (float64, one a row), and the softmax, which takes the place of the logits."""
    logits = (hidden @ head.T).float()
    spoken = logits.gather(1, targets)
    top = logits.amax(1, keepdim=True)
    softmax = logits.sub_(top).exp_()
    total = softmax.sum(1, keepdim=True)
    softmax.div_(total)
    normaliser = (total.log() + top).double()
    nll = normaliser - spoken
    loss = nll
    if smoothing:
        loss = (1 - smoothing) * nll + smoothing * (normaliser - (hidden.float() @ mean_row)[:, None])
    return loss, nll, (spoken >= top).double(), softmax
