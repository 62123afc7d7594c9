"""Settings that all tests share. It imports neither torch nor pyquant: lean tests stay lean."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# Deadlines measure the machine, not the code. CI draws the same examples every time, so that a red run can
# be repeated; by hand, each run looks somewhere new (HYPOTHESIS_PROFILE=explore).
settings.register_profile(
    "ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("explore", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True, scope="module")
def shared_captures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Equal models are exported once in a process (`captures.py`), but for the tests of that step."""
    if "torch" not in sys.modules or request.path.name.startswith("test_capture"):
        yield
        return
    from tests.captures import shared

    with shared():
        yield
