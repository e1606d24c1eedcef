"""Parts that leave their means behind, against hooks on Hugging Face's model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from adapters import Ablation, StrataError, load
from adapters.action import EDITS
from adapters.contract import assert_close
from adapters.means import Means
from analysis.data.batches import Batch, Text, batches
from analysis.engine.ablations import single_ablations
from analysis.engine.mean_ablation import part_means, with_means
from analysis.engine.plan import plan
from analysis.engine.sweep import sweep
from analysis.runs.read_run import read_run
from analysis.runs.sweep_run import SweepStudy
from analysis.tasks.study import TaskStudy
from tests.analysis.tasks.test_prompts import assert_equal_one_by_one, questions
from tests.reference import toys, variants
from tests.reference.models import pair, save_reader
from tests.reference.pairs import Pair


def batch(ids: Tensor, lengths: Tensor) -> Batch:
    return Batch([], ids, lengths, lengths.numpy() - 1, lengths.numpy())


def reference_means(p: Pair) -> list[dict[str, Tensor]]:
    """Of every layer, over the real tokens of the documents, by Hugging Face: of the input of the output projection
    (n_heads, head_dim), and of what attention and MLP give (d,)."""
    seen: list[dict[str, list[Tensor]]] = [{"z": [], "mixer": [], "ffn": []} for _ in p.model.blocks]
    handles = []
    for layer, found in zip(p.reference.model.layers, seen, strict=True):
        handles.append(layer.self_attn.o_proj.register_forward_pre_hook(lambda _, args, f=found: f["z"].append(args[0][0])))
        handles.append(layer.self_attn.register_forward_hook(lambda _, args, out, f=found: f["mixer"].append(out[0][0])))
        handles.append(layer.mlp.register_forward_hook(lambda _, args, out, f=found: f["ffn"].append(out[0])))
    with torch.no_grad():
        for document in p.documents:
            p.reference(document, use_cache=False)
    for handle in handles:
        handle.remove()
    means = [{name: torch.cat(rows).mean(0) for name, rows in found.items()} for found in seen]
    return [mean | {"z": mean["z"].unflatten(-1, (p.model.spec.blocks[0].n_heads, -1))} for mean in means]


def hooks(p: Pair, ablation: Ablation, means: list[dict[str, Tensor]]) -> list:
    """Puts means, or zeros, in the place of the parts that are out."""
    head_dim, handles, kept = p.model.spec.blocks[0].head_dim, [], float(ablation.edit == "mean")
    for i, head in ablation.heads:

        def fill(_, args, columns=slice(head * head_dim, (head + 1) * head_dim), mean=kept * means[i]["z"][head]):
            z = args[0].clone()
            z[..., columns] = mean
            return (z,)

        handles.append(p.reference.model.layers[i].self_attn.o_proj.register_forward_pre_hook(fill))
    for i in ablation.blocks | ablation.mixers:
        given = kept * means[i]["mixer"]
        hook = lambda _, args, out, given=given: (given.expand_as(out[0]), *out[1:])  # noqa: E731
        handles.append(p.reference.model.layers[i].self_attn.register_forward_hook(hook))
    for i in ablation.blocks | ablation.ffns:
        given = kept * means[i]["ffn"]
        handles.append(p.reference.model.layers[i].mlp.register_forward_hook(lambda _, args, out, given=given: given.expand_as(out)))
    return handles


def test_means_and_their_losses_equal_hugging_face(both: Pair) -> None:
    """Both edits of the same parts in one sweep."""
    expected = reference_means(both)
    means = part_means(both.model, [batch(both.ids, both.lengths)])
    for found, mean in zip(means, expected, strict=True):
        assert all(torch.allclose(getattr(found, name), t.double(), atol=1e-5 * float(t.std())) for name, t in mean.items())

    sets = [
        {"heads": {(1, 2)}},
        {"heads": {(0, 0), (0, 3), (2, 1)}},
        {"mixers": {1}},
        {"ffns": {0}},
        {"blocks": {1}},
        {"blocks": {0}, "mixers": {2}, "heads": {(1, 0)}},
    ]
    work = plan(both.model.spec, [Ablation(**parts, edit=edit) for parts in sets for edit in EDITS])
    assert len(work.ablations) == 1 + 2 * len(sets)
    found = sweep(with_means(both.model, means), work, both.ids, both.lengths, kl=False)["nll"]
    for a, ablation in enumerate(work.ablations):
        handles = hooks(both, ablation, expected)
        for d, document in enumerate(both.documents):
            logits = both.reference(document, use_cache=False).logits[0, :-1]
            nll = -logits.log_softmax(-1).gather(1, document[0, 1:, None]).sum()
            assert abs(float(found[a, d] - nll)) / (document.shape[1] - 1) < 1e-5, (ablation, d)
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("variant", ["baichuan-13b", "rwkv-4", "rwkv-5.2", "rwkv-6", "rwkv-7"])
def test_every_family_leaves_the_projected_mean(variant: str) -> None:
    """With a single token read, the mean is the part's own output: nothing changes; and the dense model stays as it is."""
    model = variants.model(variant)
    one = torch.tensor([[7]])
    given = with_means(model, part_means(model, [batch(one, torch.tensor([1]))]))
    dense = model.run(one)
    assert torch.equal(given.run(one), dense)
    kinds = ["blocks", "mixers", "ffns", *(["heads"] * model.spec.has_heads)]
    for zero, mean in zip(*(single_ablations(model.spec, kinds, [edit]) for edit in EDITS), strict=True):
        assert torch.allclose(given.run(one, mean), dense, atol=1e-4)
        assert torch.equal(given.run(one, zero), model.run(one, zero))
        assert not torch.allclose(model.run(one, zero), dense, atol=1e-4)


def test_all_heads_leave_what_their_mixer_leaves() -> None:
    """The projection is linear: the mean of what it gives is what it gives of means, and its bias stays."""
    model, _ = pair("qwen2")
    ids = torch.randint(97, (3, 15), generator=torch.Generator().manual_seed(4))
    given = with_means(model, part_means(model, [batch(ids, torch.tensor([15, 4, 9]))]))
    heads = Ablation(heads={(1, h) for h in range(model.spec.blocks[1].n_heads)}, edit="mean")
    assert_close(given.run(ids, heads), given.run(ids, Ablation(mixers={1}, edit="mean")))


@pytest.mark.parametrize("name", toys.MODELS)
def test_blocks_of_every_shape_and_trees_of_prompts(name: str) -> None:
    """A sweep and a tree of prompts give what one ablation at a time gives, and a mean that is zero is no mean."""
    model, ids = toys.toy(name), torch.randint(toys.VOCAB, (2, 13), generator=torch.Generator().manual_seed(1))
    given = with_means(model, part_means(model, [batch(ids, torch.tensor([13, 6]))]))
    kinds = ["blocks", "mixers", *(["ffns"] * any(block.has_ffn for block in model.spec.blocks))]
    heads = [Ablation(heads={(i, 1)}, edit="mean") for i, block in enumerate(model.spec.blocks) if block.n_heads]
    work = plan(model.spec, [*single_ablations(model.spec, kinds, EDITS), *heads])
    found = sweep(given, work, ids, kl=False)["nll"]
    for a, ablation in enumerate(work.ablations):
        logp = given.run(ids, ablation)[:, :-1].double().log_softmax(-1)
        assert torch.allclose(found[a], -logp.gather(-1, ids[:, 1:, None]).sum((1, 2)), atol=1e-4), ablation
    assert_equal_one_by_one(given, list(work.ablations[1::2]), questions(vocab=toys.VOCAB)[:6])
    nothing = with_means(model, [Means(*(None if t is None else torch.zeros_like(t) for t in means)) for means in given.means])
    for ablation in work.ablations:
        assert torch.equal(nothing.run(ids, ablation), model.run(ids, replace(ablation, edit="zero")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mean")
    (folder / "text.txt").write_text("".join(f"Line {i}: {i} times {i} is {i * i}.\n" for i in range(3000)))
    save_reader(folder)
    return folder


def test_study_reads_calibration_text_and_says_so(folder: Path, tmp_path: Path) -> None:
    model = load(folder, device="cpu", dtype="float32")
    text = Text(corpus=str(folder / "text.txt"), window=20, documents=3)
    calibration = replace(text, split="calibration", documents=5)
    zeros, means_ = (single_ablations(model.spec, ["heads", "kv_groups"], [edit]) for edit in EDITS)
    zero, mean = SweepStudy.of(model, zeros, text), SweepStudy.of(model, means_, text, calibration=calibration)
    both = replace(mean, plan=plan(model.spec, [*zeros, *means_]))
    assert "calibration" not in zero.identity
    assert mean.identity["calibration"]["split"] == "calibration"
    assert both.identity == mean.identity == replace(zero, calibration=calibration).identity, "ablations stand in the records"
    more = replace(mean, calibration=replace(calibration, documents=6))
    assert len({s.open(tmp_path / "x").key for s in (zero, mean, more)}) == 3

    means = part_means(model, batches(calibration.windows(model), model))
    ((scored),) = batches(text.windows(model), model)
    expected = sweep(with_means(model, means), mean.plan, scored.ids, scored.lengths)
    found = mean.scores(tmp_path / "mean")
    assert np.allclose(found["nll"], expected["nll"], rtol=1e-6)
    assert not np.allclose(found["nll"], zero.scores(tmp_path / "zero")["nll"], rtol=1e-6)
    table = both.run(tmp_path / "mean")
    assert set(table["kind"]) == {"dense", "heads", "kv_groups"}
    losses = table[(table["metric"] == "delta_nll") & (table["kind"] == "heads")].set_index("ablation")["value"]
    assert len(losses) == 2 * len(single_ablations(model.spec, ["heads"]))
    row = 1 + means_.index(Ablation(heads={(1, 2)}, edit="mean"))
    assert losses["heads 1.2 (mean)"] == pytest.approx((found["nll"][row] - found["nll"][0]).sum() / found["tokens"].sum())
    assert losses["heads 1.2"] != losses["heads 1.2 (mean)"]
    again = read_run(tmp_path / "mean")
    assert list(again.per_document("nll").columns) == [str(a) for a in both.plan.ablations]
    assert again.plot(kinds=["heads (mean)"]).axes
    assert again.plot(kinds=["heads", "heads (mean)"]).axes


def test_bad_input(folder: Path, tmp_path: Path) -> None:
    model = load(folder, device="cpu", dtype="float32")
    text = Text(corpus=str(folder / "text.txt"), window=20, documents=3)
    calibration = replace(text, split="calibration")
    heads = single_ablations(model.spec, ["heads"], ["mean"])
    with pytest.raises(StrataError, match="no calibration text"):
        SweepStudy.of(model, heads, text)
    with pytest.raises(StrataError, match="unknown edit 'median': did you mean mean"):
        single_ablations(model.spec, ["heads"], ["median"])
    with pytest.raises(StrataError, match="share 3 documents"):
        SweepStudy.of(model, heads, text, calibration=text).run(tmp_path / "run")
    with pytest.raises(StrataError, match="holds no means to leave behind"):
        sweep(model, plan(model.spec, heads), torch.zeros(1, 3, dtype=torch.long))
    with pytest.raises(StrataError, match=r"not heads 0\.0 \(mean\): take the edit zero"):
        TaskStudy(model, plan(model.spec, heads), None)
    given = with_means(model, part_means(model, batches(calibration.windows(model), model)))
    with pytest.raises(StrataError, match="holds no means to leave behind"):
        given.with_blocks(given.blocks[1:]).run(torch.zeros(1, 3, dtype=torch.long), heads[0])
    with pytest.raises(StrataError, match="no calibration text"):
        part_means(model, [])
    with pytest.raises(StrataError, match="head 4 of block 0 is out of range: the block has heads 0 to 3"):
        SweepStudy.of(model, [Ablation(heads={(0, 4)})], text)
