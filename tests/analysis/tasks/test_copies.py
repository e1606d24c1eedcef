"""A copy of the hub's data set in Parquet gives lm_eval the same questions as the makers' files; else a helpful error."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from adapters import StrataError
from analysis.tasks import TaskSet, load_tasks
from analysis.tasks.layouts import LAYOUTS
from tests.analysis.tasks.makers import write_lines

GOOD = '{"goal": "a", "sol1": "b", "sol2": "c"}'
SETS = {"piqa": ("baber/piqa", ""), "hellaswag": ("Rowan/hellaswag", ""), "mmlu_anatomy": ("cais/mmlu", "anatomy")}


def asked(tasks: TaskSet) -> list[tuple]:
    return [(item.task, instance.args, tasks.gold(item)) for item in tasks.items for instance in item.instances]


def copy(data: Path, folder: Path, name: str, place: str = "{path}/{configuration}/{split}-00000-of-00001.parquet") -> Path:
    """As `datasets` writes it, which keeps the names of labels beside their numbers."""
    path, configuration = SETS[name]
    for split, rows in LAYOUTS[path].read(data, configuration).items():
        if rows:
            target = folder / place.format(path=path, name=path.split("/")[1], configuration=configuration, split=split)
            target.parent.mkdir(parents=True, exist_ok=True)
            found = datasets.Dataset.from_list(rows)
            if name == "piqa":
                found = found.cast_column("label", datasets.ClassLabel(names=["first", "second"]))
            found.to_parquet(target)
    return folder


@pytest.mark.parametrize(
    "place",
    [
        "{path}/{configuration}/{split}-00000-of-00001.parquet",
        "{name}/{configuration}/{split}.parquet",
        "{path}/{configuration}/{split}/0000.parquet",  # the hub's own conversion
        "{path}/{configuration}/data/{split}-00000-of-00001.Parquet",
    ],
)
@pytest.mark.parametrize(("name", "shots"), [("piqa", 0), ("hellaswag", 0), ("mmlu_anatomy", 2)])
def test_the_same_questions_as_from_the_makers_files(name: str, shots: int, place: str, data: Path, tmp_path: Path) -> None:
    theirs = load_tasks(name, shots=shots, data=data)
    ours = load_tasks(name, shots=shots, data=copy(data, tmp_path, name, place))
    assert asked(ours) == asked(theirs)
    assert len(ours.items) > 3


def test_the_head_of_the_readme_says_where_a_configuration_lies(data: Path, tmp_path: Path) -> None:
    copy(data, tmp_path, "mmlu_anatomy", "{path}/somewhere/x-{split}.parquet")
    head = "".join(f"  - split: {split}\n    path: somewhere/x-{split}.parquet\n" for split in ("test", "dev"))
    (tmp_path / "cais/mmlu/README.md").write_text(f"---\nconfigs:\n- config_name: anatomy\n  data_files:\n{head}---\n")
    assert asked(load_tasks("mmlu_anatomy", shots=2, data=tmp_path)) == asked(load_tasks("mmlu_anatomy", shots=2, data=data))


def test_any_data_set_can_be_a_copy(tmp_path: Path) -> None:
    """One without a layout of its makers' files."""
    (tmp_path / "EleutherAI/wikitext_document_level/wikitext-2-raw-v1").mkdir(parents=True)
    held = datasets.Dataset.from_list([{"page": f" = Page {i} = \n Some text.\n"} for i in range(3)])
    for split in ("train", "validation", "test"):
        held.to_parquet(tmp_path / "EleutherAI/wikitext_document_level/wikitext-2-raw-v1" / f"{split}.parquet")
    assert len(load_tasks("wikitext", data=tmp_path).items) == 3


def test_copies_that_cannot_be_read(data: Path, tmp_path: Path) -> None:
    copy(data, tmp_path / "flat", "mmlu_anatomy", "{path}/{split}.parquet")
    copy(data, tmp_path / "unnamed", "piqa", "{path}/{configuration}/part.parquet")
    copy(data, tmp_path / "twice", "piqa", "{name}/{split}.parquet")
    write_lines(tmp_path / "twice/piqa/valid.jsonl", ['{"goal": "a", "sol1": "b", "sol2": "c"}'])
    write_lines(tmp_path / "twice/piqa/valid-labels.lst", ["0"])
    pointer = copy(data, tmp_path / "pointer", "piqa") / "baber/piqa/validation-00000-of-00001.parquet"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    cut = copy(data, tmp_path / "cut", "piqa") / "baber/piqa/validation-00000-of-00001.parquet"
    cut.write_bytes(cut.read_bytes()[:-20])
    (copy(data, tmp_path / "split", "piqa", "{path}/{split}.parquet") / "baber/piqa/validation.parquet").unlink()
    for folder, name, message in (
        ("flat", "mmlu_anatomy", r"mmlu has no folder 'anatomy', the configuration that is asked, and no README.md"),
        ("unnamed", "piqa", "baber/piqa in .*unnamed has no split train: it has part"),
        ("twice", "piqa", "holds baber/piqa twice, as its makers' files and as Parquet in"),
        ("pointer", "piqa", "is a pointer of Git LFS"),
        ("cut", "piqa", "cannot read .* as Parquet"),
        ("split", "piqa", "baber/piqa in .*split has no split validation: it has test, train"),
    ):
        with pytest.raises(StrataError, match=message) as error:
            load_tasks(name, data=tmp_path / folder)
        assert "\n" not in str(error.value)


def test_files_of_benchmarks_are_read_as_corpora_are(tmp_path: Path) -> None:
    row = '{"goal": "a", "sol1": "b", "sol2": "c"}'
    for content, message in (
        ("version https://git-lfs.github.com/spec/v1\noid\n", "valid.jsonl is a pointer of Git LFS"),
        ("%PDF-1.4", "valid.jsonl is a PDF document"),
        ('{"goal": ' + "[" * 100_000, "valid.jsonl, line 1: "),
        (row.replace('"a"', '"\\ud83d"'), r"valid.jsonl, line 1 holds \\ud83d, half of a character"),
        (row, "valid-labels.lst holds 1 labels more than valid.jsonl has rows"),
    ):
        write_lines(tmp_path / "piqa/valid.jsonl", [content])
        write_lines(tmp_path / "piqa/valid-labels.lst", ["0", "1"])
        with pytest.raises(StrataError, match=message) as error:
            load_tasks("piqa", data=tmp_path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (['{"goal": "a", "sol1": null, "sol2": "c"}'], "line 1: ValueError null where a value is expected; it has goal"),
        ([GOOD, '{"goal": 5, "sol1": "b", "sol2": "c"}'], "line 2: ValueError int where others have str"),
        ([GOOD, '{"goal": ["a"], "sol1": "b", "sol2": "c"}'], "line 2: ValueError list where others"),
        (['{"goal": %s, "sol1": "b", "sol2": "c"}' % 10**30], "rows of baber/piqa in .* do not fit together"),
    ],
)  # fmt: skip
def test_rows_of_one_benchmark_are_of_one_shape(rows: list[str], message: str, tmp_path: Path) -> None:
    """A null would be asked as the word None."""
    write_lines(tmp_path / "piqa/valid.jsonl", rows)
    write_lines(tmp_path / "piqa/valid-labels.lst", ["0"] * len(rows))
    with pytest.raises(StrataError, match=message) as error:
        load_tasks("piqa", data=tmp_path)
    assert "\n" not in str(error.value)
