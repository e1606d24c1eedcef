"""One figure of each type, of planted results. `python -m tests.analysis.display.gallery OUT` writes them as a page to look at.

30 blocks, of which block 0 costs a hundred times what others do, nine heads each, seven models in five groups, eleven orders.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from analysis.comparison import plots as comparison
from analysis.comparison.depths import FIGURE
from analysis.display import head_plots, overview, plots, removal_plots, show
from analysis.display.removal_plots import Panel
from analysis.importance import grids
from analysis.metrics.spans import all_spans
from analysis.quantization.trade import trade_off
from analysis.stats.intervals import Interval

BLOCKS, HEADS = 30, 9
KINDS = ("blocks", "mixers", "ffns")
MODELS = {  # model -> group, architecture, steepness of its removal curve
    "zoo-llama-0": ("Llama", "Transformers", 1.0),
    "zoo-llama-1": ("Llama", "Transformers", 1.1),
    "zoo-baichuan-0": ("Baichuan2-13B layout", "Transformers", 0.9),
    "zoo-rwkv5-0": ("RWKV-5.2", "RWKVs", 0.6),
    "zoo-rwkv5-1": ("RWKV-5.2", "RWKVs", 0.65),
    "zoo-rwkv5-0-early": ("early RWKV-5.2", "RWKVs", 0.5),
    "zoo-rwkv7-0": ("RWKV-7", "RWKVs", 0.45),
}
ORDERS = {
    "bi": "Block Influence",
    "relative": "relative magnitude",
    "norm": "norm",
    "sequential": "sequential",
    "reverse": "reverse order",
    "angular": "angular spans",
    "one_shot": "one-shot nll",
    "one_shot_kl": "one-shot KL",
    "iterative_bi": "iterative BI",
    "greedy": "greedy blocks",
    "greedy_sublayers": "greedy sublayers",
}
METRICS = ("Block Influence", "relative magnitude", "hidden-state norm", "L2 change", "Taylor", "sequential", "reverse order")


def bounded(table: pd.DataFrame, share: float = 0.12, least: float = 0.01) -> pd.DataFrame:
    """With intervals; significant where they do not hold 0."""
    half = share * table["value"].abs() + least
    table = table.assign(ci_low=table["value"] - half, ci_high=table["value"] + half)
    return table.assign(significant=(table["ci_low"] > 0) | (table["ci_high"] < 0))


def rises(blocks: int = BLOCKS) -> np.ndarray:
    """Of blocks alone: block 0 far above all, the ends above the middle."""
    rng = np.random.default_rng(0)
    depth = np.linspace(0, 1, blocks)
    found = 0.05 + 0.5 * np.abs(depth - 0.55) ** 2 * rng.uniform(0.3, 2, blocks)
    found[[0, 1, -1]] = 8.1, 1.4, 0.9
    return found


def sweep() -> pd.DataFrame:
    costs = {"blocks": rises(), "mixers": 0.4 * rises() - 0.02, "ffns": 0.7 * rises()}
    rows = [(kind, b, "delta_nll", value) for kind in KINDS for b, value in enumerate(costs[kind])]
    return bounded(pd.DataFrame(rows, columns=["kind", "block", "metric", "value"]))


def heads() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    places = list(product(range(BLOCKS), range(HEADS)))
    table = pd.DataFrame(places, columns=["block", "head"]).assign(value=rng.normal(0.01, 0.015, len(places)))
    table.loc[table["block"] == 1, "value"] *= 6
    table.loc[4, "value"] = 2.4
    return bounded(table, least=0.015)


def models(x: str, values: Callable[[np.ndarray, float], np.ndarray], points: int = 12) -> pd.DataFrame:
    """One line a model."""
    at = np.linspace(0, 1, points)
    rows = [(name, group, kind, *pair) for name, (group, kind, s) in MODELS.items() for pair in zip(at, values(at, s), strict=True)]
    return bounded(pd.DataFrame(rows, columns=["model", "group", "architecture", x, "value"]), 0.08, 0.001)


def alone() -> pd.DataFrame:
    """As `Comparison.losses`."""

    def costs(depth: np.ndarray, steep: float) -> np.ndarray:
        return 0.02 + 0.1 * steep * (depth - 0.5) ** 2 + np.where(depth == 0, 2.0 * steep**3, 0)

    parts = [models("depth", costs).assign(kind=kind) for kind in KINDS]
    both = pd.concat(parts)
    numbers = ["value", "ci_low", "ci_high"]
    return pd.concat([both.assign(unit="bits"), both.assign(unit="share", **{name: both[name] / 2 for name in numbers})])


def paths(names: dict[str, str], parts: int, *, width: bool = False) -> pd.DataFrame:
    """As `Scored.table`; `width`: kinds that save different shares."""
    rng = np.random.default_rng(2)
    rows = []
    for place, name in enumerate(names):
        reach = (0.3, 0.12, 0.25, 0.2)[place % 4] if width else 1.0
        for removed in range(parts):
            share = reach * removed / (parts - 1) * (1 if width else 29 / 30)
            value = (0.3 + 0.3 * place) * (np.exp(5.0 * share / reach) - 1) / (12 if width else 4) * rng.uniform(0.95, 1.05)
            flops = share * (0.8 if not width or place < 3 else 0.6)
            rows.append((name, removed, share, 0.7 * share, flops, value if removed else 0.0))
    columns = ["order", "removed", "block parameters", "all parameters", "FLOPs", "value"]
    return bounded(pd.DataFrame(rows, columns=columns), 0.05, 0.0)


def profiled() -> tuple[pd.DataFrame, dict[str, str]]:
    titles = {name: name for name in METRICS[:5]} | {"delta_nll": "rise in loss"}
    scale = dict(zip(titles, (0.1, 0.5, 30.0, 8.0, 0.2, 1.0), strict=True))
    rows = [(k, b, m, v * scale[m]) for m in titles for k in KINDS for b, v in enumerate(rises() * (1 + 0.3 * KINDS.index(k)))]
    return bounded(pd.DataFrame(rows, columns=["kind", "block", "metric", "value"]), 0.1, 0.0), titles


def spans() -> pd.DataFrame:
    rows = [(s, n, "angular_last", 0.02 * n**0.7 * (1 + abs(s - 15) / 30) + 0.4 * (s == 0)) for s, n in all_spans(BLOCKS)]
    return bounded(pd.DataFrame(rows, columns=["start", "length", "metric", "value"]), 0.1, 0.0)


def taus() -> tuple[dict[str, dict[str, Interval]], pd.DataFrame]:
    values = np.linspace(0.7, -0.1, len(METRICS))
    found = {kind: {m: Interval(v - 0.1 * i, v - 0.1 * i - 0.12, v - 0.1 * i + 0.12) for m, v in zip(METRICS, values, strict=True)}
             for i, kind in enumerate(KINDS)}  # fmt: skip
    pairs = [
        (a, b, "kendall", 1 - 0.28 * (j - i), 0.8 - 0.28 * (j - i), 1.1 - 0.28 * (j - i))
        for i, a in enumerate(METRICS)
        for j, b in enumerate(METRICS)
        if i < j
    ]
    return found, pd.DataFrame(pairs, columns=["a", "b", "statistic", "value", "ci_low", "ci_high"])


def rises_by_file() -> pd.DataFrame:
    names = ["unpruned", "8 blocks removed", "int8", "int8, then 8 blocks removed", "GPTQ 4-bit", "GPTQ 4-bit, then 8 blocks removed"]
    table = pd.DataFrame({"model": names, "half": [269e6, 212e6, 163e6, 134e6, 116e6, 100e6], "value": [0, 1.32, 0.001, 1.33, 0.25, 1.66]})
    return bounded(table, 0.03, 0.0)


def training() -> tuple[pd.DataFrame, dict[str, str]]:
    titles = {"bits": "bits per byte", "effective": "effective share of blocks", "area": "area under the removal curve"}
    steps = [0, 64, 128, 256, 512, 1024, 1500]
    trained = {m: labels for m, labels in MODELS.items() if m[-1] in "01" and "baichuan" not in m and "7" not in m}
    rows = [(m, group, kind, step, measure, 0.1 + steep * np.log1p(step) / 10)
            for m, (group, kind, steep) in trained.items() for step in steps for measure in titles]  # fmt: skip
    return bounded(pd.DataFrame(rows, columns=["model", "group", "architecture", "step", "measure", "value"]), 0.06), titles


def depths() -> pd.DataFrame:
    rows = [(kind, kind, architecture, blocks, measure, min(0.9, level / blocks**0.5))
            for kind, architecture, level in (("Llama", "Transformers", 1.2), ("RWKV-5.2", "RWKVs", 2.0))
            for blocks in (6, 12, 24) for measure in FIGURE]  # fmt: skip
    return bounded(pd.DataFrame(rows, columns=["model", "group", "architecture", "blocks", "measure", "value"]), 0.06)


def every() -> dict[str, Callable[[], Figure]]:
    """By name; each is made when it is called."""
    curve = models("share", lambda share, steep: steep * 1.7 * share**3)
    depth, two = paths(ORDERS, BLOCKS), {k: k for k in (*KINDS, "heads")}
    width = paths(two, 12, width=True)
    bi, cost = ({i: Interval(v, 0.9 * v, 1.1 * v) for i, v in enumerate(values)} for values in (rises() ** 0.7 / 4, rises()))
    halves = [Panel("removed", "blocks removed", tuple(ORDERS)[:6]), Panel("removed", "blocks removed", ("bi", *tuple(ORDERS)[6:]))]
    savings = [Panel(c, f"{c} saved", tuple(two)) for c in ("block parameters", "all parameters", "FLOPs")]
    random = paths({str(i): "" for i in range(3)}, BLOCKS).assign(value=lambda t: 2 * t["value"] + t["removed"] / 10)
    ppl = heads()
    ppl[["value", "ci_low", "ci_high"]] = 17 * np.exp(ppl[["value", "ci_low", "ci_high"]])
    listed = sweep()[:8].assign(ablation=[f"blocks {i}, {i + 3}" for i in range(8)])
    return {
        "rise": lambda: plots.depth_profile(sweep(), "delta_nll", perplexity=17.2),
        "parts": lambda: plots.depth_profile(sweep(), "delta_nll", kinds=KINDS[1:], behind=("blocks",)),
        "scatter": lambda: plots.scatter_agreement(bi, cost, xlabel="Block Influence", ylabel="rise in loss (nats per token)"),
        "head-map": lambda: head_plots.head_map(heads()),
        "heads-by-block": lambda: head_plots.heads_by_block(ppl, 17.0),
        "spread": lambda: head_plots.spread(heads()),
        "removal": lambda: removal_plots.removal_curves(depth, ORDERS, halves, random=random),
        "savings": lambda: removal_plots.removal_curves(width, two, removal_plots.distinct(width, savings)),
        "measures": lambda: removal_plots.measures({f"measure {n} of texts": depth for n in range(1, 7)}, dict([*ORDERS.items()][:2])),
        "removal-map": lambda: removal_plots.removed_map({t: [list(range(k)) for k in range(BLOCKS)] for t in ORDERS.values()}, BLOCKS),
        "profiles": lambda: grids.profiles(*profiled(), kinds=KINDS),
        "spans": lambda: grids.span_map(spans(), label="angle (share of a half turn)"),
        "agreement": lambda: grids.agreement(*taus()),
        "listed": lambda: overview.listed(listed, "delta_nll"),
        "trade-off": lambda: trade_off(rises_by_file()),
        "comparison-blocks": lambda: comparison.losses(alone(), "blocks"),
        "comparison-sublayers": lambda: comparison.sublayers(alone()),
        "comparison-curves": lambda: comparison.curves(curve),
        "comparison-influence": lambda: comparison.influence(models("depth", lambda d, s: 0.05 + s * (d == 0))),
        "comparison-depths": lambda: comparison.depths(depths()),
        "comparison-training": lambda: comparison.training(*training()),
    }


def page(out: Path, dpi: int = 110, columns: int = 3) -> Path:
    """Writes every figure as a PNG, and all of them on one page; returns the page."""
    show.setup()
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for name, make in every().items():
        files.append(out / f"{name}.png")
        make().savefig(files[-1], dpi=dpi)
    pictures = [Image.open(file).convert("RGB") for file in files]
    width = max(picture.width for picture in pictures)
    heights, places = [0] * columns, []
    for picture in pictures:
        column = int(np.argmin(heights))
        places.append((column * width, heights[column]))
        heights[column] += picture.height + 20
    sheet = np.full((max(heights), columns * width, 3), 255, dtype=np.uint8)
    for picture, (x, y) in zip(pictures, places, strict=True):
        sheet[y : y + picture.height, x : x + picture.width] = np.asarray(picture)
    Image.fromarray(sheet).save(out / "page.png")
    return out / "page.png"


if __name__ == "__main__":
    print(page(Path(sys.argv[1])))
