"""What a client is told when something goes wrong: always a problem, never more than it sent."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from pydantic import SecretStr
from tests.integration.http.conftest import Clients
from tests.support import School, WatchedUnitOfWork, client_of, telemetry_event, telemetry_over

from onefold.errors import (
    CommitUnknown,
    ConstraintViolated,
    OnefoldError,
    Refused,
    SchemaOutdated,
    StoreContended,
    StoreFailed,
    StoreUnavailable,
    Unavailable,
)
from onefold.testing.clock import ManualClock
from onefold_server.domains.directory.rules import Role
from onefold_server.http.app import create_app
from onefold_server.http.problems import STATUS
from onefold_server.installation import Installation, build
from onefold_server.settings import Settings

EVENTS = "/api/v1/telemetry/events"
PROBLEM = {"type", "title", "status", "code", "detail", "instance"}


# --- the shape ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/v1/nothing", 404, "not_found"),
        ("DELETE", EVENTS, 405, "method_not_allowed"),
        ("GET", "/api/v1/telemetry/sessions/17", 422, "invalid_input"),
        (
            "GET",
            "/api/v1/telemetry/sessions/00000000-0000-4000-8000-000000000000",
            404,
            "not_found",
        ),
        ("POST", EVENTS, 422, "invalid_input"),
    ],
)
async def test_every_error_is_a_problem(
    service: AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    """RFC 9457, with a stable code; those of the framework too."""
    answer = await service.request(method, path)

    body = answer.json()
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(body) - {"errors"} == PROBLEM
    assert body["type"] == f"urn:onefold:problem:{code}"


async def test_a_wrong_method_says_which_is_right(service: AsyncClient) -> None:
    """As HTTP demands."""
    answer = await service.delete(EVENTS)

    assert answer.headers["allow"] == "POST"


def errors(root: type[OnefoldError]) -> list[type[OnefoldError]]:
    """Every error below *root*."""
    return [e for sub in root.__subclasses__() for e in (sub, *errors(sub))]


def test_what_can_be_retried_is_answered_503_and_what_cannot_is_not() -> None:
    """`retryable` and the status do not contradict each other."""
    by_status = {error: STATUS.get(error.code, 500) for error in errors(OnefoldError)}

    ours = {error for error, status in by_status.items() if status < 500}
    assert all(issubclass(error, Refused) for error in ours)
    assert {by_status[StoreUnavailable], by_status[StoreContended], by_status[CommitUnknown]} == {
        503
    }
    assert all(issubclass(error, Unavailable) == error.retryable for error in by_status)


# --- the server's own faults ----------------------------------------------------------------


@asynccontextmanager
async def failing(
    onefold: Installation, school: School, error: Exception
) -> AsyncIterator[AsyncClient]:
    """A client of a server whose first statement raises *error*."""

    async def fail(_name: str, _args: tuple[Any, ...]) -> None:
        raise error

    key = await onefold.directory.create_key(school.id, role=Role.SERVICE, label="")
    broken = telemetry_over(onefold, WatchedUnitOfWork(onefold.uow, fail))
    async with client_of(create_app(broken, worker=False), key) as client:
        yield client


SECRET = "INSERT INTO telemetry_events VALUES ('4711')"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (StoreUnavailable(SECRET), 503, "store_unavailable"),
        (StoreContended(SECRET), 503, "store_contended"),
        (CommitUnknown(SECRET), 503, "commit_unknown"),
        (ConstraintViolated(SECRET), 500, "constraint_violated"),
        (SchemaOutdated(SECRET), 500, "schema_outdated"),
        (StoreFailed(SECRET), 500, "store_failed"),
        (RuntimeError(SECRET), 500, "internal"),
        (ValueError(SECRET), 500, "internal"),
    ],
)
async def test_the_servers_own_faults_are_problems_without_its_secrets(
    onefold: Installation,
    school: School,
    clock: ManualClock,
    error: Exception,
    status: int,
    code: str,
) -> None:
    """The log has the rest; what may be sent again says when."""
    event = telemetry_event(clock.now(), data={"mine": "private"})

    async with failing(onefold, school, error) as client:
        answer = await client.post(EVENTS, json=event)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert set(answer.json()) == PROBLEM
    assert ("retry-after" in answer.headers) == (status == 503)
    for told in ("INSERT", "4711", "private", event["student_id"], "Traceback"):
        assert told not in answer.text


# --- no echo --------------------------------------------------------------------------------


async def test_a_refusal_does_not_repeat_what_was_sent(
    service: AsyncClient, clock: ManualClock
) -> None:
    """Neither to the sender nor to whoever reads the logs; names of unknown fields, shortened."""
    secret = "x-private-" * 1000
    whole = dict.fromkeys(telemetry_event(clock.now()), secret)
    batch = {"batch_id": secret, "client_version": secret, "events": secret}
    mixed = {"batch_id": str(uuid4()), "client_version": "1", "events": [whole, {secret: 1}]}

    answers = [
        await service.post(EVENTS, json=whole),
        await service.post("/api/v1/telemetry/batch", json=batch),
        await service.post("/api/v1/telemetry/batch", json=mixed),
        await service.get("/api/v1/telemetry/sessions", params={"limit": secret[:99]}),
    ]

    assert [answer.status_code for answer in answers] == [422, 422, 201, 422]
    assert [answer.text.count("private") for answer in answers] == [0, 0, 4, 0]
    assert max(len(answer.content) for answer in answers) < 2000


async def test_fifty_thousand_unknown_fields_get_a_short_answer(
    service: AsyncClient, clock: ManualClock
) -> None:
    """A small request cannot make the server write a large answer."""
    event = telemetry_event(clock.now()) | {f"f{n}": n for n in range(50_000)}

    answer = await service.post(EVENTS, json=event)

    assert (answer.status_code, len(answer.json()["errors"])) == (422, 10)


# --- health ---------------------------------------------------------------------------------


async def test_a_server_that_can_write_is_healthy(clients: Clients) -> None:
    """200, and over which kind of database."""
    anyone = await clients.with_key(None)

    answer = await anyone.get("/healthz")

    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "database": "sqlite"})


def impatient(url: str) -> tuple[Installation, FastAPI]:
    onefold = build(Settings(database_url=SecretStr(url), store_wait_s=0.05))
    return onefold, create_app(onefold, worker=False)


async def health(url: str) -> tuple[int, str, str]:
    onefold, app = impatient(url)
    async with client_of(app) as client:
        answer = await client.get("/healthz")
    await onefold.aclose()
    assert answer.headers["retry-after"] == "1"
    return answer.status_code, answer.json()["code"], answer.json()["detail"]


async def test_a_server_whose_database_is_locked_is_not_healthy(sqlite_url: str) -> None:
    """503 while another holds the lock for good, with the reason."""
    holder = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    answer = await health(sqlite_url)

    holder.close()
    assert answer == (503, "store_contended", "store_contended: database is locked")


async def test_a_server_whose_database_is_gone_is_not_healthy(tmp_path: Path) -> None:
    """503, with the reason."""
    answer = await health(f"sqlite:///{tmp_path}/gone/onefold.db")

    assert answer == (503, "store_unavailable", "store_unavailable: unable to open database file")


async def test_a_server_whose_database_was_deleted_is_not_healthy(sqlite_url: str) -> None:
    """Its open file still takes writes, which nobody will find again."""
    onefold, app = impatient(sqlite_url)
    async with client_of(app) as client:
        before = await client.get("/healthz")
        Path(sqlite_url.removeprefix("sqlite:///")).unlink()  # noqa: ASYNC240 (a test's own)

        after = await client.get("/healthz")

    await onefold.aclose()
    assert (before.status_code, after.status_code) == (200, 503)


async def test_a_server_whose_database_is_no_database_is_not_healthy(tmp_path: Path) -> None:
    """503, with the reason."""
    file = tmp_path / "onefold.db"
    file.write_bytes(b"no database" * 1000)

    answer = await health(f"sqlite:///{file}")

    assert answer == (503, "store_failed", "store_failed: file is not a database")


async def test_a_server_whose_database_was_never_migrated_is_not_healthy(tmp_path: Path) -> None:
    """503: it can serve nothing."""
    answer = await health(f"sqlite:///{tmp_path}/onefold.db")

    assert answer[:2] == (503, "schema_outdated")


async def test_a_server_whose_postgresql_is_away_is_not_healthy() -> None:
    """503, and its password is not in the reason."""
    answer = await health("postgresql://onefold:hidden@127.0.0.1:1/onefold")

    assert answer[:2] == (503, "store_unavailable")
    assert "hidden" not in answer[2]
