"""Text that a model writes under every ablation of a plan, all at once; and greedy tokens of one ablation, for every family alike.

Prompts are read through a tree: what they share once, and what ablations share once. Then rows of (ablation, prompt) are read a
token at a time, a fixed number of them, into which new ones come as others end, so that weights are read once for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from adapters.ablation import NONE, Ablation
from adapters.base import BlockModel
from adapters.block import BlockPast
from adapters.errors import StrataError
from analysis.engine.endings import Endings
from analysis.engine.live_rows import LiveRow, LiveRows
from analysis.engine.pasts import Pasts
from analysis.engine.pieces import Pieces
from analysis.engine.plan import Plan
from analysis.engine.prompts import Memory, Prompts
from analysis.engine.row_budget import Prompt, chunks, rows_within
from analysis.engine.sampling import choose
from analysis.engine.sweep import Executor, require_plan_of, room, stream_bytes, where_not_finite
from analysis.engine.tree import Tree

GONE = 8  # rows are renewed when one of so many has ended


class Written(NamedTuple):
    """What one ablation wrote behind one prompt, by their numbers; `why` it ends: end (of text), stop (string), length."""

    ablation: int
    prompt: int
    tokens: list[int]
    text: str
    why: str


@torch.inference_mode()
def decode(
    model: BlockModel, plan: Plan, prompts: Sequence[Prompt], *, memory: int | None = None, names: Sequence[str] | None = None
) -> Iterator[Written]:
    """What every ablation of `plan` writes behind every prompt, in the order in which texts end.

    It is what each would write alone, but for ties of logits that the order of sums breaks. `memory` is in bytes, of pasts and logits
    alone; `names` name prompts in errors. Raises StrataError when `memory` does not hold one row, on a prompt that is empty or that
    leaves no room for its text in the model's context, on an empty stop string, on a model without a tokenizer or whose
    generation_config.json changes what it writes, and on a stream that is not finite.
    """
    require_plan_of(model, plan)
    endings = check_prompts(model, prompts, names)
    for numbers, start in chunks(prompts):
        size, rows = rows_within(memory, model, len(plan.ablations), [prompts[n] for n in numbers], start)
        for first in range(0, len(plan.ablations), size):
            part = Plan(plan.spec, plan.ablations[first : first + size], plan.actions[first : first + size])
            for written in _Decoder(model, part, prompts, endings, rows, names).run(numbers, start):
                yield written._replace(ablation=first + written.ablation)


class _Decoder:
    """Decodes prompts that go on from one beginning, with `most` rows at once."""

    def __init__(
        self, model: BlockModel, plan: Plan, prompts: Sequence[Prompt], endings: Endings, most: int, names: Sequence[str] | None
    ) -> None:
        self.model, self.plan, self.prompts, self.endings, self.most, self.names = model, plan, prompts, endings, most, names

    def run(self, numbers: Sequence[int], start: int) -> Iterator[Written]:
        begun = self._read({0: self.prompts[numbers[0]].tokens[:start]}, None, 0, None)[0] if start else None
        live, waiting = LiveRows(self.model, self.plan, begun), list(numbers)
        while waiting or live.alive:
            n_alive = len(live.alive)
            fit = (self.most - n_alive) // len(self.plan.ablations)
            if waiting and fit:
                coming, waiting = waiting[:fit], waiting[fit:]
                pasts, ends = self._read({n: self.prompts[n].tokens[start:] for n in coming}, begun, start, start)
                new = [
                    LiveRow(a, n, len(self.prompts[n].tokens), self.prompts[n].sampling.numbers(self.prompts[n].tokens))
                    for a in range(len(self.plan.ablations))
                    for n in coming
                ]
                yield from self._write(new, ends.flatten(0, 1))
                live.renew([row for row in new if not row.done], pasts)
            elif (len(live.rows) - n_alive) * GONE >= len(live.rows):
                live.renew()
            if live.alive:
                yield from self._write(live.rows, live.step())

    def _read(self, texts: Mapping[int, Sequence[int]], before: Pasts | None, start: int, skip: int | None) -> tuple[Pasts, Tensor]:
        """What blocks keep of numbered texts behind a beginning of `start` tokens, and the streams at their ends (ablations, texts, d)."""
        tree, ends = Tree(), dict[int, list[int]]()
        last = [tree.add(text)[-1] for text in texts.values()]
        for number, node in zip(texts, last, strict=True):
            ends.setdefault(node, []).append(number)
        kept = Pasts(self.model.device, skip)
        found = _Ends(self.model, last, len(self.plan.ablations))
        reading = cache(lambda pieces: Prompts(self.model, tree, self.plan.branches, Memory(before, start, kept, ends), pieces))

        def call(pieces: Pieces) -> int:
            return reading(pieces).call_bytes(len(self.plan.ablations))

        what = f"prompts of {len(tree)} tokens"
        limit, pieces = room(None, self.model, self.plan.minimum, stream_bytes(self.model, 1, len(tree)), call, what)
        Executor(self.plan, reading(pieces), found, limit, lambda streams: None).run()
        return kept, found.streams

    def _write(self, rows: Sequence[LiveRow], streams: Tensor) -> Iterator[Written]:
        """The next token of every row that goes on, from streams (rows, d) behind the last block."""
        going = [n for n, row in enumerate(rows) if not row.done]
        streams = streams[torch.tensor(going, device=streams.device)]
        self._require_finite([rows[n] for n in going], streams)
        logits = self.model.logits(streams)
        for sampling in dict.fromkeys(self.prompts[rows[n].prompt].sampling for n in going):
            these = [k for k, n in enumerate(going) if self.prompts[rows[n].prompt].sampling == sampling]
            numbers = [rows[going[k]].numbers.random() for k in these] if sampling.temperature else []
            chosen = choose(logits if len(these) == len(going) else logits[these], sampling, numbers)
            for k, token in zip(these, chosen.tolist(), strict=True):
                row = rows[going[k]]
                row.tokens.append(token)
                prompt = self.prompts[row.prompt]
                if why := self.endings.why(row.tokens, prompt.most, prompt.until):
                    row.done = True
                    yield Written(row.ablation, row.prompt, row.tokens, self.endings.text(row.tokens, prompt.until), why)

    def _require_finite(self, rows: Sequence[LiveRow], streams: Tensor) -> None:
        finite = torch.isfinite(streams).all(-1)
        if bool(finite.all()):
            return
        row = rows[int((~finite).nonzero()[0])]
        ids = torch.tensor([[*self.prompts[row.prompt].tokens, *row.tokens]], device=self.model.device)
        scores = torch.zeros(len(self.plan.ablations), 1)
        scores[row.ablation] = torch.nan
        name = self.names[row.prompt] if self.names else f"prompt {row.prompt}"
        raise StrataError(where_not_finite(self.model, self.plan, ids, torch.tensor([ids.shape[1]]), scores, [name]))


class _Ends:
    """Takes from the streams that arrive behind the last block what stands at the ends of texts."""

    def __init__(self, model: BlockModel, nodes: Sequence[int], n_ablations: int) -> None:
        self._nodes = torch.tensor(nodes, device=model.device)
        self.streams = torch.empty(n_ablations, len(nodes), model.spec.d_model, dtype=model.stream_dtype, device=model.device)

    def add(self, ablations: Sequence[int], xs: Sequence[Tensor]) -> None:
        for ablation, x in zip(ablations, xs, strict=True):
            self.streams[ablation] = x[self._nodes]


def check_prompts(model: BlockModel, prompts: Sequence[Prompt], names: Sequence[str] | None = None) -> Endings:
    """How texts end. Raises StrataError as `decode` does of a model and its prompts, before anything is read."""
    endings = Endings(model)
    for n, prompt in enumerate(prompts):
        which, longest = names[n] if names else f"prompt {n}", model.spec.max_len - prompt.most
        endings.strings(prompt.until)
        if not prompt.tokens or prompt.most < 1:
            raise StrataError(f"{which} has {len(prompt.tokens)} tokens and asks for {prompt.most} new ones: both need at least one")
        if len(prompt.tokens) > longest:
            raise StrataError(
                f"{which} has {len(prompt.tokens)} tokens and asks for {prompt.most} new ones, and {model.spec.name} reads "
                f"{model.spec.max_len}: cut it on the left, or ask for fewer"
            )
    return endings


def generate(model: BlockModel, ids: Tensor, n_tokens: int, ablation: Ablation = NONE) -> Tensor:
    """The `n_tokens` likeliest tokens, one after the other, behind each row of `ids` (D, T): (D, n_tokens)."""
    return torch.cat(list(islice(tokens(model, ids, ablation), n_tokens)), 1)


@torch.inference_mode()
def tokens(model: BlockModel, ids: Tensor, ablation: Ablation = NONE) -> Iterator[Tensor]:
    """The likeliest token behind each row of `ids` (D, T), then that behind it, and so on without an end: (D, 1) each.

    Raises StrataError when the ablation names a block or a head that the model does not have.
    """
    actions = ablation.actions(model.spec)
    pasts: list[BlockPast | None] = [None] * len(actions)
    start = torch.zeros(len(ids), dtype=torch.long, device=model.device)
    ids = ids.to(model.device)
    while True:
        x, ctx = model.begin(ids, start=start)
        for i, action in enumerate(actions):
            step = model.advance(i, x, ctx, [(0, action)], pasts[i])
            x, pasts[i] = step.x, step.past
        start = start + ids.shape[1]
        ids = model.logits(x[:, -1:]).argmax(-1)
        yield ids
