"""What generation_config.json says of the text that a model writes: where it ends, and what changes even the likeliest token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapters.checkpoints.files import read_json
from adapters.errors import StrataError

NEUTRAL: dict[str, tuple[Any, ...]] = {  # what leaves greedy text as the model's logits have it
    "repetition_penalty": (1,),
    "encoder_repetition_penalty": (1,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "num_beams": (1,),
    "guidance_scale": (1,),
    "penalty_alpha": (0,),
    "bad_words_ids": ([],),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "forced_decoder_ids": ([],),
    "sequence_bias": ({}, []),
    "exponential_decay_length_penalty": (),
}


def endings(folder: Path, config: dict) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Ids of tokens that end a text, of generation_config.json or else of config.json; and its settings that change greedy text.

    Raises StrataError when ids are of another form.
    """
    path = folder / "generation_config.json"
    own = read_json(path) if path.is_file() else {}
    said = config.get("eos_token_id") if own.get("eos_token_id") is None else own["eos_token_id"]
    ids = said if isinstance(said, list) else [] if said is None else [said]
    if not all(type(i) is int for i in ids):
        raise StrataError(f"{path.name if own else 'config.json'} says eos_token_id {said!r:.60}, expected a token's id or a list of them")
    alters = (f"{name} {own[name]!r:.40}" for name, kept in NEUTRAL.items() if own.get(name) is not None and own[name] not in kept)
    return tuple(i for i in ids if i >= 0), tuple(alters)
