"""Compressed files are read by any name, files that are cut or damaged are refused, and what is no text is named for what it is."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from matplotlib.figure import Figure

from adapters import StrataError
from analysis.data.streams import blocks, lines
from tests.analysis.data.makers import TEXTS, read, table, write

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


def by_arrow(codec: str) -> Callable[[bytes], bytes]:
    def pack(content: bytes) -> bytes:
        out = pa.BufferOutputStream()
        with pa.CompressedOutputStream(out, codec) as file:
            file.write(content)
        return out.getvalue().to_pybytes()

    return pack


PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": by_arrow("zstd"), ".lz4": by_arrow("lz4")}


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.json", "a.txt"])
def test_compressed_files_hold_the_same(ending: str, name: str, tmp_path: Path) -> None:
    """By their content: the ending may be missing, and several streams may stand behind each other."""
    plain = write(tmp_path / name, table())
    expected, content = read(plain), plain.read_bytes()
    plain.unlink()
    packed = PACKERS[ending](content)
    for path in (tmp_path / f"{name}{ending}", tmp_path / f"{name}{ending.upper()}", tmp_path / name):
        path.write_bytes(packed)
        assert read(path) == expected
        assert read(tmp_path) == expected, "as the only file of a folder"
        path.unlink()
    (tmp_path / name).write_bytes(PACKERS[ending](content[:1000]) + PACKERS[ending](content[1000:]))
    assert read(tmp_path) == expected


@pytest.mark.parametrize("ending", PACKERS)
def test_what_ends_in_the_middle_is_refused(ending: str, tmp_path: Path) -> None:
    """Not one text of it is silently left out."""
    content = "".join(TEXTS).encode()
    packed = PACKERS[ending](content)
    for n, damaged in enumerate((packed[: len(packed) // 2], packed[:-1], packed[:-6], packed + b"more")):
        path = tmp_path / f"{n}.txt{ending}"
        path.write_bytes(damaged)
        with pytest.raises(StrataError, match=rf"cannot read .*{n}.txt{ending}: ") as error:
            "".join(blocks(path))
        assert "\n" not in str(error.value)


def of_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "text")
    return file.getvalue()


def of_tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
    return file.getvalue()


def of_wave() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(b"\x01\x02" * 99)
    return file.getvalue()


def of_numpy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.arange(9))
    return file.getvalue()


def of_torch() -> bytes:
    file = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, file)
    return file.getvalue()


def of_figure(kind: str) -> bytes:
    file = io.BytesIO()
    Figure().savefig(file, format=kind)
    return file.getvalue()


BINARIES = {
    "PDF": (lambda: of_figure("pdf"), "a PDF document"),
    "PNG": (lambda: of_figure("png"), "a PNG picture"),
    "PostScript": (lambda: of_figure("ps"), "a PostScript document"),
    "ZIP": (of_zip, "a ZIP archive"),
    "tar": (of_tar, "a tar archive"),
    "wave": (of_wave, "a sound, a picture or a video"),
    "NumPy": (of_numpy, "a NumPy array"),
    "torch": (of_torch, "a ZIP archive"),
    "RTF": (lambda: rb"{\rtf1\ansi Text}", "an RTF document"),
    "Word": (lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "a document of an old Office"),
    "random": (lambda: np.random.default_rng(0).bytes(4000), "binary"),
    "UTF-16": (lambda: "Text.".encode("utf-16"), "in UTF-16, and UTF-8 is expected: convert it with `iconv -f UTF-16"),
    "UTF-32": (lambda: "Text.".encode("utf-32"), "in UTF-32, and UTF-8 is expected"),
    "UTF-16 without mark": (lambda: "Text.".encode("utf-16-le"), "binary, or text in UTF-16 without its mark"),
    "late NUL": (lambda: b"Text. " * 50_000 + b"\0", "binary, or text in UTF-16"),
    "LFS": (lambda: POINTER.encode(), "a pointer of Git LFS, its content was not downloaded: run `git lfs pull`"),
    "annex": (lambda: b"/annex/objects/MD5E-s1--d41d8.txt\n", "a pointer of git-annex"),
    "Latin-1": (lambda: "Un café.".encode("latin-1"), "not UTF-8 .*: convert it with `iconv -f ENCODING"),
}  # fmt: skip


@pytest.mark.parametrize("what", BINARIES)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.tsv", "a.json", "a"])
def test_binaries_are_named_for_what_they_are(what: str, name: str, tmp_path: Path) -> None:
    make, message = BINARIES[what]
    (tmp_path / name).write_bytes(make())
    with pytest.raises(StrataError, match=rf"{name} is {message}") as error:
        read(tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("what", ["PNG", "LFS"])
def test_what_is_no_parquet_is_named_too(what: str, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(BINARIES[what][0]())
    with pytest.raises(StrataError, match=BINARIES[what][1]):
        read(tmp_path)


@pytest.mark.parametrize(
    "text", ["MZ is an abbreviation", "RIFF means a chunk", "ORC and elf", "GGUF is a format", "BOM\ufeff inside", "PK", "II*"]
)
def test_prose_is_not_taken_for_a_binary(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    assert read(tmp_path) == [text]


def test_lines_end_where_open_ends_them(tmp_path: Path) -> None:
    content = "a\r\nb\rc\n\u2028d\x85e\n\nf"
    (tmp_path / "a.txt").write_bytes(content.encode("utf-8-sig"))
    for newline in ("\n", ""):
        with (tmp_path / "a.txt").open(encoding="utf-8-sig", newline=newline) as file:
            assert list(lines(tmp_path / "a.txt", newline)) == list(file)
    assert "".join(blocks(tmp_path / "a.txt")) == (tmp_path / "a.txt").read_text(encoding="utf-8-sig")
    with pytest.raises(StrataError, match=r"cannot read .*nothing: No such file"):
        list(blocks(tmp_path / "nothing"))
