"""
The same server with storage switched off: what HTTP, keys and validation cost by themselves.

The routes, their parsing, the check of each event and the answer are the product's own. What
is left out is every statement: events are read and not recorded, and a key is looked up once
and then compared from memory. The events' fingerprints, which only the database needs, are
left out with it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from onefold_server.domains.directory.rules import ApiKey, Principal, Scope
from onefold_server.domains.directory.service import DirectoryService
from onefold_server.domains.telemetry.intake import Receipt, RequestOrigin, TelemetryIntake
from onefold_server.domains.telemetry.service import TelemetryService
from onefold_server.http.app import create_app
from onefold_server.installation import Installation, build
from onefold_server.server import serve
from onefold_server.settings import Settings
from onefold_server.sockets import listen


class UnstoredTelemetry(TelemetryService):
    """Checks events and calls each good one applied."""

    async def ingest(
        self,
        caller: Principal,
        raws: Sequence[Any],
        *,
        batch_id: UUID | None = None,
        client_version: str | None = None,
    ) -> Receipt:
        caller.require(Scope.TELEMETRY_WRITE)
        origin = RequestOrigin(
            school_id=caller.school_id,
            received_at=self._clock.now(),
            batch_id=batch_id,
            client_version=client_version,
            only_student=caller.student_id,
        )
        intake = TelemetryIntake.read(origin, raws, max_age=self._policy.max_age)
        intake.applied = len(intake.waiting)
        return intake.receipt()


class RememberingDirectory(DirectoryService):
    """Asks the database for a key once; its secret is compared at every request."""

    def __init__(self, onefold: Installation) -> None:
        self._asked = onefold.directory
        self._known: dict[str, tuple[bytes, Principal]] = {}

    async def authenticate(self, token: str) -> Principal:
        key = ApiKey.parse(token)
        if key is None or key.prefix not in self._known:
            principal = await self._asked.authenticate(token)
            key = ApiKey.parse(token)
            assert key
            self._known[key.prefix] = key.digest(), principal
        digest, principal = self._known[key.prefix]
        assert key.matches(digest)
        return principal


def main() -> None:
    """Serve as `onefold serve --no-worker` does, over the settings of the environment."""
    settings = Settings.load()
    stored = build(settings)
    telemetry = UnstoredTelemetry(
        stored.uow,
        clock=stored.clock,
        policy=stored.telemetry._policy,  # noqa: SLF001
    )
    unstored = replace(stored, telemetry=telemetry, directory=RememberingDirectory(stored))
    app = create_app(unstored, worker=False)
    with listen(settings) as (socket, url):
        told = f"without storage {url}"
        serve(app, unstored, socket=socket, ready=lambda: print(told, flush=True))


if __name__ == "__main__":
    main()
