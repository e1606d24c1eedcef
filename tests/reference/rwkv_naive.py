"""RWKV-4 to 7 in plain fp64 operations on native keys, one text and one token at a time; written from the published equations."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def naive(weights: dict[str, Tensor], version: str, ids: Tensor) -> Tensor:
    """Logits (T, vocab) of one text (T,)."""
    w = {key: t.double().squeeze(0).squeeze(0) if t.shape[:2] == (1, 1) else t.double() for key, t in weights.items()}
    x, first = _norm(w["emb.weight"][ids], w, "blocks.0.ln0"), None
    for i in range(1 + max(int(key.split(".")[1]) for key in w if key.startswith("blocks"))):
        att, ffn = (_under(w, f"blocks.{i}.{part}.") for part in ("att", "ffn"))
        h = _norm(x, w, f"blocks.{i}.ln1")
        if version == "7":
            mixed, value = _goose(att, h, first)
            first = value if first is None else first
        else:
            mixed = {"4": _dove, "6": _finch}.get(version, _eagle)(att, h)
        x = x + mixed @ att["output.weight"].T
        x = x + _channel_mix(ffn, _norm(x, w, f"blocks.{i}.ln2"), version)
    return _norm(x, w, "ln_out") @ w["head.weight"].T


def _under(w: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): t for key, t in w.items() if key.startswith(prefix)}


def _dove(a: dict[str, Tensor], h: Tensor) -> Tensor:
    """RWKV-4: softmax over what was seen, with scores that fall by the decay with every step."""
    k, v, r = (_old_mix(h, a[f"time_mix_{c}"]) @ a[f"{name}.weight"].T for c, name in _KVR)
    decay, out = a["time_decay"].exp(), []
    for t in range(len(h)):
        scores = torch.stack([k[i] - (t - 1 - i) * decay for i in range(t)] + [a["time_first"] + k[t]])
        out.append((scores.softmax(0) * v[: t + 1]).sum(0))
    return torch.sigmoid(r) * torch.stack(out)


def _eagle(a: dict[str, Tensor], h: Tensor) -> Tensor:
    heads = len(a["time_decay"])
    k, v, r = (_old_mix(h, a[f"time_mix_{c}"]) @ a[f"{name}.weight"].T for c, name in _KVR)
    u = a["time_first"].exp() if "time_first" in a else a["time_faaaa"]
    decay = (-a["time_decay"].exp()).exp().reshape(1, heads, -1)
    out = _linear(r, k, v, decay.expand(len(h), heads, h.shape[1] // heads), u.reshape(heads, -1), heads)
    out = _head_norm(out, a)
    return out * _silu(_old_mix(h, a["time_mix_g"]) @ a["gate.weight"].T) if "gate.weight" in a else out


def _finch(a: dict[str, Tensor], h: Tensor) -> Tensor:
    dx, heads = _before(h) - h, len(a["time_faaaa"])
    low = torch.tanh((h + dx * a["time_maa_x"]) @ a["time_maa_w1"]).unflatten(-1, (5, -1))
    x = {c: h + dx * (a[f"time_maa_{c}"] + low[:, j] @ a["time_maa_w2"][j]) for j, c in enumerate("wkvrg")}
    k, v, r, g = (x[c] @ a[f"{name}.weight"].T for c, name in (*_KVR, ("g", "gate")))
    decay = (-(a["time_decay"] + torch.tanh(x["w"] @ a["time_decay_w1"]) @ a["time_decay_w2"]).exp()).exp()
    return _head_norm(_linear(r, k, v, decay.unflatten(-1, (heads, -1)), a["time_faaaa"], heads), a) * _silu(g)


def _goose(a: dict[str, Tensor], h: Tensor, first: Tensor | None) -> tuple[Tensor, Tensor]:
    """RWKV-7, and the values of its block before they are mixed; the state is (values, keys) as in the official code."""
    dx, heads = _before(h) - h, len(a["r_k"])
    x = {c: h + dx * a[f"x_{c}"] for c in "rwkvag"}
    k, value, r = (x[c] @ a[f"{name}.weight"].T for c, name in _KVR)
    decay = torch.exp(-math.exp(-0.5) * torch.sigmoid(a["w0"] + torch.tanh(x["w"] @ a["w1"]) @ a["w2"]))
    rate, gate = torch.sigmoid(a["a0"] + x["a"] @ a["a1"] @ a["a2"]), torch.sigmoid(x["g"] @ a["g1"]) @ a["g2"]
    v = value if first is None else value + (first - value) * torch.sigmoid(a["v0"] + x["v"] @ a["v1"] @ a["v2"])
    kk = (k * a["k_k"]).unflatten(-1, (heads, -1))
    kk = kk / kk.pow(2).sum(-1, keepdim=True).sqrt()
    r, k, v, rate, decay = (y.unflatten(-1, (heads, -1)) for y in (r, k * (1 + (rate - 1) * a["k_a"]), v, rate, decay))
    state, out = torch.zeros(heads, k.shape[-1], k.shape[-1], dtype=torch.float64), []
    for t in range(len(h)):
        forgotten = torch.einsum("hvk,hk->hv", state, kk[t])
        state = state * decay[t][:, None] - torch.einsum("hv,hk->hvk", forgotten, kk[t] * rate[t])
        state = state + torch.einsum("hv,hk->hvk", v[t], k[t])
        out.append(torch.einsum("hvk,hk->hv", state, r[t]))
    bonus = (r * k * a["r_k"]).sum(-1, keepdim=True) * v
    return (_head_norm(torch.stack(out), a) + bonus.flatten(1)) * gate, value


def _linear(r: Tensor, k: Tensor, v: Tensor, decay: Tensor, u: Tensor, heads: int) -> Tensor:
    """RWKV-5 and 6: (T, heads, head size); decay (T, heads, head size), u (heads, head size or 1)."""
    r, k, v = (y.unflatten(-1, (heads, -1)) for y in (r, k, v))
    state, out = torch.zeros(heads, k.shape[-1], k.shape[-1], dtype=torch.float64), []
    for t in range(len(r)):
        kv = torch.einsum("hk,hv->hkv", k[t], v[t])
        out.append(torch.einsum("hk,hkv->hv", r[t], state + u[..., None] * kv))
        state = decay[t][..., None] * state + kv
    return torch.stack(out)


def _channel_mix(w: dict[str, Tensor], h: Tensor, version: str) -> Tensor:
    name = {"6": "time_maa_", "7": "x_"}.get(version, "time_mix_")
    mix = _new_mix if version in ("6", "7") else _old_mix
    out = (mix(h, w[name + "k"]) @ w["key.weight"].T).clamp(min=0).pow(2) @ w["value.weight"].T
    return out if version == "7" else torch.sigmoid(mix(h, w[name + "r"]) @ w["receptance.weight"].T) * out


_KVR = (("k", "key"), ("v", "value"), ("r", "receptance"))


def _before(h: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(h[:1]), h[:-1]])


def _old_mix(h: Tensor, share: Tensor) -> Tensor:
    return h * share + _before(h) * (1 - share)


def _new_mix(h: Tensor, share: Tensor) -> Tensor:
    return h + (_before(h) - h) * share


def _silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def _norm(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    return _normed(x, 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]


def _head_norm(out: Tensor, a: dict[str, Tensor]) -> Tensor:
    """Trained as a norm of out / 8 with an eps of 1e-5."""
    return _normed(out / 8, 1e-5).flatten(1) * a["ln_x.weight"] + a["ln_x.bias"]


def _normed(x: Tensor, eps: float) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + eps).sqrt()
