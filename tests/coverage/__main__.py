"""`python -m tests.coverage` writes reports/coverage.md: how often 95 % intervals hold the truth. Some minutes.

`python -m tests.coverage control` writes reports/control.md instead.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from multiprocessing import Pool
from pathlib import Path

from tabulate import tabulate

from tests.coverage import control
from tests.coverage.simulate import (
    ANSWERS,
    FEW,
    INTERVALS,
    LAWS,
    REAL,
    REPEATS,
    SEED_INTERVALS,
    SEED_SIZES,
    SIZES,
    SOME,
    repeats,
    seed_share,
    share,
)

OUT = Path(__file__).parents[2] / "reports" / "coverage.md"

PAGE = """# Coverage

How many of 95 % intervals hold the truth, in per cent, by the number of documents. `python -m tests.coverage` writes this file;
`make test` simulates a part of it, and `make test-all` holds the first table, but for the lognormal law, to 92 to 97 % within two
standard errors; what takes few values may hold more often.

Sums per document are drawn from a law whose mean is known, with 40 to 130 tokens a document, or with replacement from a real run
(zoo-llama-0 and zoo-rwkv5-0, 160 documents: `tests/coverage/record.py`), whose own figures are then the truth. t3 is Student's t
with three degrees of freedom. Ratios of sums (the first six) have {repeats:,} repeats, {some:,} from 64 documents on, all others {few}:
figures are good to {error_all:.1f}, {error_some:.1f} and {error_few:.1f} points (one standard error).

{intervals}

- **Means over tokens** and other ratios of sums: Student's t on the linearised ratio below 64 documents, BCa from there. A BCa
  bootstrap of 12 documents holds 92 % for the normal law and 87 % for t3. Intervals of a function (perplexity) are the function of
  the interval, and hold as often.
- **Statistics that are no ratio** have Student's t with the bootstrap's standard error; percentiles are too narrow for few documents,
  and are off to one side where resampling adds noise. A count of blocks has percentiles, which cannot hold exactly 95 %.
- **Rank correlations** take few values: where documents do not mistake the order at all the interval always holds. Where noise is as
  large as what lies between the blocks, a tau is pulled to zero and its interval with it (last column); reports give the
  reliability of each order beside it.
- **Lognormal** documents, of which a few make up the sum, are covered less often by every method that was tried (Student's t, BCa,
  bootstrap-t: 85, 84 and 91 % of 12). Rises in loss on real text are far from that, as the last column shows.

## Questions with right and wrong answers

{answers}

Single accuracies have Wilson's interval, their differences that of Agresti and Min. Where no answer of a dozen differs there is no
interval of the share retained, which counts as one that does not hold.

## Training seeds

{seeds}

Any word on architectures is over seeds: Student's t for one of them, Welch's t for a difference; each row has {repeats:,} repeats. The
values of seeds are drawn from a law, each as measured on the same documents: what other documents would change is for the intervals
above. A bootstrap of documents within a bootstrap of seeds is not used: of three seeds its percentiles hold 73 % for one
architecture and 80 % for a difference where seeds vary more than documents do (normal law, 2,000 repeats). Where seeds follow a
lognormal law, no test of three or four can know it: an architecture of which one training in ten is far off needs more seeds.
"""


def cell(of: tuple[str, str, int]) -> str:
    interval, _, n = of
    found = share(*of, repeats(interval, n))
    return "" if found is None else f"{100 * found:.1f}"


def seed_table() -> str:
    """A row for each interval and number of seeds, a column for each law."""
    rows = [
        [interval, n, *(f"{100 * seed_share(interval, law, n, REPEATS):.1f}" for law in LAWS)]
        for interval in SEED_INTERVALS
        for n in SEED_SIZES
    ]
    return tabulate(rows, ["interval", "seeds of each", *LAWS], tablefmt="github", disable_numparse=True)


def table(intervals: Iterable[str], laws: Sequence[str], size: str, run: Callable) -> str:
    """A row for each interval and number of documents, a column for each law."""
    cells = [(interval, law, n) for interval in intervals for n in SIZES for law in laws]
    found = dict(zip(cells, run(cell, cells), strict=True))
    rows = [[interval, n, *(found[interval, law, n] for law in laws)] for interval in intervals for n in SIZES]
    return tabulate(rows, ["interval", size, *laws], tablefmt="github", disable_numparse=True)


def main() -> None:
    with Pool() as pool:
        if sys.argv[1:] == ["control"]:
            control.main(pool.map)
            return
        intervals, answers = table(INTERVALS, [*LAWS, REAL], "documents", pool.map), table(ANSWERS, ["held"], "questions", pool.map)
    errors = {f"error_{name}": 100 * (0.95 * 0.05 / n) ** 0.5 for name, n in (("all", REPEATS), ("some", SOME), ("few", FEW))}
    OUT.write_text(PAGE.format(repeats=REPEATS, some=SOME, few=FEW, intervals=intervals, answers=answers, seeds=seed_table(), **errors))


if __name__ == "__main__":
    main()
