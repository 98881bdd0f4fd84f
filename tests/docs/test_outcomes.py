"""The page about loops of one's own says the same of an offset as the outcomes do."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from onefold import Outcome
from onefold.engine.outcome import AnyOutcome
from onefold.ports.guard import ClaimKey

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "guard-your-own-loop.md"
_ROW = re.compile(r"^\| `([A-Z]+)\b[^|]*\|[^|]*\| (yes|no)\b[^|]*\|$", re.MULTILINE)

AT = datetime(2026, 11, 28, 12, tzinfo=UTC)
OUTCOMES: dict[str, AnyOutcome] = {
    "APPLIED": Outcome.APPLIED("reserved"),
    "REPEATED": Outcome.REPEATED(AT),
    "CONFLICT": Outcome.CONFLICT(ClaimKey("c", "", "1"), AT),
    "BUSY": Outcome.BUSY(AT),
    "FAILED": Outcome.FAILED(ValueError(), 1),
}


def test_the_page_has_a_row_for_every_outcome() -> None:
    """A reader who matches on the rows of the table has left none out."""
    rows = dict(_ROW.findall(PAGE.read_text()))

    assert set(rows) == set(OUTCOMES) == {name for name in vars(Outcome) if name.isupper()}


@pytest.mark.parametrize("name", OUTCOMES)
def test_the_page_says_whether_the_offset_may_move(name: str) -> None:
    """`settled` and the table give the same answer."""
    rows = dict(_ROW.findall(PAGE.read_text()))

    assert rows[name] == ("yes" if OUTCOMES[name].settled else "no")
