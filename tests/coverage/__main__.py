"""`python -m tests.coverage` writes reports/coverage.md: how often 95 % intervals hold the truth. Some minutes."""

from __future__ import annotations

from pathlib import Path

from tabulate import tabulate

from tests.coverage.simulate import ANSWERS, INTERVALS, LAWS, REAL, SIZES, SLOW, share

OUT = Path(__file__).parents[2] / "reports" / "coverage.md"
REPEATS, FEW = 4000, 500  # of intervals in closed form, and of those that take a bootstrap each

PAGE = """# Coverage

How many of 95 % intervals hold the truth, in per cent, by the number of documents. `python -m tests.coverage` writes this file;
`make test` simulates a part of it, and `make test-all` holds all of it to bounds.

Sums per document are drawn from a law whose mean is known, with 40 to 130 tokens a document, or with replacement from a real run
(zoo-llama-0 and zoo-rwkv5-0, 160 documents: `tests/coverage/record.py`), whose own figures are then the truth. t3 is Student's t
with three degrees of freedom. {repeats:,} repeats for the first {n} rows, else {few}: figures are good to {error:.1f} and {error_few:.1f}
points (one standard error).

{table}

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

Single accuracies have Wilson's interval, their differences that of Agresti and Min.
"""


def main() -> None:
    rows = []
    for interval in INTERVALS:
        for n in SIZES:
            found = [share(interval, law, n, FEW if interval in SLOW else REPEATS) for law in (*LAWS, REAL)]
            rows.append([interval if n == SIZES[0] else "", n, *("" if x is None else f"{100 * x:.1f}" for x in found)])
            print(*rows[-1], flush=True)
    answers = [
        [name, *(f"{100 * (share(name, '', n, FEW if 'accuracy of' not in name else REPEATS) or 0):.1f}" for n in SIZES)]
        for name in ANSWERS
    ]
    names = {"t3": "t3", "normal": "normal", "lognormal": "lognormal", REAL: "real documents"}
    error, error_few = (100 * (0.95 * 0.05 / repeats) ** 0.5 for repeats in (REPEATS, FEW))
    OUT.write_text(
        PAGE.format(
            repeats=REPEATS,
            few=FEW,
            n=len(SIZES) * (len(INTERVALS) - len(SLOW)),
            error=error,
            error_few=error_few,
            table=tabulate(
                rows, ["interval", "documents", *(names[law] for law in (*LAWS, REAL))], tablefmt="github", disable_numparse=True
            ),
            answers=tabulate(answers, ["interval", *(f"{n} questions" for n in SIZES)], tablefmt="github", disable_numparse=True),
        )
    )


if __name__ == "__main__":
    main()
