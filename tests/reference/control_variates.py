"""The two-phase regression estimator of a ratio in loops over documents, in fp64, from its formulas alone."""

from __future__ import annotations

from statistics import median
from typing import NamedTuple

import numpy as np
from scipy import stats


class Found(NamedTuple):
    value: float
    low: float
    high: float
    p: float
    left: float
    residual: float


def clip(g: list[float], t: list[float], most: float) -> list[float]:
    means = [a / b for a, b in zip(g, t, strict=True)]
    middle = median(means)
    reach = most * median(abs(mean - middle) for mean in means)
    return [min(max(mean, middle - reach), middle + reach) * b for mean, b in zip(means, t, strict=True)]


def estimate(y: list[float], t: list[float], g: list[list[float]]) -> Found:
    """`y` of the first documents, `t` and each covariate of all; covariates as they are, not clipped."""
    n, every, k = len(y), len(t), len(g)
    swept = sum(t[:n])
    r0 = sum(y) / swept
    g2 = [sum(row[:n]) / swept for row in g]
    g1 = [sum(row) / sum(t) for row in g]
    e = [y[d] - r0 * t[d] for d in range(n)]
    u = [np.array([g[j][d] - g2[j] * t[d] for j in range(k)]) for d in range(n)]
    gram, right = np.zeros((k, k)), np.zeros(k)
    for d in range(n):
        gram += np.outer(u[d], u[d])
        right += u[d] * e[d]
    b = np.linalg.solve(gram, right)
    moved = np.array(g1) - np.array(g2)
    variance, errors, before, residuals = 0.0, [], [], []
    for d in range(n):
        a = np.linalg.solve(gram, u[d])
        h = 1 / n + u[d] @ a
        r = e[d] - u[d] @ b
        w = 1 / swept + moved @ a
        variance += w**2 * r**2 / (1 - h) ** 2
        errors.append(r / (1 - h))
        before.append(e[d] / (1 - 1 / n))
        residuals.append(r)
    along = [sum(b[j] * (g[j][d] - g1[j] * t[d]) for j in range(k)) for d in range(every)]
    mean = sum(along) / every
    variance += sum((x - mean) ** 2 for x in along) / (every - 1) / every / (sum(t) / every) ** 2
    value = r0 + float(b @ moved)
    error = variance**0.5
    half = stats.t.ppf(0.975, n - 1 - k) * error
    middle = median(residuals)
    spread = median(abs(r - middle) for r in residuals)
    return Found(
        value,
        value - half,
        value + half,
        2 * stats.t.sf(abs(value) / error, n - 1 - k),
        sum(x**2 for x in errors) / sum(x**2 for x in before),
        max(abs(r) for r in residuals) / spread,
    )
