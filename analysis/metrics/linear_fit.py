"""Could a linear map take the place of a span of blocks?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from adapters.base import BlockModel
from adapters.block import Parts
from adapters.errors import StrataError
from analysis.data.batches import Batch
from analysis.engine.tokens import counted, require_finite
from analysis.metrics.spans import Span
from analysis.runs.tables import tidy
from analysis.stats.intervals import ratio

COLUMNS = ["start", "length", "value", "ci_low", "ci_high", "n_documents", "n_tokens"]


def linear_residual(
    model: BlockModel, fitted: Sequence[Batch], measured: Sequence[Batch], spans: Sequence[Span], *, damping: float = 1e-4
) -> pd.DataFrame:
    """The share of what each span does that no linear map does: start, length, value, ci_low, ci_high, n_documents, n_tokens.

    ||f(x) - x V||^2 / ||f(x)||^2 with f(x) the span's change of the stream. 0: a matrix could take its place; 1: it is no
    better than removal; above 1: it was fitted to too few tokens. V comes from the `fitted` documents, the share from the
    `measured` ones, since any map fits as many tokens as there are dimensions. Raises StrataError when documents are in both.
    """
    if shared := {w.document for b in fitted for w in b.windows} & {w.document for b in measured for w in b.windows}:
        raise StrataError(f"{len(shared)} documents are fitted and measured: use different splits")
    maps = fit_maps(model, ((b.ids, b.lengths) for b in fitted), spans, damping=damping)
    sums = [residuals(model, b.ids, b.lengths, maps) for b in measured]
    rest, change = (np.concatenate([s[name] for s in sums], axis=1) for name in ("residual", "change"))
    tokens = sum(int(b.lengths.sum()) - len(b.lengths) for b in measured)
    rows = [(*span, *ratio(rest[i], change[i]), rest.shape[1], tokens) for i, span in enumerate(maps)]
    return tidy(rows, COLUMNS)


@torch.inference_mode()
def fit_maps(
    model: BlockModel,
    batches: Iterable[tuple[Tensor, Tensor]],
    spans: Sequence[Span],
    *,
    damping: float = 1e-4,
    first_token: bool = False,
) -> dict[Span, Tensor]:
    """The linear map V (d, d) of each span for which x + x V is nearest to the stream behind it, in fp64.

    Ridge regression from second moments summed over `batches` of (ids, lengths); `damping` is a share of the mean of the
    moments' diagonal and pulls V to zero, which is the span's removal. The first token is left out by default: its stream
    can be so large that it alone decides. Memory is 8 d^2 bytes for each start and each span.
    Raises StrataError on a span that does not exist and when there are no more tokens than dimensions.
    """
    d, n_tokens = model.spec.d_model, 0
    xx = {start: torch.zeros(d, d, dtype=torch.float64, device=model.device) for start, _ in spans}
    xv = {span: torch.zeros_like(xx[span[0]]) for span in spans}

    def see(span: Span, x: Tensor, change: Tensor) -> None:
        xv[span] += x.T @ change
        if span == min(s for s in spans if s[0] == span[0]):  # once for each start
            xx[span[0]] += x.T @ x

    for ids, lengths in batches:
        n_tokens += len(_watch(model, ids, lengths, spans, first_token, see))
    if n_tokens <= d:
        raise StrataError(f"{n_tokens} tokens fit any linear map of {d} dimensions: give several times as many")
    eye = torch.eye(d, dtype=torch.float64, device=model.device)
    return {(s, k): torch.linalg.solve(xx[s] + damping * xx[s].diagonal().mean() * eye, xv[s, k]) for s, k in spans}


@torch.inference_mode()
def residuals(
    model: BlockModel, ids: Tensor, lengths: Tensor, maps: Mapping[Span, Tensor], *, first_token: bool = False
) -> dict[str, np.ndarray]:
    """Sums of squares by document (spans, D): `change` that each span makes, `residual` that its map leaves of it."""
    sums = {name: torch.zeros(len(maps), len(ids), dtype=torch.float64, device=model.device) for name in ("residual", "change")}
    place = {span: i for i, span in enumerate(maps)}
    document = counted(ids, lengths, first_token).nonzero()[:, 0].to(model.device)

    def see(span: Span, x: Tensor, change: Tensor) -> None:
        for name, rest in (("residual", change - x @ maps[span]), ("change", change)):
            sums[name][place[span]].index_add_(0, document, rest.square().sum(-1))

    _watch(model, ids, lengths, list(maps), first_token, see)
    require_finite(sums["residual"], f"the linear residual of {model.spec.name}")
    return {name: values.cpu().numpy() for name, values in sums.items()}


def _watch(
    model: BlockModel, ids: Tensor, lengths: Tensor, spans: Sequence[Span], first_token: bool, see: Callable[[Span, Tensor, Tensor], None]
) -> Tensor:
    """Shows each span's stream in front of it and its change (tokens, d) in fp64; returns the measured tokens' ids."""
    n = len(model.blocks)
    if bad := [s for s in spans if s[0] < 0 or s[1] < 1 or sum(s) > n]:
        raise StrataError(f"there is no span of {bad[0][1]} blocks from block {bad[0][0]} on: {model.spec.name} has blocks 0 to {n - 1}")
    ids, lengths = ids.to(model.device), lengths.to(model.device)
    real, starts, held = counted(ids, lengths, first_token), {start for start, _ in spans}, dict[int, Tensor]()

    def tap(i: int, parts: Parts) -> None:
        if i in starts:
            held[i] = parts.x_in[real].double()
        for start, length in spans:
            if start + length - 1 == i:
                see((start, length), held[start], parts.x_out[real].double() - held[start])

    model.stream(ids, lengths=lengths, tap=tap)
    return ids[real]
