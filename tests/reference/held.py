"""How much memory tensors hold, counted from their storages as they are made and freed."""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Held(TorchDispatchMode):
    """The most bytes that tensors made while it is on have held at once; a view holds what it looks into."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.now, self.most = Counter[int](), 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> object:
        before = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        out = func(*args, **(kwargs or {}))
        for t in tree_leaves(out):
            if isinstance(t, Tensor) and ((place := t.untyped_storage().data_ptr()) not in before or self.users[place]):
                size = t.untyped_storage().nbytes()
                self.now += size * (not self.users[place])
                self.users[place] += 1
                self.most = max(self.most, self.now)
                weakref.finalize(t, self._freed, place, size)
        return out

    def _freed(self, place: int, size: int) -> None:
        self.users[place] -= 1
        self.now -= size * (not self.users[place])
