"""Numbers beside accuracy that do not hide what chance does: the loss of the right option, its Brier score, and accuracy above chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import logsumexp

METRICS = ("log_loss", "brier", "above_chance")


def chance_free(nats: np.ndarray, right: Sequence[int]) -> dict[str, float]:
    """Of one document with the log-likelihoods `nats` (options,) and the indices of its right options.

    `log_loss`: -log p of the right options together, p being the softmax of `nats`: log(options) is chance, 0 is best.
    `brier`: sum over options of (p - truth)^2 (Brier 1950), where the right options share the truth: 0 is best.
    `above_chance`: 1 or 0 for the likeliest option, less what a guess gets, right / options.
    """
    logp = nats - logsumexp(nats)
    truth = np.zeros(len(nats))
    truth[list(right)] = 1 / len(right)
    return {
        "log_loss": float(-logsumexp(logp[list(right)])),
        "brier": float(((np.exp(logp) - truth) ** 2).sum()),
        "above_chance": float(int(np.argmax(nats)) in right) - len(right) / len(nats),
    }
