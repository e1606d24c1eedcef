"""What a benchmark asks a model: how likely a continuation is behind a context; in tokens, as lm_eval's HFLM makes them.

But special tokens that a question spells out are text here, as everywhere (adapters/tokenizers.py); HFLM takes them for tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from adapters.base import BlockModel
from adapters.errors import StrataError
from adapters.tokenizers import Tokenizer
from analysis.data.batches import tokenizer_of
from analysis.engine.tree import Tree


class Request(NamedTuple):
    """Token ids; the log-likelihood of `continuation` behind `context`, which is never empty, is asked for."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]

    def inputs(self, max_len: int) -> tuple[int, ...]:
        """What a model reads: all but the last token, cut on the left to its context of `max_len` tokens."""
        return (self.context + self.continuation)[-(max_len + 1) : -1]

    def is_cut(self, max_len: int) -> bool:
        return len(self.context) + len(self.continuation) > max_len + 1


def pair(model: BlockModel, context: str, continuation: str) -> Request:
    """Spaces at the end of the context belong to the continuation, and both are encoded as one text (`TemplateLM._encode_pair`).

    An empty context is the model's prefix token. Raises StrataError when it has none.
    """
    tokenizer = tokenizer_of(model)
    if not context:
        ids = tuple(tokenizer.encode(continuation).ids)
        prefix = _prefix(model)
        return Request(ids[:1], ids[1:]) if ids[:1] == (prefix,) else Request((prefix,), ids)
    kept = context.rstrip()
    continuation, context = context[len(kept) :] + continuation, kept
    if not context:  # nothing but spaces
        return Request(tuple(_encode(tokenizer, "")), tuple(_encode(tokenizer, continuation)[len(_encode(tokenizer, "")) :]))
    before, whole = _encode(tokenizer, context), _encode(tokenizer, context + continuation)
    return Request(tuple(before), tuple(whole[len(before) :]))


def rolling(model: BlockModel, text: str) -> list[Request]:
    """A whole text in windows of the model's context that do not overlap, as lm_eval cuts them for perplexities."""
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    ids = _encode(tokenizer_of(model), text)
    windows = get_rolling_token_windows(token_list=ids, prefix_token=_prefix(model), max_seq_len=model.spec.max_len, context_len=1)
    return [Request(*map(tuple, make_disjoint_window(window))) for window in windows]


def prompt_ids(model: BlockModel, text: str, most: int | None = None) -> tuple[int, ...]:
    """What a model goes on from: `text`, its last `most` tokens; of an empty one the model's prefix token, as `pair`."""
    ids = _encode(tokenizer_of(model), text)
    return tuple(ids[-most:] if most else ids) or (_prefix(model),)


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """With the BOS token that the tokenizer puts in front, unless the text begins with it."""
    ids = tokenizer.encode(text).ids
    return ids if tokenizer.bos_id is None or ids[:1] == [tokenizer.bos_id] else [tokenizer.bos_id, *ids]


def _prefix(model: BlockModel) -> int:
    prefix = tokenizer_of(model).prefix_id
    if prefix is None:
        raise StrataError(f"the tokenizer of {model.spec.name} has no BOS or end-of-text token, which an empty context asks for")
    return prefix


def tree_size(requests: Iterable[Request], max_len: int) -> int:
    """Tokens that go through the blocks for one ablation."""
    tree = Tree()
    for request in requests:
        tree.add(request.inputs(max_len))
    return len(tree)
