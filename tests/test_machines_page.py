"""docs/machines.md: the table of costs is what plans say."""

import re
from pathlib import Path

import pytest

from adapters.specs import BlockSpec, ModelSpec
from analysis.engine.ablations import single_ablations
from analysis.engine.plan import plan

PAGE = Path(__file__).parents[1] / "docs" / "machines.md"
SHAPES = {  # of Llama 2: blocks, width, inner width of an ffn, heads, key-value heads
    "7B": (32, 4096, 11008, 32, 32),
    "13B": (40, 5120, 13824, 40, 40),
    "70B": (80, 8192, 28672, 64, 8),
}
VOCABULARY, TOKENS, RATE = 32000, 64 * 512, 125e12  # 40 % of an A100 in bfloat16


def spec(name: str) -> ModelSpec:
    """Of matrices alone: norms take nothing beside them."""
    blocks, d, inner, heads, kv_heads = SHAPES[name]
    mixer, ffn, unembed = 2 * d * d + 2 * d * d * kv_heads // heads, 3 * d * inner, VOCABULARY * d
    block = BlockSpec(
        n_heads=heads, n_kv_heads=kv_heads, head_dim=d // heads, d_ffn=inner, n_params=mixer + ffn, flops_per_token=2 * (mixer + ffn),
        mixer_flops=2 * mixer,
    )  # fmt: skip
    return ModelSpec(
        family="llama", variant="Llama 2", name=name, d_model=d, vocab_size=VOCABULARY, max_len=4096, blocks=(block,) * blocks,
        n_params=blocks * block.n_params + 2 * unembed,
    )  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_costs_are_those_of_plans(name: str) -> None:
    model, cells = spec(name), []
    for kinds in (["blocks"], ["mixers", "ffns"], ["heads"]):
        flops = plan(model, single_ablations(model, kinds)).flops_per_token * TOKENS
        cells.append(f"{flops / RATE / 3600:.2g}")
    row = f"| {name} | {2 * model.n_params / 1e9:.0f} GB | {' | '.join(cells)} |"
    assert row in PAGE.read_text(), f"the page lacks {row}"


def test_commands_of_the_page_are_there() -> None:
    options = set(re.findall(r"(?<![\w-])--([a-z-]+)", PAGE.read_text()))
    assert {"shard", "ray", "device", "workers", "tasks", "hours", "sbatch", "allow-missing"} <= options
