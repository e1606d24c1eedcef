"""Pruned checkpoints, read back by stock loaders in a process of their own and compared with the ablation in memory."""

from __future__ import annotations

import json
import re
import resource
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from adapters import Ablation, BlockModel, load, registry
from adapters.checkpoints.configs import pruned_config
from adapters.checkpoints.export import Source, choose_format, remaining, remove_blocks, rerooted
from adapters.checkpoints.files import open_store
from adapters.checkpoints.folders import finished_or_nothing, writing
from adapters.checkpoints.stock import by_strata, by_transformers, reader_of, stock_logits
from adapters.contract import assert_close
from adapters.errors import StrataError
from tests.reference import baichuan, cousin, variants
from tests.reference.hf import tiny
from tests.reference.models import save_reader
from tests.reference.rwkv_checkpoints import flash_linear_attention_7, hugging_face_4, random_checkpoint
from tests.reference.rwkv_package import package_logits

HERE = {"transformers": by_transformers, "strata": by_strata}  # the rwkv package holds one version in a process
IDS = torch.randint(3, 97, (2, 12), generator=torch.Generator().manual_seed(0))


def export(path: Path | str, removed: list[int], out: Path, format: str = "auto") -> tuple[BlockModel, str]:
    """The model in memory, and the reader of what was written to `out`."""
    model = load(path, device="cpu", dtype="float32")
    source = Source.of(str(path), model.spec)
    chosen = choose_format(source, format)
    with finished_or_nothing(out, 0) as folder, writing(out):
        store = source.write(removed, folder, chosen)
        assert open_store(next(iter(folder.glob("*.pth")), folder)).hash == store.hash
    return model, reader_of(model.spec, store, chosen)


def assert_reads_as_ablation(path: Path, removed: list[int], out: Path, format: str = "auto", *, fresh: bool = False) -> str:
    """By the stock loader, in a process of its own if `fresh`. Returns the reader's name."""
    model, reader = export(path, removed, out, format)
    with torch.inference_mode():
        ablated = model.run(IDS, Ablation(frozenset(removed)))
        in_memory = remove_blocks(model, removed).run(IDS)
    with torch.inference_mode():
        read = stock_logits(reader, out, IDS, "cpu", "float32") if fresh else HERE.get(reader, by_strata)(out, IDS, "cpu", "float32")
    assert_close(read, in_memory, 1e-4)
    if not rerooted(model.spec, removed):
        assert_close(in_memory, ablated)
    return reader


@pytest.mark.parametrize("removed", [[0], [1], [0, 2]])
@pytest.mark.parametrize("tied", [False, True])
def test_llama(tmp_path: Path, removed: list[int], tied: bool) -> None:
    tiny("llama", tie_word_embeddings=tied).save_pretrained(tmp_path / "dense")
    assert assert_reads_as_ablation(tmp_path / "dense", removed, tmp_path / "out", fresh=tied and removed == [0]) == "transformers"
    assert ("lm_head.weight" in load_file(tmp_path / "out" / "model.safetensors")) is not tied


def test_a_tied_head_in_a_pickle_shares_its_storage_and_is_left_out(tmp_path: Path) -> None:
    dense = tiny("llama", tie_word_embeddings=True)
    (tmp_path / "dense").mkdir()
    dense.config.save_pretrained(tmp_path / "dense")
    torch.save(dense.state_dict(), tmp_path / "dense" / "pytorch_model.bin")
    assert assert_reads_as_ablation(tmp_path / "dense", [1], tmp_path / "out") == "transformers"
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert "lm_head.weight" not in tensors
    assert sum(t.numel() for t in tensors.values()) == load(tmp_path / "out", device="cpu").spec.n_params


def test_tensors_of_one_storage_are_written_each(tmp_path: Path) -> None:
    dense = tiny("llama")
    state = dense.state_dict()
    state["model.layers.2.mlp.up_proj.weight"] = state["model.layers.1.mlp.up_proj.weight"]
    (tmp_path / "dense").mkdir()
    dense.config.save_pretrained(tmp_path / "dense")
    torch.save(state, tmp_path / "dense" / "pytorch_model.bin")
    assert_reads_as_ablation(tmp_path / "dense", [0], tmp_path / "out")


def test_what_belongs_to_a_model_is_copied_and_its_code_is_not(tmp_path: Path) -> None:
    tiny("llama").save_pretrained(tmp_path / "dense")
    files = {
        "generation_config.json": '{"eos_token_id": [2, 7], "temperature": 0.6}',
        "chat_template.jinja": "{{ messages }}",
        "LICENSE": "MIT",
    }
    for name, content in (files | {"modeling.py": "raise SystemExit"}).items():
        (tmp_path / "dense" / name).write_text(content)
    export(tmp_path / "dense", [1], tmp_path / "out")
    assert {name: (tmp_path / "out" / name).read_text() for name in files} == files
    assert not (tmp_path / "out" / "modeling.py").exists()


@pytest.mark.parametrize("kind", ["mistral", "qwen2", "qwen3"])
def test_configuration_with_a_type_for_each_layer(tmp_path: Path, kind: str) -> None:
    tiny(kind).save_pretrained(tmp_path / "dense")
    assert_reads_as_ablation(tmp_path / "dense", [1], tmp_path / "out")
    cfg = AutoConfig.from_pretrained(tmp_path / "out")
    assert cfg.num_hidden_layers == 2
    if kind != "mistral":
        assert cfg.layer_types == ["full_attention"] * 2


def test_shards_with_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.checkpoints.shards.SHARD", 40_000)
    tiny("llama").save_pretrained(tmp_path / "dense")
    assert assert_reads_as_ablation(tmp_path / "dense", [1], tmp_path / "out") == "transformers"
    files = sorted(path.name for path in (tmp_path / "out").glob("*.safetensors"))
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert len(files) > 2
    assert sorted(set(index["weight_map"].values())) == files
    assert index["metadata"]["total_size"] == sum(t.nbytes for file in files for t in load_file(tmp_path / "out" / file).values())


def test_half_precision_stays_as_it_is(tmp_path: Path) -> None:
    tiny("llama").to(torch.bfloat16).save_pretrained(tmp_path / "dense")
    assert_reads_as_ablation(tmp_path / "dense", [1], tmp_path / "out")
    dense, written = (load_file(tmp_path / name / "model.safetensors") for name in ("dense", "out"))
    assert written["model.layers.1.mlp.up_proj.weight"].dtype == torch.bfloat16
    assert torch.equal(written["model.layers.1.mlp.up_proj.weight"], dense["model.layers.2.mlp.up_proj.weight"])


@pytest.mark.shows("baichuan", abilities=("export",))
@pytest.mark.parametrize("variant", variants.BAICHUAN)
def test_baichuan_keeps_its_fused_weights_and_its_head_as_published(tmp_path: Path, variant: str) -> None:
    (tmp_path / "dense").mkdir()
    variants.save(variant, tmp_path / "dense", auto_map={"AutoModelForCausalLM": "modeling_baichuan.BaichuanForCausalLM"})
    (tmp_path / "dense" / "modeling_baichuan.py").write_text("raise SystemExit")
    (tmp_path / "dense" / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["a.B", null]}, "add_bos_token": false}')
    assert assert_reads_as_ablation(tmp_path / "dense", [0], tmp_path / "out") == "strata"
    config, tensors = json.loads((tmp_path / "out" / "config.json").read_text()), load_file(tmp_path / "out" / "model.safetensors")
    norm_head, alibi = variant.startswith("baichuan2"), variant.endswith("13b")
    expected, _ = baichuan.naive(config, tensors, IDS, alibi=alibi, norm_head=norm_head)
    assert_close(load(tmp_path / "out", device="cpu", dtype="float32").run(IDS), expected.float(), 1e-4)
    assert torch.equal(tensors["lm_head.weight"], variants.tensors(variant)["lm_head.weight"])
    assert "auto_map" not in config
    assert json.loads((tmp_path / "out" / "tokenizer_config.json").read_text()) == {"add_bos_token": False}
    assert not list((tmp_path / "out").glob("*.py"))


def test_code_on_the_hub_is_named_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dense, classes = tmp_path / "dense", {"AutoConfig": "configuration_baichuan.BaichuanConfig", "AutoModelForCausalLM": "other/code--m.C"}
    dense.mkdir()
    variants.save("baichuan2-7b", dense, auto_map=classes)
    (dense / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["tokenization_baichuan.BaichuanTokenizer", null]}}')
    monkeypatch.setattr(registry, "_download", lambda hub_id, revision: dense)
    export("baichuan-inc/Baichuan2-7B-Base", [0], tmp_path / "out")
    said = {name: json.loads((tmp_path / "out" / f"{name}.json").read_text()) for name in ("config", "tokenizer_config")}
    assert said["config"]["num_hidden_layers"] == variants.BLOCKS - 1
    assert said["config"]["auto_map"] == {
        "AutoConfig": "baichuan-inc/Baichuan2-7B-Base--configuration_baichuan.BaichuanConfig",
        "AutoModelForCausalLM": "other/code--m.C",
    }
    assert said["tokenizer_config"]["auto_map"] == {
        "AutoTokenizer": ["baichuan-inc/Baichuan2-7B-Base--tokenization_baichuan.BaichuanTokenizer", None]
    }


@pytest.mark.shows("rwkv", against="rwkv", abilities=("export",))
@pytest.mark.long  # two processes import the package and torch
@pytest.mark.parametrize("versions", [variants.RWKV[:-1], variants.RWKV[-1:]], ids=["4-6", "7"])
def test_every_version_of_native_rwkv_has_its_logits_in_the_rwkv_package(versions: tuple[str, ...], tmp_path: Path) -> None:
    expected, written = [], []
    for variant in versions:
        model, _ = export(variants.save(variant, tmp_path), [0], tmp_path / f"{variant}-out")
        with torch.inference_mode():
            expected.append(remove_blocks(model, [0]).run(IDS[:1])[0])
        (file,) = (tmp_path / f"{variant}-out").glob("*.pth")
        written.append((torch.load(file, weights_only=True), IDS[0]))
    for found, logits in zip(package_logits(written, tmp_path), expected, strict=True):
        assert_close(found, logits, 1e-4)


@pytest.mark.parametrize("variant", variants.RWKV)
def test_native_rwkv_in_the_rwkv_package(tmp_path: Path, variant: str) -> None:
    fresh = variant in ("rwkv-5.2", "rwkv-7")  # a process takes seconds
    assert assert_reads_as_ablation(variants.save(variant, tmp_path), [0], tmp_path / "out", fresh=fresh) == "rwkv"
    assert [path.suffix for path in (tmp_path / "out").iterdir()] == [".pth"]


@pytest.mark.parametrize("variant", variants.RWKV)
def test_rwkv_7_without_block_0_alone_is_another_model(variant: str) -> None:
    model = variants.model(variant)
    for removed in ([0], [1], [0, 1]):
        with torch.inference_mode():
            apart = (remove_blocks(model, removed).run(IDS) - model.run(IDS, Ablation(frozenset(removed)))).abs().max()
        assert rerooted(model.spec, removed) == (float(apart) > 1e-3) == (variant == "rwkv-7" and 0 in removed)


def test_a_folder_with_native_weights_is_written_as_such(tmp_path: Path) -> None:
    (tmp_path / "dense").mkdir()
    variants.save("rwkv-6", tmp_path / "dense")
    assert assert_reads_as_ablation(tmp_path / "dense", [1], tmp_path / "out") == "rwkv"
    assert [path.suffix for path in (tmp_path / "out").iterdir()] == [".pth"]


def test_native_rwkv_as_safetensors(tmp_path: Path) -> None:
    assert assert_reads_as_ablation(variants.save("rwkv-7", tmp_path), [0, 1], tmp_path / "out", "safetensors") == "strata"
    assert "blocks.0.att.v1" not in load_file(tmp_path / "out" / "model.safetensors")


def test_rwkv_4_of_hugging_face(tmp_path: Path) -> None:
    (tmp_path / "dense").mkdir()
    native = random_checkpoint("4", blocks=3, vocab=97)
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "vocab_size": 97, "attention_hidden_size": 32, "intermediate_size": 128}
    (tmp_path / "dense" / "config.json").write_text(json.dumps({"model_type": "rwkv", **sizes}))
    save_file(hugging_face_4(native), tmp_path / "dense" / "model.safetensors", metadata={"format": "pt"})
    assert assert_reads_as_ablation(tmp_path / "dense", [0], tmp_path / "out") == "transformers"


def test_rwkv_7_of_flash_linear_attention(tmp_path: Path) -> None:
    (tmp_path / "dense").mkdir()
    native = random_checkpoint("7", blocks=3, vocab=97)
    config = {"model_type": "rwkv7", "hidden_size": 32, "num_hidden_layers": 3, "vocab_size": 97, "value_dim": [32, 32, 32]}
    (tmp_path / "dense" / "config.json").write_text(json.dumps(config))
    save_file({k: t.contiguous() for k, t in flash_linear_attention_7(native).items()}, tmp_path / "dense" / "model.safetensors")
    assert assert_reads_as_ablation(tmp_path / "dense", [0], tmp_path / "out") == "strata"
    assert json.loads((tmp_path / "out" / "config.json").read_text())["value_dim"] == [32, 32]


def test_a_configuration_that_says_too_many_blocks_is_seen(tmp_path: Path) -> None:
    """transformers itself makes random weights for the rest, and warns."""
    tiny("llama").save_pretrained(tmp_path / "dense")
    export(tmp_path / "dense", [1], tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    (tmp_path / "out" / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.num_hidden_layers == 3
    with pytest.raises(StrataError, match="missing_keys"):
        by_transformers(tmp_path / "out", IDS, "cpu", "float32")


def test_nothing_looks_finished_when_it_fails(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for error, fix in (
        (OSError(28, "No space left on device"), "free some space"),
        (PermissionError(13, "Permission denied"), "give another"),
    ):
        with pytest.raises(StrataError, match=rf"cannot write .*{error.strerror}.*; {fix}"), finished_or_nothing(out, 0), writing(out):
            raise error
    with pytest.raises(StrataError, match=r"MB are free.*free some space"), finished_or_nothing(out, 1 << 60):
        pass
    with pytest.raises(KeyboardInterrupt), finished_or_nothing(out, 0):
        raise KeyboardInterrupt
    with pytest.raises(OSError, match="of a reader"), finished_or_nothing(out, 0):
        raise OSError("of a reader")
    assert not list(tmp_path.iterdir())


def test_folders_that_cannot_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    (tmp_path / "here").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    monkeypatch.chdir(tmp_path / "here")
    for out, message in (
        (tmp_path / "full", "is not empty: give another `out`"),
        (tmp_path / "full" / "thesis.tex", "is a file: `out` is a new folder"),
        (tmp_path / "full" / "thesis.tex" / "out" / "out", "thesis.tex is a file, so that"),
        (tmp_path / ("n" * 300), "File name too long; give another `out`"),
        (tmp_path / "loop", "is a link that leads to itself"),
        (Path(), "is the folder that this runs in and cannot be replaced: name a new folder in it"),
    ):
        with pytest.raises(StrataError, match=message), finished_or_nothing(out, 0):
            pytest.fail("the work has begun")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    with finished_or_nothing(tmp_path / "link", 0) as folder:
        (folder / "made").touch()
    assert (tmp_path / "empty" / "made").is_file()


def test_what_came_there_meanwhile_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.tex").touch()
    message = rf"cannot write to {re.escape(str(out))}: Directory not empty; give another `out`"
    with pytest.raises(StrataError, match=message), finished_or_nothing(out, 0):
        shutil.copytree(tmp_path / "theirs", out)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["out", "theirs", "thesis.tex", "thesis.tex"]


def test_a_mount_point_cannot_be_replaced(small_disk: Path) -> None:
    with pytest.raises(StrataError, match="is a mount point and cannot be replaced"), finished_or_nothing(small_disk, 0):
        pytest.fail("the work has begun")


def test_a_reader_that_is_killed_is_no_broken_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = tmp_path / "python"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(killed))
    with pytest.raises(StrataError, match="was stopped by signal 9: most likely memory ran out"):
        stock_logits("strata", tmp_path, IDS, "cpu", "float32")


def test_sizes_are_known_without_reading(tmp_path: Path) -> None:
    tiny("llama").to(torch.bfloat16).save_pretrained(tmp_path / "dense")
    for path, removed in ((tmp_path / "dense", [1]), (variants.save("rwkv-7", tmp_path), [0])):
        source = Source.of(str(path), load(path, device="cpu").spec)
        short = source.without(removed)
        assert short.nbytes == sum(short.read(key).nbytes for key in short.shapes)
        assert short.sizes.keys() == short.shapes.keys()


@pytest.mark.parametrize("format", ["safetensors", "pth"])
def test_a_disk_that_fills_up_while_writing(tmp_path: Path, format: str) -> None:
    path = variants.save("rwkv-7", tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # bytes of a file: what comes after fails as on a full disk
    try:
        with pytest.raises(StrataError, match=r"cannot write .*free some space"):
            export(path, [1], tmp_path / "out", format)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [entry.name for entry in tmp_path.iterdir()] == ["rwkv-7.pth"]


@pytest.mark.parametrize(
    ("removed", "message"),
    [([3], "block 3 is out of range: .* blocks 0 to 2"), ([-1], "out of range"), ([1, 1], "named twice"), ([0, 1, 2], "all 3 blocks")],
)
def test_sets_that_cannot_be_removed(removed: list[int], message: str) -> None:
    with pytest.raises(StrataError, match=message):
        remaining(variants.model("rwkv-4").spec, removed)


@pytest.mark.parametrize("format", ["auto", "pth"])
def test_a_new_family_is_a_line_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    monkeypatch.setitem(registry.FAMILIES, "cousin", registry.Family(cousin.__name__, ("cousin",)))
    dense = tiny("llama")
    (tmp_path / "dense").mkdir()
    save_file({cousin.PREFIX + key: t for key, t in dense.state_dict().items()}, tmp_path / "dense" / "model.safetensors")
    (tmp_path / "dense" / "config.json").write_text(json.dumps(dense.config.to_dict() | {"model_type": "cousin"}))
    if format == "auto":
        assert assert_reads_as_ablation(tmp_path / "dense", [0], tmp_path / "out") == "strata"
    else:
        with pytest.raises(StrataError, match="unknown format 'pth': valid: safetensors"):
            export(tmp_path / "dense", [0], tmp_path / "out", format)


@pytest.mark.parametrize(("variant", "format"), [("baichuan-7b", "pth"), ("rwkv-6", "gguf")])
def test_formats_without_a_stock_loader(tmp_path: Path, variant: str, format: str) -> None:
    path = variants.save(variant, tmp_path)
    source = Source.of(str(path), load(path, device="cpu").spec)
    with pytest.raises(StrataError, match="format"):
        choose_format(source, format)


def test_configuration_keeps_what_it_does_not_know() -> None:
    config = {"num_hidden_layers": 4, "layer_types": ["a", "b", "c", "d"], "other": [1, 2, 3, 4], "auto_map": {}}
    assert pruned_config(config, [1, 3], 4) == {"num_hidden_layers": 2, "layer_types": ["b", "d"], "other": [1, 2, 3, 4]}


def test_lm_evals_own_model_gives_the_numbers_of_the_ablation(tmp_path: Path) -> None:
    lm_eval = pytest.importorskip("lm_eval.models.huggingface")
    from lm_eval.api.instance import Instance

    (tmp_path / "dense").mkdir()
    save_reader(tmp_path / "dense", num_hidden_layers=4)
    tokens = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "<s>", "pad_token": "<s>"}
    (tmp_path / "dense" / "tokenizer_config.json").write_text(json.dumps(tokens))
    model, _ = export(tmp_path / "dense", [0, 2], tmp_path / "out")
    pairs = [("The cat sat", " on the mat."), ("Two and two", " are four, says Lisa.")]
    stock = lm_eval.HFLM(pretrained=str(tmp_path / "out"), device="cpu", dtype="float32", batch_size=1, add_bos_token=False)
    found = stock.loglikelihood([Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)], disable_tqdm=True)
    for (context, continuation), (value, _) in zip(pairs, found, strict=True):
        before, whole = (stock.tok_encode(text, add_special_tokens=False) for text in (context, context + continuation))
        logits = model.run(torch.tensor([whole]), Ablation(blocks=frozenset({0, 2})))[0].double().log_softmax(-1)
        expected = sum(float(logits[t - 1, whole[t]]) for t in range(len(before), len(whole)))
        assert value == pytest.approx(expected, rel=1e-5)
