"""Numbers of one text, by its tokens: how it agrees with another, and how it repeats itself."""

from __future__ import annotations

from collections.abc import Sequence

Tokens = Sequence[int]


def first_difference(tokens: Tokens, other: Tokens) -> int:
    """Tokens until the texts differ; all of the longer one where they never do."""
    same = next((i for i, (a, b) in enumerate(zip(tokens, other, strict=False)) if a != b), None)
    return min(len(tokens), len(other)) if same is None else same


def agreement(tokens: Tokens, other: Tokens) -> float:
    """The share of places at which both have the same token, of those that either has."""
    return sum(a == b for a, b in zip(tokens, other, strict=False)) / max(len(tokens), len(other))


def longest_loop(tokens: Tokens) -> int:
    """Tokens of the longest stretch that is one phrase said at least twice, one time right after the other; 0 without any."""
    longest = 0
    for period in range(1, len(tokens) // 2 + 1):
        run = 0
        for i in range(period, len(tokens)):
            run = run + 1 if tokens[i] == tokens[i - period] else 0
            if run >= period:
                longest = max(longest, run + period)
    return longest


def distinct(tokens: Tokens, n: int) -> float:
    """The share of different ones among the n-grams of a text; 1 where there are none (Li et al. 2016, arXiv 1510.03055)."""
    found = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return len(set(found)) / len(found) if found else 1.0
