"""Which models are supported, as the tests have shown it: rows of `supported.json`, which `pytest -m '' --record` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

RECORD = Path(__file__).with_name("supported.json")
GPU = Path(__file__).with_name("gpu.json")  # what `make gpu` found, where it was run
NOT_RUN = "not run on a GPU yet"
UNKNOWN = "–"  # not recorded
KERNELS, SCAN_KERNELS = "fla kernels", "mamba_ssm kernels"
ABILITIES = {  # of a model_type, and what the tests of it have shown
    "blocks": "logits, streams and every ablation of blocks, mixers and ffns",
    "heads": "ablations of heads, where there are any (RWKV-4 has none)",
    "deletion": "blocks on the weights of fewer heads",
    "experts": "ablations of experts, where there are any",
    "pasts": "texts that go on from a past, cut anywhere",
    "export": "`strata prune`, read back",
}


class Row(NamedTuple):
    """One model_type. A cell is "yes", "no", or UNKNOWN where no test of this record has shown it."""

    model_type: str
    variants: tuple[str, ...] = ()
    cells: Mapping[str, str] = dict.fromkeys(ABILITIES, UNKNOWN)  # by ability
    against: str = UNKNOWN
    checkpoint: str = UNKNOWN  # a published one, whose keys and shapes are tested
    recorded: str = UNKNOWN  # version and date
    reasons: tuple[str, ...] = ()  # why a cell says no
    gpu: str = NOT_RUN


def rows(record: Path = RECORD, gpu: Path = GPU) -> list[Row]:
    """Of every model_type that comes with the project."""
    ran = on_gpu(gpu)
    return [_row(name, found, ran.get(name, NOT_RUN)) for name, found in sorted(json.loads(record.read_text(encoding="utf-8")).items())]


def on_gpu(gpu: Path = GPU) -> dict[str, str]:
    """By model_type, and under KERNELS and SCAN_KERNELS: whether it ran, on which card and when. Nothing of what was not tried."""
    if not gpu.is_file():
        return {}
    found = json.loads(gpu.read_text(encoding="utf-8"))
    where = f"{found['card']}, {found['date']}"
    return {name: f"run on {where}" if passed else f"failed on {where}" for name, passed in found["families"].items()}


def gpu_sentence(gpu: Path = GPU) -> str:
    """What README says of all families together."""
    ran, known = on_gpu(gpu), [row.model_type for row in rows(gpu=gpu)]
    passed: dict[str, list[str]] = {}
    for name in [*known, KERNELS, *[name for name in [SCAN_KERNELS] if name in ran]]:
        passed.setdefault(ran.get(name, NOT_RUN), []).append(name)
    if [*passed] == [NOT_RUN]:
        return f"Every family, and RWKV on {KERNELS}: {NOT_RUN} (`make gpu` does it)."
    most = max(passed, key=lambda said: len(passed[said]))
    others = [f"{', '.join(names)}: {said}" for said, names in passed.items() if said != most]
    return "; ".join([f"{'Other families' if others else 'All families'}: {most}", *others]) + "."


def _row(name: str, found: Mapping | None, gpu: str) -> Row:
    if not found:
        return Row(name, gpu=gpu)
    said = {ability: found["shows"].get(ability, 0) for ability in ABILITIES}  # number of tests, or why not
    return Row(
        name,
        tuple(found["variants"]),
        {ability: "no" if isinstance(n, str) else "yes" if n else UNKNOWN for ability, n in said.items()},
        found["against"] or UNKNOWN,
        found["checkpoint"] or UNKNOWN,
        f"{found['version']}, {found['date']}",
        tuple(f"{ability}: {n}" for ability, n in said.items() if isinstance(n, str)),
        gpu,
    )


def cells(row: Row) -> list[str]:
    """As HEADER names them."""
    return [row.model_type, ", ".join(row.variants) or UNKNOWN, *row.cells.values(), row.against, row.checkpoint, row.recorded, row.gpu]


HEADER = ("model_type", "variants", *ABILITIES, "equal to", "published keys", "recorded", "GPU")


def page(found: Sequence[Row]) -> str:
    """The contents of docs/models.md."""
    lines = ["| " + " | ".join(line) + " |" for line in (HEADER, ("---",) * len(HEADER), *map(cells, found))]
    why = [f"- {row.model_type}, {reason}" for row in found for reason in row.reasons]
    return "\n".join(
        [
            "# Models",
            "",
            "Which `model_type` of config.json is supported. A cell is filled only by tests that passed, at the version and date of its",
            "row, on tiny random models of the variants that it names; `strata check MODEL` does the same for one checkpoint.",
            "This page and `strata models --supported` are made from one record, by `pytest -m '' --record tests/adapters`.",
            "",
            *lines,
            "",
            *(f"- *{ability}*: {what}" for ability, what in ABILITIES.items()),
            f"- {UNKNOWN}: not recorded",
            "- *equal to*: what computes the same numbers, and is not part of the project",
            "- *published keys*: a checkpoint whose list of keys, shapes and number of parameters are in the tests",
            f"- *GPU*: in fp32 and bf16, by `make gpu`. RWKV on flash-linear-attention's kernels: {on_gpu().get(KERNELS, NOT_RUN)}",
            *(["", "Where a cell says no:", "", *why] if why else []),
            "",
        ]
    )
