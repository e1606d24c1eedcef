"""Log-likelihoods and divergences of texts, as sums per document, computed in blocks of the vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from adapters.base import BlockModel
from analysis.engine.pieces import Pieces, pieces_of


class Reference(NamedTuple):
    """What the dense model says of some tokens."""

    logits: Tensor  # (tokens, vocab)
    log_z: Tensor  # (tokens,) in fp64


class TextScores:
    """Sums over the scored tokens of each document: `nll` and, against the dense model, `kl` (both in nats).

    A document's first token is not scored, nor is any in front of `first` (D,). `kl` is KL(dense || ablated); `dense`, the
    dense model's stream behind the last block, is given or else taken from the sweep, which then finishes it before all others.
    """

    def __init__(
        self,
        model: BlockModel,
        ids: Tensor,
        lengths: Tensor,
        n_ablations: int,
        *,
        kl: bool,
        first: Tensor | None = None,
        pieces: Pieces | None = None,
    ) -> None:
        self.model, self.ids, self.lengths, self.kl = model, ids, lengths, kl
        self.pieces = pieces or pieces_of(ids.device)
        target = torch.arange(1, ids.shape[1], device=ids.device)
        real = target < lengths[:, None]  # (D, T-1)
        if first is not None:
            real &= target >= first.to(ids.device)[:, None]
        self.document, self.position = real.nonzero(as_tuple=True)  # of the token before each scored one
        self.targets = ids[self.document, self.position + 1]
        self.dense: Tensor | None = None
        names = ("nll", "kl") if kl else ("nll",)
        self.sums = {name: torch.zeros(n_ablations, len(ids), dtype=torch.float64, device=ids.device) for name in names}

    def add(self, ablations: Sequence[int], xs: Sequence[Tensor]) -> None:
        """Scores the streams `xs`, (D, T, d) each, behind the last block, one for each ablation."""
        if self.kl and self.dense is None:
            self.dense = xs[0]
        rows = self.pieces.rows
        most = min(rows, self.pieces.reference // (4 * self.model.spec.vocab_size)) if self.kl else rows
        parts = -(-len(self.targets) // max(1, most))
        for where in slices(len(self.targets), parts):
            reference = self._reference(where)
            variants = max(1, rows // (where.stop - where.start))
            for v in range(0, len(ablations), variants):
                self._score(list(ablations[v : v + variants]), xs[v : v + variants], where, reference)

    def _reference(self, where: slice) -> Reference | None:
        if not self.kl:
            return None
        assert self.dense is not None, "the dense model is scored first"
        h = self._normed([self.dense], where)[0]
        logits = torch.empty(len(h), self.model.spec.vocab_size, device=h.device)
        log_z = []
        for block in vocabulary(self.model, len(h), self.pieces):
            logits[:, block] = self.model.unembed(h, block).float()
            log_z.append(logits[:, block].logsumexp(-1))
        return Reference(logits, torch.stack(log_z).double().logsumexp(0))

    def _score(self, ablations: list[int], xs: Sequence[Tensor], where: slice, reference: Reference | None) -> None:
        h = self._normed(xs, where)  # (V, tokens, d)
        targets = self.targets[where].expand(len(xs), -1)
        log_z, of_target = [], torch.zeros(targets.shape, device=h.device)
        kl = torch.zeros(targets.shape, dtype=torch.float64, device=h.device)
        for block in vocabulary(self.model, targets.numel(), self.pieces):
            logits = self.model.unembed(h, block).float()  # (V, tokens, block)
            # logsumexp, whose sums are pairwise: those of cross_entropy over a vocabulary of 49 k are off by 1e-5 in fp32.
            log_z.append(logits.logsumexp(-1))
            inside = (targets >= block.start) & (targets < block.stop)
            place = (targets - block.start).where(inside, 0)[..., None]
            of_target = logits.gather(-1, place)[..., 0].where(inside, of_target)
            if reference is not None:
                dense = reference.logits[:, block]
                kl += (dense - logits).mul_((dense - reference.log_z[:, None].float()).exp_()).sum(-1)
        total = torch.stack(log_z).double().logsumexp(0)
        self._sum("nll", ablations, total - of_target, where)
        if reference is not None:
            self._sum("kl", ablations, kl + total - reference.log_z, where)  # sum of p (log p - log q)

    def _normed(self, xs: Sequence[Tensor], where: slice) -> Tensor:
        document, position = self.document[where], self.position[where]
        return self.model.norm(torch.stack([x[document, position] for x in xs]))  # (V, tokens, d)

    def _sum(self, name: str, ablations: list[int], values: Tensor, where: slice) -> None:
        sums = torch.zeros(len(ablations), len(self.ids), dtype=torch.float64, device=values.device)
        self.sums[name][ablations] += sums.index_add(1, self.document[where], values)


def vocabulary(model: BlockModel, rows: int, pieces: Pieces | None = None) -> Iterator[slice]:
    """The vocabulary in blocks whose logits for `rows` tokens a device likes best."""
    size = max(1, (pieces or pieces_of(model.device)).block // (4 * max(1, rows)))
    return slices(model.spec.vocab_size, -(-model.spec.vocab_size // size))


def score_bytes(model: BlockModel, tokens: int, pieces: Pieces) -> int:
    """What logits of up to `tokens` tokens take: the dense model's, those of a few blocks, and what the norm gives of their streams."""
    rows, row = min(tokens, pieces.rows), 4 * model.spec.vocab_size
    block = min(pieces.block, rows * row)
    return min(rows * row, max(row, pieces.reference)) + 4 * max(block, 4 * rows) + 2 * rows * model.spec.d_model * model.dtype.itemsize


def slices(length: int, parts: int) -> Iterator[slice]:
    """`parts` consecutive slices of about the same size."""
    ends = [length * i // parts for i in range(parts + 1)] if parts else []
    return (slice(a, b) for a, b in pairwise(ends))
