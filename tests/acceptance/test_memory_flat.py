"""Memory does not grow with the events that went through; `make bench-memory` runs to a million."""

from pathlib import Path

import pytest
from benchmarks.memory import SUBJECTS, TOLERANCE, drift, prepare, run, verdict
from tests.acceptance.support import tell

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

EVENTS = 60_000


@pytest.mark.parametrize("name", SUBJECTS)
def test_memory_stays_flat(name: str, tmp_path: Path) -> None:
    """From 10 000 to 60 000 events, resident memory stays within a fifth of the first reading."""
    subject = prepare(f"sqlite:///{tmp_path / 'onefold.db'}")

    readings = run(name, subject, EVENTS)

    tell(verdict(name, readings))
    assert len(readings) == 6
    assert abs(drift(readings)) <= TOLERANCE
