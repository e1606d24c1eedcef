"""Jobs: a study as something that is handed to another process or machine, which loads the model itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from adapters.base import BlockModel
from adapters.registry import load, load_shapes


@dataclass(frozen=True)
class Job:
    """What makes a study, without its model: small, and pickled as it is."""

    source: str
    device: str
    dtype: str
    revision: str | None
    make: Callable[[BlockModel], Any]  # a study, see `analysis.runs.shards.Study`
    weights: str = "auto"  # how they are held

    def study(self, device: str | None = None) -> Any:
        """With the model loaded here."""
        where = device or self.device
        return self.make(load(self.source, device=where, dtype=self.dtype, revision=self.revision, weights=self.weights))

    def shapes(self, device: str) -> Any:
        """Without weights, as if the model were on `device`: to know in advance what is asked."""
        return self.make(load_shapes(self.source, of=device.partition(":")[0], dtype=self.dtype, revision=self.revision))

    def reading(self, identity: Mapping[str, Any]) -> Any:
        """Without weights: for the table of what a study of this identity has scored elsewhere."""
        dtype = identity["dtype"] if self.dtype == "auto" else self.dtype
        return self.make(load_shapes(self.source, of=identity["device"], dtype=dtype, revision=self.revision))
