"""Folders of corpora: names of files, the head of README.md, and how a part of them is named.

What is read must be files of one kind in the folder, none hidden, every other file passed over by name; where the head declares
files, those that the package datasets finds by it.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from analysis.data.documents import documents
from analysis.data.reading import Reading
from analysis.data.rows import Source
from analysis.data.sources import selection
from tests.fuzz.core import Kind
from tests.fuzz.mutations import raw
from tests.fuzz.verdicts import Wrong

ASKED = ".asked"  # a hidden file that says what is behind the folder's name
HEAD = """---
license: mit
configs:
- config_name: en
  default: true
  data_files:
  - split: train
    path: en/train*
  - split: test
    path: [en/test*]
- config_name: zh
  data_files: zh/*.jsonl
---
# A data set
"""
BASES = {  # files by the folder's name, and what is behind it
    "declared": (["en/train.jsonl", "en/test.jsonl", "zh/a.jsonl", "README.md"], ":en:train"),
    "named": (["data/train-0.jsonl", "data/train-1.jsonl", "data/test.jsonl"], ""),
    "plain": (["a.jsonl", "deep/er/b.jsonl", "LICENSE.txt", ".h.jsonl"], "#text"),
    "prose": (["a.txt", "b.TXT", "robots.txt"], ""),
    "tables": (["a.csv", "b.csv", "__pycache__/c.csv"], ""),
}
NAMES = [
    *("en/train.jsonl", "zh/a.jsonl", "a.jsonl", "b.csv", "LICENSE.txt", "c.txt", "x\ny.jsonl", "[z].jsonl", "-d.jsonl", ".h.jsonl", "e"),
    *("q.JSONL", "n%s.json", "{p}.jsonl", "sub.jsonl/a.jsonl", "val#x.jsonl", "a:b.jsonl", "dev.csv", "requirements.txt", "w.jsonl~"),
    *("dataset_info.json", "p.pdf", "train/a.jsonl", "test/a.csv", "\x1b[31m.jsonl", "name.gz", "README.md", "a.parquet"),
]
BEHIND = (
    " #text #x :en :zh :en:test ::train ::test :: # : /*.jsonl /** /**/*.jsonl#text /[ /.. /*/../* ~ /a.jsonl /nothing ::\x1b \0 :default "
    f":en:train#text /{{a,b}}* /**/* {':' * 500} #{'x' * 5000}"
).split(" ")
YAML = (
    "[|{|- |\n|  |\t|!!python/object:os.system|&a [*a]|*a|..|/etc/*|**/*|null|1|---\n|\x1b|data_files|configs:|2020-01-01|<<: a|'|\"|\0|é|"
    "path: ../*|path: '/'|split: test|en/|zh/"
).split("|")


def _content(name: str) -> str:
    """One document, which says where it is from."""
    said = ascii(name)
    return (
        f"text\n{said}\n" if name.lower().endswith(".csv") else said if name.lower().endswith(".txt") else json.dumps({"text": said}) + "\n"
    )


def _put(folder: Path, name: str) -> None:
    path = folder / name
    if not path.exists() and not any(parent.is_file() for parent in path.parents):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEAD if path.name == "README.md" else _content(name))


def _make(root: Path) -> dict[str, None]:
    for base, (names, behind) in BASES.items():
        (root / base).mkdir()
        (root / base / ASKED).write_text(behind)
        for name in names:
            _put(root / base, name)
    return dict.fromkeys(BASES)


def _mutate(rng: Random, folder: Path, base: None) -> str:
    said = []
    for _ in range(rng.choice([1, 1, 2, 3])):
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ASKED]
        draw = rng.randrange(6)
        if draw < 2:
            name = rng.choice(NAMES)
            _put(folder, name)
            said.append(f"{name} is there")
        elif draw == 2 and files:
            path = rng.choice(files)
            path.unlink()
            if rng.random() < 0.3:
                path.symlink_to(rng.choice(["nowhere", "..", "/dev/zero", "/etc/hostname", path.name]))
            said.append(f"{path.relative_to(folder)} is gone")
        elif draw == 3:
            behind = rng.choice(BEHIND)
            (folder / ASKED).write_text(behind)
            said.append(f"asked for {behind[:40]}")
        elif (folder / "README.md").is_file():
            said.append(_head(rng, folder / "README.md"))
    return ", ".join(said) or "nothing"


def _head(rng: Random, readme: Path) -> str:
    text = readme.read_text()
    if rng.random() < 0.3:
        data, said = raw(rng, text.encode(), 0, text.rindex("---") if "---" in text else None)
        readme.write_text(data.decode("utf-8", "replace"))
        return said
    at = rng.randrange(len(text) + 1)
    snippet = rng.choice(YAML)
    readme.write_text(text[:at] + snippet + text[at + rng.choice([0, 0, 3, 12]) :])
    return f"README.md: {snippet!r} at {at}"


def _judge(folder: Path, base: None) -> tuple[str, str]:
    corpus = f"{folder}{(folder / ASKED).read_text()}"
    found = selection(corpus)
    reading = Reading(corpus, found)
    read = [document.text for document in documents(corpus, reading=reading)]
    expected = sorted({_text_of(path, folder) for path in found.files})
    if sorted(read) != expected:
        raise Wrong(f"read {read}, the files say {expected}")
    outside = [path for path in found.files if folder.resolve() not in path.resolve().parents and not path.is_symlink()]
    if outside:
        raise Wrong(f"read outside of the folder: {outside}")
    if Source.of(corpus).path != folder:
        return "right", "a pattern"
    named = {str(path.relative_to(folder)) for path in found.files} | {name for names in found.passed_over.values() for name in names}
    if missing := {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()} - named:
        raise Wrong(f"neither read nor passed over: {missing}")
    if hidden := [path for path in found.files if any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)]:
        raise Wrong(f"hidden files were read: {hidden}")
    return _as_datasets(folder, corpus, found.files)


def _text_of(path: Path, folder: Path) -> str:
    """Of a file, whose only document says its name; of a link that of where it leads to."""
    return ascii(str(path.resolve().relative_to(folder.resolve()))) if not path.is_symlink() else path.read_text().strip()


def _as_datasets(folder: Path, corpus: str, files: Any) -> tuple[str, str]:
    """Against the files that datasets takes for the split, where README.md declares them."""
    from datasets.data_files import DataFilesDict, sanitize_patterns
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard

    source = Source.of(corpus)
    try:
        configs = (
            MetadataConfigs.from_dataset_card_data(DatasetCard.load(folder / "README.md").data) if (folder / "README.md").exists() else {}
        )
        if not configs:
            return "right", ""
        name = source.configuration or configs.get_default_config_name() or next(iter(configs))
        patterns = sanitize_patterns(configs[name]["data_files"])
        splits = DataFilesDict.from_patterns(patterns, base_path=str(folder))
        theirs = list(map(str, splits[source.split or ("train" if "train" in splits else next(iter(splits)))]))
    except Exception as error:  # of YAML, of datasets and of the hub
        return "as before", f"{type(error).__name__}: {error}"
    if sorted(theirs) != sorted(map(str, files)):
        raise Wrong(f"read {list(map(str, files))}, datasets {theirs}")
    return "right", ""


KIND = Kind(_make, _mutate, _judge)
