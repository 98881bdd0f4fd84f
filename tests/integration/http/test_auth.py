"""Who may do what over HTTP: every route, every kind of key."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from httpx import AsyncClient, Response
from tests.integration.http.conftest import Clients
from tests.support import School, leave, new_school, telemetry_event

from onefold.testing.clock import ManualClock
from onefold_server.domains.directory.rules import Role, Scope
from onefold_server.installation import Installation

T = "/api/v1/telemetry"
# Open to anyone: they tell nothing of anybody.
PUBLIC = {
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/livez"),
    ("GET", "/metrics"),
    ("GET", "/api/v1/openapi.json"),
}
# The pages have a login of their own; tests/integration/test_pages.py walks them.
PAGES = {"/", "/live", "/login", "/logout", "/sessions/{id}", "/static/{file:path}"}
# Every other route, and the scope it asks for. A new route must be entered here.
ROUTES: dict[tuple[str, str], Scope] = {
    ("POST", f"{T}/events"): Scope.TELEMETRY_WRITE,
    ("POST", f"{T}/batch"): Scope.TELEMETRY_WRITE,
    ("POST", f"{T}/session/{{session_id}}/close"): Scope.TELEMETRY_WRITE,
    ("GET", f"{T}/status/{{batch_id}}"): Scope.TELEMETRY_READ,
    ("GET", f"{T}/refusals"): Scope.TELEMETRY_READ,
    ("GET", f"{T}/sessions"): Scope.TELEMETRY_READ,
    ("GET", f"{T}/sessions/{{session_id}}"): Scope.TELEMETRY_READ,
    ("GET", f"{T}/sessions/{{session_id}}/features"): Scope.TELEMETRY_READ,
    ("GET", f"{T}/students/{{student_id}}/sessions"): Scope.TELEMETRY_READ,
    ("GET", f"{T}/students/{{student_id}}/features"): Scope.TELEMETRY_READ,
    ("GET", "/api/v1/students"): Scope.DIRECTORY_READ,
    ("POST", "/api/v1/students/import"): Scope.DIRECTORY_WRITE,
}
NAMING_A_THING = [route for route in ROUTES if "{" in route[1]]


class Things:
    """What a school has: one event of one pupil in one session, sent in one batch."""

    def __init__(self, clock: ManualClock) -> None:
        self.event = telemetry_event(clock.now())
        self.batch_id = str(uuid4())

    def path(self, template: str) -> str:
        return template.format(**self.event, batch_id=self.batch_id)

    def body(self, path: str) -> dict[str, Any]:
        """A right body for a POST to *path*."""
        batch = {"batch_id": self.batch_id, "client_version": "1", "events": [self.event]}
        bodies: dict[str, dict[str, Any]] = {
            f"{T}/events": {"json": self.event},
            f"{T}/batch": {"json": batch},
            "/api/v1/students/import": {"content": "external_id\n7\n"},
        }
        return bodies.get(path, {})

    async def call(self, client: AsyncClient, route: tuple[str, str]) -> Response:
        return await client.request(route[0], self.path(route[1]), **self.body(route[1]))


@pytest.fixture
async def things(service: AsyncClient, clock: ManualClock) -> Things:
    """What the test's school has."""
    made = Things(clock)
    answer = await made.call(service, ("POST", f"{T}/batch"))
    assert answer.status_code == 201
    return made


TRACE = "/api/v1/trace"  # its routes are known, and tested so, in test_trace.py
LEARNING = "/api/v1/learning"  # its routes are known, and tested so, in learning/test_http.py
CLASSROOM = "/api/v1/classroom"  # and these in classroom/test_http.py


def walk(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Method and path of every route, those of included routers too."""
    for found in iter_route_contexts(app.routes):
        route: Any = found
        for method in (route.methods or set()) - {"HEAD"}:
            yield method, route.path


def test_every_route_of_the_api_is_known_here(app: FastAPI) -> None:
    """A new one fails this test until it is entered, and so tested below."""
    api = {
        (method, path)
        for method, path in walk(app)
        if path not in PAGES and not path.startswith((LEARNING, CLASSROOM, TRACE))
    }

    assert api == set(ROUTES) | PUBLIC


# --- no key, wrong keys ---------------------------------------------------------------------


@pytest.mark.parametrize("route", ROUTES)
async def test_without_a_key_no_route_answers(
    clients: Clients, things: Things, route: tuple[str, str]
) -> None:
    """401, and how to do better, before anything is read or looked up."""
    anyone = await clients.with_key(None)

    answer = await things.call(anyone, route)

    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("route", sorted(PUBLIC))
async def test_public_routes_answer_anyone(clients: Clients, route: tuple[str, str]) -> None:
    """The list is short on purpose."""
    anyone = await clients.with_key(None)

    assert (await anyone.request(*route)).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        "Bearer of_",
        "bearer x y",
        "of_aaaaaaaa_" + "a" * 43,
        "Bearer of_aaaaaaaa_" + "a" * 43,
        "Bearer " + "x" * 10_000,
        "Bearer ' OR 1=1 --",
    ],
)
async def test_a_malformed_or_unknown_key_is_nobodys(clients: Clients, header: str) -> None:
    """401, whatever stands there."""
    anyone = await clients.with_key(None)

    answer = await anyone.get(f"{T}/sessions", headers={"Authorization": header})

    assert answer.status_code == 401
    assert "aaaa" not in answer.text


async def test_bytes_that_are_no_text_are_nobodys_key(clients: Clients) -> None:
    """A header may hold any byte."""
    anyone = await clients.with_key(None)

    answer = await anyone.get(f"{T}/sessions", headers={b"Authorization": b"Bearer \xff\xfe"})

    assert answer.status_code == 401


@pytest.mark.parametrize("part", ["prefix", "secret"])
async def test_a_key_is_known_by_all_of_it(clients: Clients, school: School, part: str) -> None:
    """Another prefix or another secret is another key."""
    key = str(await clients.onefold.directory.create_key(school.id, role=Role.ADMIN, label=""))
    place = 4 if part == "prefix" else 20
    other = key[:place] + ("b" if key[place] != "b" else "c") + key[place + 1 :]

    answer = await (await clients.with_key(other)).get(f"{T}/sessions")

    assert answer.status_code == 401


async def test_a_revoked_key_ends_at_once(clients: Clients, school: School) -> None:
    """The very next request is refused."""
    key = await clients.onefold.directory.create_key(school.id, role=Role.ADMIN, label="")
    client = await clients.with_key(key)
    before = await client.get(f"{T}/sessions")

    await clients.onefold.directory.revoke_key(school.id, key.prefix)
    after = await client.get(f"{T}/sessions")

    assert (before.status_code, after.status_code) == (200, 401)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_is_read_in_any_case(
    clients: Clients, school: School, scheme: str
) -> None:
    """RFC 9110, section 11.1."""
    key = await clients.onefold.directory.create_key(school.id, role=Role.ADMIN, label="")
    anyone = await clients.with_key(None)

    answer = await anyone.get(f"{T}/sessions", headers={"Authorization": f"{scheme} {key}"})

    assert answer.status_code == 200


# --- scopes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ROUTES)
async def test_every_route_asks_for_its_scope_and_no_other(
    clients: Clients, school: School, things: Things, route: tuple[str, str]
) -> None:
    """With all but it: 403; with it alone: an answer."""
    needed = ROUTES[route]
    others = [scope for scope in Scope if scope is not needed]
    without = await clients.of(school, Role.ADMIN, scopes=others)
    alone = await clients.of(school, Role.ADMIN, scopes=[needed])

    refused, answered = await things.call(without, route), await things.call(alone, route)

    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert answered.status_code in {200, 201}


async def test_a_teacher_reads_and_does_not_write(
    clients: Clients, school: School, things: Things
) -> None:
    """Play data from a teacher would be forged."""
    teacher = await clients.of(school, Role.TEACHER)

    statuses = {route: (await things.call(teacher, route)).status_code for route in ROUTES}

    assert statuses == {
        route: 403 if scope in {Scope.TELEMETRY_WRITE, Scope.DIRECTORY_WRITE} else 200
        for route, scope in ROUTES.items()
    }


async def test_a_pupil_reaches_its_own_things_alone(
    clients: Clients, school: School, things: Things
) -> None:
    """What is another pupil's does not exist for it."""
    _, pupil = await clients.pupil(school)
    routes = [route for route in NAMING_A_THING if "batch_id" not in route[1]]

    answers = [await things.call(pupil, route) for route in routes]

    assert {answer.status_code for answer in answers} == {404}


async def test_a_pupil_sees_itself(clients: Clients, school: School) -> None:
    """Its own sessions and features."""
    student_id, pupil = await clients.pupil(school)

    listed = await pupil.get(f"{T}/sessions")
    own = await pupil.get(f"{T}/students/{student_id}/sessions")

    assert [s["student_id"] for s in listed.json()["sessions"]] == [str(student_id)]
    assert own.json() == listed.json()


async def test_a_pupil_who_left_writes_no_more(
    clients: Clients, school: School, onefold: Installation, clock: ManualClock
) -> None:
    """Though its key is still known."""
    student_id, pupil = await clients.pupil(school)
    await leave(onefold, school.id, student_id)
    event = telemetry_event(clock.now(), student_id=str(student_id))

    answer = await pupil.post(f"{T}/events", json=event)

    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_student")


# --- other schools --------------------------------------------------------------------------


@pytest.mark.parametrize("route", NAMING_A_THING)
async def test_a_thing_of_another_school_is_not_found(
    clients: Clients,
    onefold: Installation,
    clock: ManualClock,
    things: Things,
    route: tuple[str, str],
) -> None:
    """Answered exactly as if it were nowhere."""
    stranger = await clients.of(await new_school(onefold, "Other School"), Role.ADMIN)
    nowhere = Things(clock)

    theirs, nothing = await things.call(stranger, route), await nowhere.call(stranger, route)

    assert (theirs.status_code, nothing.status_code) == (404, 404)
    assert theirs.json()["code"] == nothing.json()["code"] == "not_found"


@pytest.mark.parametrize("route", [r for r in ROUTES if r not in NAMING_A_THING])
async def test_routes_that_name_nothing_reach_the_own_school_alone(
    clients: Clients,
    onefold: Installation,
    things: Things,
    service: AsyncClient,
    route: tuple[str, str],
) -> None:
    """Lists are empty; the same ids written again are the own school's, and change no other."""
    stranger = await clients.of(await new_school(onefold, "Other School"), Role.ADMIN)
    before = [(await things.call(service, r)).text for r in NAMING_A_THING if r[0] == "GET"]

    answer = await things.call(stranger, route)

    after = [(await things.call(service, r)).text for r in NAMING_A_THING if r[0] == "GET"]
    if route[0] == "GET":
        (listed,) = (value for name, value in answer.json().items() if name != "next_cursor")
        assert listed == []
    else:
        assert answer.json().get("applied", answer.json().get("created")) == 1
    assert after == before
