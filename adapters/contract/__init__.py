"""The public suite that every adapter passes, in the spirit of scikit-learn's `parametrize_with_checks`.

    @parametrize_with_checks({"tiny": lambda: load("folder-of-a-tiny-model", dtype="float32")})
    def test_contract(check):
        check()

A check takes a float32 or float64 model with a context of at least `TIME` tokens and at least two blocks, and raises
AssertionError. Tiny models with random weights are enough, and better than trained ones: nothing in them is near zero. Those are
checked in float64, in which their largest channels leave room for the others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from adapters.base import BlockModel
from adapters.contract.files import check_files
from adapters.contract.forward import (
    check_ablated_block_is_deleted_block,
    check_bfloat16,
    check_causality,
    check_gradients,
    check_heads,
    check_left_padding_is_refused,
    check_padding,
    check_parts,
    check_repeatable,
    check_rows_are_independent,
    check_run_is_stream_and_logits,
    check_shapes,
)
from adapters.contract.heads import check_head_gradients, check_head_shares, check_kept_heads
from adapters.contract.past import check_cut_in_two, check_distinct_rows, check_edges, check_past_of_edges, check_past_rows
from adapters.contract.spec import check_spec
from adapters.contract.tools import Recorder, assert_close

__all__ = ["CHECKS", "Recorder", "assert_close", "parametrize_with_checks"]

CHECKS: tuple[Callable[[BlockModel], None], ...] = (
    check_shapes,
    check_spec,
    check_files,
    check_run_is_stream_and_logits,
    check_repeatable,
    check_causality,
    check_rows_are_independent,
    check_padding,
    check_left_padding_is_refused,
    check_parts,
    check_heads,
    check_head_shares,
    check_head_gradients,
    check_kept_heads,
    check_ablated_block_is_deleted_block,
    check_edges,
    check_distinct_rows,
    check_cut_in_two,
    check_past_of_edges,
    check_past_rows,
    check_gradients,
    check_bfloat16,
)


def parametrize_with_checks(models: Mapping[str, Callable[[], BlockModel]]) -> Any:
    """A pytest mark: one case, a call without arguments, for each check and model. Models are made when first needed."""
    import pytest

    def case(make: Callable[[], BlockModel], check: Callable[[BlockModel], None]) -> Callable[[], None]:
        return lambda: check(make())

    cached = {name: functools.cache(make) for name, make in models.items()}
    cases = [pytest.param(case(make, c), id=f"{name}-{c.__name__}") for name, make in cached.items() for c in CHECKS]
    return pytest.mark.parametrize("check", cases)
