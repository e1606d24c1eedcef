"""Data sets of the Hugging Face hub, streamed by `datasets`, never with code of theirs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from adapters.errors import StrataError, one_line, unknown
from analysis.data.columns import BATCH, arrow_kind
from analysis.data.reading import Reading
from analysis.data.rows import Source, column_of, require_text


def hub_rows(source: Source, reading: Reading) -> Iterator[str | None]:
    """The column of text, row by row; None where it has no value. Raises StrataError when it cannot be had."""
    with explained(source):
        for table in _tables(source):
            kinds = {field.name: arrow_kind(field.type) for field in table.schema}
            if reading.column is None:
                reading.column = column_of(source, source.name, kinds)
            require_text(source.name, reading.column, kinds)
            yield from table[reading.column].to_pylist()


def _tables(source: Source) -> Iterator[Any]:
    """Arrow tables of a few rows."""
    from datasets import load_dataset  # 1.5 s, and only where a corpus asks for it

    name = source.name
    splits = load_dataset(name, source.configuration, streaming=True)
    split = source.split or ("train" if "train" in splits else min(splits))
    if split not in splits:
        raise unknown(f"split of {name}", split, splits)
    if not source.split and split != "train" and len(splits) > 1:
        stem = f"{name}:{source.configuration or ''}"
        raise StrataError(f"{name} has no split `train`: name one of {', '.join(splits)}, as in {stem}:{split}")
    return splits[split].with_format("arrow").iter(BATCH)


@contextmanager
def explained(source: Source) -> Iterator[None]:
    """Turns what the loader raises into a StrataError that says what to do."""
    import httpx
    from datasets import logging
    from datasets.exceptions import DatasetNotFoundError

    logging.set_verbosity(logging.CRITICAL)  # it logs what it raises
    name, file = source.name, "or give a file (text, .jsonl, .parquet, .csv)"
    try:
        yield
    except StrataError:
        raise
    except DatasetNotFoundError as error:
        raise StrataError(f"{name} is neither here nor on the hub for you: check it, `hf auth login` for gated ones, {file}") from error
    except (OSError, httpx.HTTPError) as error:
        if isinstance(error, FileNotFoundError):
            raise _unreadable(source, error) from error
        fix = "check the connection, unset HF_HUB_OFFLINE if it is set, HF_ENDPOINT names a mirror"
        raise StrataError(f"cannot reach the data set {name} on the hub ({one_line(error)}): {fix}, {file}") from error
    except Exception as error:  # of datasets, pyarrow, pandas and whatever unpacks, which share no base class
        if isinstance(error, RuntimeError) and "scripts" in str(error):
            fix = "look for a copy of it in Parquet (of deepmind/pg19: emozilla/pg19)"
            raise StrataError(f"{name} is a script, and code of others is not run here: {fix}, {file}") from error
        raise _unreadable(source, error) from error


def _unreadable(source: Source, error: Exception) -> StrataError:
    """What is wrong with a data set that is there: its configuration, else its content."""
    from datasets import get_dataset_config_names

    name = source.name
    if isinstance(error, ValueError) and ("Config name is missing" in str(error) or "BuilderConfig" in str(error)):
        names = get_dataset_config_names(name)
        if source.configuration not in (None, *names):
            return unknown(f"configuration of {name}", str(source.configuration), names)
        return StrataError(f"{name} has several configurations: name one of {', '.join(names)}, as in {name}:{names[0]}")
    fix = "download its files, and give those that are meant by a pattern in quotes, such as 'FOLDER/**/*.jsonl'"
    return StrataError(f"cannot read the data set {name}: {type(error).__name__}, {one_line(error)}; {fix}")
