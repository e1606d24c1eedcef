"""What a comparison concludes from planted results: a difference, none, too little data, seeds that disagree, early checkpoints."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from adapters import Ablation
from analysis.comparison import depths, plots
from analysis.comparison.claims import Holds
from analysis.comparison.measured import Compared, Measured, Rises
from analysis.comparison.redundancy import SUMMARIES
from analysis.comparison.results import Comparison
from analysis.comparison.trajectory import Trajectory
from analysis.data.batches import Text
from analysis.engine.ablations import block_kinds
from analysis.stats.rank_agreement import Scores
from analysis.zoo.architectures import ARCHITECTURES
from analysis.zoo.groups import Facts, groups
from tests.analysis.zoo.test_groups import facts
from tests.reference.models import spec

BLOCKS = 12
SEEDED = ("llama-0", "llama-1", "rwkv5-0", "rwkv5-1")
EARLY = {"rwkv5-0-early": "llama-0", "rwkv5-1-early": "llama-1"}
ALL = (*SEEDED, *EARLY, "rwkv7-0", "baichuan-0")
LEVELS = dict.fromkeys(ALL, 0.5) | {"llama-0": 0.7, "llama-1": 0.72}  # of the removal curve: near the area under it


def measured(name: str, level: float, documents: int = 24, margin: float = 2.0, noise: float = 0.02) -> Measured:
    """Every removal costs `level` of the gain over unigram (bits per byte), and a little more or less in each document."""
    rng = np.random.default_rng([ord(letter) for letter in name])
    n_bytes = rng.integers(300, 400, documents).astype(float)
    n = next((int(blocks) for blocks in re.findall(r"^(?:llama|rwkv5x)(6|24)-", name)), BLOCKS)
    path = (level + rng.normal(0, noise, (n, documents))) * abs(margin) * n_bytes
    path[-1] = abs(margin) * n_bytes
    single = Rises(tuple(Ablation(blocks=frozenset({i})) for i in range(n)), path / n)
    nested = Rises(tuple(Ablation(blocks=frozenset(range(i + 1))) for i in range(n)), path)
    unigram = 4.5 * n_bytes
    return Measured(
        name,
        replace(spec(n), name=name, family="rwkv" if "rwkv" in name else "llama"),
        "float32 on cpu",
        dict.fromkeys(block_kinds(spec(n)), single),
        nested,
        unigram - margin * n_bytes,
        unigram,
        n_bytes,
        Scores(path / n, n_bytes),
        "has none",
    )


def known(*names: str) -> Facts:
    """What zoo.json would say of them."""
    found = {}
    for name in names:
        model, seed = name.split("-")[:2]
        of = facts(int(seed), ARCHITECTURES[model].title, name=name, equals=EARLY.get(name))
        found[name] = of | ({"tokens": 70} if name in EARLY else {})
    return found


def comparison(levels: Mapping[str, float], documents: int = 24, zoo: bool = True, **others: Measured) -> Comparison:
    models = [measured(name, level, documents) for name, level in levels.items()]
    models += others.values()
    names = [m.name for m in models]
    return Comparison(Compared(models, groups(names, known(*levels) if zoo else {}), Text("text.txt"), Text("text.txt")))


def test_the_whole_zoo() -> None:
    found = comparison(LEVELS)
    assert [group.name for group in found.of.groups] == ["Llama", "RWKV-5.2", "early RWKV-5.2", "RWKV-7", "Baichuan2-13B layout"]
    assert list(found.gaps) == [
        ("Llama", "RWKV-5.2"),
        ("Llama", "early RWKV-5.2"),
        ("Llama", "RWKV-7"),
        ("Llama", "Baichuan2-13B layout"),
        ("RWKV-5.2", "RWKV-7"),
        ("RWKV-5.2", "Baichuan2-13B layout"),
        ("RWKV-7", "Baichuan2-13B layout"),
    ], "an early checkpoint only beside what it was matched to"
    for pair, gaps in found.gaps.items():
        gap, significant = gaps["area"]
        assert significant == ("Llama" in pair)
        assert gap.value == pytest.approx(0.21 * 10.5 / 12 if significant else 0, abs=0.02)
    assert found.differences["matched by"].tolist() == ["equal tokens", "equal loss", *["equal tokens"] * 5]
    parts = [part.iloc[:, 3:] for part in found.difference_tables]
    assert pd.concat(parts, axis=1).equals(found.differences.iloc[:, 3:])
    assert max(part.shape[1] for part in parts) <= 4
    assert "RWKV-5.2" in str(found)
    assert "\\" not in str(found)
    verdicts, ending = found.conclusion.replace("\\", "").split("\n\n")
    assert "Trained alike, so that only the architecture differs: Llama, RWKV-5.2, RWKV-7 and Baichuan2-13B layout (" in ending
    assert "Llama and early RWKV-5.2 (equal loss). At equal loss the early checkpoint has also read fewer tokens" in ending
    assert "Not trained alike" not in ending
    assert ending.endswith(
        "An early checkpoint is compared only with the seeds that it was matched to, so that differences are not those of all seeds."
    )
    assert ending.startswith("These sentences are about these models, not about architectures, for which 3 seeds of each are needed.")
    first, *others = verdicts.split("\n")
    assert "effective blocks of 12 for Llama against" in first
    assert first.endswith("Llama loses more as blocks are removed.")
    assert sum(said.endswith("do not differ significantly.") for said in others) == 3
    assert {one.architectures for one in found.contrasts} == {("Transformer", "RWKV"), ("RWKV", "Transformer")}
    assert found.spreads["group"].unique().tolist() == ["Llama", "RWKV-5.2", "early RWKV-5.2"]
    assert found.spread.count(" to ") == 3
    assert found.answered.startswith("**Is redundancy the Transformer's?** ")
    assert found.main == found.of.groups


def test_three_seeds_of_each_speak_of_architectures() -> None:
    levels = {f"llama-{i}": 0.70 + 0.01 * i for i in range(3)} | {f"rwkv5-{i}": 0.5 + 0.01 * i for i in range(3)}
    found = comparison(levels)
    table = found.over_seeds.set_index("question")
    assert table.loc[SUMMARIES["area"].title, "claim"] == "a difference between the architectures as trained here"
    assert table.loc[SUMMARIES["area"].title, "the least it can be"] == "0.100"
    ((caption, shown),) = found.seed_tables
    assert caption.startswith("What seeds show of Llama minus RWKV\\-5\\.2 at equal tokens")
    assert caption.endswith("which can give 0.100 at least.")
    assert shown["question"].tolist() == table.index.tolist()
    assert shown.set_index("question").loc[SUMMARIES["area"].title, "of the architectures"] == "yes"
    assert re.search(
        r"Between the architectures as trained here, at equal tokens Llama has \S+ \([^)]*\) .*more than RWKV\\-5\\.2", found.questions
    )
    assert found.answered.endswith("a larger share of the blocks of RWKV\\-5\\.2 can go than of those of Llama.")
    assert all(one.enough_seeds for one in found.contrasts)
    assert "not about architectures" not in found.conclusion
    assert comparison({name: levels[name] for name in ("llama-0", "rwkv5-0")}).seed_tables == []
    assert comparison({name: levels[name] for name in ("llama-0", "rwkv5-0")}).over_seeds.empty


def test_seeds_of_one_architecture_are_told_apart_by_nothing() -> None:
    """Levels that vary from seed to seed, of one law, whatever the architectures are called."""
    levels = dict(zip([f"{name}-{i}" for name in ("llama", "rwkv5") for i in range(3)], (0.5, 0.6, 0.55, 0.58, 0.52, 0.61), strict=True))
    found = comparison(levels)
    assert set(found.over_seeds["claim"]) <= {"seeds are too few, or vary too much, to say it of the architectures", "not significant"}


@pytest.mark.long
def test_of_many_comparisons_of_one_law_few_tell_architectures_apart() -> None:
    """Seeds of one law under two names, and of two: of all questions of a comparison, how often is one answered with a difference?"""
    rng, repeats = np.random.default_rng(3), 60
    names = [f"{name}-{i}" for name in ("llama", "rwkv5") for i in range(3)]
    told = []
    for apart in (0.0, 0.25):
        levels = rng.normal(0.5, 0.02, (repeats, 6)) + apart * np.repeat([1, 0], 3)
        of = [{claim.holds for claim in comparison(dict(zip(names, drawn, strict=True))).claims.values()} for drawn in levels]
        told.append(sum(Holds.ARCHITECTURES in holds for holds in of))
    assert told[0] <= repeats * (0.05 + 2 * np.sqrt(0.05 * 0.95 / repeats))
    assert told[1] > 0.95 * repeats


def test_depths_are_compared_within_their_kind() -> None:
    names = ("llama-0", "rwkv5-0", "llama24-0", "rwkv5x24-0")
    found = comparison(dict.fromkeys(names, 0.5))
    assert list(found.gaps) == [
        ("Llama", "RWKV-5.2"),
        ("Llama", "Llama of 24 blocks"),
        ("RWKV-5.2", "RWKV-5.2 of 24 blocks"),
        ("Llama of 24 blocks", "RWKV-5.2 of 24 blocks"),
    ]


def test_redundancy_by_depth() -> None:
    levels = {"llama6-0": 0.7, "llama-0": 0.5, "llama-1": 0.51, "llama-2": 0.52, "llama24-0": 0.3, "rwkv5-0": 0.4}
    found = comparison(levels)
    table, rows = depths.table(found), depths.rows(found)
    assert table["architecture"].tolist() == ["Llama"] * 3, "RWKV-5.2 was trained at one depth"
    assert table[["blocks", "seeds"]].to_numpy().tolist() == [[6, 1], [12, 3], [24, 1]]
    said = depths.conclusion(found)
    assert said.startswith("- Llama of 6, 12 and 24 blocks: ")
    assert "1\u00a0% of them: the share of 24 blocks is significantly smaller than that of 6; the loss of single removals is spread" in said
    assert said.endswith(" That is said of these models: 3 seeds of each depth, trained alike, would be needed.")
    assert [pair for pair in found.gaps if pair in found.told] == [("Llama", "RWKV-5.2")]
    assert "of 24 blocks" not in found.questions
    assert "is shown between 6 and 24 blocks (not significant); " in depths.conclusion(comparison({"llama6-0": 0.8, "llama24-0": 0.2}))
    assert set(rows["measure"]) == set(depths.FIGURE)
    assert [len(ax.lines) for ax in plots.depths(rows).axes] == [1, 1, 1]
    assert depths.table(comparison({"llama-0": 0.5, "rwkv5-0": 0.4})).empty


def test_what_has_no_other_pair_is_still_spoken_of() -> None:
    deep = comparison({f"llama{blocks}-{i}": level for blocks, level in (("", 0.5), ("24", 0.2)) for i in range(3)})
    assert [group.name for group in deep.main] == ["Llama", "Llama of 24 blocks"]
    assert "of 12 blocks and Llama of 24 blocks" in deep.questions
    assert "more, as a share, than" in deep.questions, "numbers of blocks cannot be compared"
    assert deep.answered == ""
    early = comparison({"llama-0": 0.7, "rwkv5-0-early": 0.5})
    assert "Llama 0.143 and early RWKV\\-5\\.2 0.2" in early.questions
    apart = comparison({"llama-0": 0.5, "rwkv5x24-0": 0.4}).conclusion
    assert apart.startswith("These models differ in their architecture and in their depth")


def spread_out(name: str, costs: Sequence[float], level: float) -> Measured:
    """Single blocks cost `costs` of the gain, the path `level` from the first block on."""
    m = measured(name, level, noise=0.001)
    bits = np.array(costs)[:, None] * m.gain_over_unigram * (1 + np.random.default_rng(len(name)).normal(0, 0.01, (12, 24)))
    order = np.argsort(costs)
    path = [frozenset(order[: k + 1].tolist()) for k in range(12)]
    nested = tuple(Ablation(blocks=blocks) for blocks in path)
    return replace(m, singles={"blocks": m.singles["blocks"]._replace(bits=bits)}, path=m.path._replace(ablations=nested))


def test_more_blocks_used_and_more_to_spare_is_explained_where_it_is_so() -> None:
    one, even = [0.8, *[0.01 + i / 1000 for i in range(11)]], [0.04 + i / 1000 for i in range(12)]
    narrow = [spread_out(f"llama-{i}", one, 0.7) for i in range(3)]
    wide = [spread_out(f"rwkv5-{i}", even, 0.5) for i in range(3)]
    names = [m.name for m in (*narrow, *wide)]

    def said(*models: Measured) -> str:
        facts = known(*(m.name for m in models))
        return Comparison(Compared([*models], groups([m.name for m in models], facts), Text("t.txt"), Text("t.txt"))).reconciled

    assert said(*narrow, *wide).startswith("RWKV\\-5\\.2 uses ")
    assert names[0] == "llama-0"
    assert narrow[0].in_one_block == pytest.approx(0.8 / sum(one), abs=0.02)
    assert "the loss of Llama sits in one block (" in said(*narrow, *wide)
    two = [0.4, 0.4, *[0.01] * 10]
    assert said(*(spread_out(f"llama-{i}", two, 0.7) for i in range(3)), *wide) == "", "its loss does not sit in one block"
    assert said(*narrow, *(replace(m, path=m.path._replace(bits=narrow[0].path.bits)) for m in wide)) == "", "no more can go"
    first = [replace(m, path=m.path._replace(ablations=m.path.ablations[::-1])) for m in narrow]
    assert first[0].in_one_block == 0, "it does not go last"


def test_noise_is_no_difference() -> None:
    found = comparison(dict.fromkeys(SEEDED, 0.5))
    ((gap, significant),) = [gaps["area"] for gaps in found.gaps.values()]
    assert not significant
    assert gap.interval.low < 0 < gap.interval.high
    assert "do not differ significantly" in found.conclusion


def test_eleven_documents_leave_it_open() -> None:
    found = comparison({name: LEVELS[name] for name in SEEDED}, documents=11)
    assert "not known: too few documents for an interval (11 of at least 12)" in found.conclusion
    assert not any(significant for gaps in found.gaps.values() for _, significant in gaps.values())
    assert "seeds lie apart in Llama (" in found.spread


def test_seeds_that_disagree() -> None:
    found = comparison({"llama-0": 0.9, "llama-1": 0.45, "rwkv5-0": 0.5, "rwkv5-1": 0.5})
    assert next(iter(found.gaps.values()))["area"][1], "documents tell the means apart"
    assert "The seeds disagree" in found.conclusion
    assert "further apart than documents explain in Llama (" in found.spread


def test_a_model_without_a_margin_beside_one_with_it() -> None:
    lost = measured("lost", 0.5, 12, margin=-0.3)
    found = comparison({"llama-0": 0.5, "llama-1": 0.5}, 12, lost=lost)
    assert "cannot be compared: a model that is no better than a byte unigram" in found.conclusion
    assert found.differences[SUMMARIES["area"].short].tolist() == [""]
    assert len(found.summaries) == 3


def test_one_training_at_two_steps() -> None:
    found = comparison({"rwkv5-0": 0.5, "rwkv5-0-early": 0.6})
    assert found.conclusion.startswith("These models are one architecture at different steps of training")
    assert found.differences.empty
    assert "No two models here differ only in their seed" in found.spread
    assert "differ only in their seed: there is" in comparison({"llama-0": 0.5, "llama-1": 0.6}).conclusion


def test_an_early_checkpoint_beside_nothing_that_it_was_matched_to() -> None:
    found = comparison({"rwkv5-0-early": 0.5, "rwkv7-0": 0.6})
    assert found.differences.empty
    assert found.conclusion == (
        "An early checkpoint is compared only with the seeds that it was matched to, so that differences are not those of all seeds."
    )


def test_a_model_of_the_zoo_beside_another() -> None:
    found = comparison({"llama-0": 0.7, "rwkv5-0-early": 0.5}, own=measured("own", 0.5))
    assert list(found.gaps) == [("Llama", "early RWKV-5.2"), ("Llama", "own"), ("early RWKV-5.2", "own")]
    assert "data, size and budget may differ: Llama and own; early RWKV" in found.conclusion.replace("\\", "")


# over training


def trajectory(last: Mapping[str, float], documents: int = 24, **margin: float) -> Trajectory:
    """From 0.5 at step 64 to `last` at step 1500; before training nothing is lost."""
    return Trajectory(
        {
            name: {step: measured(f"{name} at {step}", level, documents, **margin) for step, level in ((0, 0.0), (64, 0.5), (1500, level))}
            for name, level in last.items()
        }
    )


def test_growth_by_training_and_differences_by_architecture() -> None:
    found = trajectory({"llama-0": 0.8, "llama-1": 0.82, "rwkv5-0": 0.6, "rwkv5-1": 0.62, "rwkv7-0": 0.5, "baichuan-0": 0.3})
    said = found.conclusion.replace("\\", "").split("\n")
    assert len(said) == 6 + 6
    assert all(line.startswith("- ") for line in said)
    assert all(line.startswith("- From step 64 to step 1,500 of ") for line in said[:6]), "before training a model has learnt nothing"
    assert "llama-0 becomes less redundant during training" in said[0]
    assert "That is not significant." in said[4]
    assert "baichuan-0 becomes more redundant" in said[5]
    between = said[6:]
    assert "rises by 0.1" in between[0]
    assert "more in Llama than in RWKV-5.2. That is about these 4 trainings, not about architectures" in between[0]
    assert "more in Llama than in Baichuan2-13B layout, where it falls" in between[2]
    assert found.rows.query("step == 0 and measure == 'area'")["value"].notna().all(), "the figure has it"
    assert found.rows.drop_duplicates("model")["group"].tolist() == [
        "Llama",
        "Llama",
        "RWKV-5.2",
        "RWKV-5.2",
        "RWKV-7",
        "Baichuan2-13B layout",
    ]
    seeds = "Thin lines are single seeds, thick ones their mean. "
    assert found.bands == f"{seeds}Bands are 95\u00a0% intervals over 24 documents."
    ax = plots.training(found.rows, found.titles).axes[0]
    assert len(ax.lines) == 4 + 4, "each seed of two groups, and each group"
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines if line.get_linewidth() > 1}) == 4


def test_growth_that_documents_do_not_show() -> None:
    still = trajectory({"llama-0": 0.5, "rwkv5-0": 0.5}).conclusion
    assert still.count("That is not significant.") == 3
    few = trajectory({"llama-0": 0.8, "rwkv5-0": 0.5}, documents=11).conclusion
    assert few.count("not known: too few") == 3


def test_training_that_never_beats_the_unigram() -> None:
    found = trajectory({"llama-0": 0.8}, margin=-0.2)
    assert "two steps after the start" in found.conclusion
    assert set(found.titles) == {"bits"}
