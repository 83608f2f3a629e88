"""Learning rates by step, as corners of a polyline; TRL's own schedules stay TRL's."""

import numpy as np
from torch.optim.lr_scheduler import LambdaLR


# The paper (section "Training") names two: a rise to 5e-5 and a fall to 1e-6, and 500 steps of warm-up to 2e-5. Each
# corner is (step, rate); the last one is reached when training ends.
CORNERS = {
    "paper_ramp": ([(0, 2e-5), (1000, 5e-5)], 1e-6),
    "paper_warmup": ([(0, 0.0), (500, 2e-5)], 0.0),
}


def rate(name: str, step: int, total: int) -> float:
    """Return the learning rate of a named schedule; a run that ends before the last corner never gets that far."""
    corners, last = CORNERS[name]
    steps, rates = zip(*corners, (max(total, corners[-1][0] + 1), last), strict=True)
    return float(np.interp(step, steps, rates))


def scheduler(name: str, optimizer, total: int) -> LambdaLR:
    """Set the optimizer's rate by a named schedule; the recipe's `learning_rate` takes no part."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] = 1.0
    return LambdaLR(optimizer, lambda step: rate(name, step, total))
