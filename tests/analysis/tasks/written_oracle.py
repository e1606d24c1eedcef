"""What lm_eval's own `hf` model writes, and how texts that differ are told to be ties or errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapters import Ablation
from analysis.engine.row_budget import Prompt
from analysis.tasks import load_tasks
from analysis.writing.measures import first_difference
from tests.analysis.tasks.oracle import Both
from tests.reference.naive import without

TIE = 1e-4  # between the two largest logits: below it rounding decides which token is written
Logits = Callable[[Tensor], Tensor]  # of tokens (1, T): (1, T, vocabulary)


class Said(NamedTuple):
    text: str
    tokens: list[int]


def harness_texts(
    both: Both, ablation: Ablation, name: str, data: Path, limit: int, *, use_cache: bool = True, **generation: object
) -> list[Said]:
    """What lm_eval's own `hf` model at batch size 1 writes; without a cache it reads all of a text again for every token."""
    from lm_eval.models.huggingface import HFLM

    reference, tokens = without(both.reference, ablation), {}
    generate = reference.generate

    def recorded(input_ids: Tensor, **options: object) -> Tensor:
        out = generate(input_ids=input_ids, **options | {"use_cache": use_cache})  # lm_eval always asks for one
        tokens[tuple(input_ids[0].tolist())] = out[0, input_ids.shape[1] :].tolist()
        return out

    setattr(reference, "generate", recorded)  # noqa: B010 - of this copy alone
    lm = HFLM(pretrained=reference, tokenizer=both.tokenizer, batch_size=1, device="cpu")
    instances = [item.instances[0] for item in load_tasks(name, limit=limit, data=data).items]
    for instance in instances:
        instance.arguments = (instance.args[0], instance.args[1] | generation)
    texts = lm.generate_until(instances, disable_tqdm=True)
    most = lm.max_length - int(instances[0].args[1]["max_gen_toks"])
    prompts = [tuple(lm.tok_encode(instance.args[0])[-most:]) for instance in instances]
    return [Said(text, tokens[prompt]) for text, prompt in zip(texts, prompts, strict=True)]


@torch.inference_mode()
def assert_same(ours: Sequence[dict], theirs: Sequence[Said], prompts: Sequence[Prompt], logits: Logits) -> None:
    """Texts are the same, or differ first where the two likeliest tokens are a tie. Ties are printed."""
    found = []
    for d, (our, their, prompt) in enumerate(zip(ours, theirs, prompts, strict=True)):
        if our["text"] != their.text:
            place = first_difference(our["tokens"], their.tokens)
            first, second = logits(torch.tensor([[*prompt.tokens, *our["tokens"][:place]]]))[0, -1].topk(2).values.tolist()
            found.append((f"document {d}, token {place}", first - second))
    report(found)


@torch.inference_mode()
def assert_likeliest(ours: Sequence[dict], prompts: Sequence[Prompt], logits: Logits) -> None:
    """Every token is the likeliest one of a pass over the whole text before it: what is written without a cache, in one pass a text."""
    found = []
    for d, (our, prompt) in enumerate(zip(ours, prompts, strict=True)):
        ids = torch.tensor([[*prompt.tokens, *our["tokens"]]])
        of_new = logits(ids)[0, len(prompt.tokens) - 1 : -1]
        short = of_new.max(-1).values - of_new.gather(-1, ids[0, len(prompt.tokens) :, None])[:, 0]
        found += [(f"document {d}, token {place}", margin) for place, margin in enumerate(short.tolist()) if margin > 0]
    report(found)


def report(differences: Sequence[tuple[str, float]]) -> None:
    lines = [f"{where}: margin {margin:.1e}{', a tie' if margin < TIE else ''}" for where, margin in differences]
    if lines:
        print("\n".join(lines))
    assert all(margin < TIE for _, margin in differences), "texts differ\n" + "\n".join(lines)


def ended_by_a_stop(texts: np.ndarray) -> float:
    """The share."""
    return float(np.mean([text["why"] == "stop" for text in texts.flat]))
