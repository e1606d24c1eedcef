"""Which files of a folder are a corpus: one kind of file, by one rule, and what is passed over is said."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from glob import glob, has_magic
from pathlib import Path

from adapters.errors import StrataError, unknown
from analysis.data.splits import declared, named, the_split
from analysis.data.streams import COMPRESSED, ending

KINDS = {
    ".txt": "text", ".parquet": "Parquet", ".pq": "Parquet", ".jsonl": "JSON lines", ".ndjson": "JSON lines", ".jl": "JSON lines",
    ".json": "JSON", ".csv": "CSV", ".tsv": "TSV", ".tab": "TSV",
}  # fmt: skip
# Files that lie beside texts and are none, by name without case.
SIDE = re.compile(
    r"(license|licence|copying|notice|readme|changelog|citation|authors|contributors|contributing|code_of_conduct|third_party|requirements)"
    r"([-._ ].*)?"
)
SIDE_FILES = ("robots.txt", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
RULE = (
    "Of a folder all files of one kind are read, those in its folders too; hidden files, side files (LICENSE, README, requirements.txt, "
    "...) and kinds that are not read are skipped. Two kinds beside each other are an error: a pattern in quotes, such as "
    "'FOLDER/**/*.jsonl', chooses. Where the names of all files say train, validation or test, one split is read, as on the hub"
)


@dataclass(frozen=True)
class Selection:
    """Files of one kind, in the order of their names, and what else is there by the reason for which it is not read."""

    kind: str
    files: tuple[Path, ...]
    passed_over: Mapping[str, list[str]] = field(default_factory=dict)


def kind_of(path: Path) -> str | None:
    """By the ending without case, behind which one of `COMPRESSED` may stand; None for one that is not known."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return KINDS.get(suffixes[-1]) if suffixes else None


def path_of(name: str) -> Path:
    """The path that a user has written; ~ of nobody is a name like others."""
    return Path(os.path.expanduser(name))


def is_there(name: str) -> bool:
    """Whether a file or folder is called so; nothing is called by no name, or by one that no disk has."""
    return os.path.exists(os.path.expanduser(name))


def is_pattern(name: str) -> bool:
    return has_magic(name) and not is_there(name)


def select(name: str, configuration: str | None = None, split: str | None = None, column: str | None = None) -> Selection:
    """Of a file itself, of a pattern what it matches, of a folder by `RULE`.

    Configurations and splits are those of the hub's folders; where one of them, or a column, is named, files of rows are meant.

    Raises StrataError when there is nothing to read, when it cannot be told what is meant, and for a part that is not there.
    """
    path = path_of(name)
    is_dir, is_file = os.path.isdir(path), os.path.isfile(path)
    if is_there(name) and not is_dir and not is_file:
        raise StrataError(f"{path} is neither a file nor a folder: text is read more than once, so write it to a file")
    if (configuration or split) and not is_dir:
        raise StrataError(f"{name} is not a folder, and has no configurations or splits: at most a column can be named, as in {name}#text")
    if is_file:
        return Selection(kind_of(path) or "text", (path,))
    if not is_dir:
        matches = sorted(Path(match) for match in glob(str(path), recursive=True))
        kinds = {file: kind_of(file) or "text" for file in matches if file.is_file()}
        return Selection(_one_kind(name, kinds, {}), tuple(kinds))
    kinds, passed = _sorted_out(path)
    if (texts := [file for file, kind in kinds.items() if kind == "text"]) and (configuration or split or column):
        kinds = {file: kind for file, kind in kinds.items() if kind != "text"}
        passed["without rows"] = [str(file.relative_to(path)) for file in texts]
    splits = declared(path, configuration)
    if splits is None:
        if configuration not in (None, "default"):
            raise unknown(f"configuration of {name}", str(configuration), ["default"])
        kind = _one_kind(name, kinds, passed)
        splits = {} if kind == "text" else named(path, kinds, split)
        if split and not splits:
            raise StrataError(
                f"{name} has no splits, its files are not named by them: choose files with a pattern, as in '{name}/**/{split}*'"
            )
        if not splits:
            return Selection(kind, tuple(kinds), passed)
    files = splits[the_split(name, splits, configuration, split)]
    if others := [str(file.relative_to(path)) for file in kinds if file not in files]:
        passed |= {"of other splits": others}
    return Selection(_one_kind(name, {file: str(kind_of(file)) for file in files}, passed), tuple(files), passed)


def _sorted_out(folder: Path) -> tuple[dict[Path, str], dict[str, list[str]]]:
    """Files with their kinds, in order, and what is not read by the reason. Raises StrataError for a link that leads nowhere."""
    kinds, passed = dict[Path, str](), dict[str, list[str]]()
    for file in sorted(folder.rglob("*")):
        if file.is_dir():
            continue
        relative, kind = file.relative_to(folder), kind_of(file)
        reason = next((reason for reason, holds in REASONS.items() if holds(relative)), None)
        if reason:
            passed.setdefault(reason, []).append(str(relative))
        elif not file.is_file():
            raise StrataError(f"{file} is a link to a file that is not there: fetch it, or choose others with a pattern in quotes")
        else:
            kinds[file] = str(kind)
    return kinds, passed


REASONS: Mapping[str, Callable[[Path], bool]] = {
    "hidden": lambda file: any(part.startswith((".", "__")) or part.endswith("~") for part in file.parts),
    "beside texts": lambda file: (
        file.name.lower() in SIDE_FILES or (kind_of(file) in (None, "text") and bool(SIDE.fullmatch(file.name.lower())))
    ),
    "of a kind that is not read": lambda file: kind_of(file) is None,
}


def _one_kind(name: str, kinds: Mapping[Path, str], passed: Mapping[str, list[str]]) -> str:
    found = {kind: [file for file, one in kinds.items() if one == kind] for kind in dict.fromkeys(kinds.values())}
    if not found:
        there = "; ".join(f"{some(files)} ({reason})" for reason, files in passed.items())
        holds = f"holds only {there}" if there else "matches no files" if is_pattern(name) else "holds no files"
        raise StrataError(f"{name} {holds}: expected {', '.join(KINDS)}, compressed or not")
    if len(found) > 1:
        there = " and ".join(f"{kind} ({some([file.name for file in files])})" for kind, files in found.items())
        folder = name if os.path.isdir(path_of(name)) else str(Path(name).parent)
        patterns = " or ".join(f"'{folder.rstrip('/')}/**/*{end}'" for end in dict.fromkeys(map(ending, kinds)))
        raise StrataError(f"{name} holds {there}, and it is not clear which are meant: choose by a pattern in quotes, {patterns}")
    return next(iter(found))


def some(names: Sequence[str]) -> str:
    """The first of many names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
