"""Telemetry over HTTP: every status and every body a client may meet."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from tests.integration.http.conftest import Clients
from tests.support import School, client_of, rows, telemetry_event, telemetry_over
from tests.twins.lost_commit import LostCommit

from onefold.testing.clock import ManualClock
from onefold_server.domains.directory.rules import Role
from onefold_server.domains.telemetry.tables import events, sessions
from onefold_server.http.app import create_app
from onefold_server.installation import Installation

EVENTS = "/api/v1/telemetry/events"
BATCH = "/api/v1/telemetry/batch"


def a_batch(*given: Any, **fields: Any) -> dict[str, Any]:
    return {"batch_id": str(uuid4()), "client_version": "1.0", "events": list(given)} | fields


def named(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(error["field"], error["code"]) for error in answer["errors"]]


# --- one event ------------------------------------------------------------------------------


async def test_an_event_is_answered_when_it_is_stored(
    service: AsyncClient, onefold: Installation, clock: ManualClock
) -> None:
    """201, the fields of the earlier API, and what became of it."""
    event = telemetry_event(clock.now())

    answer = await service.post(EVENTS, json=event)

    assert (answer.status_code, answer.headers["content-type"]) == (201, "application/json")
    assert answer.json() == {
        "status": "processed",
        "received_count": 1,
        "batch_id": event["event_id"],
        "message": "1/1 stored",
        "applied": 1,
        "repeated": 0,
        "refused": [],
    }
    assert len(await rows(onefold, events)) == 1


async def test_a_repeat_is_answered_like_the_first(
    service: AsyncClient, clock: ManualClock
) -> None:
    """A client that lost the answer just sends again."""
    event = telemetry_event(clock.now())
    await service.post(EVENTS, json=event)

    answer = await service.post(EVENTS, json=event)

    assert answer.status_code == 201
    assert (answer.json()["applied"], answer.json()["repeated"]) == (0, 1)


async def test_the_same_id_with_other_content_is_a_conflict(
    service: AsyncClient, clock: ManualClock
) -> None:
    """409, and the earlier content stands."""
    event = telemetry_event(clock.now())
    await service.post(EVENTS, json=event)

    answer = await service.post(EVENTS, json=event | {"data": {"level": 2}})

    assert answer.status_code == 409
    assert answer.json() == {
        "type": "urn:onefold:problem:conflict",
        "title": "Conflict",
        "status": 409,
        "code": "conflict",
        "detail": "this event_id was recorded before with other content",
        "instance": EVENTS,
    }


async def test_every_wrong_field_of_an_event_is_named(
    service: AsyncClient, clock: ManualClock
) -> None:
    """422 with a problem that a program can act on."""
    event = telemetry_event(clock.now(), event_id=1, timestamp="2026-01-01T12:00:00", extra=1)

    answer = await service.post(EVENTS, json=event)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "invalid_input"
    assert named(answer.json()) == [
        ("event_id", "not_a_uuid"),
        ("timestamp", "naive_timestamp"),
        ("extra", "unknown_field"),
    ]


@pytest.mark.parametrize("value", [None, [], "x", 1])
async def test_a_body_that_is_no_object_is_refused(service: AsyncClient, value: Any) -> None:
    """With the problem of the whole, which has no field."""
    answer = await service.post(EVENTS, content=json.dumps(value))

    assert (answer.status_code, named(answer.json())) == (422, [("", "not_an_object")])


async def test_an_event_for_nobody_is_refused_with_its_own_code(
    clients: Clients, school: School, clock: ManualClock
) -> None:
    """A pupil's key writes for that pupil alone."""
    _, pupil = await clients.pupil(school)

    answer = await pupil.post(EVENTS, json=telemetry_event(clock.now()))

    assert (answer.status_code, answer.json()["code"]) == (422, "not_your_student")


# --- a batch --------------------------------------------------------------------------------


async def test_a_batch_tells_what_became_of_each_event(
    service: AsyncClient, clock: ManualClock
) -> None:
    """Good ones are stored, bad ones listed with index, id, code and reason."""
    known, fresh = telemetry_event(clock.now()), telemetry_event(clock.now())
    await service.post(EVENTS, json=known)
    late = telemetry_event(clock.now() - timedelta(days=31))
    batch = a_batch(fresh, known, known | {"data": {}}, late, {"event_id": "?"})

    answer = await service.post(BATCH, json=batch)

    body = answer.json()
    refused = body.pop("refused")
    assert answer.status_code == 201
    assert body == {
        "status": "processed",
        "received_count": 5,
        "batch_id": batch["batch_id"],
        "message": "2/5 stored",
        "applied": 1,
        "repeated": 1,
    }
    assert [(r["index"], r["event_id"], r["code"]) for r in refused] == [
        (2, known["event_id"], "conflict"),
        (3, late["event_id"], "too_old"),
        (4, None, "not_a_uuid"),
    ]
    assert "31 days old; at most 30 days" in refused[1]["reason"]


async def test_a_batch_holds_a_thousand_events_and_no_more(
    service: AsyncClient, onefold: Installation, clock: ManualClock
) -> None:
    """The thousand-and-first makes the request wrong as a whole, in a short answer."""
    session = {"student_id": str(uuid4()), "session_id": str(uuid4())}
    many = [telemetry_event(clock.now(), **session) for _ in range(1001)]

    over = await service.post(BATCH, json=a_batch(*many))
    full = await service.post(BATCH, json=a_batch(*many[:1000]))

    assert (over.status_code, named(over.json())) == (422, [("events", "length")])
    assert len(over.content) < 1000
    assert (full.status_code, full.json()["applied"]) == (201, 1000)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"events": []}, ("events", "length")),
        ({"events": {}}, ("events", "length")),
        ({"events": None}, ("events", "length")),
        ({"batch_id": "17"}, ("batch_id", "not_a_uuid")),
        ({"batch_id": None}, ("batch_id", "not_a_uuid")),
        ({"client_version": "x" * 21}, ("client_version", "too_long")),
        ({"client_version": None}, ("client_version", "too_long")),
        ({"client_version": "a\0"}, ("client_version", "nul_character")),
        ({"sent_at": "now"}, ("sent_at", "unknown_field")),
    ],
)
async def test_a_batch_that_is_wrong_as_a_whole_is_refused_as_a_whole(
    service: AsyncClient,
    onefold: Installation,
    clock: ManualClock,
    change: dict[str, Any],
    problem: tuple[str, str],
) -> None:
    """And nothing of it is stored."""
    answer = await service.post(BATCH, json=a_batch(telemetry_event(clock.now())) | change)

    assert (answer.status_code, named(answer.json())) == (422, [problem])
    assert await rows(onefold, events) == []


@pytest.mark.parametrize("name", ["batch_id", "client_version", "events"])
async def test_what_a_batch_lacks_is_named(service: AsyncClient, name: str) -> None:
    """All three fields are required."""
    batch = a_batch({})
    del batch[name]

    answer = await service.post(BATCH, json=batch)

    assert named(answer.json()) == [(name, "missing")]


async def test_a_lone_surrogate_in_the_client_version_is_refused(service: AsyncClient) -> None:
    """JSON can spell it, no database can store it."""
    body = json.dumps(a_batch({})).replace('"1.0"', '"\\ud800"')

    answer = await service.post(BATCH, content=body)

    assert (answer.status_code, named(answer.json())) == (422, [("client_version", "not_unicode")])


# What JSON text can hold that no Python value would write.
SPELLINGS = {
    "NaN": "not_finite",
    "-Infinity": "not_finite",
    "1e999": "not_finite",
    "1" * 641: "number_too_large",
    "-" + "1" * 5000: "number_too_large",
    '"\\ud83d"': "not_unicode",
    '"\\u0000"': "nul_character",
    "[" * 20 + "]" * 20: "too_deep",
}


@pytest.mark.parametrize("number", range(len(SPELLINGS)))
async def test_what_is_wrong_in_one_event_costs_that_event_alone(
    service: AsyncClient, clock: ManualClock, number: int
) -> None:
    """Even where it is no JSON, strictly speaking."""
    spelled, code = list(SPELLINGS.items())[number]
    good, bad = telemetry_event(clock.now()), telemetry_event(clock.now(), data={"a": "HERE"})
    body = json.dumps(a_batch(good, bad)).replace('"HERE"', spelled)

    answer = await service.post(BATCH, content=body)

    assert (answer.status_code, answer.json()["applied"]) == (201, 1)
    assert [(r["index"], r["code"]) for r in answer.json()["refused"]] == [(1, code)]


# --- bodies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [EVENTS, BATCH])
@pytest.mark.parametrize("body", [b"", b"{", b"nope", b"{} {}", b"\xff\xfe", b'{"a":}'])
async def test_a_body_that_is_no_json_is_refused(
    service: AsyncClient, path: str, body: bytes
) -> None:
    """It says that, and where."""
    answer = await service.post(path, content=body)

    assert (answer.status_code, named(answer.json())) == (422, [("body", "malformed")])


async def test_a_body_nested_beyond_reason_is_refused(service: AsyncClient) -> None:
    """Instead of breaking whoever reads it."""
    answer = await service.post(EVENTS, content=b"[" * 100_000)

    assert (answer.status_code, named(answer.json())) == (422, [("body", "malformed")])


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "text/html"])
async def test_the_content_type_is_not_what_makes_it_json(
    service: AsyncClient, clock: ManualClock, kind: str
) -> None:
    """Game engines send the strangest; the body is JSON or it is not."""
    answer = await service.post(
        EVENTS, content=json.dumps(telemetry_event(clock.now())), headers={"Content-Type": kind}
    )

    assert answer.status_code == 201


async def in_pieces(total: int, size: int = 1 << 20) -> AsyncIterator[bytes]:
    """A body without a declared length."""
    for start in range(0, total, size):
        yield b" " * min(size, total - start)


@pytest.mark.parametrize("path", [EVENTS, BATCH, "/api/v1/students/import"])
@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_12_mb_is_not_read(admin: AsyncClient, path: str, declared: bool) -> None:
    """Whether its length is declared or only found out."""
    limit = 12 * 1024 * 1024
    content = b" " * (limit + 1) if declared else in_pieces(limit + 1)

    answer = await admin.post(path, content=content)

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_a_body_of_exactly_12_mb_is_read(service: AsyncClient) -> None:
    """The bound is inclusive: it is then judged as what it is."""
    answer = await service.post(EVENTS, content=in_pieces(12 * 1024 * 1024))

    assert answer.status_code == 422


async def test_a_client_that_goes_away_in_the_middle_stores_nothing(
    app: FastAPI, clients: Clients, onefold: Installation, school: School
) -> None:
    """And is no error of the server."""
    key = await onefold.directory.create_key(school.id, role=Role.SERVICE, label="")
    parts = [
        {"type": "http.request", "body": b'{"event_id"', "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return parts.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": EVENTS,
        "raw_path": EVENTS.encode(),
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {key}".encode())],
    }
    await app(scope, receive, send)

    assert sent[0]["status"] == 422
    assert await rows(onefold, events) == []


# --- after the commit -----------------------------------------------------------------------


async def test_the_answer_comes_after_the_commit(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """A transaction that fails at its end is no 201 but a 503 that says when to come back."""
    key = await onefold.directory.create_key(school.id, role=Role.SERVICE, label="")
    broken = create_app(telemetry_over(onefold, LostCommit(onefold.uow)), worker=False)
    event = telemetry_event(clock.now())

    async with client_of(broken, key) as client:
        answers = [
            await client.post(EVENTS, json=event),
            await client.post(BATCH, json=a_batch(event)),
        ]

    assert [answer.status_code for answer in answers] == [503, 503]
    assert [answer.json()["code"] for answer in answers] == ["store_unavailable"] * 2
    assert [answer.headers["retry-after"] for answer in answers] == ["1", "1"]
    assert await rows(onefold, events) == []


# --- batches, sessions, features ------------------------------------------------------------


async def test_every_door_leads_to_the_same_once(
    service: AsyncClient, onefold: Installation, school: School, clock: ManualClock
) -> None:
    """One by one, in a batch, and beside the server."""
    event = telemetry_event(clock.now())

    await service.post(EVENTS, json=event)
    batch = await service.post(BATCH, json=a_batch(event))
    beside = await onefold.telemetry.ingest(school.admin, [event])

    assert batch.json()["repeated"] == beside.repeated == 1
    assert len(await rows(onefold, events)) == 1


async def test_the_status_of_a_batch_is_what_happened_to_it(
    service: AsyncClient, clock: ManualClock
) -> None:
    """Over all the times it was posted."""
    batch = a_batch(telemetry_event(clock.now()), {})
    await service.post(BATCH, json=batch)
    answer = await service.post(BATCH, json=batch)

    status = await service.get(f"/api/v1/telemetry/status/{batch['batch_id']}")

    assert status.status_code == 200
    assert status.json() == {
        "batch_id": batch["batch_id"],
        "status": "completed",
        "client_version": "1.0",
        "received_at": "2026-01-01T12:00:00Z",
        "last_received_at": "2026-01-01T12:00:00Z",
        "posts": 2,
        "applied": 1,
        "repeated": 1,
        "refused": answer.json()["refused"],
    }


async def test_an_unknown_batch_is_not_found(service: AsyncClient) -> None:
    """Nobody is told that it completed."""
    answer = await service.get(f"/api/v1/telemetry/status/{uuid4()}")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_closing_answers_with_the_features_each_time_the_same(
    service: AsyncClient, clock: ManualClock
) -> None:
    """200, closed, started_at, ended_at and the revision."""
    start = telemetry_event(clock.now() - timedelta(minutes=6))
    end = start | {
        "event_id": str(uuid4()),
        "event_type": "mission_complete",
        "timestamp": clock.now().isoformat(),
    }
    await service.post(BATCH, json=a_batch(start, end))
    path = f"/api/v1/telemetry/session/{start['session_id']}/close"

    first = await service.post(path)
    clock.advance(timedelta(minutes=1))
    second = await service.post(path)

    body = first.json()
    assert (first.status_code, second.json()) == (200, body)
    assert body["message"] == "session closed; features revision 1"
    assert body["status"] == "closed"
    assert (body["started_at"], body["ended_at"]) == (
        "2026-01-01T11:54:00Z",
        "2026-01-01T12:00:00Z",
    )
    assert body["features"]["task_completion_rate"] == 1.0
    assert body["features"]["recovery_rate"] is None
    assert body["features"]["undefined"] == {"recovery_rate": "nothing failed"}


async def test_closing_an_unknown_session_is_not_found(service: AsyncClient) -> None:
    """404."""
    answer = await service.post(f"/api/v1/telemetry/session/{uuid4()}/close")

    assert answer.status_code == 404


async def test_a_session_is_read_with_its_events_page_by_page(
    service: AsyncClient, clock: ManualClock
) -> None:
    """In the order of their time; it is open and has no features yet."""
    first = telemetry_event(clock.now() - timedelta(minutes=2), data={"學": [1]})
    more = [
        first | {"event_id": str(uuid4()), "timestamp": (clock.now()).isoformat()} for _ in "ab"
    ]
    await service.post(BATCH, json=a_batch(*more, first))
    path = f"/api/v1/telemetry/sessions/{first['session_id']}"

    page = (await service.get(path, params={"limit": 2})).json()
    rest = (await service.get(path, params={"limit": 2, "cursor": page["next_cursor"]})).json()

    assert (page["status"], page["features"], page["ended_at"]) == ("open", None, None)
    assert page["event_count"] == 3
    assert page["events"][0]["event_id"] == first["event_id"]
    assert page["events"][0]["data"] == {"學": [1]}
    assert "fingerprint" not in page["events"][0]
    assert (len(page["events"]), len(rest["events"]), rest["next_cursor"]) == (2, 1, None)


async def test_every_revision_of_the_features_is_listed(
    service: AsyncClient, clock: ManualClock
) -> None:
    """The newest first; none while the session is open."""
    event = telemetry_event(clock.now())
    path = f"/api/v1/telemetry/sessions/{event['session_id']}"
    await service.post(EVENTS, json=event)
    before = await service.get(f"{path}/features")
    await service.post(f"/api/v1/telemetry/session/{event['session_id']}/close")
    await service.post(EVENTS, json=event | {"event_id": str(uuid4())})

    after = await service.get(f"{path}/features")

    assert before.json() == {"session_id": event["session_id"], "revisions": []}
    assert [r["revision"] for r in after.json()["revisions"]] == [2, 1]
    assert [r["event_count"] for r in after.json()["revisions"]] == [2, 1]


async def test_sessions_and_features_of_a_pupil_come_newest_first(
    service: AsyncClient, clock: ManualClock
) -> None:
    """With a cursor to the next page; features of closed sessions alone."""
    pupil = str(uuid4())
    played = [
        telemetry_event(clock.now() - timedelta(minutes=n), student_id=pupil) for n in range(3)
    ]
    await service.post(BATCH, json=a_batch(*played, telemetry_event(clock.now())))
    for event in played[:2]:
        await service.post(f"/api/v1/telemetry/session/{event['session_id']}/close")
    path = f"/api/v1/telemetry/students/{pupil}"

    page = (await service.get(f"{path}/sessions", params={"limit": 2})).json()
    cursor = page["next_cursor"]
    rest = (await service.get(f"{path}/sessions", params={"limit": 2, "cursor": cursor})).json()
    features = (await service.get(f"{path}/features")).json()
    everyone = (await service.get("/api/v1/telemetry/sessions")).json()

    order = [event["session_id"] for event in played]
    assert [s["session_id"] for s in page["sessions"] + rest["sessions"]] == order
    assert rest["next_cursor"] is None
    assert [f["session_id"] for f in features["features"]] == order[:2]
    assert len(everyone["sessions"]) == 4


@pytest.mark.parametrize("what", ["sessions", "features"])
async def test_a_pupil_nobody_knows_is_not_found(service: AsyncClient, what: str) -> None:
    """An empty list would say that it exists and has not played."""
    answer = await service.get(f"/api/v1/telemetry/students/{uuid4()}/{what}")

    assert answer.status_code == 404


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "many"])
async def test_a_page_of_another_size_is_refused(service: AsyncClient, limit: str) -> None:
    """1 to 1000 rows."""
    answer = await service.get("/api/v1/telemetry/sessions", params={"limit": limit})

    assert (answer.status_code, named(answer.json())) == (422, [("limit", "parameter")])


@pytest.mark.parametrize(
    "cursor", ["x", "%00", "WyIyMDI2LTAxLTAxVDAwOjAwOjAwIiwiMDAwIl0", "'; DROP TABLE schools"]
)
async def test_a_cursor_that_is_not_ours_is_refused(service: AsyncClient, cursor: str) -> None:
    """Whatever it holds."""
    answer = await service.get("/api/v1/telemetry/sessions", params={"cursor": cursor})

    assert (answer.status_code, named(answer.json())) == (422, [("cursor", "cursor")])


async def test_the_description_of_the_api_is_served(clients: Clients) -> None:
    """With the fields of an event and their bounds."""
    anyone = await clients.with_key(None)

    schema = (await anyone.get("/api/v1/openapi.json")).json()

    body = schema["paths"][BATCH]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"]["events"]["maxItems"] == 1000
    assert "event_type" in body["properties"]["events"]["items"]["properties"]


async def test_sessions_are_born_once_whatever_door(
    service: AsyncClient, onefold: Installation, clock: ManualClock
) -> None:
    """A second event of a session joins it."""
    event = telemetry_event(clock.now())

    await service.post(EVENTS, json=event)
    await service.post(BATCH, json=a_batch(event | {"event_id": str(uuid4())}))

    (session,) = await rows(onefold, sessions)
    assert session["event_count"] == 2
