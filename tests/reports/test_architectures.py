"""The page on architectures says what its comparison says, with everything that planted results have."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from adapters import StrataError, load
from analysis.comparison import depths
from analysis.comparison.measured import Compared
from analysis.comparison.results import Comparison
from analysis.comparison.robustness import MEASURES, Robustness, Trial, claims
from analysis.comparison.start import Start
from analysis.comparison.study import common, lean
from analysis.runs.budgets import budget
from analysis.runs.settings import RunConfig
from analysis.stats.seeds import over_seeds
from analysis.zoo.groups import groups
from reports.architectures import PAGE, SEEDS, drawn, page
from reports.over_training import GALLERY, conclusion, draw, growth, merged, section
from tests.analysis.comparison.test_start import alone, planted
from tests.analysis.comparison.test_words import comparison
from tests.analysis.zoo.test_zoo import needs_texts

SECTIONS = (
    "Questions",
    "Before training",
    "Over training",
    "Deeper at equal size",
    "Under other choices",
    "Limits",
)


def test_the_page_of_planted_results() -> None:
    levels = {f"llama-{i}": 0.70 + 0.01 * i for i in range(3)} | {f"rwkv5-{i}": 0.5 + 0.01 * i for i in range(3)} | {"llama24-0": 0.4}
    study = comparison(levels, own=alone(planted("own", 0.3)))
    start = Start(
        {
            "Llama": [(planted(f"llama-{i}", 0.01), planted(f"llama-{i}", 0.5)) for i in range(3)],
            "Mamba-2": [(alone(planted("own", 0.01)), alone(planted("own", 0.5)))],
        }
    )
    gini = Trial("Gini coefficient", claims(study, summaries={"effective": MEASURES["Gini coefficient"][1]}))
    said = page(study, start, Robustness(study, [gini]), trained())
    assert said.startswith("# Is redundancy the Transformer's?\n\nThe models of the [zoo]")
    assert study.answered in said
    assert depths.conclusion(study) in said
    for title in SECTIONS:
        assert f"\n\n## {title}\n\n" in said
    assert f"{study.questions}\n\n{study.reach} All differences with their p-values are in [{SEEDS}]" in said
    assert "| Llama " in said
    assert "nan" not in said
    bare = page(comparison({"llama-0": 0.5, "rwkv5-0": 0.4}), Start({}), Robustness(study, []), trained()[:0])
    assert "Before training" not in bare
    assert SEEDS not in bare
    assert "Over training" not in bare


def trained() -> pd.DataFrame:
    """Three seeds whose area grows, three whose area varies, and one of another architecture, at three steps."""
    areas = {f"llama-{i}": (0.4, 0.5, 0.6 + i / 100) for i in range(3)} | {f"rwkv5-{i}": (0.4, 0.4, 0.38 + i / 50) for i in range(3)}
    rows = [
        (name, group, "Transformers", step, measure, value, value - 0.01, value + 0.01)
        for name, of in (areas | {"rwkv7-0": (0.1, 0.2, 0.3)}).items()
        for group in [name.rsplit("-", 1)[0]]
        for step, value in zip((0, 64, 1500), of, strict=True)
        for measure in ("area", "influence of mixers", "rise of mixers", "divergence of mixers")
    ]
    columns = ["model", "group", "architecture", "step", "measure", "value", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=columns).assign(trained="a", released=True)


def test_rows_are_added_to_those_of_other_trainings_and_replace_their_own() -> None:
    rows = trained()
    before, again = rows[rows["group"] != "rwkv7"], rows[rows["group"] != "rwkv5"].assign(value=0.9)
    found = merged(before, again)
    assert len(found) == len(rows)
    assert set(found.loc[found["group"] != "rwkv5", "value"]) == {0.9}
    assert len(merged(before[:0], again)) == len(again)
    with pytest.raises(StrataError, match="trainings of another text or recipe"):
        merged(before, again.assign(trained="b"))


def test_what_training_does_is_said_over_seeds_and_drawn(tmp_path: Path) -> None:
    rows = trained()
    assert growth(rows)["llama"][:3] == (3, 64, 1500)
    assert growth(rows)["llama"][3] == pytest.approx(over_seeds([0.1, 0.11, 0.12]))
    grows, open_, alone = conclusion(rows).split("\n")
    assert grows.endswith(": it becomes less redundant as it learns.")
    assert open_.endswith(": seeds leave open whether it becomes more or less redundant.")
    assert alone.endswith("changes by 0.100: 1 seed of at least 3, which says nothing of other trainings.")
    assert "trained again" not in section(rows)
    assert "rwkv7-0 were trained again by the plan" in section(rows.assign(released=rows["model"] != "rwkv7-0"))
    lost = rows[(rows["group"] != "rwkv7") | (rows["measure"] != "area")]
    assert list(growth(lost)) == ["llama", "rwkv5"], "it is no better than a byte unigram"
    draw(rows, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "zoo-training-divergence.svg",
        "zoo-training-influence.svg",
        "zoo-training-rise.svg",
        "zoo-training.svg",
    ]


def test_the_figures_of_the_page_are_drawn() -> None:
    study = comparison({"llama-0": 0.7, "rwkv5-0": 0.5, "llama24-0": 0.4})
    assert list(drawn(study)) == ["zoo-removal", "zoo-blocks", "zoo-depths"]
    lines = [len(of.draw(of.rows(study)).axes[0].get_lines()) for of in drawn(study).values()]
    assert all(lines)
    assert list(drawn(comparison({"llama-0": 0.7, "rwkv5-0": 0.5}))) == ["zoo-removal", "zoo-blocks"]


@needs_texts
@pytest.mark.long
@pytest.mark.skipif(not PAGE.exists(), reason="run `python -m reports.architectures`")
@pytest.mark.parametrize("name", ["zoo-llama-0", "zoo-rwkv5-1", "zoo-mamba2-2"])
def test_the_figures_of_the_page_come_from_the_weights_of_the_zoo(name: str, tmp_path: Path) -> None:
    config, model = RunConfig(budget("full"), tmp_path), load(name, device="cpu", dtype="float32")
    text, calibration = common([name], lambda _: model, config)
    again = Comparison(Compared([lean(name, model, text, calibration, config)], groups([name], {}), text, calibration))
    for figure, rows in {"zoo-removal": again.curves, "zoo-blocks": again.losses}.items():
        kept = pd.read_csv(GALLERY / f"{figure}.csv")
        kept = kept[kept["model"] == name]
        assert len(kept) == len(rows)
        for column in ("value", "ci_low", "ci_high"):
            assert kept[column].to_numpy() == pytest.approx(rows[column].to_numpy(), rel=1e-3, abs=1e-5)
