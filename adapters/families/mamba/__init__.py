"""Mamba, Falcon-Mamba and Mamba-2, as transformers holds them."""

from adapters.families.mamba.model import LAYOUTS, MambaModel, build, layout

__all__ = ["LAYOUTS", "MambaModel", "build", "layout"]
