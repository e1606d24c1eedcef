"""Every method by its name."""

from __future__ import annotations

from analysis.methods.laco import LACO, LACO_EQ1
from analysis.methods.linear import LINEAR
from analysis.methods.llm_pruner import LLM_PRUNER, LLM_PRUNER_PUBLISHED
from analysis.methods.method import Method
from analysis.methods.removal import ONE_SHOT, SHORTGPT
from analysis.methods.slicegpt import SLICEGPT

METHODS: dict[str, Method] = {
    "shortgpt": SHORTGPT,
    "one_shot": ONE_SHOT,
    "laco": LACO,
    "laco_eq1": LACO_EQ1,
    "linear": LINEAR,
    "slicegpt": SLICEGPT,
    "llm_pruner": LLM_PRUNER,
    "llm_pruner_published": LLM_PRUNER_PUBLISHED,
}
