"""Random ablations for property tests: of one kind, of several, and sets that hold each other."""

from __future__ import annotations

from hypothesis import strategies as st

from adapters import Ablation


def ablations(n_blocks: int, n_heads: int, most: int = 12) -> st.SearchStrategy[list[Ablation]]:
    block, head = st.integers(0, n_blocks - 1), st.integers(0, n_heads - 1)
    some = st.frozensets(block, max_size=3)
    one = {
        "blocks": st.builds(lambda b: Ablation(blocks={b}), block),
        "mixers": st.builds(lambda b: Ablation(mixers={b}), block),
        "ffns": st.builds(lambda b: Ablation(ffns={b}), block),
        "heads": st.builds(lambda b, h: Ablation(heads={(b, h)}), block, head),
    }
    mixed = st.builds(Ablation, some, some, some, st.frozensets(st.tuples(block, head), max_size=4))
    lists = [st.lists(each, max_size=most) for each in (*one.values(), st.one_of(*one.values(), mixed), mixed)]
    return st.one_of(*lists, _nested(n_blocks))


def _nested(n_blocks: int) -> st.SearchStrategy[list[Ablation]]:
    """A removal path: each set holds the one before."""
    orders = st.permutations(range(n_blocks))
    return orders.map(lambda order: [Ablation(blocks=order[:k]) for k in range(1, n_blocks + 1)])
