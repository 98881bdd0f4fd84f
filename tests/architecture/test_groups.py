"""Tests that share a server of their own run in one worker."""

import pytest


def test_groups_are_kept_together(request: pytest.FixtureRequest) -> None:
    """xdist goes by the end of the node id; a pytest that ignores it starts a Kafka a worker."""
    in_groups = getattr(request.config.option, "loadgroup", False)
    grouped = [item for item in request.session.items if item.get_closest_marker("xdist_group")]

    assert {"@" in item.nodeid.rpartition("]")[2] for item in grouped} <= {in_groups}
