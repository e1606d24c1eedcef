"""Removal paths, found on calibration text: what is out when nothing is, one part, two parts, ... up to all but one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from inspect import signature
from itertools import chain
from operator import or_
from typing import Any, NamedTuple, cast

import numpy as np

from adapters.ablation import NONE, Ablation
from adapters.base import BlockModel
from adapters.errors import StrataError, unknown
from adapters.plugins import Named, Table
from adapters.specs import ModelSpec
from analysis.data.batches import Batch
from analysis.engine.ablations import single_ablations
from analysis.engine.plan import plan
from analysis.engine.sweep import sweep
from analysis.metrics.metrics import EXPERT_METRICS, METRICS, measure
from analysis.metrics.spans import all_spans, angular
from analysis.metrics.taylor import taylor
from analysis.removal.greedy import greedy, greedy_flops
from analysis.removal.paths import RemovalPath, nested
from analysis.runs.fingerprint import fingerprint, name_of
from analysis.stats.rank_agreement import removal_order

Keep = Callable[[RemovalPath], None]  # is given a path whenever it has grown
Search = Callable[["Calibration", int, RemovalPath, Keep], RemovalPath]  # up to so many removals, going on from a path that is begun
Listing = Callable[["Calibration"], Iterable[int]]  # blocks, the one that goes first in front

RANDOM = 10  # orders, the null that others are held against


@dataclass(frozen=True)
class Calibration:
    """What an order is found on. An order that is found step by step will `tell` its title and the share that is done."""

    model: BlockModel
    batches: Sequence[Batch]
    tell: Callable[[str, float], None] = lambda what, done: None
    singly: Callable[[], Mapping[str, np.ndarray]] | None = None  # sums per document of a sweep of the blocks that is kept

    def total(self, score: Callable[[Batch], np.ndarray]) -> np.ndarray:
        """A score (parts, documents) of every batch, summed over all documents."""
        return np.sum([score(batch).sum(1) for batch in self.batches], axis=0)

    @cached_property
    def alone(self) -> dict[str, np.ndarray]:
        """What taking out each block alone costs: `nll` and `kl` (blocks,), in one sweep."""
        if self.singly:
            found = self.singly()
            return {name: found[name].sum(1)[1:] for name in ("nll", "kl")}
        return self.each_alone(BLOCKS)

    def each_alone(self, kinds: Sequence[str]) -> dict[str, np.ndarray]:
        """The same of each part of these kinds."""
        singly = plan(self.model.spec, single_ablations(self.model.spec, kinds))
        sums = [sweep(self.model, singly, batch.ids, batch.lengths, first=batch.first) for batch in self.batches]
        return {name: np.sum([s[name].sum(1).numpy() for s in sums], axis=0)[1:] for name in ("nll", "kl")}


BLOCKS, SUBLAYERS, EXPERTS = ("blocks",), ("mixers", "ffns"), ("experts",)


def by_metric(
    metric: str, found_on: Calibration, most: int, begun: RemovalPath, keep: Keep, *, kinds: Sequence[str] = BLOCKS
) -> RemovalPath:
    """Parts in ascending order of a metric of `analysis.metrics.metrics`, or of `taylor`, measured once (paper, Table 3)."""
    return _ascending(_values(metric, found_on, found_on.model, kinds), found_on, most, kinds)


def one_shot(score: str, found_on: Calibration, most: int, begun: RemovalPath, keep: Keep, *, kinds: Sequence[str] = BLOCKS) -> RemovalPath:
    """Parts in ascending order of the loss (`nll`) or the divergence (`kl`) when each is taken out alone."""
    return _ascending((found_on.alone if kinds == BLOCKS else found_on.each_alone(kinds))[score], found_on, most, kinds)


def _ascending(values: np.ndarray, found_on: Calibration, most: int, kinds: Sequence[str]) -> RemovalPath:
    parts = single_ablations(found_on.model.spec, kinds)
    return nested(_steps([parts[i] for i in removal_order(values)], kinds)[:most])


def _groups(parts: Sequence[Ablation], kinds: Sequence[str]) -> list[list[Ablation]]:
    """The parts in groups that each lose one at a time: all are one, but for experts, of which stock loaders hold as many in each block."""
    found: dict[int | None, list[Ablation]] = {}
    for part in parts:
        found.setdefault(next(iter(part.experts))[0] if tuple(kinds) == EXPERTS else None, []).append(part)
    return list(found.values())


def _steps(parts: Sequence[Ablation], kinds: Sequence[str]) -> list[Ablation]:
    """What goes at a time, of parts in the order in which they go."""
    return [reduce(or_, each) for each in zip(*_groups(parts, kinds), strict=False)]


def iterative_bi(found_on: Calibration, most: int, begun: RemovalPath, keep: Keep) -> RemovalPath:
    """The block of lowest Block Influence, which is measured again after each removal."""
    model, path = found_on.model, begun
    while len(path) <= most:
        left = [i for i in range(len(model.blocks)) if i not in path[-1].blocks]
        values = _values("bi", found_on, model.with_blocks([model.blocks[i] for i in left]))
        path = (*path, path[-1] | Ablation(blocks=frozenset({left[removal_order(values)[0]]})))
        keep(path)
    return path


def angular_spans(found_on: Calibration, most: int, begun: RemovalPath, keep: Keep) -> RemovalPath:
    """The contiguous span that turns the last token's stream least (Gromov et al., arXiv 2403.17887). The sets are not nested."""
    totals = found_on.total(lambda b: angular(found_on.model, b.ids, b.lengths)["angular_last"])
    spans = all_spans(len(found_on.model.blocks))
    best = {k: min((s for s in range(len(spans)) if spans[s][1] == k), key=lambda s: totals[s]) for k in range(1, most + 1)}
    return (NONE, *(Ablation(blocks=frozenset(range(spans[s][0], spans[s][0] + k))) for k, s in best.items()))


def greedily(kinds: Sequence[str], found_on: Calibration, most: int, begun: RemovalPath, keep: Keep) -> RemovalPath:
    return greedy(found_on.model, found_on.batches, single_ablations(found_on.model.spec, kinds), most, begun, keep)


def random_order(n_blocks: int, seed: int) -> RemovalPath:
    """All but one of the blocks in an order that nothing was measured for."""
    return nested(np.random.default_rng(seed).permutation(n_blocks)[: n_blocks - 1].tolist())


def _values(metric: str, found_on: Calibration, model: BlockModel, kinds: Sequence[str] = BLOCKS) -> np.ndarray:
    if metric == "taylor":
        return found_on.total(lambda b: taylor(model, b.ids, b.lengths, kinds=kinds))
    return found_on.total(lambda b: measure(model, b.ids, b.lengths, [metric], kinds=kinds)[metric])


class Order(NamedTuple):
    """A way to find a path. `flops` is what it takes for each token of calibration text.

    One that runs many ablated models is `searched`: it reads fewer documents, and a short budget may not hold it.
    """

    title: str
    search: Search
    flops: Callable[[ModelSpec, int], int]
    kinds: tuple[str, ...] = ("blocks",)  # of the parts that it removes
    searched: bool = False
    once: bool = False  # from one plain pass over the text
    nested: bool = True  # each set holds those before it
    version: str = ""  # another version is another order; "" is that of Strata itself

    def singles(self, spec: ModelSpec) -> list[Ablation]:
        """The parts that it removes, one at a time."""
        return single_ablations(spec, self.kinds)

    def parts(self, spec: ModelSpec) -> int:
        return len(self.singles(spec))

    def steps(self, spec: ModelSpec) -> list[Ablation]:
        """As many as there are, of what goes at a time: a part, or of experts one in each block that has any."""
        return _steps(self.singles(spec), self.kinds)

    def find(self, found_on: Calibration, most: int, begun: RemovalPath = (NONE,), keep: Keep = lambda path: None) -> RemovalPath:
        """The path up to `most` removals. Found step by step, it goes on from what is `begun` and is given to `keep` after each."""

        def grown(path: RemovalPath) -> None:
            keep(path)
            found_on.tell(self.title, (len(path) - 1) / most)

        path = self.search(found_on, most, begun, grown)
        return path if not self.version else self._checked(path, most, found_on.model.spec)

    def _checked(self, path: RemovalPath, most: int, spec: ModelSpec) -> RemovalPath:
        """Raises StrataError when what somebody's function gave is no path of `most` removals."""
        try:
            self.check(path, spec)
        except ValueError as error:
            raise StrataError(f"the order {self.title!r} gives no removal path: {error}") from None
        if len(path) <= most:
            raise StrataError(f"the order {self.title!r} removes {len(path) - 1} parts of {spec.name}, and {most} are asked for")
        return path[: most + 1]

    def check(self, path: RemovalPath, spec: ModelSpec) -> None:
        """Raises ValueError when it is no path of this order: without 0, 1, 2, ... of its parts, up to all but one."""
        groups, steps = _groups(self.singles(spec), self.kinds), len(self.steps(spec))
        if not 1 <= len(path) <= steps:
            raise ValueError(f"{len(path)} sets are not a path: 1 to {steps} are one")
        for n, ablation in enumerate(path):
            out = [[part for part in group if ablation | part == ablation] for group in groups]
            if any(len(gone) != n for gone in out) or reduce(or_, chain(*out), NONE) != ablation:
                raise ValueError(f"set {n} ({ablation}) is not {n} of the {' and '.join(self.kinds)} of {spec.name}")
            if n and self.nested and path[n - 1] | ablation != ablation:
                raise ValueError(f"set {n} ({ablation}) does not hold the set before it ({path[n - 1]})")


def _pass(spec: ModelSpec, most: int) -> int:
    return plan(spec, []).flops_per_token


def _passes(spec: ModelSpec, most: int) -> int:
    return most * _pass(spec, most)


def _single_removals(spec: ModelSpec, most: int) -> int:
    return plan(spec, single_ablations(spec, ["blocks"])).flops_per_token


def _rounds(kinds: Sequence[str], spec: ModelSpec, most: int) -> int:
    return greedy_flops(spec, single_ablations(spec, kinds), most)


def of_function(function: Search | Listing, title: str, version: str, *, searched: bool = False) -> Order:
    """An order of blocks from `f(calibration)`, which lists block indices, or from `f(calibration, most, begun, keep)`, which gives a path.

    Raises StrataError on a function of anything else.
    """
    try:
        count = sum(p.default is p.empty and p.kind is not p.VAR_KEYWORD for p in signature(function).parameters.values())
    except (TypeError, ValueError):
        count = 0
    if count not in (1, 4):
        raise StrataError(f"the order {title!r} is no function of a Calibration, or of a Calibration, most, begun and keep")

    def listed(found_on: Calibration, most: int, begun: RemovalPath, keep: Keep) -> RemovalPath:
        given = cast(Listing, function)(found_on)
        if not isinstance(given, Iterable):
            raise StrataError(
                f"the order {title!r} gives {type(given).__name__}, expected are block indices, the one that goes first in front"
            )
        return nested(list(given)[:most])

    return Order(title, cast(Search, function) if count == 4 else listed, _pass, searched=searched, version=version)


def _read(found: Any, title: str, version: str) -> Order:
    """An order from what an entry point leads to."""
    if isinstance(found, Order):
        return found if found.version else found._replace(version=version)
    return of_function(found, title, version)


ORDERS = Table(
    "order",
    "strata.orders",
    {
        "bi": Order("Block Influence", partial(by_metric, "bi"), _pass, once=True),
        "relative_magnitude": Order("relative magnitude", partial(by_metric, "relative_magnitude"), _pass, once=True),
        "norm": Order("norm", partial(by_metric, "norm"), _pass, once=True),
        "sequential": Order("sequential", partial(by_metric, "sequential"), _pass, once=True),
        "reverse_order": Order("reverse order", partial(by_metric, "reverse_order"), _pass, once=True),
        "angular": Order("angular spans", angular_spans, _pass, once=True, nested=False),
        "nll": Order("one-shot nll", partial(one_shot, "nll"), _single_removals, searched=True),
        "kl": Order("one-shot KL", partial(one_shot, "kl"), _single_removals, searched=True),
        "iterative_bi": Order("iterative BI", iterative_bi, _passes),
        "greedy": Order("greedy blocks", partial(greedily, BLOCKS), partial(_rounds, BLOCKS), searched=True),
        "sublayers": Order("greedy sub-layers", partial(greedily, SUBLAYERS), partial(_rounds, SUBLAYERS), SUBLAYERS, searched=True),
    },
    _read,
)


def register_order(name: str, order: Order | Search | Listing, *, title: str = "", version: str = "", searched: bool = False) -> None:
    """Adds an order of removal: a function as `of_function` takes it, or an `Order`.

    With another `version` runs are others; without one a hash of the function's code is its version.

    A function that runs many ablated models is `searched`: it reads fewer documents. Raises StrataError on a name that is taken.
    """
    if isinstance(order, Order):
        ORDERS.register(name, order._replace(title=title or order.title, version=version or order.version or fingerprint(order.search)))
    else:
        ORDERS.register(name, of_function(order, title or name.replace("_", " "), version or fingerprint(order), searched=searched))


def find_order(order: str | Search | Listing) -> Named[Order]:
    """An order by its name or by that of a metric, or a function as one (`of_function`), whose version is a hash of its code."""
    if isinstance(order, str):
        if order == "taylor":
            return Named(order, Order("Taylor", partial(by_metric, order), _pass, once=True))
        if order in METRICS and order not in ORDERS:
            metric = METRICS[order]
            return Named(order, Order(metric.title, partial(by_metric, order), _pass, once=True, version=metric.version))
        return ORDERS.find(order, also=METRICS)
    name = name_of(order)
    if name in ORDERS.own:
        raise StrataError(f"a function is called {name!r} as an order of Strata's is: give it another name")
    return Named(name, of_function(order, name.replace("_", " "), fingerprint(order)))


def order_of(order: str | Search | Listing, kinds: Sequence[str] = ()) -> Named[Order]:
    """The same of parts of these `kinds`, blocks where none are named or those that the order is of.

    Experts go one from each block at a time, by what each is alone. Raises StrataError on an order that removes other parts.
    """
    kinds = tuple(kinds)
    if "experts" in kinds and kinds != EXPERTS:
        raise StrataError("experts go in as many from each block, and other parts one by one: use `kinds` experts alone")
    if order in EXPERT_METRICS and kinds != EXPERTS:
        raise StrataError(f"{order} is of experts, and other parts have no router: use `kinds` experts")
    if not isinstance(order, str) or kinds in ((), BLOCKS) or (order in ORDERS and ORDERS[order].kinds == kinds):
        found = find_order(order)
        if kinds and found.thing.kinds != kinds:
            raise StrataError(f"the order {found.name!r} removes {' and '.join(found.thing.kinds)}, not {' and '.join(kinds)}")
        return found
    searches: dict[str, Search] = {name: partial(one_shot, name, kinds=kinds) for name in ("nll", "kl")}
    searches |= {} if kinds == EXPERTS else {"greedy": partial(greedily, kinds)}
    metrics = {**METRICS, **(EXPERT_METRICS if kinds == EXPERTS else {})}
    searches |= {name: partial(by_metric, name, kinds=kinds) for name in (*metrics, "taylor")}
    if order not in searches:
        raise unknown(f"order of {' and '.join(kinds)}", order, searches)
    metric = metrics.get(order)
    title = metric.title if metric else {"taylor": "Taylor", "greedy": "greedy removal"}.get(order, f"one-shot {order}")
    return Named(order, Order(f"{title} of {' and '.join(kinds)}", searches[order], _pass, kinds, version=metric.version if metric else ""))
