"""Pruned checkpoints: the tensors of the blocks that stay, byte for byte, under the keys that stock loaders read."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapters.base import BlockModel
from adapters.catalogue import MODELS
from adapters.checkpoints.configs import both_tokenizers, pruned_config, pruned_quantisation, stock_config, with_experts, without_code
from adapters.checkpoints.fewer_experts import Parts, narrowed, pairs, staying
from adapters.checkpoints.files import open_store, read_json
from adapters.checkpoints.folders import write_json
from adapters.checkpoints.layout import Layout, Store
from adapters.checkpoints.quantised import ENDINGS
from adapters.checkpoints.shards import write_safetensors
from adapters.errors import StrataError, unknown
from adapters.experts import experts_of
from adapters.families.rwkv.layouts import V_FIRST, VALUE_RESIDUAL
from adapters.families.rwkv.model import RwkvModel
from adapters.registry import BESIDE, FAMILIES, is_hub_id, locate
from adapters.specs import ModelSpec


@dataclass(frozen=True, slots=True)
class Source:
    """The files of a model that is pruned."""

    asked: str  # what `load` was given
    revision: str | None
    spec: ModelSpec
    folder: Path
    config: dict  # empty: native RWKV weights come without
    store: Store
    layout: Layout

    @classmethod
    def of(cls, source: str, spec: ModelSpec, revision: str | None = None) -> Source:
        """`source` and `revision` as `load` took them, `spec` as it gave it."""
        _, path = locate(source, revision)
        folder, store = path if path.is_dir() else path.parent, open_store(path)
        config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
        return cls(source, revision, spec, folder, config, store, FAMILIES[spec.family].adapter.layout(config, store))

    @property
    def hub_id(self) -> str | None:
        return self.asked if is_hub_id(self.asked) else None

    @property
    def converted(self) -> bool:
        """Whether its tensors are not those of the file that was asked for, but floats that were made of them."""
        return self.asked in MODELS or self.asked.endswith(".gguf")

    @property
    def precision(self) -> str:
        """What its tensors are held in; a clause."""
        return "in fp32, to which the source's GGUF file was converted" if self.converted else "in the precision of the source"

    @property
    def format(self) -> str:
        """The format that it comes in, or the safe one."""
        own = self.store.files[0].suffix.removeprefix(".")
        return own if own in self.layout.formats else "safetensors"

    def without(self, removed: Iterable[int], changed: Mapping[str, Tensor] | None = None, experts: Parts = ()) -> Store:
        """The tensors that stay, under their new keys. A head that tied models share with the embedding is left out, as stock
        loaders expect it.

        Those of `changed`, by new key, are put in the place of the source's. Raises StrataError on blocks and on `experts` that
        cannot go.
        """
        kept = remaining(self.spec, removed)
        stay = self.staying(kept, experts)
        changed = {**narrowed(self.layout.block, self.store, kept, stay), **(changed or {})}
        rows = max((max(block.n_heads or 1, block.n_experts) for block in self.spec.blocks), default=1)  # at most, each a tensor of its own
        keys = {slot.key: slot.key for slot in self.layout.model.values()} | {
            there: here
            for new, old in enumerate(kept)
            for role, slot in self.layout.block.items()
            if new or role not in VALUE_RESIDUAL
            for there, here in pairs(role, slot, new, old, rows, stay.get(old))
        }
        keys |= {new.removesuffix(".weight") + end: old.removesuffix(".weight") + end for new, old in keys.items() for end in ENDINGS}
        keys = {new: old for new, old in keys.items() if old in self.store.shapes}
        embed, head = (self.layout.model[role].key for role in ("embed", "unembed"))
        tied = getattr(stock_config(self.config), "tie_word_embeddings", self.config.get("tie_word_embeddings"))
        if tied and head in keys and torch.equal(self.store.read(head), self.store.read(embed)):
            del keys[head]

        def read(key: str) -> Tensor:
            return changed[key] if key in changed else self.store.read(keys[key])

        shapes, sizes = self.store.shapes, self.store.sizes
        return Store(
            self.store.path,
            {new: tuple(changed[new].shape) if new in changed else shapes[old] for new, old in keys.items()},
            read,
            sizes={new: sizes[old] for new, old in keys.items() if old in sizes and new not in changed},
        )

    def staying(self, kept: Sequence[int], experts: Parts) -> dict[int, list[int]]:
        """As `fewer_experts.staying`. Raises StrataError, too, where weights are quantised, by groups that experts may share."""
        stay = staying(self.spec, kept, experts)
        if stay and self.spec.quantised:
            raise StrataError(
                f"{self.spec.name} is quantised ({self.spec.quantised}): take experts out of the model that it was made from, and quantise"
            )
        return stay

    def write(
        self,
        removed: Iterable[int],
        folder: Path,
        format: str,
        changed: Mapping[str, Tensor] | None = None,
        config: Mapping[str, Any] | None = None,
        experts: Parts = (),
    ) -> Store:
        """Writes weights, configuration (with `config`, where it says something else) and tokenizer into `folder`.

        Returns what should now stand there.
        """
        removed = set(removed)
        store, kept = self.without(removed, changed, experts), remaining(self.spec, removed)
        if format == "pth":
            _write_pth(store, folder / f"{self.spec.name}.pth")
        else:
            write_safetensors(store, folder)
        if self.config:
            left = next((len(each) for each in self.staying(kept, experts).values()), None)
            pruned = pruned_config(self.config, kept, len(self.spec.blocks), self.hub_id, self.store.shapes)
            write_json(folder / "config.json", (pruned if left is None else with_experts(pruned, left)) | dict(config or {}))
        for name in BESIDE:
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, folder / name)
        for name, rewritten in self._beside(kept).items():
            if (folder / name).is_file():
                write_json(folder / name, rewritten(read_json(folder / name)))
        return store

    def _beside(self, kept: Sequence[int]) -> dict[str, Callable[[dict], dict]]:
        """What is made of files that are not copied as they are."""
        return {
            "tokenizer_config.json": lambda config: both_tokenizers(without_code(config, self.hub_id)),  # Baichuan's names code
            "quantize_config.json": lambda config: pruned_quantisation(config, kept, self.store.shapes),
        }


def remaining(spec: ModelSpec, removed: Iterable[int]) -> list[int]:
    """Indices of the blocks that stay. Raises StrataError on a block that does not exist, or is named twice, and when none stays."""
    found, n = list(removed), len(spec.blocks)
    for i in found:
        if not 0 <= i < n:
            raise StrataError(f"block {i} is out of range: {spec.name} has blocks 0 to {n - 1}")
    if twice := sorted({i for i in found if found.count(i) > 1}):
        raise StrataError(f"block {twice[0]} is named twice: name each block once")
    if len(found) == n:
        raise StrataError(f"all {n} blocks of {spec.name} would be removed: at least one must remain")
    return [i for i in range(n) if i not in found]


def remove_blocks(model: BlockModel, removed: Iterable[int], experts: Parts = ()) -> BlockModel:
    """The model as its pruned checkpoint is read: blocks and experts deleted, and RWKV-7 without block 0 rerooted."""
    indices = remaining(model.spec, removed)
    stay = staying(model.spec, indices, experts)
    blocks = [experts_of(model.blocks[i]).keep_experts(stay[i]) if i in stay else model.blocks[i] for i in indices]
    kept = model.with_blocks(blocks)
    return kept.rerooted() if isinstance(kept, RwkvModel) else kept


def rerooted(spec: ModelSpec, removed: Collection[int]) -> bool:
    """Whether `pruned` is another model than the ablation: RWKV-7 without block 0, whose v_first then comes from the next that stays."""
    return spec.variant in V_FIRST and 0 in removed


def choose_format(source: Source, format: str) -> str:
    """`format` or, for `auto`, the source's. Raises StrataError when no stock loader reads the source's layout from it."""
    chosen, valid = source.format if format == "auto" else format, source.layout.formats
    if chosen not in valid:
        raise StrataError(f"{unknown('format', chosen, valid)}: no stock loader reads {source.spec.family} weights from another")
    return chosen


def file_bytes(folder: Path) -> int:
    """Of the files of weights that were written."""
    return sum(path.stat().st_size for pattern in ("*.safetensors", "*.pth") for path in folder.glob(pattern))


def _write_pth(store: Store, path: Path) -> None:
    try:
        torch.save({key: store.read(key).clone() for key in store.shapes}, path)
    except RuntimeError as error:  # what torch's writer makes of a full disk
        raise OSError(errno.ENOSPC, "the disk is full, or the file cannot be written") from error
