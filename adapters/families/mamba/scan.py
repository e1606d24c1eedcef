"""The recurrences of Mamba and Mamba-2, in the form that is fast where they run.

Shapes: rows R, time T, state size N. Everything here is computed in fp32 (fp64 stays fp64), and a state is what `past` carries from
one call to the next; None is that of nothing read. A token with a step of 0 leaves the state as it was, which is how padding is masked.
"""

from __future__ import annotations

import torch
from torch import Tensor

from adapters.recurrent import kernels_for
from adapters.specs import Scan

CHUNK = 16  # tokens that `selective` takes one after the other, in all chunks at once
DUAL_CHUNK = 32  # tokens whose scores `dual` computes at once
CHANNELS = 12  # numbers of each channel that a mixer holds for a token, about: what its convolution, its gate and its steps are

State = Tensor | None


def numbers(scan: Scan, time: int, *, graph: bool) -> int:
    """That a mixer holds at most for each of `time` tokens, in its chunked form: in a pass, or for a `graph` that goes back through it.

    A state is `states` numbers. `selective` makes one for each token of a graph twice over, with its decays; in a pass those of one
    token of every chunk, and then those of one chunk. `dual` makes a state of each chunk, and scores of all pairs of its tokens.
    """
    size, states = min(DUAL_CHUNK if scan.heads else CHUNK, time), scan.channels * scan.state
    if scan.heads:
        of_scan = 4 * scan.heads * size + 5 * states / size
    elif graph:
        of_scan = 4 * states
    else:
        of_scan = states * max(4 / size, 3 * size / time if time > size else 0)
    filled = -(-time // size) * size / time
    return round(filled * (of_scan + CHANNELS * scan.channels))


def selective(x: Tensor, step: Tensor, rate: Tensor, b: Tensor, c: Tensor, state: State) -> tuple[Tensor, Tensor]:
    """Mamba (arXiv 2312.00752): h_t = exp(step_t rate) h_t-1 + step_t x_t b_t, y_t = h_t c_t, for each of C channels.

    x, step (R, T, C); rate (C, N) below zero; b, c (R, T, N); state (R, C, N). Returns y (R, T, C) and the state.
    """
    kernels = kernels_for("mamba_ssm.ops.selective_scan_interface", x)
    if kernels is None or state is not None:  # they begin with nothing read
        return selective_chunked(x, step, rate, b, c, state)
    y, after = kernels.selective_scan_fn(*(t.mT.contiguous() for t in (x, step)), rate, b.mT, c.mT, return_last_state=True)
    return y.mT, after


def dual(x: Tensor, step: Tensor, rate: Tensor, b: Tensor, c: Tensor, state: State) -> tuple[Tensor, Tensor]:
    """Mamba-2 (arXiv 2405.21060): as `selective`, with one rate and one step for all P channels of each of H heads.

    x (R, T, H, P); step (R, T, H); rate (H,) below zero; b, c (R, T, N); state (R, H, P, N). Returns y (R, T, H, P) and the state.
    """
    kernels = kernels_for("mamba_ssm.ops.triton.ssd_combined", x)
    if kernels is None:
        return dual_chunked(x, step, rate, b, c, state)
    one_group = (t[:, :, None].contiguous() for t in (b, c))
    return kernels.mamba_chunk_scan_combined(
        x.contiguous(), step.contiguous(), rate, *one_group, DUAL_CHUNK, initial_states=state, return_final_states=True
    )


def selective_chunked(x: Tensor, step: Tensor, rate: Tensor, b: Tensor, c: Tensor, state: State) -> tuple[Tensor, Tensor]:
    """`selective` by chunks of CHUNK tokens, all at once and each from nothing; then what each adds to those behind it."""
    time = x.shape[1]
    chunks = [_chunks(t, min(CHUNK, time)) for t in (x * step, step, b, c)]
    written, step, b, c = chunks  # (R, chunks, size, C or N)
    h = x.new_zeros(*written.shape[:2], *rate.shape)  # (R, chunks, C, N)
    if state is not None:
        h = torch.cat([state[:, None], h[:, 1:]], 1)
    out = []
    for w, s, bt, ct in zip(*(t.unbind(2) for t in chunks), strict=True):
        h = (s[..., None] * rate).exp() * h + w[..., None] * bt[:, :, None]
        out.append((h @ ct[..., None]).squeeze(-1))
    own, since = torch.stack(out, 2), step.cumsum(2)  # (R, chunks, size, C)
    ends, outs = h.unbind(1), list(own.unbind(1))
    after = ends[0]
    for k in range(1, len(ends)):
        kept = (since[:, k, :, :, None] * rate).exp() * after[:, None]  # (R, size, C, N)
        outs[k] = outs[k] + (kept @ c[:, k, :, :, None]).squeeze(-1)
        after = kept[:, -1] + ends[k]
    return torch.cat(outs, 1)[:, :time], after


def dual_chunked(x: Tensor, step: Tensor, rate: Tensor, b: Tensor, c: Tensor, state: State) -> tuple[Tensor, Tensor]:
    """`dual` by chunks of DUAL_CHUNK tokens: scores inside a chunk, a loop over the states between chunks.

    Decays are exponentials of sums of steps, never of their differences: nothing cancels, however strong they are.
    """
    time = x.shape[1]
    written, logs, b, c = (_chunks(t, min(DUAL_CHUNK, time)) for t in (x * step[..., None], step * rate, b, c))
    written, logs = written.transpose(2, 3), logs.transpose(2, 3)  # (R, chunks, H, size, P), (R, chunks, H, size)
    between = _between(logs)  # (R, chunks, H, size of queries, size of keys)
    out = ((c @ b.mT)[:, :, None] * between) @ written
    added = (written * between[..., -1, :, None]).mT @ b[:, :, None]  # (R, chunks, H, P, N)
    from_start = logs.cumsum(-1).exp()[..., None]  # (R, chunks, H, size, 1)
    states = [torch.zeros_like(added[:, 0]) if state is None else state]
    for decay, more in zip(from_start[..., -1:, :].unbind(1), added.unbind(1), strict=True):
        states.append(decay * states[-1] + more)
    out = out + from_start * (c[:, :, None] @ torch.stack(states[:-1], 1).mT)
    return out.transpose(2, 3).flatten(1, 2)[:, :time], states[-1]


def _between(logs: Tensor) -> Tensor:
    """Decay (..., queries, keys) between any two tokens of logs (..., size): from behind the key to the query, and zero before it."""
    size = logs.shape[-1]
    seen = torch.ones(size, size, dtype=torch.bool, device=logs.device).tril()
    sums = logs[..., None].expand(*logs.shape, size).masked_fill(~seen.tril(-1), 0).cumsum(-2)
    return sums.masked_fill(~seen, -torch.inf).exp()


def _chunks(x: Tensor, size: int) -> Tensor:
    """(R, T, ...) -> (R, chunks, size, ...) with T filled up by zeros."""
    missing = -x.shape[1] % size
    x = torch.cat([x, x.new_zeros(len(x), missing, *x.shape[2:])], 1) if missing else x
    return x.unflatten(1, (-1, size))
