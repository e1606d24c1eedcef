"""The pretended card does what CUDA does, as far as this is known of CUDA."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.reference.second_device import second_device

CUDA = torch.device("cuda", 0)
TWO = "same device"


def card(*size: int) -> torch.Tensor:
    return torch.ones(*size, device="cuda")


MADE: dict[str, Callable[[], torch.Tensor]] = {
    "of a size": lambda: torch.zeros(3, device="cuda"),
    "of a list": lambda: torch.tensor([1, 2], device="cuda:0"),
    "like another": lambda: torch.empty_like(card(2)),
    "moved": lambda: torch.ones(2).to("cuda"),
    "moved with a dtype": lambda: torch.ones(2).to("cuda", torch.bfloat16, copy=True),
    "moved to another's": lambda: torch.ones(2).to(card(1)),
    "computed": lambda: F.linear(card(2, 3), card(4, 3)),
    "with a number of the CPU": lambda: card(2) * torch.tensor(2.0),
    "a view": lambda: card(2, 3).mT.flatten()[1:],
    "by indices of the CPU": lambda: card(3)[torch.tensor([0, 2])],
    "one of several": lambda: card(3, 2).max(-1).indices,
    "a row": lambda: next(iter(card(2, 3))),
    "of a module": lambda: torch.nn.Linear(2, 2).to("cuda")(card(2)),
    "overwritten from the CPU": lambda: card(3).copy_(torch.zeros(3)),
    "of a generator": lambda: torch.rand(2, device="cuda", generator=torch.Generator("cuda").manual_seed(0)),
    "a gradient": lambda: torch.autograd.grad((w := card(2).requires_grad_()).sum(), w)[0],
}
REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "sums": (lambda: card(3) + torch.ones(3), TWO),
    "products": (lambda: F.linear(card(2, 3), torch.ones(4, 3)), TWO),
    "a number of the card": (lambda: torch.ones(3) + card(3).sum(), TWO),
    "lists": (lambda: torch.cat([card(1), torch.ones(1)]), TWO),
    "stacked numbers": (lambda: torch.stack([card(1).sum(), torch.tensor(1.0)]), TWO),
    "embeddings": (lambda: F.embedding(torch.tensor([0]), card(2, 2)), TWO),
    "indices of the card": (lambda: torch.ones(3)[torch.tensor([0], device="cuda")], "indices should be"),
    "rows from the CPU": (lambda: card(3).__setitem__(torch.tensor([0, 1]), torch.ones(2)), TWO),
    "comparison": (lambda: torch.equal(card(1), torch.ones(1)), TWO),
    "numpy": (lambda: card(1).numpy(), "Use Tensor.cpu()"),
    "arrays": (lambda: np.asarray(card(1)), "Use Tensor.cpu()"),
    "a generator of the CPU": (lambda: torch.randn(2, device="cuda", generator=torch.Generator()), "for generator"),
    "another card": (lambda: torch.ones(1, device="cuda:1"), "invalid device ordinal"),
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE.keys())
def test_is_on_the_card(make: Callable[[], torch.Tensor]) -> None:
    with second_device():
        found = make()
        assert found.device == CUDA
        assert found.is_cuda
        assert found.cpu().device.type == "cpu"


@pytest.mark.parametrize(("make", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_is_refused(make: Callable[[], object], says: str) -> None:
    with second_device(), pytest.raises((RuntimeError, TypeError), match=says):
        make()


def test_what_stays_on_the_cpu() -> None:
    with second_device():
        on_cpu = torch.zeros(2, 3)
        on_cpu[0] = card(3)  # copied
        assert on_cpu.device.type == "cpu"
        assert on_cpu.tolist() == [[1, 1, 1], [0, 0, 0]]
        assert torch.tensor([card(1).sum(), card(2).sum()]).device.type == "cpu"
        moved = on_cpu.to("cuda")
        moved.zero_()
        assert on_cpu.sum() == 3


def test_memory_is_what_is_held() -> None:
    with second_device(free=10_000) as found:
        x = card(1000)
        view = x[::2]
        del x
        assert torch.cuda.mem_get_info()[0] == 6000
        del view
        assert torch.cuda.memory_allocated() == 0
        assert found.peak == 4000
        with pytest.raises(torch.OutOfMemoryError):
            card(3000)


def test_shapes_alone_are_held_as_well() -> None:
    with second_device(free=1 << 40, shapes=True) as found:
        x = torch.randn(1 << 15, 1 << 15, device="cuda") @ card(1 << 15, 1)
        assert x.device == CUDA
        assert x.sum(1).cpu().tolist() == [0.0] * (1 << 15)
        assert found.peak > 1 << 32


def test_streams_and_pinned_memory() -> None:
    with second_device():
        stream = torch.cuda.Stream("cuda")
        with torch.cuda.stream(stream):
            copied = torch.empty(3, pin_memory=True).to("cuda", non_blocking=True)
        torch.cuda.current_stream().wait_stream(stream)
        copied.record_stream(torch.cuda.current_stream())
        assert copied.device == CUDA


def test_modules_that_are_first_imported_here_annotate_with_classes() -> None:
    """As transformers' do, when a model is first loaded."""
    with second_device():
        for made in (torch.cuda.Stream, torch.cuda.Event, torch.Generator):
            assert isinstance(made(), made | None)


def test_saves_and_threads() -> None:
    with second_device():
        file, made = io.BytesIO(), []
        torch.save({"x": card(2)}, file)
        file.seek(0)
        assert torch.load(file, map_location="cuda", weights_only=True)["x"].device == CUDA
        thread = threading.Thread(target=lambda: made.append(card(1).device))
        thread.start()
        thread.join()
    assert made == [CUDA]
    assert not torch.cuda.is_available() or torch.cuda.get_device_name() != "no card"
