"""The tables of docs/gpu.md, from what was found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

NONE = "–"
SWEEPS = ("parts", "weights", "ablations", "tokens", "seconds", "of the matmul rate", "times as fast as the loop")
SWEEPS += ("times as long as resident", "off resident", "before, GB", "peak, GB")
COMPARED = {"times_faster": ".2f", "times_resident": ".2f", "off": ".1e"}  # of a sweep, with what it is beside


def table(found: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    memory = f", {found['memory'] / 2**30:.0f} GB" if found["memory"] else ""
    lines = [
        "# On a GPU",
        "",
        f"{found['card']}{memory}, {found['date']}, {versions}; {found['seconds']} seconds in all. `make gpu` writes this page.",
        "",
        "Every family, tiny and with random weights, against fp64 on a CPU: root mean square error of logits over their standard",
        "deviation, largest error of the loss under a single ablation in nats per token, and the share of written tokens that agree.",
        "",
        *rows(
            ("model", "kernels", "logits fp32", "bf16", "loss fp32", "bf16", "texts fp32", "bf16", "passed"),
            (_parity(row) for row in found["parity"]),
        ),
    ]
    if found.get("sweeps"):
        lines += [
            "",
            "Sweeps of the shape of Llama-2-7B with random weights in bf16, resident or streamed, beside a loop of one pass each; of",
            "streamed weights also the seconds over those of resident ones, and the largest difference of the loss, nats per token:",
            "",
            *rows(SWEEPS, (_sweep(row) for row in found["sweeps"])),
            "",
            f"Products of large matrices in bf16 reach {found['sweeps'][0]['matmul_flops'] / 1e12:.3g} teraFLOP/s here.",
        ]
    if found.get("rwkv"):
        lines += ["", "Tokens a second of plain passes of an RWKV with 24 blocks and a stream of 1,024:", ""]
        lines += rows(("version", "dtype", "fla kernels", "tokens a second"), (_rwkv(row) for row in found["rwkv"]))
    return "\n".join([*lines, ""])


def rows(header: tuple[str, ...], cells: Iterable[tuple[str, ...]]) -> list[str]:
    return ["| " + " | ".join(line) + " |" for line in (header, ("---",) * len(header), *cells)]


def _parity(row: Mapping[str, Any]) -> tuple[str, ...]:
    def cells(name: str, form: str) -> list[str]:
        return [format(row[dtype][name], form) if dtype in row else NONE for dtype in ("float32", "bfloat16")]

    passed = "yes" if row["passed"] else f"no: {row['error'].replace('|', '/')}" if "error" in row else "no"
    return row["name"], _yes(row["kernels"]), *cells("logits", ".1e"), *cells("nll", ".1e"), *cells("texts", ".0%"), passed


def _sweep(row: Mapping[str, Any]) -> tuple[str, ...]:
    figures = (f"{row['ablations']:,}", f"{row['tokens']:,}", f"{row['seconds']:.1f}", f"{row['share_of_matmul']:.0%}")
    compared = (format(row[k], form) if k in row else NONE for k, form in COMPARED.items())
    return row["kind"], row["weights"], *figures, *compared, *(f"{row[k] / 2**30:.1f}" for k in ("before", "peak"))


def _rwkv(row: Mapping[str, Any]) -> tuple[str, ...]:
    return row["version"], row["dtype"], _yes(row["kernels"]), f"{row['tokens_per_second']:,.0f}"


def _yes(said: bool) -> str:
    return "yes" if said else "no"
