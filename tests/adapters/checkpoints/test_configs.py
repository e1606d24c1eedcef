"""The files beside pruned weights: names of modules against the libraries that match them, dialects against transformers' classes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast
from transformers.quantizers.quantizers_utils import should_convert_module

from adapters import load
from adapters.checkpoints.configs import both_dialects, both_tokenizers, pruned_config, pruned_quantisation
from adapters.contract import assert_close
from tests.adapters.checkpoints.test_export import export
from tests.adapters.families.test_llama import ROPES
from tests.reference.hf import tiny
from tests.reference.models import save_reader

KEPT, BLOCKS = [0, 2, 3, 10, 11], 12
INSIDE = ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj")
MODULES = ["lm_head", "model.embed_tokens", *(f"model.layers.{i}.{inside}" for i in range(BLOCKS) for inside in INSIDE)]
KEYS = [f"{name}.weight_packed" for name in MODULES]
RENAMED = {name: name for name in MODULES[:2]} | {
    f"model.layers.{old}.{inside}": f"model.layers.{new}.{inside}" for new, old in enumerate(KEPT) for inside in INSIDE
}
NAMES = {
    "a module": ["lm_head", "model.layers.1.mlp.down_proj", "model.layers.10.mlp.down_proj", "model.layers.2.self_attn.q_proj"],
    "the same in every block": ["lm_head", "re:.*down_proj", r"re:model\.layers\.\d+\.self_attn.*"],
    "some blocks": [r"re:.*layers\.(1|3|11)\..*gate_proj$", r"re:model\.layers\.1.*", "re:.*lm_head"],
    "blocks that are gone": [r"re:.*layers\.[4-9]\..*", "model.layers.1.mlp.gate_proj"],
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_names_of_compressed_tensors_mean_the_modules_that_they_meant(names: list[str]) -> None:
    matched = pytest.importorskip("compressed_tensors.utils.match").match_name
    found = pruned_quantisation({"ignore": names, "config_groups": {"group_0": {"targets": [*names, "Linear"]}}}, KEPT, KEYS)
    assert found["config_groups"]["group_0"]["targets"] == [*found["ignore"], "Linear"]
    for old, new in RENAMED.items():
        assert any(matched(new, name) for name in found["ignore"]) == any(matched(old, name) for name in names), old


@pytest.mark.parametrize(
    "names",
    [["lm_head"], ["model.layers.2", "model.layers.3"], ["model.layers.10.mlp"], ["layers.11.mlp.gate_proj"], ["mlp.gate_proj"]],
)
def test_names_that_transformers_does_not_convert(names: list[str]) -> None:
    found = pruned_quantisation({"quant_method": "awq", "modules_to_not_convert": names}, KEPT, KEYS)["modules_to_not_convert"]
    for old, new in RENAMED.items():
        assert should_convert_module(new, found or None) == should_convert_module(old, names), old


def test_keys_of_gptqmodel_s_exceptions() -> None:
    """By hand: block 1 is gone, 2 is 1 and 10 is 3. A rule for all blocks stays as it is."""
    dynamic = {
        r"+:.*\.10\..*down_proj": {"bits": 8},
        "-:.*gate_proj": {},
        r"-:model\.layers\.1\.": {},
        r"+:.*layers\.2\.mlp\.d": {"bits": 8},
    }
    assert pruned_quantisation({"bits": 4, "dynamic": dynamic, "modules_in_block_to_quantize": [["mlp.up_proj"]]}, KEPT, KEYS) == {
        "bits": 4,
        "dynamic": {
            r"+:model\.layers\.3\.mlp\.down_proj$": {"bits": 8},
            "-:.*gate_proj": {},
            r"+:model\.layers\.1\.mlp\.down_proj$": {"bits": 8},
        },
        "modules_in_block_to_quantize": [["mlp.up_proj"]],
    }


def test_layers_that_slide_are_those_that_slid(tmp_path: Path) -> None:
    config = {"model_type": "qwen2", "num_hidden_layers": 6, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 3}
    types = [AutoConfig.for_model(**made).layer_types for made in (config, pruned_config(config, [0, 2, 4, 5], 6))]
    assert types[1] == [types[0][i] for i in (0, 2, 4, 5)]
    assert len(set(types[1])) == 2


def test_dialects_agree_and_add_nothing_where_there_is_nothing_to_say() -> None:
    assert both_dialects({"model_type": "rwkv", "torch_dtype": "bfloat16"}) == {
        "model_type": "rwkv",
        "torch_dtype": "bfloat16",
        "dtype": "bfloat16",
    }
    assert both_dialects({"rope_theta": 100.0, "rope_scaling": None}) == {"rope_theta": 100.0, "rope_scaling": None}
    new = {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}, "rope_theta": 10000.0}
    assert both_dialects(new) == new | {"rope_theta": 100.0}, "as transformers 5 reads it"
    by_type = {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 100.0}}}
    assert both_dialects(by_type) == by_type


@pytest.mark.parametrize("rope", ROPES)
def test_transformers_5_reads_both_dialects_as_the_new_one(rope: str) -> None:
    new = {"model_type": "llama", "max_position_embeddings": 80, "rope_parameters": {"rope_type": rope, "rope_theta": 100.0} | ROPES[rope]}
    config, expected = (AutoConfig.for_model(**made).rope_parameters for made in (both_dialects(new), new))
    attention = config.pop("attention_factor", None)
    assert config == {key: value for key, value in expected.items() if key != "attention_factor"}
    assert attention == expected.get("attention_factor") or rope == "longrope"


# What a process with another transformers does. Arguments: IDS.pt OUT.pt FOLDER ...
FOUR = """
import sys
from pathlib import Path
import torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
assert transformers.__version__.startswith("4.57."), transformers.__version__
ids, out, *folders = sys.argv[1:]
ids, texts, found = torch.load(ids), {texts!r}, {{}}
for folder in folders:
    model, info = AutoModelForCausalLM.from_pretrained(folder, torch_dtype="auto", output_loading_info=True)
    made = {{"missing": sorted(info["missing_keys"]), "dtype": str(model.dtype)}}
    with torch.no_grad():
        made["logits"] = model.float().eval()(ids, use_cache=False).logits
    if Path(folder, "tokenizer.json").is_file():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        made |= {{"tokens": [tokenizer(text).input_ids for text in texts], "special": sorted(tokenizer.all_special_tokens)}}
    found[Path(folder).name] = made
torch.save(found, out)
"""
TEXTS = ["The cat sat on the mat.", " Lisa:\n\t12345  é 中 <s>x<|y|>"]
LONG_IDS = torch.randint(3, 97, (2, 60), generator=torch.Generator().manual_seed(0))
PLAIN = {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}}
FAMILIES: dict[str, tuple[str, dict]] = {
    "llama": ("llama", PLAIN | {"tie_word_embeddings": True}),
    "mistral": ("mistral", PLAIN | {"sliding_window": None}),
    "qwen2": ("qwen2", PLAIN),
    "qwen3": ("qwen3", PLAIN | {"head_dim": 16}),
    **{
        rope: ("llama", {"rope_parameters": {"rope_type": rope, "rope_theta": 100.0} | ROPES[rope]})
        for rope in ("linear", "dynamic", "yarn", "longrope", "llama3")  # transformers 4.57 has no other
    },
    "longrope-5": ("llama", {"rope_parameters": {"rope_type": "longrope", "rope_theta": 100.0} | ROPES["longrope"] | {"factor": 5.0}}),
}


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict]]:
    """Pruned checkpoints of every kind, and what transformers 4.57 reads of each, over the torch of this environment."""
    work = tmp_path_factory.mktemp("transformers-4")
    packages = ["transformers==4.57.*", "huggingface_hub>=0.34,<1", "tokenizers>=0.22,<0.23"]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(work / "site"), *packages]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"pip cannot install transformers 4.57: {done.stderr[-200:]}")
    for name, (kind, config) in FAMILIES.items():
        tiny(kind, **config).to(torch.float16).save_pretrained(work / "dense" / name)
        assert "rope_theta" not in json.loads((work / "dense" / name / "config.json").read_text())
    save_reader(work / "dense" / "tokens")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(work / "dense" / "tokens" / "tokenizer.json"), bos_token="<s>", eos_token="<s>")
    tokenizer.add_special_tokens({"extra_special_tokens": [AddedToken("<|y|>", special=True)]})
    tokenizer.save_pretrained(work / "dense" / "tokens")
    names = [*FAMILIES, "tokens"]
    for name in names:
        export(work / "dense" / name, [1], work / name)
    torch.save(LONG_IDS, work / "ids.pt")
    environment = os.environ | {"PYTHONPATH": str(work / "site"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", FOUR.format(texts=TEXTS), str(work / "ids.pt"), str(work / "out.pt"), *(str(work / n) for n in names)]
    done = subprocess.run(command, env=environment, cwd=work, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {name: (work / name, found) for name, found in torch.load(work / "out.pt", weights_only=True).items()}


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_4_reads_what_is_written(family: str, four: dict[str, tuple[Path, dict]]) -> None:
    folder, found = four[family]
    assert (found["missing"], found["dtype"]) == ([], "torch.float16")
    assert_close(found["logits"], load(folder, device="cpu", dtype="float32").run(LONG_IDS), 1e-4)


@pytest.mark.long
def test_transformers_4_reads_the_tokenizer(four: dict[str, tuple[Path, dict]]) -> None:
    """That transformers 5 saved, with a special token of the model's own."""
    folder, found = four["tokens"]
    saved = json.loads((folder.parent / "dense" / "tokens" / "tokenizer_config.json").read_text())
    assert (saved["tokenizer_class"], saved["extra_special_tokens"]) == ("TokenizersBackend", ["<|y|>"])
    now = AutoTokenizer.from_pretrained(folder)
    assert found["tokens"] == [now(text).input_ids for text in TEXTS]
    assert found["special"] == sorted({*now.all_special_tokens, "<|y|>"})
    assert found["tokens"][0][1:] == load(folder, device="cpu").tokenizer.encode(TEXTS[0]).ids


def test_special_tokens_by_the_key_that_both_know() -> None:
    assert both_tokenizers(
        {"tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["<a>"], "model_specific_special_tokens": {"x": "<b>"}}
    ) == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "additional_special_tokens": ["<a>"],
        "extra_special_tokens": {"x": "<b>"},
    }
    assert both_tokenizers({"tokenizer_class": "Qwen2Tokenizer"}) == {"tokenizer_class": "Qwen2Tokenizer"}
