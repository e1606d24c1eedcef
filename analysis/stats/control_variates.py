"""Ratios of sums over few documents, narrowed by covariates that are known of many more: control variates.

The two-phase (double sampling) regression estimator of Cochran (1977), chapter 12, for a ratio: what is dear is measured on some
documents, a covariate that goes up and down with it on these and others, and the regression of the one on the other corrects the
ratio of the few by what the covariates of the many say of them. Everything is fp64. How often the intervals hold the truth is simulated:
`reports/control.md`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from analysis.stats.bootstrap import Array
from analysis.stats.intervals import EXACT, MIN_DOCUMENTS_FOR_CI, TAILS

# A covariate goes no further from its median than so many MADs: ten standard deviations of normal numbers. Of skewed documents a border
# of three leaves out what makes up most of their sum, and 5 points of the coverage at 20 documents with covariates to one without.
CLIP = 15
RESIDUAL = 8  # a residual of so many MADs is none that a line is drawn through
SINGULAR = 1e-9  # of the sum of squares of covariates: a direction in them that holds less holds nothing


class Controlled(NamedTuple):
    """Of every row: the ratio, its 95 % interval and its test against zero; and how well the covariates explain the sums."""

    value: Array
    low: Array
    high: Array
    p_value: Array
    left: Array  # share of the variance between documents that the covariates leave, each document predicted from the others
    residual: Array  # the largest, in MADs of the residuals


def controlled(sums: Array, counts: Array, covariates: Array) -> Controlled:
    """sum of `sums` / sum of `counts`, of `sums` (..., n) on the first n of the documents that `counts` (..., N) and `covariates`
    (..., k, N), sums over the same tokens, are known of.

    With residuals r and leverages h (HC3: MacKinnon and White, 1985) the variance is that of the n documents about the line, and that of
    the line's correction over all N; Student's t has n - 1 - k degrees of freedom. No interval (NaN) below MIN_DOCUMENTS_FOR_CI.
    Covariates are clipped (`clipped`); one that says nothing, or only what others say, gets a slope of zero.
    """
    n, k, every = sums.shape[-1], covariates.shape[-2], counts.shape[-1]
    g, t = clipped(covariates, counts), counts[..., :n].astype(float)
    total, of_all = t.sum(-1), counts.sum(-1, dtype=float)
    plain = sums.sum(-1) / total
    mean, shift = g[..., :n].sum(-1) / total[..., None], g.sum(-1) / of_all[..., None]  # (..., k)
    e, u = sums - plain[..., None] * t, g[..., :n] - mean[..., None] * t[..., None, :]
    moved, inverse = shift - mean, _inverse(u, g[..., :n])
    slope = _times(inverse, (u * e[..., None, :]).sum(-1))
    r = e - _times(u.mT, slope)
    left_out = 1 - (1 / n + ((inverse @ u) * u).sum(-2))  # 1 - h
    w = 1 / total[..., None] + _times(u.mT, _times(inverse, moved))
    about = g - shift[..., None] * counts[..., None, :]
    line = (_times(about.mT, slope) ** 2).sum(-1) / (every - 1) * every / of_all**2
    with np.errstate(divide="ignore", invalid="ignore"):
        jackknifed = np.where(r == 0, 0, r / left_out)  # what each document is off the line of the others
        error = np.sqrt((w**2 * jackknifed**2).sum(-1) + line)
        value = plain + (slope * moved).sum(-1)
        freedom = n - 1 - k
        half = stats.t.ppf(TAILS[1], freedom) * error if n >= MIN_DOCUMENTS_FOR_CI else error * np.nan
        p = 2 * stats.t.sf(np.where(value == 0, 0, np.abs(value) / error), freedom) if n >= MIN_DOCUMENTS_FOR_CI else error * np.nan
        left = (jackknifed**2).sum(-1) / ((e * n / (n - 1)) ** 2).sum(-1)
        residual = np.abs(r).max(-1) / mad(r)
    return Controlled(value, value - half, value + half, p, left, residual)


def clipped(covariates: Array, counts: Array) -> Array:
    """Sums (..., k, N) whose means over `counts` (..., N) go no further than CLIP MADs from their median: one document in a hundred may
    have a gradient a thousand times that of others, and would be the line."""
    means = covariates / counts[..., None, :]
    middle, reach = np.median(means, -1, keepdims=True), CLIP * mad(means)[..., None]
    return np.clip(means, middle - reach, middle + reach) * counts[..., None, :]


def mad(x: Array) -> Array:
    """The median absolute deviation from the median, along the last axis."""
    return np.median(np.abs(x - np.median(x, -1, keepdims=True)), -1)


def _inverse(u: Array, g: Array) -> Array:
    """(U'U)^-1 of u (..., k, n): (..., k, k). A covariate g (..., k, n) that goes with the tokens alone, or with others, has zeros."""
    size = np.sqrt((u**2).sum(-1))
    known = size > EXACT * np.sqrt((g**2).sum(-1))
    scale = np.where(known, size, 1)[..., None]
    scaled = np.where(known[..., None], u / scale, 0)
    return np.linalg.pinv(scaled @ scaled.mT, rcond=SINGULAR, hermitian=True) / (scale * scale.mT)


def _times(matrix: Array, vector: Array) -> Array:
    """(..., a, b) and (..., b) -> (..., a)."""
    return (matrix @ vector[..., None])[..., 0]
