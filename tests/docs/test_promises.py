"""The promises of the documents name tests that exist, and the deaths that are really died."""

import re
from pathlib import Path

import pytest
from tests.crash import test_consumer_deaths as consumer
from tests.crash import test_relay_deaths as relay

from onefold.testing.crash.explorer import explore

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
_TEST = re.compile(r"`((?:tests|src)/[\w/]+\.py)::(\w+)`")
_PATH = re.compile(r"`(tests/[\w/.]+)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_test_that_is_named_exists(page: Path) -> None:
    """`tests/…/test_x.py::test_y` in a document is a test of that file."""
    text = page.read_text()

    missing = [
        f"{path}::{name}"
        for path, name in _TEST.findall(text)
        if not (ROOT / path).is_file() or f"def {name}(" not in (ROOT / path).read_text()
    ]

    assert missing == []
    assert [path for path in _PATH.findall(text) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("world", [consumer.World, consumer.Parks, relay.World])
async def test_the_failure_model_has_a_row_for_every_death(
    world: type[consumer.World | relay.World],
) -> None:
    """Each boundary the explorer dies at is explained."""
    page = (ROOT / "docs" / "explain" / "failure-model.md").read_text()
    explained = set(re.findall(r"^\| `([\w.:]+)`", page, re.MULTILINE))

    explored = await explore(lambda: world().scenario())

    died = {re.sub(r"#\d+", "", death) for death in explored.deaths}
    assert died - explained == set()
