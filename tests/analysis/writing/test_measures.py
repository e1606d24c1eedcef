"""Numbers of texts against what one counts by hand, and loops against every phrase that there may be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from analysis.writing.measures import agreement, distinct, first_difference, longest_loop


def test_by_hand() -> None:
    assert (first_difference([1, 2, 3], [1, 2, 4, 5]), agreement([1, 2, 3], [1, 2, 4, 5])) == (2, 0.5)
    assert (first_difference([1, 2], [1, 2]), agreement([1, 2], [1, 2])) == (2, 1)
    assert (first_difference([1, 2], [1, 2, 3]), agreement([1], [2, 2])) == (2, 0)
    assert [longest_loop(text) for text in ([1, 2, 3], [7, 7], [1, 2, 3, 2, 3, 2, 4], [5, 1, 2, 1, 2, 9], [1])] == [0, 2, 5, 4, 0]
    assert (distinct([1, 2, 1, 2, 1], 2), distinct([1, 2], 3), distinct([4, 4, 4, 4], 3)) == (0.5, 1, 0.5)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=14))
def test_loops_are_phrases_that_are_said_again(tokens: list[int]) -> None:
    """Every stretch and every period, by definition."""
    stretches = [tokens[i:j] for i in range(len(tokens)) for j in range(i + 1, len(tokens) + 1)]
    loops = [s for s in stretches for p in range(1, len(s) // 2 + 1) if all(s[i] == s[i - p] for i in range(p, len(s)))]
    assert longest_loop(tokens) == max(map(len, loops), default=0)
