"""
The faults of the earlier telemetry system, one by one: what it did, and what ours does.

Numbered as in the research note (telemetry, section 8). Not here, because they are of later
issues: B13 rate limits, B16 tokens, B17 metrics, B21 consent and erasure, B23 anomalies.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from httpx import AsyncClient
from pydantic import SecretStr
from sqlalchemy import inspect
from tests.support import School, another_server, client_of, rows, telemetry_event, telemetry_over
from tests.twins.lost_commit import LostCommit

from onefold.errors import StoreUnavailable
from onefold.testing.clock import ManualClock
from onefold_server.domains.directory.rules import Role
from onefold_server.domains.directory.tables import students
from onefold_server.domains.telemetry.rules import Profile, Summary, features
from onefold_server.domains.telemetry.tables import events, sessions
from onefold_server.domains.telemetry.tables import features as features_table
from onefold_server.http.app import create_app
from onefold_server.installation import Installation, build
from onefold_server.settings import Settings

NOTE = "telemetry"

API = "/api/v1/telemetry"


@pytest.fixture
async def game(onefold: Installation, school: School) -> AsyncIterator[AsyncClient]:
    """A game server's client, over either database."""
    key = await onefold.directory.create_key(school.id, role=Role.SERVICE, label="game")
    async with client_of(create_app(onefold, worker=False), key) as client:
        yield client


def a_batch(*given: Any) -> dict[str, Any]:
    return {"batch_id": str(uuid4()), "client_version": "1", "events": list(given)}


async def test_b01_one_bad_event_costs_one_event(
    game: AsyncClient, onefold: Installation, clock: ManualClock
) -> None:
    """It lost the whole batch to one value that only its database refused; ours loses that one."""
    good = [telemetry_event(clock.now()) for _ in range(3)]
    poison = telemetry_event(clock.now(), event_type="choice_made", data={"choice": "a\0b"})
    long = telemetry_event(clock.now(), event_type="choice_made", data={"choice": "x" * 300})

    answer = await game.post(f"{API}/batch", json=a_batch(*good, poison, long, {"data": 1}))

    assert (answer.status_code, answer.json()["applied"]) == (201, 4)
    assert [r["code"] for r in answer.json()["refused"]] == ["nul_character", "missing"]
    assert len(await rows(onefold, events)) == 4


async def test_b02_identical_posts_at_once_all_succeed(
    game: AsyncClient, onefold: Installation, clock: ManualClock
) -> None:
    """It answered up to half of them with 500; ours stores one and calls the rest repeats."""
    event = telemetry_event(clock.now())
    batch = a_batch(event, telemetry_event(clock.now()))

    answers = await asyncio.gather(
        *(game.post(f"{API}/events", json=event) for _ in range(10)),
        *(game.post(f"{API}/batch", json=batch) for _ in range(6)),
    )

    assert {answer.status_code for answer in answers} == {201}
    assert sum(answer.json()["applied"] for answer in answers) == 2
    assert len(await rows(onefold, events)) == 2


async def test_b02_batches_that_name_sessions_in_opposite_order_both_succeed(
    game: AsyncClient, onefold: Installation, school: School, clock: ManualClock
) -> None:
    """It lost one of the two almost every time, to a deadlock; ours takes rows in one order."""
    async with another_server(onefold) as other:
        for _ in range(5):
            pair = [telemetry_event(clock.now()) for _ in range(2)]
            twins = [each | {"event_id": str(uuid4())} for each in pair]

            receipts = await asyncio.gather(
                onefold.telemetry.ingest(school.service, pair),
                other.telemetry.ingest(school.service, twins[::-1]),
            )

            assert [receipt.applied for receipt in receipts] == [2, 2]


async def test_b03_an_id_with_other_content_is_a_conflict_and_leaves_nothing(
    game: AsyncClient, onefold: Installation, clock: ManualClock
) -> None:
    """It called such an event stored, dropped it, and left an empty session; ours says 409."""
    event = telemetry_event(clock.now())
    await game.post(f"{API}/events", json=event)

    answer = await game.post(
        f"{API}/events", json=telemetry_event(clock.now(), event_id=event["event_id"])
    )

    assert answer.status_code == 409
    assert (len(await rows(onefold, sessions)), len(await rows(onefold, students))) == (1, 1)


async def test_b04_a_session_takes_no_event_of_another_pupil(
    game: AsyncClient, onefold: Installation, school: School, clock: ManualClock
) -> None:
    """It counted them for the owner, whatever the token; ours refuses, and keys are bound."""
    event = telemetry_event(clock.now())
    await game.post(f"{API}/events", json=event)
    foreign = telemetry_event(clock.now(), session_id=event["session_id"])
    key = await onefold.directory.create_key(
        school.id, role=Role.STUDENT, label="", student_id=UUID(event["student_id"])
    )
    teacher_key = await onefold.directory.create_key(school.id, role=Role.TEACHER, label="")
    app = create_app(onefold, worker=False)

    refused = await game.post(f"{API}/events", json=foreign)
    async with client_of(app, key) as pupil, client_of(app, teacher_key) as teacher:
        for_another = await pupil.post(f"{API}/events", json=telemetry_event(clock.now()))
        forged = await teacher.post(f"{API}/events", json=telemetry_event(clock.now()))

    assert refused.json()["code"] == "session_of_another_student"
    assert for_another.json()["code"] == "not_your_student"
    assert forged.status_code == 403
    closed = await game.post(f"{API}/session/{event['session_id']}/close")
    assert closed.json()["features"]["event_count"] == 1


async def test_b05_pupils_and_their_features_are_not_open_to_the_world(
    game: AsyncClient, onefold: Installation, clock: ManualClock
) -> None:
    """It gave names and features to anyone; ours answers 401. Every route: http/test_auth.py."""
    event = telemetry_event(clock.now())
    await game.post(f"{API}/events", json=event)
    paths = ["/api/v1/students", f"{API}/students/{event['student_id']}/features"]

    async with client_of(create_app(onefold, worker=False)) as anyone:
        answers = [await anyone.get(path) for path in paths]

    assert [answer.status_code for answer in answers] == [401, 401]
    assert event["student_id"] not in answers[0].text


async def test_b06_closing_again_and_at_once_changes_nothing(
    game: AsyncClient, onefold: Installation, clock: ManualClock
) -> None:
    """It wrote a row a close, after which reading failed for ever, and the end drifted."""
    event = telemetry_event(clock.now())
    await game.post(f"{API}/events", json=event)
    path = f"{API}/session/{event['session_id']}/close"

    at_once = await asyncio.gather(*(game.post(path) for _ in range(5)))
    clock.advance(timedelta(hours=1))
    again = await game.post(path)

    assert {answer.text for answer in (*at_once, again)} == {again.text}
    assert len(await rows(onefold, features_table)) == 1
    read = await game.get(f"{API}/sessions/{event['session_id']}/features")
    assert read.status_code == 200


async def test_b07_late_events_are_counted(game: AsyncClient, clock: ManualClock) -> None:
    """It accepted events after the close and never counted them; ours makes a new revision."""
    start = telemetry_event(clock.now())
    await game.post(f"{API}/events", json=start)
    await game.post(f"{API}/session/{start['session_id']}/close")

    late = start | {"event_id": str(uuid4()), "event_type": "mission_complete"}
    await game.post(f"{API}/events", json=late)

    found = (await game.get(f"{API}/sessions/{start['session_id']}")).json()["features"]
    assert (found["revision"], found["task_completion_rate"]) == (2, 1.0)


async def test_b08_no_session_is_closed_without_its_features(
    game: AsyncClient, onefold: Installation, school: School, clock: ManualClock
) -> None:
    """It swallowed errors and said that features were there; ours closes with them or not."""
    event = telemetry_event(clock.now())
    await game.post(f"{API}/events", json=event)
    failing = telemetry_over(onefold, LostCommit(onefold.uow))

    with pytest.raises(StoreUnavailable):
        await failing.telemetry.close_session(school.service, UUID(event["session_id"]))

    found = (await game.get(f"{API}/sessions/{event['session_id']}")).json()
    assert (found["status"], found["features"]) == ("open", None)


async def test_b08_the_first_instant_of_all_is_refused(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """It came back from PostgreSQL as a zoneless infinity; ours is refused even at any age."""
    anything_goes = build(onefold.settings, clock=clock, any_age=True)
    first, second = (
        telemetry_event(clock.now(), timestamp=text)
        for text in ("0001-01-01T00:00:00Z", "0001-01-02T00:00:00Z")
    )

    receipt = await anything_goes.telemetry.ingest(school.service, [first, second])
    closed = await anything_goes.telemetry.close_session(school.service, UUID(second["session_id"]))

    await anything_goes.aclose()
    assert [(r.index, r.code) for r in receipt.refused] == [(0, "timestamp")]
    assert closed["started_at"].isoformat() == "0001-01-02T00:00:00+00:00"


@pytest.mark.parametrize(
    ("timestamp", "code"),
    [
        ("2026-01-01T12:00:00", "naive_timestamp"),
        (1767268800, "timestamp"),
        ("1970-01-01T00:00:00Z", "too_old"),
        ("9999-12-31T23:59:59Z", "in_the_future"),
        ("2026-01-01T12:05:01Z", "in_the_future"),
    ],
)
async def test_b09_times_have_an_offset_and_bounds(
    onefold: Installation, school: School, clock: ManualClock, timestamp: Any, code: str
) -> None:
    """It took any time, and a naive one for the server's zone; ours refuses with a reason."""
    event = telemetry_event(clock.now(), timestamp=timestamp)

    receipt = await onefold.telemetry.ingest(school.service, [event])

    assert [refusal.code for refusal in receipt.refused] == [code]


async def test_b10_a_session_spans_its_play_not_its_upload(
    game: AsyncClient, clock: ManualClock
) -> None:
    """It took arrival times, so that play sent in one go was all efficiency; ours the game's."""
    start = telemetry_event(clock.now() - timedelta(hours=2))
    end = start | {
        "event_id": str(uuid4()),
        "event_type": "mission_complete",
        "timestamp": (clock.now() - timedelta(hours=1)).isoformat(),
    }
    await game.post(f"{API}/batch", json=a_batch(start, end))

    closed = (await game.post(f"{API}/session/{start['session_id']}/close")).json()

    assert (closed["started_at"], closed["ended_at"]) == (
        "2026-01-01T10:00:00Z",
        "2026-01-01T11:00:00Z",
    )
    assert closed["features"]["time_efficiency"] == 0.05


def test_b11_ratios_are_shares_or_null_and_the_old_ones_only_on_demand() -> None:
    """It gave 3.0, and 0 or 1 for no opportunity; ours at most 1, and null with a reason."""
    played = Summary(counts={"mission_start": 1, "mission_complete": 3})

    ours, theirs = features(played), features(played, Profile.COMPAT)

    assert ours.metrics["task_completion_rate"] == 1.0
    assert ours.metrics["recovery_rate"] is None
    assert ours.undefined["recovery_rate"] == "nothing failed"
    assert theirs.metrics["task_completion_rate"] == 3.0
    assert theirs.metrics["recovery_rate"] == 1.0


async def test_b12_the_status_of_a_batch_is_true(game: AsyncClient, clock: ManualClock) -> None:
    """It said completed to any text; ours says what happened, and 404 to what never came."""
    batch = a_batch(telemetry_event(clock.now()), {})
    await game.post(f"{API}/batch", json=batch)

    known = await game.get(f"{API}/status/{batch['batch_id']}")
    unknown = await game.get(f"{API}/status/{uuid4()}")
    no_id = await game.get(f"{API}/status/anything")

    assert (known.json()["applied"], len(known.json()["refused"])) == (1, 1)
    assert (unknown.status_code, no_id.status_code) == (404, 422)


async def test_b14_a_huge_request_gets_a_short_no(game: AsyncClient, clock: ManualClock) -> None:
    """It read any body and echoed 11 MB of it; ours stops at 12 MB and repeats nothing."""
    many = [telemetry_event(clock.now())] * 20_000

    too_many = await game.post(f"{API}/batch", json=a_batch(*many))
    too_large = await game.post(f"{API}/batch", content=b"[" + b" " * (12 * 1024 * 1024))

    assert (too_many.status_code, too_large.status_code) == (422, 413)
    assert max(len(too_many.content), len(too_large.content)) < 500


async def test_b15_errors_tell_nothing_of_the_inside(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """It put SQL, parameters and ids into its answers; ours a code and a hint."""
    key = await onefold.directory.create_key(school.id, role=Role.SERVICE, label="")
    broken = telemetry_over(onefold, LostCommit(onefold.uow))
    event = telemetry_event(clock.now())

    async with client_of(create_app(broken, worker=False), key) as client:
        answer = await client.post(f"{API}/events", json=event)

    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    for inside in ("INSERT", "telemetry_", event["student_id"], "COMMIT"):
        assert inside not in answer.text


async def test_b18_a_client_can_audit_what_was_stored(
    game: AsyncClient, onefold: Installation, clock: ManualClock
) -> None:
    """Its count mixed stored and repeated; ours tells applied, repeated and refused apart."""
    known = telemetry_event(clock.now())
    await game.post(f"{API}/events", json=known)

    answer = await game.post(f"{API}/batch", json=a_batch(known, telemetry_event(clock.now()), {}))

    body = answer.json()
    assert (body["applied"], body["repeated"], len(body["refused"])) == (1, 1, 1)
    assert body["received_count"] == 3
    assert len(await rows(onefold, events)) == 2


async def test_b19_events_are_stored_narrow(postgres_url: str) -> None:
    """It kept ids as text under eight indexes; ours are UUIDs under two, and the data is jsonb."""
    onefold = build(Settings(database_url=SecretStr(postgres_url)))
    async with onefold.database.writer.connect() as connection:
        columns = await connection.run_sync(
            lambda sync: {
                column["name"]: str(column["type"])
                for column in inspect(sync).get_columns("telemetry_events")
            }
        )
        indexes = await connection.run_sync(
            lambda sync: len(inspect(sync).get_indexes("telemetry_events"))
        )
    await onefold.aclose()

    ids = {name: kind for name, kind in columns.items() if name.endswith("_id") and kind == "UUID"}
    assert set(ids) == {"school_id", "event_id", "session_id", "student_id", "batch_id"}
    assert (columns["data"], indexes) == ("JSONB", 1)  # and the primary key's


async def test_b20_an_abandoned_session_is_closed_and_gets_its_features(
    game: AsyncClient, onefold: Installation, clock: ManualClock
) -> None:
    """It left them open and without features for ever; ours are closed after the idle gap."""
    event = telemetry_event(clock.now())
    await game.post(f"{API}/events", json=event)

    clock.advance(timedelta(minutes=30))
    await onefold.telemetry.close_idle_sessions()

    found = (await game.get(f"{API}/sessions/{event['session_id']}")).json()
    assert (found["closed_by"], found["features"]["event_count"]) == ("idle", 1)


async def test_b22_a_broken_database_is_not_healthy(tmp_path: Path) -> None:
    """It said healthy with its database down; ours 503, with the reason."""
    url = SecretStr(f"sqlite:///{tmp_path}/gone/onefold.db")
    onefold = build(Settings(database_url=url))

    async with client_of(create_app(onefold, worker=False)) as client:
        answer = await client.get("/healthz")

    await onefold.aclose()
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")


async def test_b22_what_is_not_there_says_what_is_missing(game: AsyncClient) -> None:
    """Its 404 said nothing, or became a 500; ours is a problem that names the thing."""
    session_id = uuid4()

    answer = await game.get(f"{API}/sessions/{session_id}")

    assert answer.status_code == 404
    assert answer.json()["detail"] == f"no session {session_id}"
