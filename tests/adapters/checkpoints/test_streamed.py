"""Weights that stay on disk: the same numbers, counted bytes, and what happens to files meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters import Ablation, StrataError, load
from adapters.base import BlockModel
from adapters.checkpoints import streamed
from adapters.checkpoints.weight_file import known_by
from tests.reference import variants
from tests.reference.gptq import save_gptq
from tests.reference.hf import tiny

IDS = torch.arange(14).reshape(2, 7) % 90
ABLATIONS = [Ablation(), Ablation(blocks={1}), Ablation(mixers={0}, ffns={2}), Ablation(heads={(1, 2)})]


def in_two_shards(folder: Path) -> Path:
    tiny().to(torch.bfloat16).save_pretrained(folder, max_shard_size="60KB")
    assert len([*folder.glob("*.safetensors")]) > 1
    return folder


def pickled(folder: Path) -> Path:
    """With gaps between rows, as torch saves what was turned."""
    tiny("gpt2", n_embd=48, n_layer=3, n_head=4, n_positions=64).save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save({key: t.t().contiguous().t() if t.dim() == 2 else t for key, t in weights.items()}, folder / "pytorch_model.bin")
    return folder


def without_its_head(folder: Path) -> Path:
    tiny(tie_word_embeddings=True).save_pretrained(folder)
    path = folder / "model.safetensors"
    save_file({key.removeprefix("model."): t for key, t in load_file(path).items()}, path, metadata={"format": "pt"})
    return folder


MADE: dict[str, Callable[[Path], Path]] = {
    "two shards in bf16": in_two_shards,
    "pickled, transposed": pickled,
    "keys without a prefix": without_its_head,
    "gptq": lambda folder: [save_gptq(folder), folder][1],
    **{variant: lambda folder, variant=variant: variants.save(variant, folder) for variant in variants.VARIANTS},  # type: ignore[misc]
}


@pytest.fixture(params=MADE)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return MADE[request.param](tmp_path)


def read(source: Path, weights: str, **options: str) -> BlockModel:
    return load(source, device="cpu", weights=weights, **({"dtype": "float32"} | options))


@torch.inference_mode()
def test_gives_what_resident_weights_give(source: Path) -> None:
    here, there = read(source, "resident"), read(source, "streamed")
    assert here.reader is None
    assert there.reader is not None
    assert here.spec == there.spec
    for ablation in ABLATIONS[: 4 if here.spec.has_heads else 3]:
        assert torch.equal(there.run(IDS, ablation), here.run(IDS, ablation))
    for mine, other in zip(here.blocks, there.blocks, strict=True):
        assert all(torch.equal(mine.weights[role], other.weights[role]) for role in mine.weights)
        assert dict(other.weights).keys() == ({} | other.weights).keys() == (other.weights | {}).keys() == mine.weights.keys()
        assert len(other.weights) == len(mine.weights)
        assert "positions" not in other.weights
        assert other.weights.get("positions") is None
        assert set(other.weights) == {role for role, _ in other.weights.items()}


@torch.inference_mode()
def test_reads_each_block_once_a_pass_and_counts_its_bytes(tmp_path: Path) -> None:
    model = read(in_two_shards(tmp_path), "streamed")
    sizes = [0] * len(model.blocks)
    for file in tmp_path.glob("*.safetensors"):
        for key, tensor in load_file(file).items():
            if key.startswith("model.layers."):
                sizes[int(key.split(".")[2])] += tensor.nbytes
    reader = model.reader
    assert reader is not None
    assert [reader.block_bytes[i] for i in range(3)] == sizes
    assert reader.bytes_read == sum(sizes)  # the check of `load`
    whole = sum(t.nbytes for file in tmp_path.glob("*.safetensors") for t in load_file(file).values())
    assert reader.load_bytes == 2 * whole  # a hash, and all weights once
    model.run(IDS)
    model.run(IDS)
    assert reader.bytes_read == 3 * sum(sizes)
    assert reader.load_bytes == 2 * whole
    shorter = model.with_blocks([model.blocks[0], model.blocks[2]])
    shorter.run(IDS)  # reads ahead what is not asked for, and learns
    before = reader.bytes_read
    shorter.run(IDS)
    assert reader.bytes_read - before == reader.bytes_of([0, 2])
    assert reader.rate > 0
    assert 0 < reader.waited <= reader.seconds + 1


def vanish(path: Path) -> None:
    path.unlink()


def change(path: Path) -> None:
    os.utime(path, (1, 1))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("meanwhile", [vanish, change, cut])
def test_a_file_that_is_not_what_it_was_is_named(meanwhile: Callable[[Path], None], tmp_path: Path) -> None:
    model = read(in_two_shards(tmp_path), "streamed")
    file = max(tmp_path.glob("*.safetensors"))
    model.run(IDS)
    meanwhile(file)
    with pytest.raises(StrataError, match=rf"{file.name} .*while its weights are streamed.*run the command again"):
        model.run(IDS)


def test_a_file_that_ends_too_early_is_named(tmp_path: Path) -> None:
    """Cut between the look at it and the reading."""
    model = read(in_two_shards(tmp_path), "streamed")
    file = max(tmp_path.glob("*.safetensors"))
    assert model.reader is not None
    cut(file)
    model.reader._files[file].known = known_by(os.stat(file))
    with pytest.raises(StrataError, match=rf"{file.name} ends in the middle"):
        model.run(IDS)


def test_auto_streams_what_does_not_fit_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    folder = in_two_shards(tmp_path)
    capsys.readouterr()
    needed = 4 * sum(t.numel() for file in folder.glob("*.safetensors") for t in load_file(file).values())
    for room, held in [(2 * needed, True), (needed, False)]:
        monkeypatch.setattr(streamed, "free", lambda device, room=room: room)
        assert (read(folder, "auto").reader is None) == held
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "in float32" in said
    assert "are streamed" in said
    assert "bfloat16" in said
    monkeypatch.setattr(streamed, "free", lambda device: needed - 1)
    with pytest.raises(StrataError, match=r"are free on cpu: give `weights` streamed.*with `dtype` bfloat16"):
        read(folder, "resident")
    monkeypatch.setattr(streamed, "free", lambda device: needed // 5)
    with pytest.raises(StrataError, match="even where its weights are streamed"):
        read(folder, "streamed")
    with pytest.raises(StrataError, match="weights 'lazy'"):
        read(folder, "lazy")


def test_slow_disks_are_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    model = read(in_two_shards(tmp_path), "streamed")
    monkeypatch.setattr(streamed, "SLOW", 0.0)
    assert model.reader is not None
    capsys.readouterr()
    for reading in (0.0, 1.0):  # seconds of a wait that the files have taken: what blocks are turned into is not the disk's
        assert not model.reader._told
        for _ in range(3):
            model.reader.waited += 1.0
            model.reader.seconds += reading
            model.run(IDS)
    said = capsys.readouterr().err
    assert said.count("MB a second") == 1
    assert said.count("\n") == 1


def test_files_that_cannot_be_streamed_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    tiny().save_pretrained(tmp_path)
    torch.save(load_file(tmp_path / "model.safetensors"), path, _use_new_zipfile_serialization=False)
    (tmp_path / "model.safetensors").unlink()
    assert read(tmp_path, "resident").reader is None
    with pytest.raises(StrataError, match="save it as safetensors"):
        read(tmp_path, "streamed")
