"""Log-likelihoods and divergences of texts, as sums per document, computed in slices of tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adapters.base import BlockModel

# A slice of logits stays in a CPU's cache and under malloc's mmap threshold; a GPU wants large ones.
SLICE_BYTES = {"cpu": 24 << 20, "cuda": 512 << 20}


class TextScores:
    """Sums over the scored tokens of each document: `nll` and, against the dense model, `kl` (both in nats).

    A document's first token is not scored. `kl` is KL(dense || ablated); `dense`, the dense model's stream behind the
    last block, is given or else taken from the sweep, which then finishes it before all others.
    """

    def __init__(self, model: BlockModel, ids: Tensor, lengths: Tensor, n_ablations: int, *, kl: bool) -> None:
        self.model, self.ids, self.lengths, self.kl = model, ids, lengths, kl
        real = torch.arange(1, ids.shape[1], device=ids.device) < lengths[:, None]  # (D, T-1)
        self.document, self.position = real.nonzero(as_tuple=True)  # of the token before each scored one
        self.targets = ids[self.document, self.position + 1]
        self.dense: Tensor | None = None
        names = ("nll", "kl") if kl else ("nll",)
        self.sums = {name: torch.zeros(n_ablations, len(ids), dtype=torch.float64, device=ids.device) for name in names}

    def add(self, ablations: Sequence[int], xs: Sequence[Tensor]) -> None:
        """Scores the streams `xs`, (D, T, d) each, behind the last block, one for each ablation."""
        if self.kl and self.dense is None:
            self.dense = xs[0]
        room = SLICE_BYTES.get(self.ids.device.type, SLICE_BYTES["cpu"]) // (4 * self.model.spec.vocab_size)  # tokens
        tokens = max(1, min(len(self.targets), room))
        variants = max(1, room // tokens)
        for first in range(0, len(self.targets), tokens):
            where = slice(first, first + tokens)
            reference = self._reference(where)
            for v in range(0, len(ablations), variants):
                self._score(list(ablations[v : v + variants]), xs[v : v + variants], where, reference)

    def _reference(self, where: slice) -> tuple[Tensor, Tensor] | None:
        """Log-probabilities of the dense model and probabilities, (tokens, vocab)."""
        if not self.kl:
            return None
        assert self.dense is not None, "the dense model is scored first"
        logits = self._logits([self.dense], where)[0]
        log_p = logits - logits.logsumexp(-1, keepdim=True)
        return log_p, log_p.exp()

    def _score(self, ablations: list[int], xs: Sequence[Tensor], where: slice, reference: tuple[Tensor, Tensor] | None) -> None:
        logits = self._logits(xs, where)  # (V, tokens, vocab)
        # Not cross_entropy: its fp32 sums over a vocabulary of 49 k are off by 1e-5; logsumexp sums pairwise.
        log_z = logits.logsumexp(-1)
        targets = self.targets[where].expand(len(xs), -1)[..., None]
        self._sum("nll", ablations, log_z - logits.gather(-1, targets)[..., 0], where)
        if reference is not None:
            log_p, p = reference
            self._sum("kl", ablations, (log_p - logits).add_(log_z[..., None]).mul_(p).sum(-1), where)

    def _logits(self, xs: Sequence[Tensor], where: slice) -> Tensor:
        document, position = self.document[where], self.position[where]
        return self.model.logits(torch.stack([x[document, position] for x in xs])).float()  # (V, tokens, vocab)

    def _sum(self, name: str, ablations: list[int], values: Tensor, where: slice) -> None:
        sums = torch.zeros(len(ablations), len(self.ids), dtype=torch.float64, device=values.device)
        self.sums[name][ablations] += sums.index_add(1, self.document[where], values.double())
