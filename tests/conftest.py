"""What suites that try every method may ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("attrib", deadline=None)  # machines that are busy are slow
settings.load_profile("attrib")

SEARCHES = ("extremal_perturbation", "meaningful_perturbation")  # maps without unit, found step by step


@pytest.fixture(scope="module")
def few_steps() -> Iterator[None]:
    """Methods that search take four steps unless told otherwise: enough to see that they keep their promises."""
    from attrib import METHODS

    with pytest.MonkeyPatch.context() as patch:
        for name in SEARCHES:
            patch.setitem(METHODS[name].__init__.__kwdefaults__, "steps", 4)
        yield
