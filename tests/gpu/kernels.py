"""Kernels of other packages, which some families are computed by on a card where they are installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from unittest.mock import patch

import torch

from adapters import recurrent
from adapters.supported import KERNELS, SCAN_KERNELS
from tests.reference.variants import RWKV

PACKAGES = {"fla": "flash-linear-attention", "mamba_ssm": "mamba-ssm"}  # by module
OF = dict.fromkeys([name for name in RWKV if name.startswith(("rwkv-5", "rwkv-6", "rwkv-7"))], "fla")  # module by family
OF |= dict.fromkeys(("mamba", "falcon_mamba", "mamba2", "jamba"), "mamba_ssm")
SAID = {"fla": KERNELS, "mamba_ssm": SCAN_KERNELS}  # what the record calls them


def installed() -> dict[str, str]:
    """Versions of the packages that are."""
    found = {}
    for module, package in PACKAGES.items():
        if find_spec(module):
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                found[package] = "of unknown version"
    return found


def kernels(name: str, device: torch.device) -> bool:
    """Whether a family is computed by kernels that are installed."""
    return device.type == "cuda" and PACKAGES.get(OF.get(name, "")) in installed()


@contextmanager
def without_kernels() -> Iterator[None]:
    with patch.object(recurrent, "imported", lambda module: None):
        yield
