"""Models of several architectures as uniform lists of residual blocks."""

from adapters.ablation import KEEP, NONE, Ablation, Action
from adapters.base import BlockModel, Parts
from adapters.errors import StrataError
from adapters.registry import load
from adapters.specs import BlockSpec, ModelSpec

__all__ = ["KEEP", "NONE", "Ablation", "Action", "BlockModel", "BlockSpec", "ModelSpec", "Parts", "StrataError", "load"]
