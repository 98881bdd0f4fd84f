"""Receives everything and keeps nothing: for measuring, and for trying a configuration."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from onefold.adapters.sinks.reading import opened
from onefold.ports.sink import Kind, Outcome, Parcel


class NowhereSink:
    """See `ports.sink.Sink`."""

    def __init__(self, config: Mapping[str, Any], secrets: Mapping[str, Any]) -> None:
        del config, secrets

    async def send(self, parcel: Parcel, *, now: datetime) -> Outcome:
        """Received, if it is of a published model."""
        found = opened(parcel)
        return found if isinstance(found, Outcome) else Outcome(Kind.DELIVERED, "dropped")

    async def aclose(self) -> None:
        """Nothing is kept open."""
