"""What a study of ranking found: correlations, orders and how far to trust them, as tables and words (paper, Figure 8)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import pandas as pd

from adapters.base import BlockModel
from analysis.data.batches import Text
from analysis.display import sentences
from analysis.display.format import INTERVALS, bounded, count, hundredths, listed
from analysis.display.result import Result
from analysis.importance import findings
from analysis.importance.straight import Straight
from analysis.paper.shortgpt import paper_n_removed
from analysis.runs.tables import tidy
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, Array, Interval
from analysis.stats.rank_agreement import STATISTICS, Scores, agreement, gap, reliability, removal_order, resolution, stability

EFFECTS = {"delta_nll": "rise in loss", "kl": "KL divergence"}  # causal, measured on held-out text; all others on calibration text
SPOKEN = {"delta_nll": "the rise in loss", "bi": "Block Influence"}  # of which is said how far they can be trusted


@dataclass(frozen=True)
class Ranking(Result):
    """Results of one model: tidy tables, and the sums per document behind them."""

    model: BlockModel
    text: Text  # held-out
    calibration: Text
    table: pd.DataFrame  # tidy, of sweep and metrics
    titles: dict[str, str]  # of the metrics, by name, and of EFFECTS
    scores: dict[str, dict[str, Scores]]  # by kind, then by name
    without_first: dict[str, Scores]  # of a plain pass, and different from text to text: the blocks without the first token of each
    samples: list[dict[str, Scores]]  # the same metrics of the blocks on other calibration text of the corpus
    corpora: dict[str, dict[str, Scores]]  # and of other corpora
    straight: Straight

    @property
    def blocks(self) -> dict[str, Scores]:
        """Scores of the blocks."""
        return self.scores["blocks"]

    @property
    def paper_n_removed(self) -> int:
        """How many blocks the paper takes out, see `analysis.paper.shortgpt`."""
        return paper_n_removed(self.n_blocks)

    @property
    def n_documents(self) -> int:
        """Of the smaller of the two texts."""
        return min(self.text.documents, self.calibration.documents)

    @property
    def measured(self) -> dict[str, str]:
        """What was measured and on what."""
        tokens = int(self.blocks["delta_nll"].tokens.sum()), int(self.blocks["bi"].tokens.sum())
        return {
            "Metrics": f"{self.calibration.corpus}, calibration: {count(self.calibration.documents, 'document')}, {tokens[1]:,} tokens",
            "Causal scores": f"{self.text.corpus}, held-out: {count(self.text.documents, 'document')}, {tokens[0]:,} tokens scored; "
            "the sweep of the notebook on depth",
            "Samples": f"the removal order is measured on {count(1 + len(self.samples), 'sample')} of calibration text of the same size"
            + (f", and on calibration text of {self._sizes}" if self.corpora else ""),
            "Linear maps": self.straight.fact,
            "Intervals": f"{INTERVALS}; for correlations Student's t with the bootstrap's standard error",
        }

    @property
    def _sizes(self) -> str:
        return listed(f"{corpus} ({count(len(found['bi'].tokens), 'document')})" for corpus, found in self.corpora.items())

    @property
    def parts(self) -> str:
        """The kinds of parts that were measured; Markdown."""
        return listed(self.scores)

    @property
    def profiled(self) -> dict[str, str]:
        """What a profile over depth is drawn of: not the two metrics that are the index itself."""
        return {name: self.titles[name] for name in (*self.without_first, "taylor", "delta_nll")}

    @cached_property
    def correlations(self) -> pd.DataFrame:
        """Rank correlation of every pair of scores of the blocks: a, b, statistic, value, ci_low, ci_high."""
        rows = [
            (self.titles[a], self.titles[b], statistic, *agreement(x, y, statistic, paired=(a in EFFECTS) == (b in EFFECTS)))
            for (a, x), (b, y) in combinations(self.blocks.items(), 2)
            for statistic in STATISTICS
        ]
        columns = ["a", "b", "statistic", "value", "ci_low", "ci_high"]
        return tidy(rows, columns)

    @cached_property
    def taus(self) -> dict[str, dict[str, Interval]]:
        """By kind: Kendall's tau of every metric with the rise in loss."""
        return {kind: self._with("delta_nll", kind) for kind in self.scores}

    def _with(self, effect: str, kind: str = "blocks") -> dict[str, Interval]:
        scores = self.scores[kind]
        return {self.titles[name]: agreement(s, scores[effect], paired=False) for name, s in scores.items() if name not in EFFECTS}

    @cached_property
    def agreements(self) -> pd.DataFrame:
        """Kendall's tau of every metric with the causal scores, as text with its interval."""
        columns = {f"loss, {kind}": taus for kind, taus in self.taus.items()} | {"KL, blocks": self._with("kl")}
        table = {name: [bounded(tau, hundredths) for tau in taus.values()] for name, taus in columns.items()}
        return pd.DataFrame({"metric": list(self.taus["blocks"])} | table)

    @cached_property
    def best(self) -> str:
        """Which metric orders parts as the loss does, by kind; and whether the two causal scores agree."""
        tau = agreement(self.blocks["kl"], self.blocks["delta_nll"], paired=True)
        causal = sentences.agreement_sentence(tau, EFFECTS["kl"], n_blocks=self.n_blocks, n_documents=self.text.documents)
        return "\n\n".join([*map(self._best, self.scores), causal])

    def _best(self, kind: str) -> str:
        taus, scores = self.taus[kind], {self.titles[name]: s for name, s in self.scores[kind].items()}
        leader = max(taus, key=lambda name: taus[name].value)
        effect = scores[EFFECTS["delta_nll"]]
        gaps = {name: gap(scores[leader], scores[name], effect, paired=False) for name in taus if name != leader}
        return f"Among {kind}: {sentences.best_metric(taus, gaps, n_documents=self.n_documents)}"

    @cached_property
    def orders(self) -> dict[str, list[int]]:
        """The removal order of the blocks by every score, the causal ones first."""
        return {
            self.titles[name]: removal_order(_means(self.blocks[name]))
            for name in sorted(self.blocks, key=lambda name: name not in EFFECTS)
        }

    @property
    def order_table(self) -> pd.DataFrame:
        """The orders as text."""
        lists = [", ".join(map(str, order)) for order in self.orders.values()]
        return pd.DataFrame({"score": list(self.orders), "blocks, from first removed to last removed": lists})

    @cached_property
    def overlap(self) -> str:
        """Do the metrics name the blocks that cost least?"""
        metrics = {name: order for name, order in self.orders.items() if name not in EFFECTS.values()}
        return findings.overlap(self.orders[EFFECTS["delta_nll"]], metrics, self.paper_n_removed, n_documents=self.n_documents)

    @cached_property
    def trust(self) -> pd.DataFrame:
        """How much the order of the blocks by each score depends on the documents and on the sample."""
        rows = []
        for name, scores in self.blocks.items():
            pairs = [self._pairs(name, others) for others in (self.samples, self.corpora.values())]
            rows.append((self.titles[name], reliability(scores), *(p[column].mean() for p in pairs for column in ("tau", "overlap"))))
        shared = f"share of the first {self.paper_n_removed}"
        columns = ["score", "τ of halves", "τ of samples", f"{shared}, samples", "τ of corpora", f"{shared}, corpora"]
        return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[1:], float)).dropna(axis="columns", how="all")

    def _pairs(self, name: str, others: Iterable[dict[str, Scores]]) -> pd.DataFrame:
        """Stability of the order by a score over this and other texts; empty when it was measured on one."""
        scores = [self.blocks[name], *(other[name] for other in others if name in other)]
        return stability({str(i): _means(s) for i, s in enumerate(scores)}, self.paper_n_removed)

    @cached_property
    def trusted(self) -> str:
        """How much the causal order, and that by BI, depend on the documents."""
        halves = [
            sentences.reliability_sentence(
                reliability(self.blocks[s]), f"order the blocks by {name}", n_documents=len(self.blocks[s].tokens)
            )
            for s, name in SPOKEN.items()
        ]
        texts = {"sample": self.samples} | ({"corpus": self.corpora.values()} if self.corpora else {})
        alike = [findings.stability(self._pairs("bi", others), self.titles["bi"], self.n_blocks, of) for of, others in texts.items()]
        return "\n\n".join([*halves, *alike])

    @cached_property
    def resolved(self) -> tuple[pd.DataFrame, str]:
        """How many documents a resolved order needs: the curve by the rise in loss and by BI, and in words."""
        counts = sorted({m for m in (12, 16, 24, 32, 48, self.n_documents) if MIN_DOCUMENTS_FOR_CI <= m <= self.n_documents})
        curves = {score: resolution(self.blocks[score], counts) for score in SPOKEN}
        columns = {"all": "all pairs", "adjacent": "neighbours"}
        named = [c.set_index("n_documents").rename(columns=columns).add_prefix(f"{self.titles[score]}: ") for score, c in curves.items()]
        table = pd.concat(named, axis=1).rename_axis("documents").reset_index()
        return table, "\n\n".join(sentences.order_sentence(curve, SPOKEN[score]) for score, curve in curves.items())

    @cached_property
    def first_token(self) -> tuple[pd.DataFrame, str]:
        """Orders with and without the first token of each document: how alike, and which agrees better with the loss."""
        effect, rows, said = self.blocks["delta_nll"], [], ""
        for name in self.without_first:
            whole, rest = self.blocks[name], self.without_first[name]
            tau, gain = agreement(whole, rest, paired=True), gap(rest, whole, effect, paired=False)
            taus = [agreement(scores, effect, paired=False) for scores in (whole, rest)]
            rows.append((self.titles[name], *(bounded(t, hundredths) for t in (tau, *taus, gain))))
            if name == "bi":
                said = findings.first_token(tau, gain, self.titles[name], n_documents=self.n_documents)
        columns = ["metric", "τ of the two orders", "τ with the loss, all tokens", "without the first token", "change"]
        return pd.DataFrame(rows, columns=columns), said

    @cached_property
    def straightest(self) -> str:
        """Which quarter of the blocks turns the stream least, and which spans a linear map could replace."""
        return f"{findings.straightest(self.straight.spans, self.paper_n_removed)}\n\n{self.straight.replaceable}"

    @cached_property
    def conclusion(self) -> str:
        return f"{self._best('blocks')} {self.overlap}\n\n{findings.straightest(self.straight.spans, self.paper_n_removed)}"


def _means(scores: Scores) -> Array:
    return scores.means(scores.all)
