"""What ShortGPT (arXiv 2403.03853v1) prints about removal: its strategies (Table 3) and the blocks that it removed (Table 4)."""

from __future__ import annotations

import re

# Table 3. Where section 4.4 has the first two the other way round, the table rules.
STRATEGIES = {
    "sequential": "from block 0 on",
    "reverse_order": "from the last block backwards",
    "relative_magnitude": "from the smallest relative magnitude on",
    "bi": "from the lowest Block Influence on",
}
# Table 4, 0-based, in the order printed.
REMOVED = {
    "llama-2-7b": (27, 26, 25, 28, 24, 29, 23, 21, 22),
    "llama-2-13b": (33, 31, 32, 30, 29, 34, 28, 35, 27, 26),
    "baichuan-2-7b": (26, 27, 25, 28, 24, 29, 23, 22, 30),
    "baichuan-2-13b": (32, 31, 33, 30, 34, 29, 28, 35, 27, 26),
}


def removed_in_paper(name: str) -> tuple[int, ...] | None:
    """The blocks that the paper removed from a model of this name (Llama-2-7b-hf, Baichuan2-7B-Base, ...); None for all others."""
    plain = re.sub(r"(llama|baichuan)-?2", r"\1-2", name.lower().replace("_", "-"))
    return next((blocks for known, blocks in REMOVED.items() if re.match(rf"{known}(-hf|-base)?$", plain)), None)
