"""What a study of removal found: tables, words and panels (paper, Figures 2b, 5 and 9, Tables 3 and 4)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import pandas as pd

from adapters.ablation import Ablation
from adapters.base import BlockModel
from adapters.checkpoints.export import rerooted
from analysis.data.batches import Text
from analysis.display import removal_plots
from analysis.display.format import bounded, count, listed, minutes, number
from analysis.display.result import Result, read
from analysis.paper.shortgpt import STRATEGIES, paper_n_removed, removed_in_paper
from analysis.pruning import findings
from analysis.removal.explored import Explored, Paths, explored
from analysis.removal.orders import BLOCKS, ORDERS
from analysis.removal.paths import RemovalPath, Scored, size

SAVED = {"block parameters": "the blocks' parameters", "all parameters": "all parameters", "FLOPs": "the FLOPs of a token"}
LIMITS = (
    "These results are for one model on one kind of text, without retraining after a removal; training would recover part of the loss, "
    "and not the same part for all orders. The loss says little about generation and about tasks."
)
REROOTED = (
    "Ablations that remove block 0 keep the v_first that it computes, although its parameters count as saved: a checkpoint without "
    "block 0 takes v_first from its first block, and its loss differs."
)


@dataclass(frozen=True)
class RemovalResult(Result):
    """Results of one model: its paths, and their losses on held-out text."""

    model: BlockModel
    text: Text
    calibration: Text
    whole: dict[str, RemovalPath]  # every set of each order
    scored: Scored  # of some sets, random orders among them
    seconds: dict[str, float]  # of the orders that the budget does not hold: what they would take
    searched: int  # documents that orders of many ablated models read
    bought: pd.DataFrame  # `analysis.pruning.speed.speeds`, and `file` where files were given: bytes of what `strata prune` writes
    precision: str = ""  # of these files, see `Source`

    @property
    def paper_n_removed(self) -> int:
        """How many blocks the paper takes out, see `analysis.paper.shortgpt`."""
        return paper_n_removed(self.n_blocks)

    @property
    def printed(self) -> tuple[int, ...]:
        """The blocks that the paper removed from this model; none where it is not one of its four."""
        return removed_in_paper(self.model.spec.name, self.n_blocks)

    @property
    def titles(self) -> dict[str, str]:
        """Of the orders that were found."""
        return {name: ORDERS[name].title for name in self.whole}

    @property
    def null(self) -> list[str]:
        return [name for name in self.scored.paths if name not in self.whole]

    @cached_property
    def explored(self) -> Explored:
        """Everything that was measured."""
        return explored(self.model, paths=[Paths(self.scored, self.titles, self.text)])

    @cached_property
    def table(self) -> pd.DataFrame:
        """As `Scored.table`, of the orders."""
        return self.scored.table(list(self.whole))

    @cached_property
    def random(self) -> pd.DataFrame:
        return self.scored.table(self.null)

    @property
    def panels(self) -> list[removal_plots.Panel]:
        """What is drawn against blocks removed: orders from one plain pass, and orders that look further, Block Influence in both."""
        return [removal_plots.Panel("removed", "blocks removed", names) for names in self._groups]

    @property
    def savings(self) -> list[removal_plots.Panel]:
        """The same against what is saved by each measure of SAVED, where that is not a multiple of the blocks removed."""
        panels = [removal_plots.Panel(measure, f"{said} removed", names) for measure, said in SAVED.items() for names in self._groups]
        return removal_plots.distinct(self.table, panels, self.panels)

    @property
    def each(self) -> str:
        """What a block is of the whole, a sentence for captions; empty where blocks differ."""
        blocks = [a for a in self.scored.nll if len(a.blocks) and not a.mixers and not a.ffns]
        shares = {said: [self.scored.share(measure, a) / size(a) for a in blocks] for measure, said in SAVED.items()}
        if not blocks or any(max(values) > (1 + 1e-6) * min(values) for values in shares.values()):
            return ""
        return f"A block is {listed(f'{number(100 * values[0])} % of {said}' for said, values in shares.items())}.".replace(" %", "\u00a0%")

    @property
    def _groups(self) -> list[tuple[str, ...]]:
        return [tuple(n for n in self.whole if ORDERS[n].once), tuple(n for n in self.whole if n == "bi" or not ORDERS[n].once)]

    @property
    def bands(self) -> str:
        """What the bands of a figure are; a sentence for captions."""
        return f"{super().bands} {self.grey}"

    @property
    def grey(self) -> str:
        """What the band of random orders is; a sentence for captions."""
        return f"The grey band spans the best to the worst of {count(len(self.null), 'random order')}."

    @property
    def n_documents(self) -> int:
        return len(self.scored.tokens)

    @property
    def measured(self) -> dict[str, str]:
        """What was measured and on what."""
        points, total = max(len(p) for p in self.scored.paths.values()), len(self.scored.nll)
        return {
            "Orders": f"{self.calibration.corpus}, calibration: {count(self.calibration.documents, 'document')}; orders that run many "
            f"ablated models read {self.searched} of them",
            "Losses": read(self.text, "held-out", self.n_documents, int(self.scored.tokens.sum())),
            "Sets": f"{total:,} sets of blocks and sublayers: up to {points} of each order, from none removed to all but one, "
            f"and those without {count(self.paper_n_removed, 'block')}" + (", including the paper's" if self.printed else ""),
        }

    @cached_property
    def skipped(self) -> str:
        """Which orders the budget does not hold, and what they would take."""
        if not self.seconds:
            return "Every order was computed."
        took = [f"{ORDERS[name].title} (about {minutes(seconds)} on this machine)" for name, seconds in self.seconds.items()]
        return f"Skipped, since they do not fit into this budget: {', '.join(took)}. The full budget includes every order."

    @cached_property
    def breaks(self) -> str:
        """Where each order's curve breaks."""
        found: dict[str, list[str]] = {}
        for name, title in self.titles.items():
            found.setdefault(findings.breaks(self.scored, name), []).append(title)
        return "\n\n".join(f"By {listed(titles)}: {clause}." for clause, titles in found.items())

    @cached_property
    def doubling(self) -> pd.DataFrame:
        """How far each order goes before perplexity doubles."""
        rows = []
        for name, title in self.titles.items():
            over = findings.doubled(self.scored, name)
            last = next(a for a in reversed(self.scored.paths[name]) if over is None or size(a) < size(over))
            rows.append((title, size(last), self.scored.share("all parameters", last), bounded(self.scored.rise(last))))
        table = pd.DataFrame(rows, columns=["order", "blocks removed", "of all parameters", "rise in loss"])
        table["of all parameters"] = [f"{100 * value:.1f} %" for value in table["of all parameters"]]
        table["blocks removed"] = [f"{value:g}" for value in table["blocks removed"]]
        return table

    @property
    def strategies(self) -> pd.DataFrame:
        """Table 3: what the paper's strategies take out first, and what that gives here."""
        rows = [
            (ORDERS[n].title, said, _listed(self._order(n)[: self.paper_n_removed]), self._rise(self.whole[n][self.paper_n_removed].blocks))
            for n, said in STRATEGIES.items()
            if n in self.whole
        ]
        return pd.DataFrame(rows, columns=["strategy", "removes blocks", f"the first {self.paper_n_removed} here", "rise in loss"])

    @property
    def removed(self) -> pd.DataFrame:
        """Table 4: the blocks that each order has taken out at the paper's number of them, and what that gives here."""
        sets: dict[str, Iterable[int]] = {"the paper, Table 4": self.printed} if self.printed else {}
        sets |= {
            title: self.whole[name][self.paper_n_removed].blocks for name, title in self.titles.items() if ORDERS[name].kinds == BLOCKS
        }
        rows = [(title, _listed(sorted(blocks)), self._rise(blocks)) for title, blocks in sets.items()]
        return pd.DataFrame(rows, columns=["order", f"{self.paper_n_removed} of {self.n_blocks} blocks removed", "rise in loss"])

    def _rise(self, blocks: Iterable[int]) -> str:
        """With its interval."""
        return bounded(self.scored.rise(Ablation(blocks=frozenset(blocks))))

    def _order(self, name: str) -> list[int]:
        path = self.whole[name]
        return [next(iter(after.blocks - before.blocks)) for before, after in pairwise(path)]

    @property
    def sets(self) -> dict[str, list[list[int]]]:
        """Sets of blocks by title, ascending in size."""
        return {title: [sorted(a.blocks) for a in self.whole[n]] for n, title in self.titles.items() if ORDERS[n].kinds == BLOCKS}

    @cached_property
    def contest(self) -> str:
        """Which order is best where: orders of blocks where as many are removed, and all where as many parameters are."""
        names = [name for name in self.whole if ORDERS[name].kinds == BLOCKS]
        return f"{findings.contest(self.scored, names, self.titles, self.null)} {findings.at_equal_size(self.scored, self.titles)}".strip()

    @property
    def gain(self) -> pd.DataFrame:
        """What removal buys, as a table of text and numbers; active parameters where they are not all."""
        units = {"parameters": 1e6, "active": 1e6, "memory": 1e6, "file": 1e6, "prefill": 1.0, "decode": 1.0}
        names = {
            "parameters": "parameters (M)",
            **({"active": "a token meets (M)"} if self.model.spec.has_experts else {}),
            "memory": "in memory (MB)",
            "file": "file (MB)",
            "prefill": "prompt (tokens/s)",
            "decode": "generation (tokens/s)",
        }
        return pd.DataFrame({"model": self.bought["model"]} | {names[c]: self.bought[c] / units[c] for c in names if c in self.bought})

    @cached_property
    def speedup(self) -> str:
        """How much faster and smaller, in words."""
        dense, short = self.bought.to_dict("records")
        left = [
            f"{number(100 * short[column] / dense[column])}\u00a0% of the {place}"
            for column, place in (("memory", "memory"), ("file", "file"))
            if column in self.bought
        ]
        blocks = f"{self.paper_n_removed} of {self.n_blocks} blocks"
        return f"After removing {blocks} the weights take {' and '.join(left)}. {findings.faster(dense, short)}"

    @cached_property
    def conclusion(self) -> str:
        return f"{findings.free_blocks(self.scored, 'bi', ORDERS['bi'].title)} {self.contest}"

    @property
    def limits(self) -> str:
        other = any(rerooted(self.model.spec, ablation.blocks) for ablation in self.scored.nll)
        return f"{LIMITS} {REROOTED}" if other else LIMITS


def _listed(blocks: list[int]) -> str:
    return ", ".join(map(str, blocks))
