"""Pages of the documentation as their reader meets them: code in their order, sessions that are run."""

from __future__ import annotations

import doctest
import re


def code(page: str, language: str) -> list[str]:
    """Blocks of a Markdown page."""
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def run_session(page: str, name: str) -> int:
    """Runs all that stands behind a prompt of Python, which shows what the page says; returns how many lines that are."""
    session = doctest.DocTestParser().get_doctest("".join(code(page, "pycon")), {"__name__": "page"}, name, None, 0)
    said: list[str] = []
    assert not doctest.DocTestRunner().run(session, out=said.append).failed, "".join(said)
    return len(session.examples)
