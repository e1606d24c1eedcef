"""Files of output folders: written whole or not at all, and read with nothing in them taken on trust."""

from __future__ import annotations

import json
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from adapters.errors import StrataError, one_line

T = TypeVar("T")


class Strict(BaseModel):
    """What a file holds, and nothing else: no number for a text, no NaN."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def parse(data: bytes) -> Any:
    """JSON as its standard has it, without NaN and Infinity. Raises ValueError when it is anything else."""
    try:
        return json.loads(data.decode(), parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def read_json(path: Path, schema: type[T], fix: str) -> T:
    """What a file holds, as a type that pydantic knows. Raises StrataError, which says how to `fix` it, when it holds anything else."""
    try:
        if not path.is_file():
            raise ValueError("it is not a file")
        data = path.read_bytes()
        parse(data)  # pydantic lets NaN pass where anything may stand
        return TypeAdapter(schema).validate_json(data, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        why = f"{'.'.join(ascii(part) for part in first['loc']) or 'it'}: {first['msg']}"
    except OSError as error:
        why = error.strerror or str(error)
    except ValueError as error:
        why = one_line(error)
    raise StrataError(f"{path} cannot be used: {why}; {fix}")


def write_text(path: Path, text: str) -> None:
    """Atomically: readers see the old file or the new one, also when the machine stops."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def to_json(data: object) -> str:
    return json.dumps(data, indent=1, allow_nan=False) + "\n"


@cache
def say(line: str) -> None:
    """Tells the user on stderr, once in a process."""
    print(f"strata: {line}", file=sys.stderr)
