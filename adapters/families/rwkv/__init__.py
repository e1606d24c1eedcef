"""RWKV-4, 5.0, 5.1, 5.2, 6 and 7."""

from adapters.families.rwkv.model import RwkvModel, build, layout

__all__ = ["RwkvModel", "build", "layout"]
