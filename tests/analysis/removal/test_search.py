"""Paths that are kept beside the runs: found once, and what lies there is taken on trust in nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from adapters import BlockModel, StrataError, load
from adapters.ablation import NONE, Ablation
from analysis.removal import search
from analysis.removal.orders import ORDERS
from analysis.runs.budgets import Budget
from analysis.runs.settings import RunConfig
from tests.reference.models import save_reader, spec

BLOCKS = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> BlockModel:
    folder = tmp_path_factory.mktemp("reader")
    save_reader(folder, num_hidden_layers=BLOCKS)
    return load(folder, device="cpu")


def find(model: BlockModel, prose: Path, out: Path) -> dict:
    setting = RunConfig(Budget(24, 4, None), out, str(prose))
    return search.find_paths(model, setting.text(4).at_most(4, model), setting, 1e12).paths


def kept(order: str, out: Path) -> Path:
    """The file with the path of an order."""
    paths = out.glob("*/path.json")
    (path,) = (p for p in paths if json.loads((p.parent / "manifest.json").read_text())["identity"]["order"] == order)
    return path


@pytest.mark.parametrize(
    ("order", "damaged", "says"),
    [
        ("greedy", [{}, {"blocks": [99]}], "set 1 (blocks 99) is not 1 of the blocks of"),
        ("greedy", [{}, {"blocks": [-1]}], "set 1 (blocks -1) is not 1 of the blocks of"),
        ("greedy", [{}, {"blocks": [1, 2]}], "set 1 (blocks 1, 2) is not 1 of the blocks of"),
        ("greedy", [{}, {"mixers": [1]}], "set 1 (mixers 1) is not 1 of the blocks of"),
        ("greedy", [{}, {"blocks": [1]}, {"blocks": [0, 2]}], "set 2 (blocks 0, 2) does not hold the set before it (blocks 1)"),
        ("greedy", [{"blocks": [1]}], "set 0 (blocks 1) is not 0 of the blocks of"),
        ("greedy", [], "0 sets are not a path: 1 to 4 are one"),
        ("greedy", [{}] * 9, "9 sets are not a path: 1 to 4 are one"),
        ("sublayers", [{}, {"heads": [[0, 1]]}], "1.'heads': Extra inputs are not permitted"),
        ("sublayers", [{}, {"ffns": [1]}, {"mixers": [1]}], "set 2 (mixers 1) is not 2 of the mixers and ffns of"),
        ("bi", {"blocks": [1]}, "Input should be a valid array"),
        ("bi", [{}, {"blocks": ["1"]}], "1.'blocks'.0: Input should be a valid integer"),
        ("bi", "[{}, {", "Expecting property name"),
        ("bi", "[NaN]", "NaN is not a JSON number"),
        ("bi", "[" * 100_000, "it is nested too deeply"),
    ],
)
def test_a_path_that_is_none_is_refused(order: str, damaged: object, says: str, model: BlockModel, prose: Path, tmp_path: Path) -> None:
    """Whether it is complete or gone on from."""
    whole = find(model, prose, tmp_path)
    path = kept(order, tmp_path)
    path.write_text(damaged if isinstance(damaged, str) else json.dumps(damaged))
    with pytest.raises(StrataError, match=re.escape(str(path))) as raised:
        find(model, prose, tmp_path)
    assert says in str(raised.value)
    assert str(raised.value).endswith("; remove it to compute the order again")
    path.unlink()
    assert find(model, prose, tmp_path) == whole


def test_a_path_of_another_plan_is_not_taken(model: BlockModel, prose: Path, tmp_path: Path) -> None:
    find(model, prose, tmp_path)
    path = kept("bi", tmp_path)
    (path.parent / "manifest.json").unlink()
    with pytest.raises(StrataError, match="is not empty and does not hold a run: give another `out`"):
        find(model, prose, tmp_path)


def test_every_order_accepts_what_it_finds(model: BlockModel, prose: Path, tmp_path: Path) -> None:
    for name, path in find(model, prose, tmp_path).items():
        for length in range(1, len(path) + 1):
            ORDERS[name].check(path[:length], model.spec)


def test_parts_of_sublayers_are_halves_of_blocks() -> None:
    """A mixer and then its ffn are the block: two parts."""
    path = (NONE, Ablation(mixers=[1]), Ablation(blocks=[1]), Ablation(blocks=[1], ffns=[0]))
    ORDERS["sublayers"].check(path, spec(2, 1))
    with pytest.raises(ValueError, match="does not hold"):
        ORDERS["sublayers"].check((*path[:3], Ablation(blocks=[0], ffns=[1])), spec(2, 1))
