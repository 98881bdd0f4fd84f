"""Trace over HTTP: every route, its scope, and what it answers."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from httpx import AsyncClient
from tests.integration.http.conftest import Clients
from tests.support import School, new_school
from tests.support_trace import World, opening, trade

from onefold_server.domains.directory.rules import Role, Scope
from onefold_server.installation import Installation

P = "/api/v1/trace"
WRITE, READ, MANAGE = Scope.TRACE_WRITE, Scope.TRACE_READ, Scope.TRACE_MANAGE
ROUTES = {
    ("POST", f"{P}/trades"): WRITE,
    ("GET", f"{P}/trades/{{trade_id}}"): READ,
    ("POST", f"{P}/trades/{{trade_id}}/close"): WRITE,
    ("POST", f"{P}/trades/{{trade_id}}/correct"): WRITE,
    ("PUT", f"{P}/instruments/{{symbol}}"): MANAGE,
    ("POST", f"{P}/destinations"): MANAGE,
    ("GET", f"{P}/destinations"): READ,
    ("PATCH", f"{P}/destinations/{{name}}"): MANAGE,
    ("POST", f"{P}/destinations/{{name}}/test"): MANAGE,
    ("POST", f"{P}/destinations/{{name}}/pause"): MANAGE,
    ("POST", f"{P}/destinations/{{name}}/resume"): MANAGE,
    ("POST", f"{P}/destinations/{{name}}/rotate"): MANAGE,
    ("DELETE", f"{P}/destinations/{{name}}"): MANAGE,
    ("POST", f"{P}/subscriptions"): MANAGE,
    ("GET", f"{P}/subscriptions"): READ,
    ("POST", f"{P}/subscriptions/{{subscription_id}}/withdraw"): MANAGE,
    ("GET", f"{P}/deliveries"): READ,
    ("GET", f"{P}/deliveries/{{delivery_id}}"): READ,
    ("POST", f"{P}/deliveries/{{delivery_id}}/replay"): MANAGE,
    ("POST", f"{P}/deliveries/{{delivery_id}}/cancel"): MANAGE,
    ("POST", f"{P}/deliveries/{{delivery_id}}/release"): MANAGE,
    ("GET", f"{P}/coverage"): READ,
}
BODIES: dict[str, Any] = {
    "/close": {"exit_price": "1.09", "exit_time": "2026-01-01T12:00:00Z"},
    "/correct": {"expected_revision": 1, "facts": {"fees": "-1"}},
    "/instruments/{symbol}": {"contract_size": "100", "currency": "USD"},
    "/rotate": {"secrets": {}},
}


@pytest.fixture
def world(onefold: Installation, school: School) -> World:
    """Trace with scripted sinks."""
    return World(onefold, school)


def _body(route: tuple[str, str]) -> Any:
    return next((body for end, body in BODIES.items() if route[1].endswith(end)), {})


def _path(template: str) -> str:
    ids = {name: str(uuid4()) for name in ("trade_id", "subscription_id", "delivery_id")}
    return template.format(name="nowhere", symbol="X", **ids)


def test_every_route_is_known_here(app: FastAPI) -> None:
    """A new one fails this test until it is entered, and so tested below."""
    found = set()
    for one in iter_route_contexts(app.routes):
        route: Any = one
        if route.path.startswith(P):
            found |= {(method, route.path) for method in (route.methods or set()) - {"HEAD"}}

    assert found == set(ROUTES)


@pytest.mark.parametrize("route", ROUTES)
async def test_every_route_asks_for_a_key_and_its_scope(
    clients: Clients,
    school: School,
    route: tuple[str, str],
) -> None:
    """401 without a key, 403 with every scope but its own."""
    anyone = await clients.with_key(None)
    others = [scope for scope in Scope if scope is not ROUTES[route]]
    without = await clients.of(school, Role.ADMIN, scopes=others)
    full = {
        f"{P}/trades": _sent(trade(clients.onefold.clock.now())),
        f"{P}/destinations": {"name": "x", "sink": "nowhere"},
        f"{P}/subscriptions": {
            "user_id": "u", "destination": "x", "profile": "full", "consent_version": "1",
        },
    }  # fmt: skip
    body = full.get(route[1], _body(route))

    answers = [await c.request(route[0], _path(route[1]), json=body) for c in (anyone, without)]

    assert [answer.status_code for answer in answers] == [401, 403]


def _sent(given: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if hasattr(value, "isoformat") else value
        for name, value in given.items()
        if value is not None
    }


async def test_from_an_open_trade_to_its_receipt(
    world: World,
    admin: AsyncClient,
    service: AsyncClient,
) -> None:
    """Destination, consent, trade, close, correction, delivery, coverage: all over HTTP."""
    made = await admin.post(f"{P}/destinations", json={"name": "t", "sink": "nowhere"})
    assert made.status_code == 201
    consent = {"user_id": "user-ada", "destination": "t", "profile": "full", "consent_version": "1"}
    assert (await admin.post(f"{P}/subscriptions", json=consent)).status_code == 201
    opened = await service.post(f"{P}/trades", json=_sent(opening(world.now)))
    path = f"{P}/trades/{opened.json()['trade_id']}"
    exit_ = {"exit_price": "1.09", "exit_time": world.now.isoformat()}

    closed = await service.post(f"{path}/close", json=exit_)
    again = await service.post(f"{path}/close", json=exit_)
    other = await service.post(f"{path}/close", json=exit_ | {"exit_price": "1.10"})

    assert (closed.status_code, again.json(), other.status_code) == (200, closed.json(), 409)
    assert await world.work_off(timedelta(minutes=5)) == {"delivered": 1}
    shown = (await service.get(path)).json()
    assert [one["state"] for one in shown["deliveries"]] == ["delivered"]
    stale = {"expected_revision": 1, "facts": {"fees": "-1"}}
    assert (await service.post(f"{path}/correct", json=stale)).status_code == 409
    fixed = await service.post(f"{path}/correct", json=stale | {"expected_revision": 2})
    assert (fixed.status_code, fixed.json()["revision"]) == (200, 3)
    covered = (await service.get(f"{P}/coverage")).json()["coverage"]
    # The present revision is the corrected one, and waits.
    assert [(one["closed"], one["pending"]) for one in covered] == [(1, 1)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"exit_price": 1.09},
        {"extra": 1},
        {"entry_time": "2026-01-01T09:00:00"},
        {"side": "up"},
        {"side": None},
        {"entry_time": "0001-01-01T00:00:00+05:00"},
        {"exit_time": "9999-12-31T23:59:59Z"},
    ],
    ids=["float", "unknown", "naive", "side", "null", "first year", "last year"],
)
async def test_what_is_no_trade_is_refused(
    world: World,
    service: AsyncClient,
    wrong: Any,
) -> None:
    """422, and the field is named."""
    answer = await service.post(f"{P}/trades", json=_sent(trade(world.now)) | wrong)

    assert answer.status_code == 422
    assert next(iter(wrong)) in answer.text


async def test_a_correction_can_say_that_something_is_unknown(
    world: World, service: AsyncClient
) -> None:
    """Null takes a fact out, what is left out stays, and what changes nothing is refused."""
    id_ = await world.closed(stop_loss="1.07")
    path = f"{P}/trades/{id_}/correct"

    fixed = await service.post(path, json={"expected_revision": 1, "facts": {"stop_loss": None}})
    again = await service.post(path, json={"expected_revision": 2, "facts": {"side": "buy"}})
    nothing = await service.post(path, json={"expected_revision": 2, "facts": {}})

    assert (fixed.status_code, fixed.json()["stop_loss"]) == (200, None)
    assert (fixed.json()["volume"], fixed.json()["revision"]) == ("0.5", 2)
    assert (again.status_code, nothing.status_code) == (422, 422)


async def test_a_destination_is_changed_over_http(admin: AsyncClient) -> None:
    """A key that is null is taken out; the rest stays, and the secrets are not told."""
    made = {"name": "t", "sink": "webhook", "config": {"url": "https://one.example/"}}
    made["secrets"] = {"token": "t"}
    await admin.post(f"{P}/destinations", json=made | {"secrets": {"token": "hunter2"}})
    path = f"{P}/destinations/t"

    answer = await admin.request("PATCH", path, json={"config": {"timeout_s": 9}, "rate_per_s": 2})
    wrong = await admin.request("PATCH", path, json={"config": {"url": None}})
    empty = await admin.request("PATCH", path, json={})
    back = await admin.request(
        "PATCH", path, json={"config": {"timeout_s": None}, "rate_per_s": None}
    )

    assert answer.json()["config"] == {"url": "https://one.example/", "timeout_s": 9}
    assert [a.status_code for a in (answer, wrong, empty, back)] == [200, 422, 422, 200]
    assert (back.json()["config"], back.json()["rate_per_s"]) == (made["config"], None)
    assert "hunter2" not in answer.text + back.text


async def test_a_consent_that_is_over_already_is_refused(world: World, admin: AsyncClient) -> None:
    """422, and nothing was recorded."""
    await world.destination("t")
    consent = {"user_id": "u", "destination": "t", "profile": "full", "consent_version": "1"}

    answer = await admin.post(f"{P}/subscriptions", json=consent | {"until": "2025-01-01T00:00Z"})

    assert (answer.status_code, "until" in answer.text) == (422, True)


async def test_another_school_does_not_exist(
    world: World,
    clients: Clients,
    service: AsyncClient,
) -> None:
    """Its trades and deliveries are not found."""
    await world.destination()
    await world.subscribe()
    id_ = await world.closed()
    delivery = await world.only()
    other = await clients.of(await new_school(world.onefold, "Other"), Role.ADMIN)

    paths = [f"{P}/trades/{id_}", f"{P}/deliveries/{delivery['id']}"]
    statuses = [(await other.get(path)).status_code for path in paths]
    acts = [
        (await other.post(f"{P}/deliveries/{delivery['id']}/{act}")).status_code
        for act in ("cancel", "release", "replay")
    ]

    assert (statuses, acts) == ([404] * 2, [404] * 3)
    assert (await other.get(f"{P}/deliveries")).json() == {"deliveries": []}
