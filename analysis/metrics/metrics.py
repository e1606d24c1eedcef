"""Importance of blocks, mixers, ffns, heads and experts from plain forward passes, measured on the stream while it passes by.

In every metric less means less important, removed first. All but the two positional ones are means over tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapters.base import BlockModel
from adapters.block import Block, Parts
from adapters.errors import StrataError, unknown
from adapters.experts import experts_of, weight_of
from adapters.heads import head_share
from adapters.plugins import Named, Table
from analysis.engine.ablations import single_ablations
from analysis.engine.tokens import counted, require_finite, wide
from analysis.runs.fingerprint import fingerprint, name_of


class Step(NamedTuple):
    """y = x + delta: what a block, a mixer, an ffn, a head or an expert did to the stream; (D, T, d) in fp32 or better."""

    x: Tensor
    delta: Tensor
    y: Tensor
    block: int  # its index
    weight: Tensor | None = None  # (D, T) by which the router weighs an expert, zero where it sends a token to others; None: it is none


Moves = Iterable[tuple[Tensor, ...]]  # x, delta, y, and an expert's weight, of the parts of one block, in the order of `ablations.singles`


def _heads(parts: Parts, block: Block) -> Moves:
    """The stream behind the mixer, without and with each head."""
    for head in range(block.spec.n_heads or 0):
        delta = wide(head_share(block, parts, head))
        yield wide(parts.x_mid) - delta, delta, parts.x_mid


def _experts(parts: Parts, block: Block) -> Moves:
    """The stream behind the ffn, without and with what each expert gives."""
    if block.spec.n_experts:
        own, x = experts_of(block), parts.x_in if block.spec.parallel else parts.x_mid
        sent = own.route(x)
        for expert in range(block.spec.n_experts):
            delta = wide(own.share(x, sent, expert))
            yield wide(parts.x_out) - delta, delta, parts.x_out, weight_of(sent, expert)


STEPS: dict[str, Callable[[Parts, Block], Moves]] = {
    "blocks": lambda p, _: [(p.x_in, wide(p.delta_mix) + wide(p.delta_ffn), p.x_out)],
    "mixers": lambda p, _: [(p.x_in, p.delta_mix, p.x_mid)],
    "ffns": lambda p, _: [(p.x_mid, p.delta_ffn, p.x_out)],
    "heads": _heads,
    "experts": _experts,
}


def block_influence(step: Step) -> Tensor:
    """1 - cos(x, y) (ShortGPT, arXiv 2403.03853v1, equation 2, before the expectation)."""
    return 1 - torch.cosine_similarity(step.x, step.y, dim=-1)


def relative_magnitude(step: Step) -> Tensor:
    """||f(x)|| / ||x + f(x)|| (Samragh et al., arXiv 2312.09299, as in ShortGPT v1, section 4.4)."""
    return l2(step) / norm(step)


def norm(step: Step) -> Tensor:
    """||x + f(x)||, what ShortGPT v1, section 2.2, calls the magnitude of a layer's output.

    Section 2.2 takes a larger norm as more important, and so does this; section 4.4 says of the same metric that it gives
    the reverse order. Norms grow with depth, so that is `reverse_order` here.
    """
    return torch.linalg.vector_norm(step.y, dim=-1)


def l2(step: Step) -> Tensor:
    """||f(x)||: how far the stream moves."""
    return torch.linalg.vector_norm(step.delta, dim=-1)


def sequential(step: Step) -> Tensor:
    """The index: block 0 is removed first. Table 3 of ShortGPT v1; section 4.4 has the sign the other way round."""
    return torch.full_like(step.x[..., 0], step.block)


def reverse_order(step: Step) -> Tensor:
    """Minus the index: the last block is removed first. Table 3 of ShortGPT v1, over section 4.4."""
    return -sequential(step)


def router_weight(step: Step) -> Tensor:
    """By which the router weighs an expert; zero for tokens that it sends to others. Raises StrataError on other parts."""
    if step.weight is None:
        raise StrataError("load and router_weight are of experts, and other parts have no router: use `kinds` experts")
    return step.weight


def load(step: Step) -> Tensor:
    """One for tokens that are sent to an expert, so that its mean is the share of them. Raises StrataError on other parts."""
    return (router_weight(step) > 0).to(step.x.dtype)


Measure = Callable[[Step], Tensor]  # -> (D, T)


@dataclass(frozen=True)
class Metric:
    """A measure with what tables and runs call it. Another version is another metric; "" is that of Strata itself."""

    title: str
    measure: Measure
    positional: bool = False  # the index of the part in some form, the same for every text
    version: str = ""


def _read(found: Any, title: str, version: str) -> Metric:
    """A metric from what an entry point leads to."""
    if isinstance(found, Metric):
        return found if found.version else replace(found, version=version)
    if not callable(found):
        raise StrataError(f"it is {type(found).__name__}, and no function of a Step")
    return Metric(title, found, version=version)


EXPERT_METRICS = {"load": Metric("load", load), "router_weight": Metric("router weight", router_weight)}  # of kind experts alone
METRICS = Table(
    "metric",
    "strata.metrics",
    {
        "bi": Metric("Block Influence", block_influence),
        "relative_magnitude": Metric("relative magnitude", relative_magnitude),
        "norm": Metric("norm", norm),
        "l2": Metric("L2", l2),
        "sequential": Metric("sequential", sequential, positional=True),
        "reverse_order": Metric("reverse order", reverse_order, positional=True),
    },
    _read,
    reserved=(*EXPERT_METRICS, "taylor", "all", "nll", "delta_nll", "kl", "real", "tokens", "bytes"),  # what else stands beside metrics
)


def register_metric(name: str, measure: Measure, *, title: str = "", version: str = "") -> None:
    """Adds a metric: `measure(step)` is (D, T), less for what is less important.

    With another `version` runs are others; without one a hash of the function's code is its version. Raises StrataError on a name that
    is taken, and on a function without a hash.
    """
    METRICS.register(name, Metric(title or name.replace("_", " "), measure, version=version or fingerprint(measure)))


def find_metric(metric: str | Measure, also: Iterable[str] = ()) -> Named[Metric]:
    """A metric by its name, or a function as one, whose version is a hash of its code.

    Raises StrataError on an unknown name, for which names `also` would have been valid.
    """
    if isinstance(metric, str):
        return METRICS.find(metric, also)
    name = name_of(metric)
    if name in METRICS.own or name in METRICS.reserved:
        raise StrataError(f"a function is called {name!r}, which has another meaning as a metric: give it another name")
    return Named(name, Metric(name.replace("_", " "), metric, version=fingerprint(metric)))


def find_metrics(metrics: Iterable[str | Measure], also: Mapping[str, Metric] = MappingProxyType({})) -> dict[str, Metric]:
    """Metrics by name, as `find_metric`, from EXPERT_METRICS or from `also`. Raises StrataError on two of one name."""
    found: dict[str, Metric] = {}
    also = {**also, **EXPERT_METRICS}
    for metric in metrics:
        name, thing = Named(metric, also[metric]) if isinstance(metric, str) and metric in also else find_metric(metric, also)
        if name in found:
            raise StrataError(f"two metrics are called {name!r}: name each once, and give functions names of their own")
        found[name] = thing
    return found


@torch.inference_mode()
def measure(
    model: BlockModel,
    ids: Tensor,
    lengths: Tensor,
    metrics: Iterable[str | Measure] | Mapping[str, Metric] = ("bi",),
    *,
    kinds: Iterable[str] = ("blocks",),
    first_token: bool = True,
    compat: str | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
    """Sums over the real tokens of each document, by metric: (parts, D) in fp64, in the order of `analysis.engine.ablations.singles`.

    One pass, of which nothing is kept. `first_token` False leaves out the first token of every document, whose stream is
    often unlike all others. The last block is measured before the final norm, as any other; `compat` "paper" measures it
    behind that norm, as the paper's code did by way of Hugging Face's hidden states. Raises StrataError on an unknown
    metric or kind, on parts that the model lacks, and on a value that is not finite, naming block and document (by `names`, else by
    number).
    """
    found, kinds = dict(metrics) if isinstance(metrics, Mapping) else find_metrics(metrics), list(kinds)
    check_kinds(kinds)
    single_ablations(model.spec, kinds)  # are there such parts?
    if compat not in (None, "paper"):
        raise unknown("compat", compat, ("paper",))
    ids, lengths = ids.to(model.device), lengths.to(model.device)
    real, n = counted(ids, lengths, first_token), len(model.blocks)
    sums: dict[str, dict[str, list[np.ndarray]]] = {name: {kind: [] for kind in kinds} for name in found}

    def tap(i: int, parts: Parts) -> None:
        if compat and i == n - 1:
            parts = parts._replace(x_out=model.norm(parts.x_out))
        for kind in kinds:
            for x, delta, y, *weight in STEPS[kind](parts, model.blocks[i]):
                step = Step(wide(x), wide(delta), wide(y), i, *weight)
                for name, rows in sums.items():
                    value = _shaped(name, found[name].measure(step), real).double().masked_fill(~real, 0).sum(1)
                    require_finite(value, f"{name} of block {i} of {model.spec.name}", names)
                    rows[kind].append(value.cpu().numpy())

    model.stream(ids, lengths=lengths, tap=tap)
    return {name: np.stack([row for kind in kinds for row in rows[kind]]) for name, rows in sums.items()}


def _shaped(name: str, value: Any, real: Tensor) -> Tensor:
    """Raises StrataError when it is not one number for each token."""
    if not isinstance(value, Tensor) or value.shape != real.shape:
        what = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise StrataError(f"the metric {name} gives {what}, expected is one number for each token: a tensor {tuple(real.shape)}")
    return value


def check_kinds(kinds: Iterable[str]) -> None:
    """Raises StrataError on an unknown kind."""
    for name in kinds:
        if name not in STEPS:
            raise unknown("kind", name, STEPS)
