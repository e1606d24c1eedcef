"""Models beside Hugging Face's own in fp64, and ragged documents for them, for tests of what is measured inside."""

from __future__ import annotations

import functools
import tempfile
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from adapters import BlockModel, load
from tests.reference.hf import tiny
from tests.shared_data import shared

NAMES = ("tiny", "stories260K")


class Pair(NamedTuple):
    model: BlockModel  # fp32
    reference: PreTrainedModel  # fp64
    ids: Tensor  # (3, T), right-padded
    lengths: Tensor

    @property
    def documents(self) -> list[Tensor]:
        return [row[None, :n] for row, n in zip(self.ids, self.lengths.tolist(), strict=True)]


@functools.cache
def pair(name: str) -> Pair:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRATA_CACHE", folder)
        if name == "tiny":
            reference = tiny()
            reference.save_pretrained(folder)
            model = load(folder, device="cpu", dtype="float32")
        else:
            file = shared("models/stories260K/stories260K.gguf")
            cfg = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
            cfg.pad_token_id = None  # the header's is out of range
            reference = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, config=cfg, dtype=torch.float32)
            model = load(file, device="cpu", dtype="float32")
    ids = torch.randint(3, model.spec.vocab_size, (3, 40), generator=torch.Generator().manual_seed(1))
    return Pair(model, reference.double().eval().requires_grad_(False), ids, torch.tensor([40, 9, 23]))
