"""Intervals with control variates hold the truth as often as plain ones of the same documents, and tests find no more where nothing is."""

from __future__ import annotations

import numpy as np
import pytest

from tests.coverage.control import COVARIATES, RUNS, SIZES, null, real, share


def holds(law: str, covariate: str, n: int, every: int, repeats: int) -> None:
    """92 to 97 % of symmetric documents, of 12 a point more, which HC3 is wide for; of skewed ones at most a point below the plain t.

    Within two standard errors of the simulation.
    """
    found, error = share(law, covariate, n, every, repeats), 2 * np.sqrt(0.95 * 0.05 / repeats)
    if law == "lognormal":
        assert found.controlled >= found.plain - 0.01 - error
    else:
        assert 0.92 - error <= found.controlled <= (0.98 if n == 12 else 0.97) + error


@pytest.mark.parametrize("law", ["normal", "t3", "lognormal"])
@pytest.mark.parametrize("covariate", COVARIATES)
def test_few_documents(covariate: str, law: str) -> None:
    for size in SIZES[:2]:
        holds(law, covariate, *size, 1000)


@pytest.mark.parametrize("covariate", COVARIATES)
def test_a_covariate_narrows_where_it_is_good_and_widens_little_where_it_is_not(covariate: str) -> None:
    width = share("normal", covariate, 24, 120, 400).width
    assert 0.9 < width < 1.1 if covariate == "useless" else width < 0.8


@pytest.mark.parametrize("run", RUNS)
def test_real_documents(run: str) -> None:
    found = real(run, *SIZES[0], 150)
    assert 0.92 <= found.controlled <= 0.985  # HC3 is wide of the mark with 12 documents, never short of it
    assert found.width < 0.8


@pytest.mark.parametrize("law", ["normal", "t3"])
@pytest.mark.parametrize("covariate", ["good", "useless"])
def test_false_discoveries(covariate: str, law: str) -> None:
    found = null(law, covariate, *SIZES[0], 150)
    assert found.false <= 0.05 + 0.03
    assert found.found >= found.found_plain - 0.1


@pytest.mark.long
@pytest.mark.parametrize("covariate", COVARIATES)
def test_every_size(covariate: str) -> None:
    for law in ("normal", "t3", "lognormal"):
        for size in SIZES:
            holds(law, covariate, *size, 4000)
