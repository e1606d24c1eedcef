"""The page on architectures says what its comparison says, with everything that planted results have."""

from __future__ import annotations

from analysis.comparison import depths
from analysis.comparison.robustness import MEASURES, Robustness, Trial, claims
from analysis.comparison.start import Start
from reports.architectures import page
from tests.analysis.comparison.test_start import alone, planted
from tests.analysis.comparison.test_words import comparison


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
    said = page(study, start, Robustness(study, [gini]))
    assert said.startswith("# Is redundancy the Transformer's?\n\nThe models of the [zoo]")
    assert study.answered in said
    assert depths.conclusion(study) in said
    for title in ("Questions", "Before training", "Deeper at equal size", "What seeds show", "Under other choices", "Each pair", "Limits"):
        assert f"\n\n## {title}\n\n" in said
    assert study.questions in said
    assert "| Llama " in said
    assert "nan" not in said
    bare = page(comparison({"llama-0": 0.5, "rwkv5-0": 0.4}), Start({}), Robustness(study, []))
    assert "Before training" not in bare
    assert "What seeds show" not in bare
