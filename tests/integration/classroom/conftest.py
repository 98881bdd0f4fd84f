"""A class in a fresh school over a fresh database of either kind."""

import pytest
from tests.support import School
from tests.support_classroom import Room, new_room

from onefold_server.installation import Installation


@pytest.fixture
async def room(onefold: Installation, school: School) -> Room:
    """A class of five pupils."""
    return await new_room(onefold, school)
