"""Many writers at once, through several servers: the union is stored once and nobody fails."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from httpx import AsyncClient
from pydantic import SecretStr
from sqlalchemy import Delete, Table, delete
from tests.support import (
    School,
    WatchedUnitOfWork,
    another_server,
    client_of,
    new_school,
    rows,
    telemetry_event,
    telemetry_over,
)
from tests.twins.check_then_insert import CheckThenInsert

from onefold.errors import ConstraintViolated
from onefold.testing.clock import ManualClock
from onefold_server.domains.directory.rules import Role
from onefold_server.domains.directory.tables import students
from onefold_server.domains.telemetry.intake import Receipt
from onefold_server.domains.telemetry.rules import Summary, features, read_event
from onefold_server.domains.telemetry.tables import events, sessions
from onefold_server.domains.telemetry.tables import features as features_table
from onefold_server.http.app import create_app
from onefold_server.installation import Installation, build
from onefold_server.settings import Settings

Event = dict[str, Any]


def plays(clock: ManualClock, *, number: int, sessions_: int) -> list[Event]:
    """Events of several pupils' sessions, a second apart."""
    who = [(str(uuid4()), str(uuid4())) for _ in range(sessions_)]
    return [
        telemetry_event(
            clock.now() + timedelta(seconds=n - number),
            student_id=who[n % sessions_][0],
            session_id=who[n % sessions_][1],
            event_type="choice_made",
        )
        for n in range(number)
    ]


# --- many writers ---------------------------------------------------------------------------


async def test_fifty_writers_of_overlapping_batches_store_the_union_once(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Through two servers; the counts of all batches add up, and so do their statuses."""
    random = Random(1)
    union = plays(clock, number=300, sessions_=20)
    batches = {uuid4(): random.sample(union, 40) for _ in range(50)}
    sent = {event["event_id"] for batch in batches.values() for event in batch}

    async with another_server(onefold) as other:
        receipts = await asyncio.gather(
            *(
                (onefold, other)[n % 2].telemetry.ingest(school.service, batch, batch_id=batch_id)
                for n, (batch_id, batch) in enumerate(batches.items())
            )
        )

    stored = [str(row["event_id"]) for row in await rows(onefold, events)]
    statuses = [await onefold.telemetry.batch_status(school.service, id_) for id_ in batches]
    assert sorted(stored) == sorted(sent)
    assert sum(receipt.applied for receipt in receipts) == len(sent)
    assert [(r.applied + r.repeated, r.refused) for r in receipts] == [(40, [])] * 50
    assert [(r.applied, r.repeated) for r in receipts] == [
        (status["applied"], status["repeated"]) for status in statuses
    ]
    assert sum(row["event_count"] for row in await rows(onefold, sessions)) == len(sent)


async def test_fifty_writers_over_http_store_the_union_once(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Singles and batches, each sent twice by different writers: every answer is a 201."""
    random = Random(2)
    union = plays(clock, number=200, sessions_=15)
    key = await onefold.directory.create_key(school.id, role=Role.SERVICE, label="")

    async def write(client: AsyncClient) -> list[dict[str, Any]]:
        mine = random.sample(union, 12)
        batch = {"batch_id": str(uuid4()), "client_version": "1", "events": mine}
        answers = [
            await client.post("/api/v1/telemetry/batch", json=batch),
            await client.post("/api/v1/telemetry/events", json=mine[0]),
            await client.post("/api/v1/telemetry/batch", json=batch),
            await client.get(f"/api/v1/telemetry/status/{batch['batch_id']}"),
        ]
        assert [answer.status_code for answer in answers] == [201, 201, 201, 200]
        status = answers[3].json()
        assert (status["posts"], status["applied"] + status["repeated"]) == (2, 24)
        return [answer.json() for answer in answers[:3]]

    async with client_of(create_app(onefold, worker=False), key) as client:
        written = await asyncio.gather(*(write(client) for _ in range(50)))

    receipts = [receipt for each in written for receipt in each]
    stored = await rows(onefold, events)
    assert sum(receipt["applied"] for receipt in receipts) == len(stored)
    assert sum(r["applied"] + r["repeated"] for r in receipts) == 50 * 25
    assert len({row["event_id"] for row in stored}) == len(stored)
    assert sum(row["event_count"] for row in await rows(onefold, sessions)) == len(stored)


async def test_concurrent_first_events_of_one_session_make_one_session(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """And one pupil; each event counts."""
    first = plays(clock, number=20, sessions_=1)

    async with another_server(onefold) as other:
        receipts = await asyncio.gather(
            *(
                (onefold, other)[n % 2].telemetry.ingest(school.service, [event])
                for n, event in enumerate(first)
            )
        )

    (session,) = await rows(onefold, sessions)
    assert [receipt.applied for receipt in receipts] == [1] * 20
    assert (session["event_count"], len(await rows(onefold, students))) == (20, 1)
    times = [row["occurred_at"] for row in await rows(onefold, events)]
    assert (session["started_at"], session["last_event_at"]) == (min(times), max(times))


async def test_batches_in_opposite_orders_do_not_lock_each_other_out(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Pupils, sessions and events are taken in one order by all."""
    async with another_server(onefold) as other:
        for _ in range(10):
            batch = plays(clock, number=20, sessions_=4)
            receipts = await asyncio.gather(
                onefold.telemetry.ingest(school.service, batch),
                other.telemetry.ingest(school.service, batch[::-1]),
            )

            assert sorted((r.applied, r.repeated) for r in receipts) == [(0, 20), (20, 0)]


async def test_the_naive_design_fails_where_ours_does_not(
    postgres_url: str, clock: ManualClock
) -> None:
    """Two posts of one id that both checked before either inserted: the twin is caught."""
    onefold = build(Settings(database_url=SecretStr(postgres_url)), clock=clock)
    school = await new_school(onefold)
    known, event = (telemetry_event(clock.now()) for _ in range(2))
    await onefold.telemetry.ingest(school.service, [known])
    event |= {name: known[name] for name in ("student_id", "session_id")}
    # Without the session's lock, which would serialise them.
    apart = [event, event | {"session_id": str(uuid4())}]
    naive = telemetry_over(onefold, CheckThenInsert(onefold.uow, events, asyncio.Barrier(2)))

    outcomes = await asyncio.gather(
        *(naive.telemetry.ingest(school.service, [each]) for each in apart), return_exceptions=True
    )

    await onefold.aclose()
    assert [type(o) for o in outcomes if isinstance(o, Exception)] == [ConstraintViolated]


# --- closing beside it ----------------------------------------------------------------------


async def test_features_equal_all_events_however_close_and_ingest_race(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """A close sees all of a request's events or none; what comes after makes a new revision."""
    played = plays(clock, number=60, sessions_=1)
    session_id = UUID(played[0]["session_id"])
    await onefold.telemetry.ingest(school.service, played[:1])

    async with another_server(onefold) as other:
        await asyncio.gather(
            *(onefold.telemetry.ingest(school.service, played[n : n + 3]) for n in range(0, 60, 3)),
            *(other.telemetry.close_session(school.service, session_id) for _ in range(5)),
            *(other.telemetry.close_idle_sessions() for _ in range(5)),
        )

    row = await onefold.telemetry.session(school.service, session_id)
    read = [read_event(raw, now=clock.now(), max_age=None) for raw in played]
    revisions = sorted(r["revision"] for r in await rows(onefold, features_table))
    assert row["features_metrics"] == features(Summary.of(read)).metrics
    assert revisions == list(range(1, row["revision"] + 1))


# --- lost races, one by one -----------------------------------------------------------------


class Race:
    """Two servers over a PostgreSQL; SQLite lets one transaction write at a time."""

    def __init__(self, here: Installation, there: Installation, school: School) -> None:
        self.here, self.there, self.school = here, there, school

    async def known_pupil(self) -> str:
        """A pupil who is enrolled."""
        event = telemetry_event(self.here.clock.now())
        await self.here.telemetry.ingest(self.school.service, [event])
        return str(event["student_id"])

    async def lose(self, table: Table, rival: Event, mine: list[Event]) -> Receipt:
        """What *mine* come to when *rival* is committed just before our insert into *table*."""

        async def before(name: str, args: tuple[Any, ...]) -> None:
            if name == "insert_new" and args[0] is table:
                await self.there.telemetry.ingest(self.school.service, [rival])

        server = telemetry_over(self.here, WatchedUnitOfWork(self.here.uow, before))
        return await server.telemetry.ingest(self.school.service, mine)


@pytest.fixture
async def race(postgres_url: str, clock: ManualClock) -> AsyncIterator[Race]:
    """A race that is about to begin."""
    here = build(Settings(database_url=SecretStr(postgres_url)), clock=clock)
    async with another_server(here) as there:
        yield Race(here, there, await new_school(here))
    await here.aclose()


async def test_who_loses_the_race_for_an_id_repeats(race: Race, clock: ManualClock) -> None:
    """The insert decides, not the look before it."""
    event = telemetry_event(clock.now(), student_id=await race.known_pupil())

    receipt = await race.lose(sessions, event, [event])

    assert (receipt.applied, receipt.repeated, receipt.refused) == (0, 1, [])


async def test_who_loses_the_race_with_other_content_conflicts_and_leaves_nothing(
    race: Race, clock: ManualClock
) -> None:
    """The session and the pupil that were made for it are taken back."""
    event = telemetry_event(clock.now(), student_id=await race.known_pupil())
    mine = telemetry_event(clock.now(), event_id=event["event_id"])

    receipt = await race.lose(events, event, [mine])

    assert [refusal.code for refusal in receipt.refused] == ["conflict"]
    assert mine["session_id"] not in {str(row["id"]) for row in await rows(race.here, sessions)}
    assert [str(row["id"]) for row in await rows(race.here, students)] == [event["student_id"]]


async def test_a_session_begins_with_the_events_that_won(race: Race, clock: ManualClock) -> None:
    """Not with the one that lost its id, though the session was made from it."""
    pupil = await race.known_pupil()
    event = telemetry_event(clock.now(), student_id=pupil)
    hour_ago = clock.now() - timedelta(hours=1)
    lost = telemetry_event(hour_ago, event_id=event["event_id"], student_id=pupil)
    won = telemetry_event(clock.now(), student_id=pupil, session_id=lost["session_id"])

    await race.lose(events, event, [lost, won])

    row = await race.here.telemetry.session(race.school.service, UUID(won["session_id"]))
    assert (row["started_at"], row["event_count"]) == (clock.now(), 1)


async def test_a_pupil_enrolled_by_another_request_meanwhile_may_play(
    race: Race, clock: ManualClock
) -> None:
    """Both requests found it unknown; one enrolled it."""
    event = telemetry_event(clock.now())
    theirs = telemetry_event(clock.now(), student_id=event["student_id"])

    receipt = await race.lose(students, theirs, [event])

    assert receipt.applied == 1
    assert len(await rows(race.here, students)) == 1


async def test_an_id_that_was_taken_and_is_free_again_is_judged_anew(
    race: Race, clock: ManualClock
) -> None:
    """Whoever erases an event while it is being compared leaves no verdict in the air."""
    pupil = await race.known_pupil()
    event = telemetry_event(clock.now(), student_id=pupil)
    mine = telemetry_event(clock.now(), student_id=pupil, event_id=event["event_id"])
    erased = delete(events).where(events.c.event_id == UUID(event["event_id"]))
    rivals = [race.there.telemetry.ingest(race.school.service, [event]), _run(race.there, erased)]
    reached = False

    async def before(name: str, args: tuple[Any, ...]) -> None:
        nonlocal reached
        reached = reached or (name == "insert_new" and args[0] is events)
        if reached and rivals:  # the insert, and then the comparison after it
            await rivals.pop(0)

    server = telemetry_over(race.here, WatchedUnitOfWork(race.here.uow, before))
    receipt = await server.telemetry.ingest(race.school.service, [mine])

    assert (receipt.applied, receipt.refused) == (1, [])


async def _run(onefold: Installation, statement: Delete) -> None:
    async with onefold.uow.begin() as tx:
        await tx.execute(statement)
