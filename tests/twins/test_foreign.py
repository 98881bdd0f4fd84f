"""What the page on other libraries' patterns says is what the explorer finds."""

import re
from pathlib import Path

import pytest
from examples.foreign.scenarios import TASKS, found_in

PAGE = Path(__file__).parents[2] / "examples" / "foreign" / "README.md"
ROWS = re.findall(r"^\| `(\w+)` \| (\d+) \| (\d+) \| (\d+) \|$", PAGE.read_text(), re.MULTILINE)


@pytest.mark.parametrize(("name", "deaths", "lost", "doubled"), ROWS)
async def test_the_table_is_what_is_found(name: str, deaths: str, lost: str, doubled: str) -> None:
    """Deaths, losses and doubles, to the number."""
    assert await found_in(TASKS[name]) == (int(deaths), int(lost), int(doubled))


def test_each_scenario_has_its_row() -> None:
    """None is left out because of what it shows."""
    assert [name for name, *_ in ROWS] == list(TASKS)
