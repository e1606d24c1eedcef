"""The JSON files beside pruned weights: what they say of each block, of code, and in words that transformers 4 and 5 both know."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from adapters.errors import StrataError

PER_BLOCK = ("layer_types", "no_rope_layers", "value_dim")  # lists of config.json with an entry for each block
RULES = ("sliding_window_pattern", "_sliding_window_pattern", "no_rope_layer_interval")  # from which transformers makes such lists
BY_INDEX = "scale_attn_by_inverse_layer_idx"  # what a block computes follows from its index, and nothing else says it
BY_PERIOD, PLAIN = ("layers_block_type", "layers_num_experts"), ("mamba", 1)  # what follows from periods, and what most blocks have
DEPTH = "num_hidden_layers"
DENSE, STEP = "mlp_only_layers", "decoder_sparse_step"  # blocks without experts, and every how manieth has some
SENT_TO = "num_experts_per_tok"
FULL_BELOW = "max_window_layers"  # how many blocks in front have no sliding window
BLOCK = re.compile(r"(?<![^.])(layers|blocks|h)\.(\d+)(?![^.])")  # in the name of a block, or of a module in it
EXPRESSION = re.compile(r"re:|[+-]:")  # what marks one among names: of compressed-tensors, of GPTQModel
BESIDE_ROPE = ("rope_theta", "partial_rotary_factor")  # of rope_parameters, which transformers 4 looks for beside it
OLD_ROPE = {"gpt_neox": {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}}  # by other names
LABELS = ("num_labels", "id2label", "label2id")  # of classifiers: tables of any length
CLASSES = {"TokenizersBackend": "PreTrainedTokenizerFast"}  # new name -> one that both know


def pruned_config(config: Mapping, kept: Sequence[int], n_blocks: int, hub_id: str | None = None, keys: Iterable[str] = ()) -> dict:
    """config.json of a model with the blocks `kept` of `n_blocks`; `hub_id` is where its code lies, if it has any.

    `keys` are those of the dense weights, from which is seen what an expression among the names of quantised modules means. What
    follows from a block's index is written out for each block, as transformers reads it. Raises StrataError where it cannot be.
    """
    if config.get(BY_INDEX) and list(kept) != list(range(len(kept))):
        raise StrataError(
            f"config.json says {BY_INDEX}: block i divides its scores by i + 1, and no checkpoint says that of a block that has "
            "moved: remove the last blocks only, or measure without writing"
        )
    stock = stock_config(config)
    said = [key for key in PER_BLOCK if not isinstance(getattr(type(stock), key, None), property)]  # else it follows from other keys
    known = {key: config.get(key) if stock is None else getattr(stock, key, None) for key in said}
    lists = {key: values for key, values in known.items() if isinstance(values, list) and len(values) >= n_blocks}
    depth = DEPTH if stock is None else stock.attribute_map.get(DEPTH, DEPTH)
    layers: dict[str, Any] = {key: [values[i] for i in kept] for key, values in lists.items()} | {depth: len(kept)}
    config = {key: value for key, value in config.items() if key != DEPTH and not (lists and key in RULES)}
    if isinstance(config.get(FULL_BELOW), int):
        layers[FULL_BELOW] = sum(i < config[FULL_BELOW] for i in kept)
    if stock is not None and hasattr(stock, DENSE):
        dense = [new for new, old in enumerate(kept) if old in getattr(stock, DENSE) or (old + 1) % getattr(stock, STEP)]
        layers |= {DENSE: dense, STEP: 1}
    if config.get("quantization_config"):
        layers["quantization_config"] = pruned_quantisation(config["quantization_config"], kept, keys)
    made = both_dialects(without_code(config, hub_id) | layers)
    _require_periods(stock, stock_config(made), kept)
    return made


def _require_periods(before: Any, after: Any, kept: Sequence[int]) -> None:
    """Raises StrataError where the blocks that stay are of other kinds by the periods of config.json than they were."""
    for key in periods(before):
        old, new = [getattr(before, key)[i] for i in kept], getattr(after, key)
        if [value in PLAIN for value in old] != [value in PLAIN for value in new]:
            found = "config.json says by periods which blocks have attention and experts, and those that stay would not fit"
            raise StrataError(f"{found}: remove the last blocks only, or whole periods, or measure without writing")


def periods(stock: PreTrainedConfig | None) -> list[str]:
    """What a configuration says of blocks by periods: without others in front of it, a block would be of another kind."""
    return [key for key in BY_PERIOD if isinstance(getattr(type(stock), key, None), property)]


def with_experts(config: Mapping, number: int) -> dict:
    """config.json of a model with `number` experts in all blocks that have some; a token is sent to no more than there are."""
    stock = stock_config(config)
    if number in PLAIN and hasattr(stock, BY_PERIOD[1]):
        raise StrataError("one expert would stay in each block, which loaders take for an MLP: leave two")
    own = stock.attribute_map.get("num_experts", "num_experts") if stock else "num_experts"
    named = [key for key in ("num_experts", "num_local_experts") if key in config] or [own]
    per_token = config.get(SENT_TO) or getattr(stock, SENT_TO)
    return {**config, **dict.fromkeys(named, number), SENT_TO: min(per_token, number)}


def stock_config(config: Mapping) -> PreTrainedConfig | None:
    """As transformers reads it; None when it does not know the model_type."""
    model_type = str(config.get("model_type"))
    known = {key: _with_infinity(value) for key, value in config.items() if key not in LABELS}
    return CONFIG_MAPPING[model_type].from_dict(known) if model_type in CONFIG_MAPPING else None


def _with_infinity(value: Any) -> Any:
    """`value` with the numbers that JSON lacks, which transformers writes as {"__float__": "Infinity"}."""
    if isinstance(value, list):
        return [_with_infinity(item) for item in value]
    said = value.get("__float__") if isinstance(value, Mapping) else None
    return float(said) if said in ("Infinity", "-Infinity", "NaN") else value


def pruned_quantisation(config: Mapping, kept: Sequence[int], keys: Iterable[str]) -> dict:
    """How weights are quantised, where modules are named (`ignore`, `targets`, `modules_to_not_convert`, `dynamic`): those of
    blocks that are gone are left out, all others have their new names."""
    modules = {key[: dot.start()] for key in keys for dot in re.finditer(r"\.", key)}
    return _renamed(config, partial(_new_names, modules=sorted(modules), new={old: i for i, old in enumerate(kept)}))


def _renamed(value: Any, names: Callable[[str], list[str]]) -> Any:
    """`value` with all that stands in its lists, and all its keys, by their new names."""
    if isinstance(value, Mapping):
        return {new: _renamed(inner, names) for key, inner in value.items() for new in names(key)}
    if isinstance(value, list):
        return [new for item in value for new in (names(item) if isinstance(item, str) else [_renamed(item, names)])]
    return value


def _new_names(name: str, modules: Sequence[str], new: Mapping[int, int]) -> list[str]:
    """Of a module; of an expression the modules that it means, unless it means the same in every block."""
    mark = EXPRESSION.match(name)
    if not mark:
        return _moved(name, new)
    found = [module for module in modules if re.match(name[mark.end() :], module)]
    alike = {BLOCK.sub(r"\1.*", module) for module in found}
    if set(found) == {module for module in modules if BLOCK.sub(r"\1.*", module) in alike}:
        return [name]
    moved = [one for module in found for one in _moved(module, new)]
    return moved if mark[0] == "re:" else [f"{mark[0]}{re.escape(one)}$" for one in moved]


def _moved(name: str, new: Mapping[int, int]) -> list[str]:
    block = BLOCK.search(name)
    if not block:
        return [name]
    i = new.get(int(block[2]))
    return [] if i is None else [f"{name[: block.start(2)]}{i}{name[block.end(2) :]}"]


def both_dialects(config: Mapping) -> dict:
    """config.json with what transformers 4 calls otherwise said in its words too, where transformers 5 reads the same.

    `dtype` was `torch_dtype`, and `rope_parameters` `rope_scaling` with the base beside it, which 4.57 takes for 10,000 where it
    is missing.
    """
    out = dict(config)
    if dtype := config.get("dtype") or config.get("torch_dtype"):
        out |= {"dtype": dtype, "torch_dtype": dtype}
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if isinstance(sliding := rope.get("sliding_attention"), Mapping):  # Gemma 3, whose layers rotate in two ways
        out["rope_local_base_freq"] = sliding["rope_theta"]
        rope = rope["full_attention"]
    if not rope or any(isinstance(value, Mapping) for value in rope.values()):  # of each type of layer: no other family that is written
        return out
    names = OLD_ROPE.get(config.get("model_type", ""), {})
    out |= {names.get(key, key): rope[key] for key in BESIDE_ROPE if rope.get(key) is not None}
    scaling = {key: value for key, value in rope.items() if key not in BESIDE_ROPE}
    kind, original = scaling.get("rope_type", scaling.get("type", "default")), scaling.get("original_max_position_embeddings")
    if kind == "longrope" and original:  # transformers 4 looks for it beside, and takes the factor from it
        out["original_max_position_embeddings"] = original
        factor = scaling.get("factor") or config["max_position_embeddings"] / original
        if scaling.get("attention_factor") is None:
            scaling["attention_factor"] = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    return out if kind == "default" else out | {"rope_scaling": scaling}


def both_tokenizers(config: Mapping) -> dict:
    """tokenizer_config.json that transformers 4 reads as transformers 5 does: a class that both have, special tokens by its key."""
    out = dict(config)
    if out.get("tokenizer_class") in CLASSES:
        out["tokenizer_class"] = CLASSES[out["tokenizer_class"]]
    if isinstance(out.get("extra_special_tokens"), list):  # a table of names in transformers 4
        out["additional_special_tokens"] = out.pop("extra_special_tokens")
    if named := out.pop("model_specific_special_tokens", None):
        out["extra_special_tokens"] = named
    return out


def without_code(config: Mapping, hub_id: str | None) -> dict:
    """Code that a model brings along is not copied: that of the hub is named where it lies, and any other not at all."""
    out = {key: value for key, value in config.items() if key != "auto_map"}
    if hub_id and (classes := config.get("auto_map")):
        out["auto_map"] = {auto: _on_hub(named, hub_id) for auto, named in classes.items()}
    return out


def _on_hub(named: Any, hub_id: str) -> Any:
    """`module.Class` as `hub-id--module.Class`; tokenizers name two, either of which may be missing."""
    if isinstance(named, list):
        return [_on_hub(one, hub_id) for one in named]
    return f"{hub_id}--{named}" if named and "--" not in named else named
