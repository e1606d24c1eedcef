"""The notebooks about one model run on every variant of Baichuan and RWKV, from files with their own kind of tokenizer."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import nbformat
import pytest
from IPython.utils.io import capture_output
from sentencepiece import SentencePieceTrainer

from analysis.depth.study import Depth
from analysis.importance.results import Ranking
from tests.reference.variants import BAICHUAN, BLOCKS, VARIANTS, save

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
PIECES = 300  # in the vocabulary of sentencepiece


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of about forty documents, and a tokenizer for it."""
    folder = tmp_path_factory.mktemp("variants")
    text = folder / "text.txt"
    text.write_text("".join(f"Line {i}: {i} times {i} is {i * i}, café 天 {i % 7}.\n" for i in range(4500)))
    sizes = {"vocab_size": PIECES, "model_type": "bpe", "byte_fallback": True, "add_dummy_prefix": False, "minloglevel": 2}
    with (folder / "tokenizer.model").open("wb") as file:
        SentencePieceTrainer.train(sentence_iterator=iter(text.read_text().splitlines()[:200]), model_writer=file, **sizes)
    return folder


def saved(variant: str, folder: Path, tmp_path: Path) -> Path:
    if variant not in BAICHUAN:
        return save(variant, tmp_path)  # tokens are bytes, as its vocabulary of 256 says
    (tmp_path / "tokenizer.model").symlink_to(folder / "tokenizer.model")
    length = "model_max_length" if "13b" in variant else "max_position_embeddings"
    return save(variant, tmp_path, vocab_size=PIECES, **{length: 256})


def run(notebook: str, **parameters: object) -> dict[str, object]:
    """The names that a notebook's code leaves behind, run here and not in a kernel."""
    names: dict[str, object] = {}
    with capture_output(), mpl.rc_context({"backend": "agg"}):
        for cell in nbformat.read(NOTEBOOKS / f"{notebook}.ipynb", as_version=4).cells:
            if cell.cell_type == "code":
                exec(compile(cell.source, notebook, "exec"), names)
            if "parameters" in cell.metadata.get("tags", ()):
                names |= parameters
    return names


@pytest.mark.parametrize("variant", VARIANTS)
def test_depth_and_importance(variant: str, folder: Path, tmp_path: Path) -> None:
    source, runs = saved(variant, folder, tmp_path), tmp_path / "runs"
    parameters = {"model": str(source), "corpus": str(folder / "text.txt"), "documents": 12, "device": "cpu", "out": str(runs)}
    study = run("depth", **parameters)["study"]
    assert isinstance(study, Depth)
    assert study.model.spec.variant == variant.removeprefix("rwkv-")
    assert study.blocks["significant"].notna().all()
    assert len(study.blocks) == BLOCKS
    assert study.sweep.query("metric == 'delta_nll'")["ci_low"].notna().all()
    assert study.nll.shape == (1 + 3 * BLOCKS, 12)
    swept = {path: path.read_bytes() for path in runs.glob("*/scores/*.jsonl") if b'"nll"' in path.read_bytes()}
    assert len(swept) == 1, "blocks, mixers and ffns are one run"
    ranking = run("importance", **parameters)["study"]
    assert isinstance(ranking, Ranking)
    assert ranking.blocks["delta_nll"].sums.shape == (BLOCKS, 12)
    assert swept == {path: path.read_bytes() for path in swept}, "nothing is scored twice"
