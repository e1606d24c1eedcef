"""The recurrences of RWKV, in the form that is fast where they run.

Shapes: rows R, time T, heads H, head size N. Everything here is computed in fp32 (fp64 stays fp64), and a state is what
`past` carries from one call to the next. A token with k = 0 and logw = 0 (RWKV-7: b = 0 too) leaves the state as it was,
which is how padding is masked.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from adapters.recurrent import kernels_for

CHUNK = 64  # tokens that the linear recurrences take at a time; a power of two
DELTA_CHUNK = 32  # of RWKV-7, whose decay is at least exp(-0.61): exp(32 * 0.61) is safe in fp32
EMPTY, PAD = -1e38, -2e38  # log weight of a state that holds nothing, and of a token that is not there


def linear(r: Tensor, k: Tensor, v: Tensor, logw: Tensor, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """RWKV-5 and 6 (arXiv 2404.05892): y_t = r_t (S_t-1 + diag(u) k_t^T v_t), S_t = diag(exp(logw_t)) S_t-1 + k_t^T v_t.

    r, k, v (R, T, H, N); logw (R or 1, T, H, N); u (H, N); state (R, H, N of keys, N of values). Returns y and the state.
    """
    kernels = kernels_for("fla.ops.rwkv6", r)
    if kernels is None:
        return linear_chunked(r, k, v, logw, u, state)
    return kernels.chunk_rwkv6(r, k, v, logw.expand_as(k).contiguous(), u, scale=1.0, initial_state=state, output_final_state=True)


def delta(r: Tensor, logw: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """RWKV-7 (arXiv 2503.14456): S_t = diag(exp(logw_t)) S_t-1 + b_t^T (a_t S_t-1) + k_t^T v_t, y_t = r_t S_t.

    All (R, T, H, N) with logw >= -exp(-1/2); state (R, H, N of keys, N of values). Returns y and the state.
    """
    kernels = kernels_for("fla.ops.rwkv7", r)
    if kernels is None:
        return delta_chunked(r, logw, k, v, a, b, state)
    return kernels.chunk_rwkv7(r=r, w=logw, k=k, v=v, a=a, b=b, scale=1.0, initial_state=state, output_final_state=True)


def average(k: Tensor, v: Tensor, logw: Tensor, u: Tensor, state: Tensor, real: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """RWKV-4 (arXiv 2305.13048, equation 16): an average of the values so far with weights exp(k), decayed; per channel.

    k, v (R, T, C); logw (R or 1, T, C); u (C,); state (R, 3, C): numerator and denominator, both times exp(-p), and p.
    Tokens that are not `real` (R, T, 1) read the state, but are not written to it. Returns the averages (R, T, C) and
    the state. A loop on a CPU, where it is faster, and a scan on a GPU.
    """
    written = k if real is None else torch.where(real, k, PAD)
    states = (average_scan if k.is_cuda else average_loop)(written, v, logw, state)  # (R, T + 1, 3, C), before each token
    a, b, p = states[:, :-1].unbind(2)
    top = torch.maximum(p, u + k)
    old, new = (p - top).exp(), (u + k - top).exp()
    return (old * a + new * v) / (old * b + new), states[:, -1]


def linear_chunked(r: Tensor, k: Tensor, v: Tensor, logw: Tensor, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """`linear` by chunks of CHUNK tokens: scores inside a chunk, a loop over the states between chunks.

    The scores of a chunk grow from blocks of one token by joining neighbours. What a query of the later block sees of a
    key of the earlier one has decayed from the key to the border and from the border to the query; both factors are at
    most one, so that no decay, however strong, overflows or cancels.
    """
    time = r.shape[1]
    size = min(CHUNK, 1 << (time - 1).bit_length())
    r, k, v, logw = (_by_head(x, size) for x in (r, k, v, logw))  # (R, H, T, N)
    scores = ((r * k) @ u[:, :, None])[..., None]  # (R, H, blocks, block, block)
    whole = logw.exp().unsqueeze(-2)  # decay over a block: (R or 1, H, blocks, 1, N)
    before = after = torch.ones_like(whole)  # from the block's start to a query, from a key to its end: (.., block, N)
    while scores.shape[-1] < size:
        block = scores.shape[-1]
        (s0, s1), (w0, w1), (b0, b1), (a0, a1) = (_pairs(x) for x in (scores, whole, before, after))
        k0, r1 = k.unflatten(2, (-1, 2, block))[:, :, :, 0], r.unflatten(2, (-1, 2, block))[:, :, :, 1]
        across = (r1 * b1) @ (k0 * a0).mT
        scores = torch.cat([F.pad(s0, (0, block)), torch.cat([across, s1], -1)], -2)
        whole, before, after = w0 * w1, torch.cat([b0, w0 * b1], -2), torch.cat([a0 * w1, a1], -2)
    r, k, v = (x.unflatten(2, (-1, size)) for x in (r, k, v))  # (R, H, chunks, size, N)
    states = [state]
    for decay, added in zip(whole.mT.unbind(2), ((k * after).mT @ v).unbind(2), strict=True):
        states.append(decay * states[-1] + added)
    out = scores @ v + (r * before) @ torch.stack(states[:-1], 2)
    return out.flatten(2, 3).transpose(1, 2)[:, :time], states[-1]


def delta_chunked(r: Tensor, logw: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """`delta` by chunks of DELTA_CHUNK tokens: what the tokens of a chunk read through `a` solves a triangular system.

    With A, R, B, K decayed to the chunk's start or end, S the state there and L the strictly lower triangle:
    U = A S + L(A K^T) V + L(A B^T) U; y = R S + tril(R K^T) V + tril(R B^T) U; S' = decay S + K'^T V + B'^T U.
    U is linear in S, so that one product per chunk is left to the loop.
    """
    time = r.shape[1]
    size = min(DELTA_CHUNK, time)
    r, logw, k, v, a, b = (_by_head(x, size).unflatten(2, (-1, size)) for x in (r, logw, k, v, a, b))  # (R, H, chunks, size, N)
    G = logw.cumsum(-2)
    end = G[..., -1:, :]
    R, A = r * G.exp(), a * F.pad(G[..., :-1, :], (0, 0, 1, 0)).exp()
    K, B, to_end = k * (-G).exp(), b * (-G).exp(), (end - G).exp()
    AK, AB = (A @ K.mT).tril(-1), (A @ B.mT).tril(-1)
    solved = torch.linalg.solve_triangular(-AB, torch.cat([A, AK @ v], -1), upper=False, unitriangular=True)
    U_state, U_own = solved.chunk(2, -1)  # U = U_state S + U_own
    RB, B_end = (R @ B.mT).tril(), (b * to_end).mT
    carry = torch.diag_embed(end.squeeze(-2).exp()) + B_end @ U_state  # S' = carry S + added
    added = (k * to_end).mT @ v + B_end @ U_own
    states = [state]
    for c, d in zip(carry.unbind(2), added.unbind(2), strict=True):
        states.append(c @ states[-1] + d)
    out = (R + RB @ U_state) @ torch.stack(states[:-1], 2) + (R @ K.mT).tril() @ v + RB @ U_own
    return out.flatten(2, 3).transpose(1, 2)[:, :time], states[-1]


def average_loop(k: Tensor, v: Tensor, logw: Tensor, state: Tensor) -> Tensor:
    """States (R, T + 1, 3, C) of `average` before each token and behind the last, token by token."""
    values = torch.stack([v, torch.ones_like(v)], 2)  # (R, T, 2, C)
    k, logw = k[:, :, None], logw.expand(-1, k.shape[1], -1)[:, :, None]  # (.., T, 1, C)
    ab, p = state[:, :2], state[:, 2:]
    out = [state]
    for kt, vt, wt in zip(k.unbind(1), values.unbind(1), logw.unbind(1), strict=True):
        p = p + wt
        top = torch.maximum(p, kt)
        ab = torch.addcmul((kt - top).exp() * vt, (p - top).exp(), ab)
        p = top
        out.append(torch.cat([ab, p], 1))
    return torch.stack(out, 1)


def average_scan(k: Tensor, v: Tensor, logw: Tensor, state: Tensor) -> Tensor:
    """`average_loop` in log2(T) steps: after a step with distance d an entry holds the d tokens up to its own."""
    p = torch.cat([state[:, 2:], k], 1)  # (R, T + 1, C), the state as entry 0
    a, b = torch.cat([state[:, :1], v], 1), torch.cat([state[:, 1:2], torch.ones_like(v)], 1)
    w = F.pad(logw.expand_as(k), (0, 0, 1, 0))  # decay of an entry's window
    d = 1
    while d < p.shape[1]:
        early = p[:, :-d] + w[:, d:]
        top = torch.maximum(early, p[:, d:])
        old, new = (early - top).exp(), (p[:, d:] - top).exp()
        a = torch.cat([a[:, :d], old * a[:, :-d] + new * a[:, d:]], 1)
        b = torch.cat([b[:, :d], old * b[:, :-d] + new * b[:, d:]], 1)
        p, w = torch.cat([p[:, :d], top], 1), torch.cat([w[:, :d], w[:, :-d] + w[:, d:]], 1)
        d *= 2
    return torch.stack([a, b, p], 2)


def _by_head(x: Tensor, size: int) -> Tensor:
    """(R, T, H, N) -> contiguous (R, H, T, N) with T filled up by zeros to a multiple of `size`."""
    missing = -x.shape[1] % size
    x = F.pad(x, (0, 0, 0, 0, 0, missing)) if missing else x
    return x.transpose(1, 2).contiguous()


def _pairs(x: Tensor) -> tuple[Tensor, ...]:
    """The even and the odd entries of axis 2."""
    return x.unflatten(2, (-1, 2)).unbind(3)
