"""What suites that try every method may ask for."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Machines that are busy are slow. What CI refuses must fail again when it is run again; everyone else explores.
settings.register_profile("attrib", deadline=None, derandomize="CI" in os.environ)
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
