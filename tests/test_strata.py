"""`import strata`: light, complete, and what its verbs refuse."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import strata
from adapters.base import BlockModel
from analysis.data.batches import Text, batches
from analysis.metrics import metrics
from analysis.metrics.metrics import METRICS, measure
from analysis.removal.orders import ORDERS, Calibration
from analysis.tasks.code_eval import CODE_EVAL
from tests.analysis.tasks import written_files
from tests.reference.models import save_reader

ROOT = Path(__file__).parents[1]
N = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> BlockModel:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    folder.mkdir()
    save_reader(folder, num_hidden_layers=N)
    return strata.load(folder, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def text(prose: Path) -> Text:
    return strata.Text(corpus=str(prose), documents=6, window=16)


def test_importing_it_imports_no_library() -> None:
    code = "import sys; before = set(sys.modules); import strata; dir(strata); print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    ours = {"adapters", "analysis", "reports"}
    assert not [name for name in done.stdout.split() if name.split(".")[0] not in {*sys.stdlib_module_names, "strata"} or name in ours]


def test_every_name_is_there_and_typed() -> None:
    assert strata.__all__ == sorted(strata.__all__)
    assert set(strata.MODULES) == set(strata.__all__) <= set(dir(strata))
    for name in strata.__all__:
        assert getattr(strata, name).__doc__, name
    typed = next(node for node in ast.parse((ROOT / "strata.py").read_text()).body if isinstance(node, ast.If))
    imported = {a.name: node.module for node in typed.body if isinstance(node, ast.ImportFrom) for a in node.names}
    assert imported == strata.MODULES
    assert strata.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="module 'strata' has no attribute 'swep'"):
        _ = strata.swep  # type: ignore[attr-defined]


def test_a_metric_of_ones_own(model: BlockModel, text: Text, tmp_path: Path) -> None:
    def moved(step):
        return (step.y - step.x).norm(dim=-1)

    found = strata.importance(model, ["l2", moved], text, out=tmp_path)
    assert found.manifest["identity"]["text"]["split"] == "calibration"
    assert np.allclose(found.per_document("moved"), found.per_document("l2"), rtol=1e-5)

    def moved(step):
        return (step.y - step.x).norm(dim=-1) * 2

    with pytest.raises(strata.StrataError, match="it differs in importance"):
        strata.importance(model, ["l2", moved], text, out=tmp_path)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["bi", "bi"], "two metrics are called 'bi'"),
        (["bj"], "unknown metric 'bj': did you mean bi"),
        ([metrics.norm], "a function is called 'norm', which has another meaning"),
        ([lambda step: step.x], r"the metric lambda gives a tensor \(6, 17, 48\), expected is one number for each token"),
        ([lambda step: 1.0], "the metric lambda gives float"),
        ([lambda step: step.x.sum(-1) / 0], "lambda of block 0 of tiny"),
    ],
)
def test_metrics_that_are_none(model: BlockModel, text: Text, tmp_path: Path, given: list, says: str) -> None:
    with pytest.raises(strata.StrataError, match=says):
        strata.importance(model, given, text, out=tmp_path / "run")
    assert not list(tmp_path.rglob("summary.csv"))


def test_one_metric_needs_no_list(model: BlockModel, text: Text, tmp_path: Path) -> None:
    listed = strata.importance(model, ["l2"], text, out=tmp_path).table
    assert strata.importance(model, "l2", text, out=tmp_path).table.equals(listed)


def test_a_registered_metric_is_an_order_too(model: BlockModel, text: Text, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METRICS, "things", dict(METRICS.things))
    strata.register_metric("minus_bi", lambda step: -metrics.block_influence(step), title="minus Block Influence")
    path = strata.removal_order(model, "minus_bi", text)
    calibration = text.calibration(model)
    values = sum(measure(model, b.ids, b.lengths)["bi"].sum(1) for b in batches(calibration.windows(model), model))
    assert [sorted(out.blocks) for out in path] == [sorted(np.argsort(-values)[:k]) for k in range(N)]
    assert strata.removal_order(model, "bi", text, n=2)[2].blocks == set(np.argsort(values)[:2])


def test_orders_of_ones_own(model: BlockModel, text: Text, monkeypatch: pytest.MonkeyPatch) -> None:
    def back(calibration: Calibration) -> list[int]:
        return [*range(len(calibration.model.blocks))][::-1]

    def whole(calibration, most, begun, keep):
        return ORDERS["reverse_order"].find(calibration, most, begun, keep)

    for order in (back, whole):
        assert strata.removal_order(model, order, text, n=2)[2] == strata.Ablation(blocks={N - 1, N - 2})
    monkeypatch.setattr(ORDERS, "things", dict(ORDERS.things))
    strata.register_order("back_to_front", back, title="back to front", version="3")
    assert strata.removal_order(model, "back_to_front", text, n=1)[1] == strata.Ablation(blocks={N - 1})
    job = strata.prune(model, "back_to_front", text, n=1).job
    assert job.record({}, {})["order"]["metric"] == {"name": "back_to_front", "title": "back to front", "version": "3"}


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ("greddy", "unknown order 'greddy': did you mean greedy"),
        (lambda c: [0, 0, 1], "gives no removal path: set 2"),
        (lambda c: [0, 7], r"gives no removal path: set 2 \(blocks 0, 7\) is not 2 of the blocks"),
        (lambda c: [-1, 0], "gives no removal path"),
        (lambda c: [1], "removes 1 parts of tiny, and 2 are asked for"),
        (lambda c: None, "gives NoneType"),
        (lambda a, b: [], "is no function of a Calibration"),
    ],
)
def test_orders_that_are_none(model: BlockModel, text: Text, order, says: str) -> None:
    with pytest.raises(strata.StrataError, match=says):
        strata.removal_order(model, order, text, n=2)


def test_what_a_checkpoint_is_made_of(model: BlockModel, text: Text, tmp_path: Path) -> None:
    pruned = strata.remove(model, strata.Ablation(blocks={1}), text)
    assert pruned.removed == [1]
    assert [b.weights["q"] is model.blocks[i].weights["q"] for b, i in zip(pruned.model.blocks, (0, 2, 3), strict=True)] == [True] * 3
    with pytest.raises(strata.StrataError, match="is not as it was loaded from files"):
        strata.remove(pruned.model, [0], text)
    half = strata.remove(model, strata.Ablation(mixers={1}), text)
    assert (half.out, half.removed, len(half.model.blocks)) == (strata.Ablation(mixers={1}), [], N)
    assert not half.model.blocks[1].weights["o"].any()
    with pytest.raises(strata.StrataError, match="nothing of tiny is named that could go"):
        strata.remove(model, [], text)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(strata.StrataError, match="is not empty"):
        pruned.save(tmp_path / "full")
    for wrong, says in (
        ({}, "how much goes is not clear"),
        ({"n": 1, "ratio": 0.5}, "how much goes is not clear"),
        ({"n": N}, f"{N} of {N} blocks are to be removed"),
        ({"by": "bi", "method": "laco", "n": 1}, "an order and a method both say"),
        ({"method": "lako", "n": 1}, "unknown method 'lako': did you mean laco"),
        ({"by": "sublayers", "kinds": ["blocks"], "n": 1}, "the order 'sublayers' removes mixers and ffns, not blocks"),
        ({"n": 1, "params": True}, "`params` says what a `ratio` is a share of"),
    ):
        with pytest.raises(strata.StrataError, match=says):
            strata.prune(model, text=text, **wrong)


def test_written_answers_of_a_task(model: BlockModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as is said, and programs among them are run where that is said."""
    monkeypatch.setattr(CODE_EVAL, "allow", lambda: None)  # so that none is run here
    written_files.write(tmp_path / "data")
    few = {"data": tmp_path / "data", "limit": 2, "out": tmp_path / "run"}
    with pytest.raises(strata.StrataError, match="ask for fewer"):
        strata.evaluate(model, "gsm8k", shots=0, **few)
    with pytest.raises(strata.StrataError, match="allow it with `run_code`"):
        strata.evaluate(model, "humaneval", max_tokens=4, **few)
    table = strata.evaluate(model, "humaneval", max_tokens=4, run_code=True, **few).table
    assert table["n_tokens"].max() <= 2 * 4
    assert table["metric"].tolist() == ["pass@1,create_test"]
