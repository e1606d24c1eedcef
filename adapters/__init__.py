"""Models of several architectures as uniform lists of residual blocks."""

from adapters.ablation import KEEP, NONE, Ablation, Action
from adapters.base import BlockModel, BlockSpec, ModelSpec, Parts
from adapters.errors import StrataError
from adapters.registry import load

__all__ = ["KEEP", "NONE", "Ablation", "Action", "BlockModel", "BlockSpec", "ModelSpec", "Parts", "StrataError", "load"]
