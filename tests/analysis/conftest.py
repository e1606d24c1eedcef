"""What tests of analyses share. Property tests have no deadline: a machine may be busy."""

import pytest
from hypothesis import settings

from tests.reference.pairs import NAMES, Pair, pair

settings.register_profile("strata", deadline=None)
settings.load_profile("strata")


@pytest.fixture(params=NAMES)
def both(request: pytest.FixtureRequest) -> Pair:
    return pair(request.param)
