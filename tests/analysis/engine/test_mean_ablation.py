"""Heads that leave their means behind, against hooks on Hugging Face's model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from adapters import NONE, Ablation, StrataError, load
from analysis.data.batches import Batch, Text, batches
from analysis.engine.ablations import single_ablations
from analysis.engine.mean_ablation import filled, head_means
from analysis.engine.plan import plan
from analysis.engine.sweep import sweep
from analysis.runs.sweep_run import SweepStudy
from tests.reference import variants
from tests.reference.hf import observe
from tests.reference.models import save_reader
from tests.reference.pairs import Pair


def batch(ids: Tensor, lengths: Tensor) -> Batch:
    return Batch([], ids, lengths, lengths.numpy() - 1, lengths.numpy())


def reference_means(p: Pair) -> list[Tensor]:
    """Mean input of every output projection, (n_heads, head_dim), over the real tokens of the documents, by Hugging Face."""
    seen = [observe(p.reference, document).z for document in p.documents]
    n = p.model.spec.blocks[0].n_heads
    return [torch.cat([z[i][0] for z in seen]).mean(0).unflatten(-1, (n, -1)) for i in range(len(p.model.blocks))]


def test_means_and_their_losses_equal_hugging_face(both: Pair) -> None:
    expected = reference_means(both)
    means = head_means(both.model, [batch(both.ids, both.lengths)])
    assert all(torch.allclose(m, e, atol=1e-5 * float(e.std())) for m, e in zip(means, expected, strict=True))

    sets = [Ablation(heads={(1, 2)}), Ablation(heads={(0, 0), (0, 3), (2, 1)})]
    found = sweep(filled(both.model, means), plan(both.model.spec, sets), both.ids, both.lengths, kl=False)["nll"]
    head_dim = both.model.spec.blocks[0].head_dim
    for a, ablation in enumerate((NONE, *sets)):
        handles = []
        for i, head in ablation.heads:

            def fill(_, args, i=i, columns=slice(head * head_dim, (head + 1) * head_dim), head=head):
                z = args[0].clone()
                z[..., columns] = expected[i][head]
                return (z,)

            handles.append(both.reference.model.layers[i].self_attn.o_proj.register_forward_pre_hook(fill))
        for d, document in enumerate(both.documents):
            logits = both.reference(document, use_cache=False).logits[0, :-1]
            nll = -logits.log_softmax(-1).gather(1, document[0, 1:, None]).sum()
            assert abs(float(found[a, d] - nll)) / (document.shape[1] - 1) < 1e-5, (ablation, d)
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("variant", ["baichuan-13b", "rwkv-5.2", "rwkv-6", "rwkv-7"])
def test_every_family_leaves_the_projected_mean(variant: str) -> None:
    """With a single token read, the mean is the head's own output: nothing changes; and the dense model stays as it is."""
    model = variants.model(variant)
    one = torch.tensor([[7]])
    filled_model = filled(model, head_means(model, [batch(one, torch.tensor([1]))]))
    dense = model.run(one)
    assert torch.equal(filled_model.run(one), dense)
    for head in single_ablations(model.spec, ["heads"]):
        assert torch.allclose(filled_model.run(one, head), dense, atol=1e-4)
        assert not torch.allclose(model.run(one, head), dense, atol=1e-4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fill")
    (folder / "text.txt").write_text("".join(f"Line {i}: {i} times {i} is {i * i}.\n" for i in range(3000)))
    save_reader(folder)
    return folder


def test_study_reads_calibration_text_and_says_so(folder: Path, tmp_path: Path) -> None:
    model = load(folder, device="cpu", dtype="float32")
    text = Text(corpus=str(folder / "text.txt"), window=20, documents=3)
    calibration = replace(text, split="calibration", documents=5)
    heads = single_ablations(model.spec, ["heads", "kv_groups"])
    zero, mean = SweepStudy.of(model, heads, text), SweepStudy.of(model, heads, text, fill="mean", calibration=calibration)
    assert zero.identity["edit"] == "zero"
    assert mean.identity["edit"] == "mean"
    assert mean.identity["calibration"]["split"] == "calibration"
    more = replace(mean, calibration=replace(calibration, documents=6))
    assert len({s.open(tmp_path / "x").key for s in (zero, mean, more)}) == 3
    assert SweepStudy.of(model, single_ablations(model.spec, ["blocks"]), text).identity == zero.identity, "one run for all parts"

    means = head_means(model, batches(calibration.windows(model), model))
    ((scored),) = batches(text.windows(model), model)
    expected = sweep(filled(model, means), mean.plan, scored.ids, scored.lengths)
    found = mean.scores(tmp_path / "mean")
    assert np.allclose(found["nll"], expected["nll"], rtol=1e-6)
    assert not np.allclose(found["nll"], zero.scores(tmp_path / "zero")["nll"], rtol=1e-6)
    table = mean.run(tmp_path / "mean")
    assert set(table["kind"]) == {"dense", "heads", "kv_groups"}
    assert len(table[table["metric"] == "significant"]) == len(heads)


def test_bad_input(folder: Path, tmp_path: Path) -> None:
    model = load(folder, device="cpu", dtype="float32")
    text = Text(corpus=str(folder / "text.txt"), window=20, documents=3)
    calibration = replace(text, split="calibration")
    heads, blocks = (single_ablations(model.spec, [kind]) for kind in ("heads", "blocks"))
    for chosen, options, says in (
        (heads, {"fill": "mean"}, "no calibration text"),
        (heads, {"fill": "median"}, "unknown fill 'median': did you mean mean"),
        (blocks, {"fill": "mean", "calibration": calibration}, "mean ablation is of heads"),
    ):
        with pytest.raises(StrataError, match=says):
            SweepStudy.of(model, chosen, text, **options)
    with pytest.raises(StrataError, match="share 3 documents"):
        SweepStudy.of(model, heads, text, fill="mean", calibration=text).run(tmp_path / "run")
    with pytest.raises(StrataError, match="no calibration text"):
        head_means(model, [])
    with pytest.raises(StrataError, match="has no heads"):
        head_means(variants.model("rwkv-4"), [])
    with pytest.raises(StrataError, match="head 4 of block 0 is out of range: the block has heads 0 to 3"):
        SweepStudy.of(model, [Ablation(heads={(0, 4)})], text)
