"""What docs/published.md says is reproduced."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adapters.families import baichuan, llama
from analysis.paper.shortgpt import REMOVED
from analysis.paper.table_1 import TABLE
from tests.adapters.families.test_baichuan import PUBLISHED
from tests.adapters.families.test_llama import LLAMA_2_7B, LLAMA_2_13B, block_shapes
from tests.adapters.published import published

PAGE = (Path(__file__).parents[1] / "docs" / "published.md").read_text(encoding="utf-8")
SHARES = {  # of the parameters that ShortGPT's Table 1 removes: printed, and of the shapes
    "llama-2-7b": (27.1, 27.0),
    "llama-2-13b": (24.6, 24.4),
    "baichuan-2-7b": (24.2, 24.3),
    "baichuan-2-13b": (22.7, 22.7),
}
MODELS = {
    "llama-2-7b": (llama.build, LLAMA_2_7B, block_shapes(4096, 4096, 11008, old=True)),
    "llama-2-13b": (llama.build, LLAMA_2_13B, block_shapes(5120, 5120, 13824, old=True)),
    "baichuan-2-7b": (baichuan.build, *PUBLISHED["baichuan2-7b"][:2]),
    "baichuan-2-13b": (baichuan.build, *PUBLISHED["baichuan2-13b"][:2]),
}


@pytest.mark.parametrize("name", SHARES)
def test_sizes_of_table_1(name: str) -> None:
    spec = published(*MODELS[name]).spec
    removed = sum(spec.blocks[block].n_params for block in REMOVED[name])
    assert round(100 * removed / spec.n_params, 1) == SHARES[name][1]


@pytest.mark.parametrize("column", [0, 1])
def test_the_page_has_them(column: int) -> None:
    assert ", ".join(str(share[column]) for share in SHARES.values()) + " %" in PAGE


@pytest.mark.parametrize("name", ["llama-2-7b", "baichuan-2-7b", "baichuan-2-13b"])
def test_orders_of_table_4(name: str) -> None:
    assert ", ".join(map(str, REMOVED[name])) in PAGE


def test_sets_of_llama_2_13b() -> None:
    assert sorted(REMOVED["llama-2-13b"]) == list(range(26, 36))
    assert sorted(REMOVED["llama-2-13b"][:8]) == list(range(28, 36))
    assert "ten: 26 to 35; eight: 28 to 35" in PAGE


def test_averages_of_table_1() -> None:
    dense, *_, short = TABLE["llama-2-7b"]
    asked = re.findall(r"methods\.ipynb .* -p tasks (\S+)", PAGE)[0].split(",")
    assert f"{dense.average:.2f} to {short.average:.2f}; {dense.over(asked):.1f} to {short.over(asked):.1f}" in PAGE
    assert f"v3 says {short.mean:.2f}" in PAGE
    mmlu = [f"{rows[0].score('mmlu'):.2f} to {rows[-1].score('mmlu'):.2f}" for rows in TABLE.values()]
    assert mmlu[0] in PAGE
    assert ", ".join(mmlu[1:]) in PAGE
