"""An adapter of a made-up family, written as CONTRIBUTING.md says: Llama's block in files with other keys."""

from __future__ import annotations

from dataclasses import replace

from adapters.checkpoints.layout import Layout, Store
from adapters.decoder import DecoderModel
from adapters.families import llama
from adapters.families.decoder_config import configuration
from adapters.families.table import assemble

PREFIX = "cousin."
LAYOUT = Layout(
    model={role: replace(slot, key=PREFIX + slot.key) for role, slot in llama.LAYOUT.model.items()},
    block={role: replace(slot, key=PREFIX + slot.key) for role, slot in llama.LAYOUT.block.items()},
)
TABLE = replace(llama.LLAMA, layout=LAYOUT)


def layout(config: dict, store: Store) -> Layout:
    return LAYOUT


def build(config: dict, store: Store, name: str) -> DecoderModel:
    cfg = configuration(config | {"model_type": "llama"}, name, len(store.shapes))  # transformers does not know it
    return assemble(TABLE, cfg, store, ("cousin", "cousin", name))
