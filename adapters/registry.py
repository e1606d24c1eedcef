"""`load`: from the name of a model to a checked `BlockModel`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from adapters.base import BlockModel
from adapters.catalogue import MODELS, PACKAGES, converted_gguf, zoo
from adapters.checkpoints.files import open_store, read_json
from adapters.checkpoints.gguf.header import name_of
from adapters.checkpoints.layout import Store
from adapters.checkpoints.lineage import read_ancestors
from adapters.checkpoints.quantised import as_floats, config_of
from adapters.checkpoints.streamed import WeightReader, is_streamed, say
from adapters.embedded import EmbeddedTokenizer
from adapters.endings import endings
from adapters.errors import StrataError, foreign, one_line, unknown, visible
from adapters.plugins import Table
from adapters.products import MIXED, NARROW
from adapters.tokenizers import find_tokenizer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
WEIGHTS = (".pth", ".bin", ".safetensors")  # files that are a model, with config.json beside them where one is needed
BESIDE = (  # files that belong to a model; code is never among them
    "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt", "quantize_config.json", "chat_template.jinja", "20B_tokenizer.json",
    "rwkv_vocab_v20230424.txt", "LICENSE", "LICENSE.txt", "NOTICE",
)  # fmt: skip

HYBRIDS = ("bamba", "falcon_h1", "granitemoehybrid", "nemotron_h", "recurrent_gemma", "zamba", "zamba2")  # model_types

HUB = {  # errors of huggingface_hub, and of those under it -> the cause
    "GatedRepoError": "its owner asks you to agree to something first: do so on its page, then `hf auth login`",
    "RevisionNotFoundError": "it has no such revision: check `revision`",
    "RepositoryNotFoundError": "there is no such repository, or it is private: check the id, or `hf auth login`",
    "HFValidationError": "that is not a repository id: check it",
    "LocalEntryNotFoundError": "it is not in the cache, and there is no connection (or HF_HUB_OFFLINE is set): connect, or set HF_ENDPOINT",
}


@dataclass(frozen=True, slots=True)
class Family:
    """One adapter: `module.build(config, store, name)` makes the model, `module.layout(config, store)` says how its files hold it."""

    module: str
    model_types: tuple[str, ...]  # of config.json
    key: str = ""  # by which weights without a model_type are known
    stock: bool = False  # transformers has it, and reads what is written

    @property
    def adapter(self) -> ModuleType:
        """The module, imported only when it is needed."""
        return importlib.import_module(self.module)


def _plugin(found: Any, title: str, version: str) -> Family:
    """A family from what an entry point leads to."""
    if not isinstance(found, Family):
        raise StrataError(f"it is {type(found).__name__}, and no Family of adapters.registry")
    _ = found.adapter  # an error now names the distribution
    return found


FAMILIES = Table(
    "family",
    "strata.families",
    {
        "llama": Family("adapters.families.llama", ("llama", "mistral", "qwen2", "qwen3", "smollm3"), stock=True),
        "mixtral": Family("adapters.families.mixtral", ("mixtral",), stock=True),
        "qwen_moe": Family("adapters.families.qwen_moe", ("qwen2_moe", "qwen3_moe"), stock=True),
        "olmoe": Family("adapters.families.olmoe", ("olmoe",), stock=True),
        "gpt_neox": Family("adapters.families.gpt_neox", ("gpt_neox",), stock=True),
        "olmo2": Family("adapters.families.olmo2", ("olmo2",), stock=True),
        "gemma": Family("adapters.families.gemma", ("gemma2", "gemma3_text"), stock=True),
        "gpt2": Family("adapters.families.gpt2", ("gpt2",), stock=True),
        "phi": Family("adapters.families.phi", ("phi",), stock=True),
        "opt": Family("adapters.families.opt", ("opt",), stock=True),
        "phi3": Family("adapters.families.phi3", ("phi3",), stock=True),
        "falcon": Family("adapters.families.falcon", ("falcon",), stock=True),
        "stablelm": Family("adapters.families.stablelm", ("stablelm",), stock=True),
        "starcoder2": Family("adapters.families.starcoder2", ("starcoder2",), stock=True),
        "glm": Family("adapters.families.glm", ("glm", "glm4"), stock=True),
        "gptj": Family("adapters.families.gptj", ("gptj",), stock=True),
        "granite": Family("adapters.families.granite", ("granite",), stock=True),
        "olmo": Family("adapters.families.olmo", ("olmo",), stock=True),
        "cohere": Family("adapters.families.cohere", ("cohere",), stock=True),
        "jamba": Family("adapters.families.jamba", ("jamba",), stock=True),
        "mamba": Family("adapters.families.mamba", ("mamba", "mamba2", "falcon_mamba"), stock=True),
        "baichuan": Family("adapters.families.baichuan", ("baichuan",)),
        "rwkv": Family("adapters.families.rwkv", ("rwkv", "rwkv7", "rwkv7_fla"), key="blocks.0.att.key.weight"),
    },
    _plugin,
)


def register_family(name: str, module: str, *, model_types: Sequence[str], key: str = "") -> None:
    """Adds an adapter: a module with `build` and `layout`, see `Family`. Raises StrataError on a name that is taken."""
    FAMILIES.register(name, Family(module, tuple(model_types), key))


def load(
    source: str | Path,
    *,
    family: str = "auto",
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    revision: str | None = None,
    weights: str = "auto",
) -> BlockModel:
    """Loads a model and checks it on four tokens.

    `source`: a name of the catalogue (`strata models`), a folder, a .gguf, .pth, .bin or .safetensors file, or a hub id
    (with `revision`). Native RWKV weights need no config.json. Quantised weights become floats (adapters/checkpoints/quantised.py).
    `device="auto"` is cuda, else cpu; `dtype="auto"` is float32 on a CPU and the checkpoint's own on a GPU; "mixed" is float32, but for
    the products with the matrices of blocks, in bfloat16. `weights` are resident, streamed (read from their files block by block) or
    auto: what fits. Raises StrataError with what was found and how to fix it.
    """
    where, width = device_of(str(device)), str(dtype).removeprefix("torch.")
    if width not in ("auto", *DTYPES, MIXED):
        raise unknown("dtype", width, ("auto", *DTYPES, MIXED))
    if family not in ("auto", *FAMILIES):
        raise unknown("family", family, FAMILIES)
    with foreign(str(source)):
        model = _read(*locate(str(source), revision), family, where, width, weights)
    model.origin = (str(source), revision)
    return model


def load_shapes(source: str | Path, *, of: str, dtype: str, revision: str | None = None) -> BlockModel:
    """The model without its weights, for what others have scored on a device of type `of`: the same spec, tokenizer and identity."""
    model = load(source, device="meta", dtype=dtype, revision=revision)
    model.stand_in_for = of
    return model


def _read(name: str, path: Path, family: str, device: torch.device, dtype: str, weights: str) -> BlockModel:
    folder = path if path.is_dir() else path.parent
    store = open_store(path)
    config = _config(folder, store)
    if packed := config_of(config, folder, store):
        store = as_floats(store, packed, name)
        config.pop("quantization_config", None)
    chosen = _family(config, name, store) if family == "auto" else family
    store.device, store.dtype, store.products = device, _dtype(dtype, device, config), NARROW if dtype == MIXED else None
    if dtype == MIXED and device.type == "cpu" and not _has_narrow_products():
        say(f"this CPU has no products in bfloat16 (avx512_bf16): `dtype` {MIXED} may be slower than float32, and is no more exact")
    reader = WeightReader(store, name) if is_streamed(weights, store, name) else None
    model = FAMILIES[chosen].adapter.build(config, store, name)
    model.reader, model.mixed = reader, dtype == MIXED
    model.ancestors = read_ancestors(folder, model.spec.source_hash, len(model.blocks))
    model.spec = replace(model.spec, quantised=store.quantised, kept=model.ancestors[-1].kept if model.ancestors else ())
    if tokenizer := model.tokenizer or find_tokenizer(folder):
        model.tokenizer = EmbeddedTokenizer(tokenizer, model.spec.vocab_size, name)
    model.end_tokens, model.alters = endings(folder, config)
    self_check(model)
    return model


def _has_narrow_products() -> bool:
    found = torch.cpu.get_capabilities()
    return found.get("architecture") != "x86_64" or bool(found.get("avx512_bf16"))


@torch.inference_mode()
def self_check(model: BlockModel) -> None:
    """Four tokens through the model: finite, of the right shape, and the past does not depend on the future."""
    ids = torch.arange(4, device=model.device)[None] % model.spec.vocab_size
    changed = torch.cat([ids[:, :3], ids[:, :1]], 1)
    a, b = model.run(torch.cat([ids, changed])).split(1)
    if a.device.type == "meta":
        return
    if not torch.isfinite(a).all():
        cause = "its weights are corrupt, or the dtype is too small (try `dtype` float32)"
        raise StrataError(f"{model.spec.name} gives non-finite logits in {model.dtype}: {cause}")
    if (a[:, :3] - b[:, :3]).abs().max() > 1e-2 * a.float().std():
        raise StrataError(f"{model.spec.name} is not a causal language model (a later token changes earlier logits): use one that is")


def locate(source: str, revision: str | None) -> tuple[str, Path]:
    """A short name that can be shown anywhere, and the folder that holds config.json and weights or the file of the weights."""
    if source in MODELS:
        return source, converted_gguf(PACKAGES[source].folder(source) / MODELS[source])
    if source in zoo():
        return source, zoo()[source]
    path = Path(source).expanduser()
    if path.is_dir():
        return visible(path.resolve().name), path
    if path.is_file() and path.suffix == ".gguf":
        return visible(name_of(path)), converted_gguf(path)
    if path.is_file() and path.suffix in WEIGHTS:
        return visible(path.stem), path
    if path.is_file():
        raise StrataError(f"{path} does not have the name of a weights file: expected {', '.join(WEIGHTS)} or .gguf")
    if is_hub_id(source):
        return source.split("/")[1], _download(source, revision)
    error = unknown("model", source, (*MODELS, *zoo()))
    raise StrataError(f"{error}; or a folder, a {', '.join(WEIGHTS)} or .gguf file, or a hub id")


def is_hub_id(source: str) -> bool:
    """Whether `locate` looks for it on the hub: it has the form of an id, and no file has that name."""
    return source.count("/") == 1 and not source.startswith((".", "/", "~")) and not Path(source).exists()


def _download(hub_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    weights, other = ["model*.safetensors"], ["*.json", *BESIDE]
    try:
        folder = Path(snapshot_download(hub_id, revision=revision, allow_patterns=weights + other))
        if not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(hub_id, revision=revision, allow_patterns=["pytorch_model*.bin", *other]))
        return folder
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        kind = next((cls.__name__ for cls in type(error).__mro__ if cls.__name__ in HUB), "")
        cause = HUB.get(kind, f"{type(error).__name__}: check the id, or HF_ENDPOINT for a mirror")
        raise StrataError(f"cannot get {hub_id} from the hub: {cause}; or give a local folder with config.json and weights") from error


def _config(folder: Path, store: Store) -> dict:
    """config.json, which weights that are known by their keys can do without."""
    path = folder / "config.json"
    if not path.is_file() and (known := next((entry.key for entry in FAMILIES.values() if entry.key in store.shapes), None)):
        return {"dtype": str(store.read(known).dtype).removeprefix("torch.")}
    config = read_json(path)
    if other := config.get("transformers_weights"):
        raise StrataError(f"{path} says that the weights are in {other!r} (transformers_weights): give the path of that file")
    return config


def _family(config: dict, name: str, store: Store) -> str:
    """Its name in FAMILIES, whose own come first: entry points of others are imported where none of these fits."""
    model_type = str(config.get("model_type", ""))
    for found, entry in FAMILIES.items():
        if model_type in entry.model_types or ("model_type" not in config and entry.key in store.shapes):
            return found
    if model_type in HYBRIDS:
        raise StrataError(
            f"{name} is a {model_type}, a hybrid of attention and recurrences, which is not supported: use a Jamba, or a model of one kind"
        )
    raise unknown(f"model_type of {name}", model_type, [known for entry in FAMILIES.values() for known in entry.model_types])


def device_of(device: str) -> torch.device:
    """Raises StrataError where torch has none of this name."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        raise unknown("device", device, ("auto", "cpu", "cuda")) from None
    if found.type == "cuda" and not torch.cuda.is_available():
        raise StrataError("device cuda was requested, but torch sees no CUDA device: use `device` cpu, or install a CUDA build of torch")
    try:
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise StrataError(f"device {device} was requested, but torch cannot use it ({one_line(error)}): use `device` cpu") from None
    return found


def _dtype(dtype: str, device: torch.device, config: dict) -> torch.dtype:
    if dtype != "auto":
        return DTYPES.get(dtype, torch.float32)
    own = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return DTYPES.get(own, torch.float32) if device.type == "cuda" else torch.float32
