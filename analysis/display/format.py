"""Numbers, names and lists as the words of a sentence, a table or a command; nothing here draws."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from adapters.errors import visible
from adapters.specs import ModelSpec
from analysis.stats.bootstrap import RESAMPLES
from analysis.stats.intervals import MANY, MIN_DOCUMENTS_FOR_CI, Interval

FORMULA = ("=", "@", "+", "-")  # how a text begins that spreadsheets compute
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
INTERVALS = (
    f"95\u00a0% over documents: Student's t below {MANY} documents, BCa bootstrap ({RESAMPLES:,} resamples) from there; "
    "differences are paired"
)


def escape(name: object) -> str:
    """Text from outside as Markdown that shows exactly that text, on one line."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", visible(" ".join(str(name).split())))


def plain(markdown: str) -> str:
    """Text with what `escape` has put in front of characters taken away, for a terminal."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", markdown)


def file_name(name: str) -> str:
    """A name from outside as that of a file: its last part, and a hash where that is not all of it, so that none is another's."""
    part = re.sub(r"[^A-Za-z0-9_.]+", "-", re.split(r"[/\\]", name.rstrip("/\\"))[-1]).strip("-.")[:60]
    return part if part == name else f"{part or 'name'}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"


def as_csv(table: pd.DataFrame) -> str:
    """The table as CSV in which a spreadsheet takes no text for a formula: such a cell begins with an apostrophe. Numbers stay."""
    return table.rename(columns=_cell).map(_cell).to_csv(index=False)


def _cell(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    shown = visible(cell)
    return f"'{shown}" if shown.startswith(FORMULA) else shown


def number(value: float | None) -> str:
    """Three significant digits (whole numbers in full), thousands separated, a true minus; empty when there is no value."""
    if value is None or value is pd.NA or math.isnan(value):
        return ""
    if isinstance(value, (int, np.integer)) or not math.isfinite(value):
        return f"{value:,}".replace("-", "−")
    power = math.floor(math.log10(abs(float(f"{value:.3g}")))) if value else 2  # of the rounded value: 99.96 is 100, not 100.0
    if power < -4:
        return f"{value / 10.0**power:.2f}×10{str(power).translate(SUPERSCRIPT)}".replace("-", "−")
    return f"{value:,.{max(0, 2 - power)}f}".replace("-", "−")


def hundredths(value: float) -> str:
    """Two decimals and a true minus: what a rank correlation needs."""
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")  # + 0.0: no minus in front of zero


def bounded(interval: Interval, write: Callable[[float], str] = number) -> str:
    """A value with its interval, where it has one, as text."""
    value, low, high = (math.nan if x is None else float(x) for x in interval)
    return write(value) if math.isnan(low) else f"{write(value)} ({write(low)} to {write(high)})"


def needed(interval: Interval, documents: int) -> str:
    """What an interval that is not there needs, in brackets; empty where it is there, or where more documents would not help."""
    few = interval.low is None and documents < MIN_DOCUMENTS_FOR_CI
    return f" (an interval needs {MIN_DOCUMENTS_FOR_CI} documents)" if few else ""


def signed(value: float) -> str:
    """A difference: `number` with its sign."""
    return ("+" if value > 0 else "") + number(value)


def percent(share: float) -> str:
    """A share in whole percent; with one decimal below one percent."""
    return f"{100 * share:.{int(0 < abs(share) < 0.01)}f} %".replace("-", "−")


def minutes(seconds: float) -> str:
    """How long something takes, in the unit that people would use."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def listed(labels: Iterable[object], word: str = "and") -> str:
    """The labels as a sentence lists them: "1, 2 and 3"; empty when there are none."""
    *firsts, last = [str(label) for label in labels] or [""]
    return f"{', '.join(firsts)} {word} {last}" if firsts else last


def count(n: float, noun: str) -> str:
    """ "1 document", "1,024 documents"; halves, of blocks, as they are."""
    return f"{n:,g} {noun}{'s' * (n != 1)}" if n != int(n) else f"{int(n):,} {noun}{'s' * (n != 1)}"


def parameters(spec: ModelSpec) -> str:
    """ "1.8 M parameters", and how many of them a token meets where these are fewer: there are experts that it is not sent to."""
    met = f", of which a token meets {spec.active_params / 1e6:,.1f} M" if spec.active_params < spec.n_params else ""
    return f"{spec.n_params / 1e6:,.1f} M parameters{met}"


def named(noun: str, labels: Iterable[object], word: str = "and") -> str:
    """ "block 3", "blocks 3 and 5"."""
    labels = list(labels)
    return f"{noun}{'s' * (len(labels) > 1)} {listed(labels, word)}"


def capital(text: str) -> str:
    """The text as the start of a sentence."""
    return text[:1].upper() + text[1:]
