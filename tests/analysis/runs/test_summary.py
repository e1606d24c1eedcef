"""One table of all that a run holds: no family of tests is adjusted in part."""

import pandas as pd
from scipy import stats

from analysis.display.format import as_csv
from analysis.runs.summary import merged
from analysis.runs.tables import COLUMNS


def table(p: dict[str, float], documents: int = 12) -> str:
    """Tests of single blocks, adjusted among each other."""
    rows: list[tuple] = [("m", "dense", None, None, None, "dense", "texts", "ppl", 9.0, 8.0, 10.0, documents, 99)]
    adjusted = stats.false_discovery_control(list(p.values()), method="bh")
    for (ablation, value), a in zip(p.items(), adjusted, strict=True):
        for metric, cell in (("p_value", value), ("p_adjusted", a), ("significant", float(a <= 0.05))):
            rows.append(("m", "blocks", int(ablation.split()[1]), None, None, ablation, "texts", metric, cell, None, None, documents, 99))
    return as_csv(pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(("block", "head", "expert"), "Int64")))


ALL = {f"blocks {i}": p for i, p in enumerate([0.004, 0.03, 0.04, 0.3, 0.8])}


def test_a_part_of_a_family_that_is_tested_again_does_not_change_it() -> None:
    whole = table(ALL)
    assert merged(whole, table({"blocks 1": ALL["blocks 1"]})) == whole
    assert merged(whole, whole) == whole


def test_tables_from_before_there_were_experts() -> None:
    """Have no such column, and mean that none is out."""
    old = table(ALL).replace(",expert,", ",").replace(",,,dense,", ",,dense,")
    for ablation in ALL:
        old = old.replace(f",,,{ablation},", f",,{ablation},")
    assert merged(old, table({"blocks 1": ALL["blocks 1"]})) == table(ALL)
    assert merged(old, table(ALL)) == table(ALL)


def test_families_that_overlap_are_one() -> None:
    first, second = ({name: ALL[name] for name in names} for names in (list(ALL)[:3], list(ALL)[1:]))
    assert merged(table(first), table(second)) == table(ALL)


def test_sets_that_leave_means_behind_are_a_family_of_their_own() -> None:
    means = table({f"{name} (mean)": p for name, p in ALL.items()})
    both = merged(table(ALL), means)
    assert both.splitlines() == [*table(ALL).splitlines(), *means.splitlines()[2:]]
