"""Models of several architectures as uniform lists of residual blocks. Names are imported when they are first asked for."""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adapters.ablation import NONE, Ablation
    from adapters.action import KEEP, Action
    from adapters.base import BlockModel
    from adapters.block import Parts
    from adapters.errors import StrataError
    from adapters.registry import load
    from adapters.specs import BlockSpec, ModelSpec

# Progress is one line here, and what a progress bar of others lacks in a notebook is nothing to a reader.
warnings.filterwarnings("ignore", message="IProgress not found")

__all__ = ["KEEP", "NONE", "Ablation", "Action", "BlockModel", "BlockSpec", "ModelSpec", "Parts", "StrataError", "load"]
MODULES = {
    **dict.fromkeys(("NONE", "Ablation"), "ablation"),
    **dict.fromkeys(("KEEP", "Action"), "action"),
    "BlockModel": "base",
    "Parts": "block",
    **dict.fromkeys(("BlockSpec", "ModelSpec"), "specs"),
    "StrataError": "errors",
    "load": "registry",
}


def __getattr__(name: str) -> object:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
