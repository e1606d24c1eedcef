"""What ShortGPT (arXiv 2403.03853v1) prints about removal: its strategies (Table 3), the blocks that it removed (Table 4), and how
many of them from a quantised model (Table 2)."""

from __future__ import annotations

import re

# Table 3. Where section 4.4 has the first two the other way round, the table rules.
STRATEGIES = {
    "sequential": "from the first block forwards",
    "reverse_order": "from the last block backwards",
    "relative_magnitude": "by ascending relative magnitude",
    "bi": "by ascending Block Influence",
}
# Table 4, 0-based, in the order printed.
REMOVED = {
    "llama-2-7b": (27, 26, 25, 28, 24, 29, 23, 21, 22),
    "llama-2-13b": (33, 31, 32, 30, 29, 34, 28, 35, 27, 26),
    "baichuan-2-7b": (26, 27, 25, 28, 24, 29, 23, 22, 30),
    "baichuan-2-13b": (32, 31, 33, 30, 34, 29, 28, 35, 27, 26),
}
# Table 2, of Llama-2-7B quantised by GPTQ: model, blocks, perplexity, MMLU.
QUANTISED = (("Baseline", 32, 8.4999, 37.99), ("ShortGPT", 23, 42.6951, 36.69))


def paper_n_removed(n_blocks: int) -> int:
    """How many blocks the paper takes out: 9 of 32 and 10 of 40, else about a quarter."""
    return {32: 9}.get(n_blocks, max(1, round(n_blocks / 4)))


def named_in_paper(name: str) -> str | None:
    """The paper's model of this name (Llama-2-7b-hf, Baichuan2-7B-Base, ...), as a key of REMOVED; None for all others."""
    plain = re.sub(r"(llama|baichuan)-?2", r"\1-2", name.lower().replace("_", "-"))
    return next((known for known in REMOVED if re.match(rf"{known}(-hf|-base)?$", plain)), None)


def removed_in_paper(name: str, n_blocks: int) -> tuple[int, ...]:
    """The blocks that the paper removed from a model; none for models that are not among its four, or of another depth."""
    blocks = REMOVED.get(named_in_paper(name) or "", ())
    return blocks if len(blocks) == paper_n_removed(n_blocks) else ()
