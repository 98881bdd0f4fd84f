"""A school with trace over the test's database."""

import pytest
from tests.support import School
from tests.support_trace import World

from onefold_server.installation import Installation


@pytest.fixture
def world(onefold: Installation, school: School) -> World:
    """Trace with scripted sinks."""
    return World(onefold, school)
