"""Receives everything and keeps nothing: for measuring, and for trying a configuration."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from onefold.adapters.sinks.reading import opened
from onefold.ports.sink import OutcomeKind, Parcel, SendOutcome


class NowhereSink:
    """See `ports.sink.SinkOfMany`."""

    most_at_once = 500  # what the courier claims at once

    def __init__(self, config: Mapping[str, Any], secrets: Mapping[str, Any]) -> None:
        del config, secrets

    async def send(self, parcel: Parcel, *, now: datetime) -> SendOutcome:
        """Received, if it is of a published model."""
        del now
        found = opened(parcel)
        return (
            found
            if isinstance(found, SendOutcome)
            else SendOutcome(OutcomeKind.DELIVERED, "dropped")
        )

    async def send_many(self, parcels: Sequence[Parcel], *, now: datetime) -> Sequence[SendOutcome]:
        """Each as if it came alone."""
        return [await self.send(one, now=now) for one in parcels]

    async def aclose(self) -> None:
        """Nothing is kept open."""
