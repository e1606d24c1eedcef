"""A GGUF file as a folder that stock loaders read."""

from __future__ import annotations

import hashlib
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from adapters.checkpoints.folders import write_json
from adapters.checkpoints.gguf.config import configuration
from adapters.checkpoints.gguf.header import parts, read_header
from adapters.checkpoints.gguf.tensors import open_tensors
from adapters.checkpoints.gguf.tokenizer import BESIDE, write_tokenizer
from adapters.checkpoints.shards import write_safetensors
from adapters.errors import StrataError

CONVERTER = 2  # another number whenever the same files give another folder


def fingerprint(path: Path) -> str:
    """Identifies all that goes into `convert`: every byte of every part, the tokenizer beside it, and what reads them."""
    digest = hashlib.sha256(f"{CONVERTER} {_version('gguf')}".encode())
    for file in (*parts(path), *map(path.with_name, BESIDE)):
        if file.is_file():
            with file.open("rb") as opened:
                digest.update(file.name.encode() + hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()[:12]


def convert(path: Path, out: Path) -> None:
    """Writes weights in fp32, config.json and tokenizer into the new folder `out`.

    Raises StrataError when the file is damaged, a part of it is missing, or the model has a part that is not supported.
    """
    header = read_header(path)
    config = configuration(header)
    store = open_tensors(header, config)
    out.mkdir()
    config |= write_tokenizer(header, out)
    print(f"converting {path.name} once, into {out.parent.parent}", file=sys.stderr)
    write_safetensors(store, out)
    write_json(out / "generation_config.json", {key: config.get(key) for key in ("bos_token_id", "eos_token_id")})
    write_json(out / "config.json", config)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        raise StrataError(f"GGUF files need the package {package}: run `pip install {package}`") from None
