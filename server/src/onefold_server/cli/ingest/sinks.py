"""Where events go: into the database beside us, or to a server."""

from collections.abc import Sequence
from typing import Any, Protocol
from uuid import UUID

import msgspec

import onefold as package
from onefold_server.cli.ingest.remote import Remote
from onefold_server.cli.ingest.spec import wrong
from onefold_server.domains.directory.rules import Principal
from onefold_server.domains.telemetry.intake import Receipt, Refusal
from onefold_server.domains.telemetry.service import TelemetryService


class IngestTarget(Protocol):
    """Takes events; the same ones again count once."""

    async def send(self, batch_id: UUID, events: Sequence[Any]) -> Receipt:
        """
        Have 1 to 1000 *events* recorded.

        Returns:
            What became of them, after the commit.

        Raises:
            OnefoldError: they may have been recorded; sending them again is safe.
        """
        ...


def client_version() -> str:
    """What is kept with a batch to tell what sent it; at most 20 characters."""
    return f"onefold {package.__version__}"[:20]


class DatabaseSink:
    """The database itself; one transaction a batch."""

    def __init__(self, telemetry: TelemetryService, school_id: UUID) -> None:
        self._telemetry, self._caller = telemetry, Principal.local(school_id)

    async def send(self, batch_id: UUID, events: Sequence[Any]) -> Receipt:
        return await self._telemetry.ingest(
            self._caller, events, batch_id=batch_id, client_version=client_version()
        )


class _Answer(msgspec.Struct):
    applied: int
    repeated: int
    refused: list[dict[str, Any]]


class ServerSink:
    """A server's batch route; one request a batch."""

    def __init__(self, server: Remote) -> None:
        self._server = server

    async def send(self, batch_id: UUID, events: Sequence[Any]) -> Receipt:
        body = {"batch_id": batch_id, "client_version": client_version(), "events": events}
        answer = await self._server.post("/api/v1/telemetry/batch", body)
        try:
            told = msgspec.convert(answer, _Answer)
            refused = [Refusal(**refusal) for refusal in told.refused]
        except (msgspec.ValidationError, TypeError):
            raise wrong("--to", "the server does not answer as a Onefold server does") from None
        return Receipt(applied=told.applied, repeated=told.repeated, refused=refused)
