"""The state charts in the documentation are the tables in the code."""

import re
from enum import Enum
from pathlib import Path
from types import ModuleType

import pytest

from onefold.core import claim, delivery

PAGE = Path(__file__).parents[2] / "docs" / "explain" / "states.md"
_CHART = re.compile(
    r"^## (.+?)\n.*?```mermaid\nstateDiagram-v2\n(.*?)```", re.MULTILINE | re.DOTALL
)
_ARROW = re.compile(r"^ +(\w+) --> (\w+): (\w+)$", re.MULTILINE)
_END = re.compile(r"^ +(\w+) --> \[\*\]$", re.MULTILINE)
CHARTS = dict(_CHART.findall(PAGE.read_text()))


@pytest.mark.parametrize(
    ("title", "module", "states"),
    [("A claim", claim, claim.ClaimState), ("A delivery", delivery, delivery.DeliveryState)],
    ids=["claim", "delivery"],
)
def test_a_chart_shows_every_transition_and_no_other(
    title: str, module: ModuleType, states: type[Enum]
) -> None:
    """A reader of the chart knows what the code allows, and which states are final."""
    allowed = {(s.name, n.name, f.name) for (s, f), n in module.NEXT.items()}
    final = {s.name for s in states} - {start for start, _, _ in allowed}

    arrows = _ARROW.findall(CHARTS[title])

    assert len(arrows) == len(allowed)
    assert set(arrows) == allowed
    assert set(_END.findall(CHARTS[title])) == final
