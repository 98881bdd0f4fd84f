"""Every twin is caught by its detector, for its reason; every correct one passes."""

import re
from pathlib import Path

import pytest
from tests.twins.gallery import Twin
from tests.twins.table import TWINS

PAGE = Path(__file__).parents[2] / "docs" / "explain" / "twins.md"
PEERS = {
    "autoclaim_orphan",
    "commit_unknown",
    "fingerprint_lost_on_completion",
    "gc_interrupted_reuses_result",
    "offset_before_durable",
    "seek_loop_without_backoff",
    "stale_recovery_runs_live_work",
    "zombie_deletes_completed",
}


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)
def test_the_detector_is_right_about_the_twin(twin: Twin) -> None:
    """Caught with the complaint that belongs to the mistake, or passed."""
    right, found = twin.judged()

    assert right, found.complaint
    assert found.runs > 0


def test_there_are_enough_of_them_and_each_has_a_name_of_its_own() -> None:
    """At least 25 mistakes, each bug that was published of a peer among them."""
    broken = [twin.name for twin in TWINS if twin.broken]

    assert len(set(broken)) == len(broken) >= 25
    assert set(broken) >= PEERS
    assert {twin.detector for twin in TWINS if not twin.broken} == {"crash", "schedule", "contract"}


def test_the_table_in_the_docs_has_each_twin() -> None:
    """As the last recorded `make twins` printed it."""
    told = set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE))

    assert told == {twin.name for twin in TWINS}
