"""`strata generate`: what a model writes behind a prompt, with all of its blocks and without some."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated

import typer

from adapters.ablation import Ablation
from adapters.errors import StrataError, visible
from reports.cli.options import ALIASES, AsJson, Device, Dtype, Model, Revision, reader

Without = Annotated[
    str,
    typer.Option(
        help="Blocks to remove together, for example 3,7; other parts by their names: 'blocks 3,7; heads 2.1; mixers 4; ffns 5'.",
        show_default=False,
    ),
]
PromptText = Annotated[str, typer.Option("--prompt", help="The text that goes on.", show_default=False)]
MaxTokens = Annotated[int, typer.Option("--max-tokens", min=1, help="New tokens at most.")]
Stop = Annotated[list[str] | None, typer.Option(help="A text that ends what is written; repeat it for several.", show_default=False)]


def generate(
    model: Model,
    prompt: PromptText,
    without: Without = "",
    max_tokens: MaxTokens = 64,
    stop: Stop = None,
    temperature: Annotated[float, typer.Option(min=0, help="0: the likeliest tokens; else sampled.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Sample from the likeliest tokens that together have this probability.")] = 1.0,
    top_k: Annotated[int, typer.Option(min=0, help="Sample from so many likeliest tokens, 0: all.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of sampled text.")] = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    revision: Revision = None,
    as_json: AsJson = False,
) -> None:
    """Text that a model writes, and what it writes without some of its blocks, heads or sublayers.

    Example: strata generate smollm2 --without 3,7 --prompt "Once upon a time" --max-tokens 64
    """
    out = parts(without)
    read = reader(model, device, dtype, revision)
    from analysis.engine.decoding import decode
    from analysis.engine.plan import plan
    from analysis.engine.row_budget import Prompt
    from analysis.engine.sampling import Sampling
    from analysis.tasks.requests import prompt_ids

    sampling = Sampling(temperature, top_p, top_k, seed)
    loaded = read()
    work = plan(loaded.spec, [out])
    asked = Prompt(prompt_ids(loaded, prompt), max_tokens, tuple(stop or ()), sampling)
    found = sorted(decode(loaded, work, [asked], names=["the prompt"]))
    if as_json:
        rows = [w._asdict() | {"ablation": work.ablations[w.ablation].to_json()} for w in found]
        print(json.dumps([{k: v for k, v in row.items() if k != "prompt"} for row in rows]))
        return
    for written in found:
        ablation = work.ablations[written.ablation]
        print(f"--- {f'without {ablation}' if ablation else 'unpruned'} ({len(written.tokens)} tokens, {ENDINGS[written.why]})")
        print(visible(written.text, keep="\n"))


ENDINGS = {"end": "end of text", "stop": "stop string", "length": "cut at --max-tokens"}


def _head(number: str) -> tuple[int, int]:
    block, head = number.split(".")
    return int(block), int(head)


NUMBERS: dict[str, Callable[[str], object]] = {"blocks": int, "mixers": int, "ffns": int, "heads": _head}


def parts(words: str) -> Ablation:
    """What `--without` names: numbers of blocks, or kinds with their numbers, as tables show them. Raises StrataError on anything else."""
    found: dict[str, list] = {}
    for part in filter(None, (part.strip() for part in words.split(";"))):
        kind, _, numbers = part.partition(" ") if part[0].isalpha() else ("blocks", "", part)
        kind = ALIASES.get(kind, kind)
        try:
            found.setdefault(kind, []).extend(NUMBERS[kind](number) for number in numbers.split(","))
        except (KeyError, ValueError):
            raise StrataError(
                f"--without {part!r} names no parts: expected blocks as 3,7, or blocks 3,7; mixers 4; ffns 5; heads 2.1"
            ) from None
    return Ablation.from_json(found)
