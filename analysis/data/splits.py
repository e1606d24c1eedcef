"""Splits of a folder that is laid out as data sets of the hub are: by the names of its files, or by the head of its README.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from adapters.errors import StrataError, one_line, unknown
from analysis.data.streams import ending

# Words by which file names say their split, as on the hub.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
NAMED = {name: re.compile(rf"(?:^|[-._ /\d])(?:{'|'.join(words)})(?=[-._ /\d]|$)") for name, words in SPLITS.items()}


def named(folder: Path, files: Iterable[Path], split: str | None) -> dict[str, list[Path]]:
    """Files by the split that their names say; {} where they say none. Raises StrataError where only some do and no split is named."""
    by_split: dict[str, list[Path]] = {name: [] for name in NAMED}
    rest: list[Path] = []
    for file in files:
        said = {name for name, pattern in NAMED.items() if pattern.search(file.relative_to(folder).as_posix().lower())}
        (by_split[said.pop()] if len(said) == 1 else rest).append(file)
    found = {name: files for name, files in by_split.items() if files}
    if found and rest and not split:
        name, example = next((name, files[0]) for name, files in found.items())
        raise StrataError(
            f"{folder} holds {example.name}, which is named as the {name} split, and {rest[0].name}, which is not: choose all by a pattern "
            f"in quotes, '{folder}/**/*{ending(example)}', or the split alone, {folder}::{name}"
        )
    return found


def the_split(name: str, splits: Mapping[str, object], configuration: str | None, split: str | None) -> str:
    chosen = split or ("train" if "train" in splits else next(iter(splits)))
    if chosen not in splits:
        raise unknown(f"split of {name}", chosen, splits)
    if not split and chosen != "train" and len(splits) > 1:
        raise StrataError(f"{name} has no split `train`: name one of {', '.join(splits)}, as in {name}:{configuration or ''}:{chosen}")
    return chosen


def declared(folder: Path, configuration: str | None) -> dict[str, list[Path]] | None:
    """Files by split as the head of README.md says, which is how data sets of the hub do; None where it says nothing."""
    configurations = {str(c.get("config_name", "default")): c for c in _head(folder / "README.md")}
    if not configurations:
        return None
    first = next(iter(configurations))
    default = (
        first if len(configurations) == 1 else next((n for n, c in configurations.items() if n == "default" or c.get("default")), None)
    )
    chosen = configuration or default
    if chosen is None:
        raise StrataError(f"{folder} has several configurations: name one of {', '.join(configurations)}, as in {folder}:{first}")
    if chosen not in configurations:
        raise unknown(f"configuration of {folder}", chosen, configurations)
    said = configurations[chosen].get("data_files")
    listed = said if isinstance(said, list) and all(isinstance(one, dict) for one in said) else [{"split": "train", "path": said}]
    splits: dict[str, list[Path]] = {}
    for one in listed:
        if other := [key for key in one if key not in ("split", "path")]:
            raise StrataError(
                f"{folder}/README.md declares files by the key {other[0]!r}: only split and path are read; choose by a pattern"
            )
        paths = one.get("path")
        for pattern in paths if isinstance(paths, list) else [paths]:
            found = (
                sorted(file for file in folder.glob(str(pattern)) if file.is_file())
                if isinstance(pattern, str) and _inside(pattern)
                else []
            )
            if not found:
                raise StrataError(
                    f"{folder}/README.md declares the files {pattern!r}, and there are none: fetch them, or choose by a pattern"
                )
            splits.setdefault(str(one.get("split", "train")), []).extend(found)
    return splits


def _inside(pattern: str) -> bool:
    """Does it lead to nothing outside its folder?"""
    return bool(pattern) and not pattern.startswith("/") and ".." not in Path(pattern).parts


def _head(readme: Path) -> list[dict[str, Any]]:
    """The configurations that name files."""
    if not readme.is_file():
        return []
    from huggingface_hub import metadata_load  # not at the top: few folders have one

    try:
        said = (metadata_load(readme) or {}).get("configs")
    except Exception as error:  # of YAML and of the disk, which share no base class
        raise StrataError(f"cannot read the head of {readme}: {one_line(error)}; fix it, or choose files by a pattern in quotes") from error
    if said is not None and not (isinstance(said, list) and all(isinstance(one, dict) for one in said)):
        raise StrataError(
            f"the head of {readme} has `configs` that are not a list of configurations: fix it, or choose by a pattern in quotes"
        )
    return [one for one in said or [] if one.get("data_files")]
