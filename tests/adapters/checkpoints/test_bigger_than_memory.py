"""A model of 13.5 GB, in fp32 27 GB, in less than 6 GB of memory."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapters.memory import free
from tests.reference.big import DOCUMENTS, write
from tests.reference.memory_group import memory_group
from tests.reference.sizes import LLAMA_2_7B

LIMIT = 6 * 10**9
BLOCK_BYTES = 2 * (4 * 4096 * 4096 + 3 * 4096 * 11008 + 2 * 4096)  # of one block in bf16
N = LLAMA_2_7B["num_hidden_layers"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("big")
    if shutil.disk_usage(place).free < 20 * 10**9 or free(torch.device("cpu")) < LIMIT + 10**9:
        pytest.skip("takes 20 GB of disk and 7 GB of memory")
    try:
        yield write(place)
    finally:
        shutil.rmtree(place)


def run(what: str, folder: Path) -> dict[str, Any]:
    with memory_group(LIMIT) as enter:
        words = [sys.executable, "-m", "tests.reference.big", what, str(folder)]
        out = subprocess.run(words, capture_output=True, text=True, preexec_fn=enter, check=False)
    assert out.returncode == 0, out.stderr[-2000:]
    return json.loads(out.stdout.splitlines()[-1])


@pytest.mark.long
@pytest.mark.parametrize("what", ["importance", "sweep"])
def test_studies_of_seven_billion_parameters(what: str, folder: Path) -> None:
    found = run(what, folder)
    assert found["most_held"] < LIMIT
    assert found["read"] == found["planned"] == N * BLOCK_BYTES
    rows = {"importance": N, "sweep": N + 1}[what]
    for sums in found["sums"].values():
        assert np.shape(sums) == (rows, DOCUMENTS)
        assert np.isfinite(sums).all()


@pytest.mark.long
def test_its_first_blocks_streamed_and_resident(tmp_path: Path) -> None:
    if shutil.disk_usage(tmp_path).free < 5 * 10**9 or free(torch.device("cpu")) < LIMIT:
        pytest.skip("takes 5 GB of disk and 6 GB of memory")
    try:
        found = run("compare", write(tmp_path, first=4))
    finally:
        shutil.rmtree(tmp_path)
    for name, sums in found["resident"].items():
        assert np.allclose(sums, found["streamed"][name], rtol=1e-5, atol=1e-5)
        assert np.shape(sums) == (5, DOCUMENTS)
