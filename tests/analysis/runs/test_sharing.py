"""Studies share runs: what one has scored no other scores again, whatever both ask beside it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from adapters import Ablation, BlockModel, load
from adapters.ablation import NONE
from analysis.data.batches import Text
from analysis.engine.ablations import single_ablations
from analysis.metrics.study import ImportanceStudy
from analysis.runs.settings import run_folder
from analysis.runs.sweep_run import SweepStudy
from tests.analysis.test_notebooks_on_variants import run
from tests.reference.models import save_reader
from tests.reference.variants import save

ABOUT_ONE = ("depth", "importance", "width", "depth_vs_width", "pruning", "redundancy")  # notebooks


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharing")
    (folder / "text.txt").write_text("".join(f"Line {i}: {i} times {i} is {i * i}, café 天 {i % 7}.\n" for i in range(6000)))
    (folder / "llama").mkdir()
    save_reader(folder / "llama", num_hidden_layers=4)
    save("rwkv-5.2", folder)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> BlockModel:
    return load(folder / "llama", device="cpu", dtype="float32")


def text(folder: Path, documents: int) -> Text:
    return Text(corpus=str(folder / "text.txt"), window=24, documents=documents)


def pairs(out: Path) -> Counter[tuple[str, ...]]:
    """How often each metric of an ablation of a document of a text is kept, by what makes it comparable, anywhere below a folder."""
    found: Counter[tuple[str, ...]] = Counter()
    for path in out.rglob("scores/*.jsonl"):
        identity = json.loads((path.parents[1] / "manifest.json").read_text())["identity"]
        for line in filter(None, path.read_text().split("\n")):
            record = json.loads(line)
            found.update(
                (json.dumps(identity, sort_keys=True), metric, json.dumps(ablation), document)
                for metric in {"nll", "kl"} & record["scores"].keys()
                for ablation in record["ablations"]
                for document in record["documents"]
            )
    return found


def comparable(identity: str) -> str:
    """Whatever an identity has beside these would make two runs of what is one."""
    known = json.loads(identity)
    return json.dumps([known["model"], known["text"], known["dtype"], known.get("calibration")], sort_keys=True)


@pytest.mark.long
def test_no_notebook_scores_what_another_has(folder: Path, tmp_path: Path) -> None:
    """All of them on one model and one text: each number stands in one run, once; made again, nothing is scored."""
    given = {"corpus": str(folder / "text.txt"), "documents": 12, "window": 24, "device": "cpu", "out": str(tmp_path)}
    source = str(folder / "llama")

    def all_notebooks() -> None:
        for notebook in ABOUT_ONE:
            run(notebook, model=source, **given)
        run("comparison", models=[source, str(folder / "rwkv-5.2.pth")], **given)

    all_notebooks()
    found = pairs(tmp_path)
    assert len(found) > 1000
    assert set(found.values()) == {1}, "nothing stands in a run twice"
    shared = Counter((comparable(identity), *pair) for identity, *pair in found)
    assert set(shared.values()) == {1}, "nothing stands in two runs"
    all_notebooks()
    assert pairs(tmp_path) == found


def test_studies_that_overlap(model: BlockModel, folder: Path, tmp_path: Path) -> None:
    """Some ablations, documents and metrics are known and others are not: the numbers are those of a run of its own."""
    blocks, heads = (single_ablations(model.spec, [kind]) for kind in ("blocks", "heads"))
    sets = [blocks[1] | blocks[2], heads[0] | blocks[3]]
    chosen = [
        (SweepStudy.of(model, [*blocks, sets[0]], text(folder, 3), kl=False), 3 * 6),
        (SweepStudy.of(model, [*sets, *heads], text(folder, 5)), 3 * (2 * 19 - 2) + 2 * 2 * 19),
        (SweepStudy.of(model, blocks[:2], text(folder, 2), kl=False), 0),
        (SweepStudy.of(model, blocks, text(folder, 5)), 3 * 4 + 2 * 2 * 4),
    ]
    for i, (study, new) in enumerate(chosen):
        before, told = pairs(tmp_path / "shared").total(), list[int]()
        shared = study.scores(tmp_path / "shared", told.append)
        alone = study.scores(tmp_path / f"alone {i}")
        assert shared.keys() == alone.keys()
        for name, values in alone.items():
            np.testing.assert_allclose(shared[name], values, rtol=1e-5, atol=1e-5)
        assert pairs(tmp_path / "shared").total() - before == new
        assert sum(told) == study.steps * study.text.documents
        assert study.planned(tmp_path / "shared") == study.text.documents
    assert set(pairs(tmp_path / "shared").values()) == {1}


def test_one_folder_for_all_who_ask_and_others_for_others(model: BlockModel, folder: Path, tmp_path: Path) -> None:
    blocks, heads = (single_ablations(model.spec, [kind]) for kind in ("blocks", "heads"))
    same = [SweepStudy.of(model, chosen, text(folder, n), kl=kl) for chosen, n, kl in ((blocks, 2, True), (heads, 3, False), ([], 1, True))]
    assert len({run_folder(tmp_path, study.identity) for study in same}) == 1
    calibration = Text(corpus=str(folder / "text.txt"), window=24, documents=2, split="calibration")
    mean = SweepStudy.of(model, single_ablations(model.spec, ["heads"], ["mean"]), text(folder, 2), calibration=calibration)
    others = [mean.identity, SweepStudy.of(model, blocks, calibration).identity, ImportanceStudy(model, calibration).identity]
    assert len({run_folder(tmp_path, identity) for identity in (same[0].identity, *others)}) == 4


def test_models_that_were_changed_share_nothing(model: BlockModel, folder: Path, tmp_path: Path) -> None:
    """As many blocks of one model, but others, or in another order, or with other weights; the same ones again do share."""
    blocks = model.blocks
    halved = blocks[0].with_weights({role: weight / 2 for role, weight in blocks[0].weights.items()})
    each = [model.with_blocks(chosen) for chosen in (blocks[:2], blocks[2:], blocks[1::-1], [halved, blocks[1]])]
    studies = [SweepStudy.of(made, [], text(folder, 2)) for made in (*each, model, model.with_blocks(blocks[:2]))]
    folders = [run_folder(tmp_path, study.identity) for study in studies]
    assert len(set(folders)) == 5
    assert folders[-1] == folders[0]
    assert "changed" not in studies[4].identity["model"], "what lies in files is known by their hash"
    for study, out in zip(studies, folders, strict=True):
        alone = study.scores(tmp_path / "alone" / out.name)
        np.testing.assert_array_equal(study.scores(out)["nll"], alone["nll"])


def test_a_name_stays_within_the_folder(tmp_path: Path) -> None:
    names = ("../../etc/passwd", "a b", "a-b", "", "..", "x" * 300, "\x1b[2J", "\ud800", "a/b", "c/b", "b")
    folders = [run_folder(tmp_path, {"model": {"name": name}}) for name in names]
    assert len(set(folders)) == len(names)
    for path in folders:
        assert path.parent == tmp_path
        assert path.name.isascii()
        assert path.name.isprintable()
        path.mkdir()


def test_importance_is_shared_as_well(model: BlockModel, folder: Path, tmp_path: Path) -> None:
    """Metrics and kinds that are known are not measured again, and no number depends on what else is asked."""
    few, many = ImportanceStudy(model, text(folder, 3)), ImportanceStudy(model, text(folder, 3), ("bi", "l2"), ("blocks", "heads"))
    first = few.scores(tmp_path)
    (file,) = tmp_path.glob("scores/*.jsonl")
    both = many.scores(tmp_path)
    assert np.array_equal(both["bi"][:4], first["bi"])
    after = file.read_bytes()
    assert np.array_equal(few.scores(tmp_path)["bi"], first["bi"])
    again = ImportanceStudy(model, text(folder, 3), ("l2",), ("heads",)).scores(tmp_path)
    assert np.array_equal(again["l2"], both["l2"][4:])
    assert file.read_bytes() == after


def test_the_summary_is_of_all_that_was_asked(model: BlockModel, folder: Path, tmp_path: Path) -> None:
    """Rows of one study beside those of another; of the same row, that of more documents."""
    blocks, heads = (single_ablations(model.spec, [kind]) for kind in ("blocks", "heads"))
    tables = [SweepStudy.of(model, chosen, text(folder, n)).run(tmp_path) for chosen, n in ((blocks, 14), (heads, 12))]
    written = (tmp_path / "summary.csv").read_text().splitlines()
    expected = [tables[0].to_csv(index=False), tables[1][tables[1]["kind"] == "heads"].to_csv(index=False, header=False)]
    assert written == "".join(expected).splitlines()
    more = SweepStudy.of(model, [heads[0]], text(folder, 15)).run(tmp_path).to_csv(index=False).splitlines()
    now = (tmp_path / "summary.csv").read_text().splitlines()
    assert len(now) == len(written)
    alone = {line for line in more[1:] if ",p_adjusted," not in line}  # that is for all heads together
    assert alone <= set(now)
    assert {line.split(",")[7] for line in set(now) - set(written) - alone} == {"p_adjusted"}


def test_a_set_that_is_one_part_is_that_part() -> None:
    """Paths begin with single removals, and records know them by what they are."""
    assert NONE | Ablation(mixers={1}) | Ablation(ffns={1}) == Ablation(blocks={1})
