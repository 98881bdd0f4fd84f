"""`onefold outbox` on both databases: the whole of what waits, and what was given up."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.faults.relay_sides import make_event
from typer.testing import CliRunner

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.outbox import SqlOutbox
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.ports.outbox import SendFailure
from onefold_server.cli.main import app

HOUR = timedelta(hours=1)


async def two_events_one_of_them_dead(url: str) -> None:
    """Published an hour ago; the broker did not take the first."""
    uow = SqlUnitOfWork(Database(url))
    now = datetime.now(UTC)
    async with uow.begin() as tx:
        await tx.publish(*(make_event(n, now, "k") for n in (1, 2)), now=now - HOUR)
    outbox = SqlOutbox(uow)
    shipment = await outbox.lease("r", now=now, lease=HOUR, limit=9)
    assert shipment is not None
    failed = [SendFailure(shipment.waiting[0].position, "refused", None)]
    await outbox.mark(shipment, sent=[], failed=failed, now=now)
    await uow.aclose()


def run(url: str, *words: str) -> tuple[int, Sequence[dict[str, Any]]]:
    """The exit code, and the JSON that was printed."""
    ran = CliRunner().invoke(app, ["outbox", *words, "--json", "--database", url])
    return ran.exit_code, json.loads(ran.stdout)


def test_what_waits_is_counted_and_what_is_dead_goes_again(database_url: str) -> None:
    """The alarm rings for a dead event; revived, it waits as the others do."""
    asyncio.run(two_events_one_of_them_dead(database_url))

    alarmed, (before,) = run(database_url, "status", "--alarm-s", "7200")
    _, (dead,) = run(database_url, "dead")
    _, revived = run(database_url, "revive", dead["event_id"], "no-such-event")
    quiet, (after,) = run(database_url, "status", "--alarm-s", "7200")
    old, _ = run(database_url, "status", "--alarm-s", "60")

    assert (alarmed, before["waiting"], before["dead"]) == (1, 1, 1)
    assert (dead["error"], dead["attempts"], dead["key"]) == ("refused", 1, "k")
    assert revived == [{"revived": dead["event_id"]}]
    assert (quiet, after["waiting"], after["dead"], old) == (0, 2, 0, 1)
    assert 3600 <= after["oldest_age_s"] < 7200
