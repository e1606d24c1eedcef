"""Files as streams of text: unpacked where they are compressed, refused by the name of what they are where they hold no text."""

from __future__ import annotations

import io
import lzma
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any, BinaryIO

from adapters.errors import StrataError, one_line

COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4")  # endings behind that of the kind of file; what unpacks them is said by their content
PARQUET = b"PAR1"
POINTER = b"version https://git-lfs.github.com/spec/"
HEAD = 512  # bytes from which a file is known
# First bytes of what is no text, and what it is called.
MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive (.zip, .docx, .xlsx, .epub, .npz, .pt)"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\x89PNG\r\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF87a", "a GIF picture"),
    (b"GIF89a", "a GIF picture"),
    (b"II*\x00", "a TIFF picture"),
    (b"MM\x00*", "a TIFF picture"),
    (b"OggS\x00", "an Ogg file"),
    (b"ID3\x03", "an MP3 file"),
    (b"ID3\x04", "an MP3 file"),
    (b"fLaC\x00", "a FLAC file"),
    (b"\x1aE\xdf\xa3", "a Matroska video"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a document of an old Office (.doc, .xls)"),
    (b"{\\rtf", "an RTF document"),
    (b"%!PS", "a PostScript document"),
    (b"AT&TFORM", "a DjVu document"),
    (b"SQLite format 3\x00", "a SQLite database"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"GGUF\x02", "a GGUF model"),
    (b"GGUF\x03", "a GGUF model"),
    (b"ARROW1\x00", "an Arrow file"),
    (b"FEA1", "a Feather file"),
    (b"\xff\xff\xff\xff", "an Arrow stream"),
    (b"Obj\x01", "an Avro file"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90\x00", "a program"),
    (b"\xcf\xfa\xed\xfe", "a program"),
    (b"\x00asm", "a program"),
)
WIDE = {b"\xff\xfe\x00\x00": "UTF-32", b"\x00\x00\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}  # marks of byte order


def ending(file: Path) -> str:
    """Of the file's name, with that of what it is compressed by."""
    return "".join(file.suffixes[-2:] if file.suffix.lower() in COMPRESSED else file.suffixes[-1:])


def lines(path: Path, newline: str = "\n") -> Iterator[str]:
    """Lines of UTF-8 with their ends, parted and translated as `open` does for `newline`. Raises StrataError as `blocks`."""
    yield from _read(path, newline, io.TextIOWrapper.readline)


def blocks(path: Path) -> Iterator[str]:
    """A text of any length, every line's end as a newline.

    Raises StrataError for what is no text in UTF-8, pointers to files that are kept elsewhere, and files that end in the middle.
    """
    yield from _read(path, None, lambda file: file.read(1 << 16))


def _read(path: Path, newline: str | None, read: Callable[[io.TextIOWrapper], str]) -> Iterator[str]:
    with _explained(path):
        require_text(path)
        with io.TextIOWrapper(_opened(path), encoding="utf-8-sig", newline=newline) as file:
            for part in iter(lambda: read(file), ""):
                if "\0" in part:
                    raise binary(path)
                yield part


def require_text(path: Path) -> None:
    """Raises StrataError for a file that is known, by its first bytes, to hold no text in UTF-8."""
    head = head_of(path)
    for start, encoding in WIDE.items():
        if head.startswith(start):
            raise StrataError(
                f"{path} is in {encoding}, and UTF-8 is expected: convert it with `iconv -f {encoding} -t UTF-8 {quote(str(path))} > NEW`"
            )
    if what := name_of(head):
        raise StrataError(f"{path} is {what}, not text in UTF-8: unpack or convert it, and give the text")
    if b"\0" in head:
        raise binary(path)


def require_parquet(path: Path) -> None:
    """Raises StrataError for a file that does not begin as Parquet does, with what it is instead."""
    with _explained(path), path.open("rb") as file:
        head = file.read(HEAD)
    require_here(path, head)
    if not head.startswith(PARQUET):
        what = name_of(head) or ("compressed" if unpacker(head) else "not Parquet" if head else "empty")
        raise StrataError(f"{path} is {what}, and Parquet is expected")


def head_of(path: Path) -> bytes:
    """The first bytes of the file's content. Raises StrataError when it cannot be read, or is a pointer to a file kept elsewhere."""
    with _explained(path), _opened(path) as file:
        return file.read(HEAD)


def name_of(head: bytes) -> str | None:
    """What begins with these bytes, when it is known not to be text."""
    if head.startswith(PARQUET):
        return "Parquet (which is read where the file's name ends in .parquet)"
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head[4:8] == b"ftyp" or (head.startswith(b"RIFF") and head[8:12] in (b"WAVE", b"AVI ", b"WEBP")):
        return "a sound, a picture or a video"
    return next((what for start, what in MAGIC if head.startswith(start)), None)


def unpacker(head: bytes) -> Callable[[Path], Any] | None:
    return next((unpack for start, unpack in UNPACKERS.items() if head.startswith(start)), None)


def require_here(path: Path, head: bytes) -> None:
    """Raises StrataError for what Git LFS or git-annex leave in the place of a file that was not fetched."""
    if head.startswith(POINTER):
        raise StrataError(f"{path} is a pointer of Git LFS, its content was not downloaded: run `git lfs pull` in its folder")
    if head.startswith(b"/annex/objects/"):
        raise StrataError(f"{path} is a pointer of git-annex, its content was not downloaded: run `git annex get` in its folder")


def _opened(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        head = file.read(HEAD)
    require_here(path, head)
    unpack = unpacker(head)
    return unpack(path) if unpack else path.open("rb")


def _by_arrow(codec: str) -> Callable[[Path], Any]:
    def unpack(path: Path) -> BinaryIO:
        import pyarrow as pa  # not at the top: few texts are compressed

        return io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), codec), 1 << 16)

    return unpack


UNPACKERS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": _by_arrow(
        "gzip"
    ),  # unlike the standard library's, these say when a file ends in the middle or goes on with something else
    b"BZh": _by_arrow("bz2"),
    b"\x28\xb5\x2f\xfd": _by_arrow("zstd"),
    b"\x04\x22\x4d\x18": _by_arrow("lz4"),
    b"\xfd7zXZ\x00": lzma.open,
}


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error
    except (OSError, EOFError, lzma.LZMAError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        fix = "" if isinstance(error, OSError) and error.errno else "; it is damaged or was not written to its end, fetch or make it again"
        raise StrataError(f"cannot read {path}: {said}{fix}") from error


def not_utf8(path: Path, error: UnicodeDecodeError) -> StrataError:
    if any(byte < 9 or 13 < byte < 27 for byte in error.object[:HEAD]):
        return binary(path)
    fix = f"convert it with `iconv -f ENCODING -t UTF-8 {quote(str(path))} > NEW` (of Chinese texts many are GB18030)"
    return StrataError(f"{path} is not UTF-8 ({error.reason}): {fix}")


def binary(path: Path) -> StrataError:
    return StrataError(f"{path} is binary, or text in UTF-16 without its mark, and text in UTF-8 is expected: convert it, or give the text")
