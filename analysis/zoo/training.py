"""Trains one model of the zoo: seeded, resumable, with the same schedule and the same rows for every architecture."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torch.nn.functional as F
from filelock import FileLock, Timeout
from pydantic import FiniteFloat, TypeAdapter
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from adapters.errors import StrataError, one_line, unwritable
from adapters.products import MATRICES
from analysis.zoo.architectures import ARCHITECTURES, CONTEXT
from analysis.zoo.texts import Rows, Texts

STEPS, BATCH = 1500, 16  # 6.1 M tokens
WARM_UP, LAST = 40, 0.02  # steps, and the share of the learning rate that is left at the end
MUON, ADAM, CLIP = 0.02, 3e-3, 1.0
EPS = 1e-18  # of Adam, as in training RWKV: gradients of what mixes and decays are tiny
DEVELOPMENT_ROWS = 64
PART = {"cpu": 4, "cuda": 16}  # rows of a step that are computed at once: on a CPU their activations stay in its caches
KEEP, SAVE = 100, 50  # steps between weights that are kept (the powers of two are kept as well), and between saves
COMPUTE = torch.bfloat16  # of forward and backward passes; weights and optimisers are fp32


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the trained weights follow from."""

    model: str  # of ARCHITECTURES
    seed: int
    steps: int
    data: str
    tokenizer: str
    batch: int = BATCH
    context: int = CONTEXT
    muon: float = MUON
    adam: float = ADAM

    @property
    def name(self) -> str:
        return f"{self.model}-{self.seed}"


@dataclass(frozen=True)
class State:
    """What a training goes on from. `plan` is checked to be one of ours, tensors are not."""

    plan: Plan
    losses: list[FiniteFloat]  # nats per token, by step
    curve: dict[int, FiniteFloat]  # the same on the development rows, by steps done
    tables: list[dict[str, Any]] = field(default_factory=list)
    optimizers: list[dict[str, Any]] = field(default_factory=list)


def read_state(path: Path, device: torch.device | str = "cpu") -> State:
    """A save of `Training`. Raises StrataError when the file is none."""
    try:
        found = TypeAdapter(State).validate_python(torch.load(path, map_location=device, weights_only=True))
        if found.plan.model not in ARCHITECTURES or len(found.losses) > found.plan.steps:
            raise ValueError(f"{found.plan.name} with {len(found.losses)} steps of {found.plan.steps} is not a training of the zoo")
        if len(found.losses) == found.plan.steps and found.plan.steps not in found.curve:
            raise ValueError("it has no loss at its last step")
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, UnpicklingError) as error:
        raise _no_save(path, error) from None
    return found


def _no_save(path: Path, error: Exception) -> StrataError:
    return StrataError(f"{path} is not a saved training ({one_line(error)}): remove {path.parent} to train it again")


Progress = Callable[[int, float], None]  # told of every step: its number and its loss


class Training:
    """Weights in fp32 with copies to compute with, both optimisers, and the loss so far; `folder` holds its saves."""

    def __init__(self, plan: Plan, texts: Texts, folder: Path, device: str = "cpu") -> None:
        self.plan, self.folder, self.architecture = plan, folder, ARCHITECTURES[plan.model]
        self.rows = Rows(texts.train, texts.tokenizer, plan.seed)
        self.development = Rows(texts.development, texts.tokenizer, 0).take(0, DEVELOPMENT_ROWS).to(device)
        weights, blocks = self.architecture.initial(torch.Generator().manual_seed(plan.seed))
        self.model = self.architecture.build(weights, blocks, plan.name, device)
        self.tables = [{role: t.to(device).requires_grad_() for role, t in table.items()} for table in (weights, *blocks)]
        matrices = [t for table in self.tables[1:] for role, t in table.items() if role in MATRICES]  # Muon's; all else is Adam's
        self.parameters = [t for table in self.tables for t in table.values()]
        others = [t for t in self.parameters if not any(t is m for m in matrices)]
        self.optimizers = (
            torch.optim.Muon(matrices, lr=plan.muon, weight_decay=0.0),  # Jordan 2024, https://kellerjordan.github.io/posts/muon/
            torch.optim.Adam(others, lr=plan.adam, betas=(0.9, 0.95), eps=EPS, fused=True),
        )
        self.schedules = [torch.optim.lr_scheduler.LambdaLR(o, lambda s: rate(s, plan.steps)) for o in self.optimizers]
        self.losses: list[float] = []  # nats per token, by step
        self.curve: dict[int, float] = {}  # the same on the development rows, by steps done

    def loss(self, rows: Tensor) -> Tensor:
        """Mean nats per token of rows (n, CONTEXT + 1)."""
        tables = [self.model.weights, *(block.weights for block in self.model.blocks)]
        slots = [self.architecture.layout.model] + [self.architecture.layout.block] * len(self.model.blocks)
        for used, table, slot in zip(tables, self.tables, slots, strict=True):
            used.update({role: t if slot[role].exact else t.to(COMPUTE) for role, t in table.items()})
        if self.architecture.config.get("norm_head"):
            self.model.weights["unembed"] = F.normalize(self.tables[0]["unembed"], dim=-1).to(COMPUTE)
        logits = self.model.run(rows[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1).float(), rows[:, 1:].flatten())

    def step(self) -> float:
        done = len(self.losses)
        rows = self.rows.take(done * self.plan.batch, self.plan.batch).to(self.development.device)
        value = 0.0
        for part in rows.split(PART[rows.device.type]):
            loss = self.loss(part) * (len(part) / len(rows))
            loss.backward()
            value += loss.item()
        clip_grad_norm_(self.parameters, CLIP)
        for optimizer, schedule in zip(self.optimizers, self.schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        self.losses.append(value)
        if not math.isfinite(value):
            raise StrataError(f"the loss of {self.plan.name} is {value} at step {done}: lower the learning rates")
        return value

    def run(self, progress: Progress = lambda step, loss: None) -> None:
        """Trains to the end, from the last save on. Raises StrataError when another process does, and as `resume` does."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock", timeout=0):
                self.resume()
                self._run(progress)
        except Timeout:
            raise StrataError(f"another process trains in {self.folder}: wait for it, or give another --out") from None

    def _run(self, progress: Progress) -> None:
        while True:
            done = len(self.losses)
            if done not in self.curve and kept(done, self.plan.steps):
                self.keep(done)
            if done % SAVE == 0 or done == self.plan.steps:
                self.save()
            if done == self.plan.steps:
                return
            progress(done + 1, self.step())

    @torch.no_grad()
    def keep(self, done: int) -> None:
        """Notes the loss on the development rows and keeps the weights in fp16."""
        parts = self.development.split(self.plan.batch)
        self.curve[done] = sum(self.loss(part).item() * len(part) for part in parts) / len(self.development)
        first, *blocks = ({role: t.half().cpu() for role, t in table.items()} for table in self.tables)
        path = self.folder / "weights" / f"{done:06}.safetensors"
        _atomically(path, lambda to: save_file(self.architecture.layout.write(first, blocks), to))

    def save(self) -> None:
        state = {
            "plan": asdict(self.plan),
            "tables": [{role: t.detach() for role, t in table.items()} for table in self.tables],
            "optimizers": [o.state_dict() for o in self.optimizers],
            "losses": self.losses,
            "curve": self.curve,
        }
        _atomically(self.folder / "state.pt", lambda to: torch.save(state, to))

    def resume(self) -> None:
        """Goes on from the folder's save, if there is one. Raises StrataError when it is of another plan."""
        path = self.folder / "state.pt"
        if not path.is_file():
            return
        state = read_state(path, self.development.device)
        if differing := [key for key, value in asdict(self.plan).items() if getattr(state.plan, key) != value]:
            raise StrataError(f"{self.folder} holds training of another plan (it differs in {', '.join(differing)}): give another --out")
        try:
            with torch.no_grad():
                for table, saved in zip(self.tables, state.tables, strict=True):
                    for role, tensor in table.items():
                        tensor.copy_(saved[role])
            for optimizer, schedule, saved in zip(self.optimizers, self.schedules, state.optimizers, strict=True):
                optimizer.load_state_dict(saved)
                schedule.last_epoch = len(state.losses)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise _no_save(path, error) from None
        self.losses, self.curve = state.losses, state.curve


def rate(step: int, steps: int) -> float:
    """Share of the learning rate: up over WARM_UP steps, times a line from 1 down to LAST."""
    return min(1.0, (step + 1) / WARM_UP) * (1 - (1 - LAST) * step / max(1, steps - 1))


def kept(done: int, steps: int) -> bool:
    return done in (0, steps) or done % KEEP == 0 or done & (done - 1) == 0


def _atomically(path: Path, write: Callable[[Path], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
