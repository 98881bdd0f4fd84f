"""The classroom over HTTP: one story, every route's scope, nothing of another school."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from tests.integration.http.conftest import Clients
from tests.integration.http.test_auth import walk
from tests.support import School, new_school
from tests.support_classroom import Room, essay

from onefold.core.wire import encode_native, encode_structured
from onefold_server.domains.directory.rules import Role, Scope
from onefold_server.http.app import create_app
from onefold_server.installation import Installation

C = "/api/v1/classroom"
ROSTER = "first_name,last_name,email\nAnna,Andersson,Anna@skola.se\nBjörn,Svartling,\n"

# Every route, and the scope it asks for. A new one must be entered here.
ROUTES: dict[tuple[str, str], Scope] = {
    ("GET", f"{C}/courses"): Scope.CLASSROOM_TEACH,
    ("POST", f"{C}/classes"): Scope.CLASSROOM_TEACH,
    ("GET", f"{C}/classes"): Scope.CLASSROOM_TEACH,
    ("GET", f"{C}/classes/{{class_id}}"): Scope.CLASSROOM_TEACH,
    ("PATCH", f"{C}/classes/{{class_id}}"): Scope.CLASSROOM_TEACH,
    ("DELETE", f"{C}/classes/{{class_id}}"): Scope.CLASSROOM_TEACH,
    ("GET", f"{C}/classes/{{class_id}}/students"): Scope.CLASSROOM_TEACH,
    ("POST", f"{C}/classes/{{class_id}}/students"): Scope.CLASSROOM_TEACH,
    ("DELETE", f"{C}/classes/{{class_id}}/students/{{student_id}}"): Scope.CLASSROOM_TEACH,
    ("POST", f"{C}/classes/{{class_id}}/roster"): Scope.CLASSROOM_TEACH,
    ("POST", f"{C}/students"): Scope.CLASSROOM_TEACH,
    ("GET", f"{C}/students/{{student_id}}"): Scope.CLASSROOM_TEACH,
    ("PATCH", f"{C}/students/{{student_id}}"): Scope.CLASSROOM_TEACH,
    ("DELETE", f"{C}/students/{{student_id}}"): Scope.CLASSROOM_TEACH,
    ("POST", f"{C}/batches"): Scope.CLASSROOM_TEACH,
    ("GET", f"{C}/batches"): Scope.CLASSROOM_TEACH,
    ("GET", f"{C}/batches/{{batch_id}}"): Scope.CLASSROOM_TEACH,
    ("POST", f"{C}/batches/{{batch_id}}/matches"): Scope.CLASSROOM_SUGGEST,
    ("POST", f"{C}/batches/{{batch_id}}/decisions"): Scope.CLASSROOM_TEACH,
    ("GET", f"{C}/internal/batches/{{batch_id}}/students"): Scope.CLASSROOM_LOOKUP,
    ("GET", f"{C}/internal/essays/{{essay_id}}/student"): Scope.CLASSROOM_LOOKUP,
}


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """What HTTP adds is the same over both databases; one is enough here."""
    return sqlite_url


@pytest.fixture
async def clients(onefold: Installation) -> AsyncIterator[Clients]:
    """Makes clients of the started application."""
    from asgi_lifespan import LifespanManager

    app = create_app(onefold, worker=False)
    async with LifespanManager(app), AsyncExitStack() as stack:
        yield Clients(app, onefold, stack)


@pytest.fixture
async def teacher(clients: Clients, school: School) -> AsyncClient:
    """A teacher with a key of their own."""
    return await clients.of(school, Role.TEACHER)


class Things:
    """What a class has: a pupil, a batch of one essay."""

    def __init__(self, room: Room, batch_id: object, essay_id: object) -> None:
        self.room = room
        self.ids = {
            "class_id": room.id,
            "student_id": room.pupils[0],
            "batch_id": batch_id,
            "essay_id": essay_id,
        }

    async def call(self, client: AsyncClient, route: tuple[str, str]) -> Any:
        """*route* for these things, with a right body."""
        bodies: dict[str, dict[str, Any]] = {
            "POST /classes": {"json": {"name": "NA24", "course_code": "SV1"}},
            "PATCH /classes/{class_id}": {"json": {"name": "renamed"}},
            "POST /classes/{class_id}/students": {
                "json": {"student_ids": [str(self.ids["student_id"])]}
            },
            "POST /classes/{class_id}/roster": {"content": ROSTER},
            "POST /students": {"json": {"name": "Eva Ek"}},
            "PATCH /students/{student_id}": {"json": {"first_name": "Ann"}},
            "POST /batches": {"json": {"class_id": str(self.room.id), "essays": []}},
            "POST /batches/{batch_id}/matches": {
                "content": encode_native(
                    self.room.event([essay()], batch_id=str(self.ids["batch_id"]))
                )
            },
            "POST /batches/{batch_id}/decisions": {
                "json": {"decisions": [{"essay_id": str(self.ids["essay_id"]), "confirmed": False}]}
            },
        }
        how = bodies.get(f"{route[0]} {route[1].removeprefix(C)}", {})
        return await client.request(route[0], route[1].format(**self.ids), **how)


@pytest.fixture
async def things(room: Room) -> Things:
    """A batch of one essay, suggested to be nobody's of the class."""
    id_ = uuid4()
    return Things(room, await room.batch(essay(essay_id=id_)), id_)


def test_every_route_of_the_classroom_is_known_here(onefold: Installation) -> None:
    """A new one fails this test until it is entered, and so tested below."""
    app: FastAPI = create_app(onefold)

    assert {(m, path) for m, path in walk(app) if path.startswith(C)} == set(ROUTES)


@pytest.mark.parametrize("route", ROUTES)
async def test_every_route_asks_for_its_scope_and_no_other(
    clients: Clients, school: School, things: Things, route: tuple[str, str]
) -> None:
    """Without a key 401, with all other scopes 403, with it alone an answer."""
    needed = ROUTES[route]
    others = [scope for scope in Scope if scope is not needed]
    nobody = await clients.with_key(None)
    without = await clients.of(school, Role.ADMIN, scopes=others)
    alone = await clients.of(school, Role.ADMIN, scopes=[needed])
    if route[0] == "DELETE" and route[1].endswith("{class_id}"):
        await things.call(alone, ("POST", f"{C}/batches/{{batch_id}}/decisions"))

    answers = [await things.call(client, route) for client in (nobody, without, alone)]

    assert [answer.status_code for answer in answers[:2]] == [401, 403]
    assert answers[2].status_code in {200, 201, 204}, answers[2].text


@pytest.mark.parametrize("route", [route for route in ROUTES if "{" in route[1]])
async def test_what_is_anothers_is_not_found(
    clients: Clients,
    school: School,
    onefold: Installation,
    things: Things,
    teacher: AsyncClient,
    route: tuple[str, str],
) -> None:
    """For an admin of another school, and for a teacher of this one whose class it is not."""
    stranger = await clients.of(await new_school(onefold, "Other School"), Role.ADMIN)

    theirs = await things.call(stranger, route)
    colleagues = await things.call(teacher, route)

    assert (theirs.status_code, theirs.json()["code"]) == (404, "not_found")
    if ROUTES[route] is Scope.CLASSROOM_TEACH:
        assert (colleagues.status_code, colleagues.json()["code"]) == (404, "not_found")


async def test_from_a_roster_to_a_published_batch(
    clients: Clients, school: School, teacher: AsyncClient
) -> None:
    """A teacher's whole way: class, roster, essays, decisions, and what a service then finds."""
    service = await clients.of(school, Role.SERVICE)

    async def call(method: str, path: str, status: int, **how: Any) -> Any:
        answer = await teacher.request(method, C + path, **how)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    made = await call("POST", "/classes", 201, json={"name": "SA24D", "course_code": "ENG5"})
    class_ = f"/classes/{made['class_id']}"
    dry = await call("POST", f"{class_}/roster?dry_run=true", 200, content=ROSTER)
    assert (await call("GET", f"{class_}/students", 200))["students"] == []
    csv = ROSTER.replace("Svartling,", "Svartling,b@skola.se")
    done = await call("POST", f"{class_}/roster", 200, content=csv)
    again = await call("POST", f"{class_}/roster", 200, content=csv)
    assert (dry["created"], dry["enrolled"], len(dry["refused"])) == (1, 1, 1)
    assert (done["created"], done["enrolled"]) == (2, 2)
    assert (again["created"], again["unchanged"]) == (0, 2)

    first = await call("GET", f"{class_}/students?limit=1", 200)
    rest = await call("GET", f"{class_}/students?limit=1&cursor={first['next_cursor']}", 200)
    names = {s["name"]: s["student_id"] for s in first["students"] + rest["students"]}
    assert names.keys() == {"Anna Andersson", "Björn Svartling"}

    essays = [
        {"text": "Namn: Anna Andersson\n\nMy summer\nIt was warm.", "file_name": "1.txt"},
        {"text": "A story\n\nOnce upon a time.\n\nBjorn Svartling", "file_name": "2.txt"},
        {"text": "Nobody says who wrote this.", "file_name": "3.txt"},
    ]
    batch_id = str(uuid4())
    body = {"class_id": made["class_id"], "batch_id": batch_id, "essays": essays}
    taken = await call("POST", "/batches", 201, json=body)
    repeated = await call("POST", "/batches", 201, json=body)
    assert (taken["stored"], taken["no_match"], repeated["already_associated"]) == (3, 1, 3)

    found = await call("GET", f"/batches/{batch_id}", 200)
    shown = {row["file_name"]: row for row in found["essays"]}
    assert shown["1.txt"]["suggested"]["name"] == "Anna Andersson"
    assert shown["1.txt"]["suggested"]["reasons"] != []
    assert shown["2.txt"]["suggested"]["name"] == "Björn Svartling"
    assert shown["3.txt"]["status"] == "no_match"

    decisions = [
        {"essay_id": shown["1.txt"]["essay_id"], "confirmed": True},
        {"essay_id": shown["2.txt"]["essay_id"], "confirmed": True},
        {"essay_id": shown["3.txt"]["essay_id"], "confirmed": False},
    ]
    told = await call("POST", f"/batches/{batch_id}/decisions", 200, json={"decisions": decisions})
    assert (told["decided"], told["closed"]) == (3, True)
    other = [decisions[0] | {"student_id": names["Björn Svartling"]}]
    conflict = await call("POST", f"/batches/{batch_id}/decisions", 409, json={"decisions": other})
    assert conflict["code"] == "already_decided"
    (listed,) = (await call("GET", "/batches", 200))["batches"]
    assert (listed["batch_id"], listed["undecided"]) == (batch_id, 0)

    looked = (await service.get(f"{C}/internal/batches/{batch_id}/students")).json()
    assert sorted(str(row["name"]) for row in looked["essays"]) == [
        "Anna Andersson",
        "Björn Svartling",
        "None",
    ]
    path = f"{C}/internal/essays/{decisions[0]['essay_id']}/student"
    assert (await service.get(path)).json()["student_id"] == names["Anna Andersson"]


async def test_pupils_and_classes_are_made_changed_and_kept(teacher: AsyncClient) -> None:
    """Wrong fields 422, another's address 409, an open essay keeps pupil and class."""

    async def call(method: str, path: str, status: int, body: object = None) -> Any:
        answer = await teacher.request(method, C + path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    made = await call("POST", "/classes", 201, {"name": "A", "course_code": "ENG5"})
    class_id = made["class_id"]
    same = {"name": "A", "course_code": "ENG5", "class_id": class_id}
    assert (await call("POST", "/classes", 201, same))["class_id"] == class_id
    await call("POST", "/classes", 409, same | {"name": "B"})
    for wrong in ({"name": "", "course_code": "ENG5"}, {"name": "A", "course_code": "X"}, {}):
        await call("POST", "/classes", 422, wrong)
    renamed = await call("PATCH", f"/classes/{class_id}", 200, {"name": "B"})
    assert (renamed["name"], renamed["course_code"]) == ("B", "ENG5")

    anna = {"first_name": "Anna", "last_name": "Ek", "email": "A@x.se", "class_ids": [class_id]}
    pupil = await call("POST", "/students", 201, anna)
    await call("POST", "/students", 409, anna | {"email": "a@X.SE"})
    await call("POST", "/students", 422, anna | {"email": "nowhere"})
    await call("POST", "/students", 404, {"name": "B", "class_ids": [str(uuid4())]})
    path = f"/students/{pupil['student_id']}"
    changed = await call("PATCH", path, 200, {"last_name": "Ekman"})
    assert (changed["name"], changed["email"]) == ("Anna Ekman", "a@x.se")
    assert (await call("GET", path, 200))["class_ids"] == [class_id]
    await call("POST", f"/classes/{class_id}/students", 422, {"student_ids": [str(uuid4())]})

    essays = [{"text": "Anna Ekman\n\nA story."}]
    batch = await call("POST", "/batches", 201, {"class_id": class_id, "essays": essays})
    for kept in (path, f"/classes/{class_id}", f"/classes/{class_id}{path}"):
        assert (await call("DELETE", kept, 409))["code"] == "illegal_transition"
    found = await call("GET", f"/batches/{batch['batch_id']}", 200)
    decision = {"essay_id": found["essays"][0]["essay_id"], "confirmed": True}
    await call("POST", f"/batches/{batch['batch_id']}/decisions", 200, {"decisions": [decision]})
    for gone in (f"/classes/{class_id}{path}", f"/classes/{class_id}"):
        await call("DELETE", gone, 204)
        await call("DELETE", gone, 404)
    await call("GET", path, 404)  # in no class of this teacher's any more
    kept = await call("GET", f"/batches/{batch['batch_id']}", 200)
    assert kept["essays"][0]["name"] == "Anna Ekman"


async def test_the_event_comes_in_either_form_and_counts_once(
    clients: Clients, school: School, room: Room
) -> None:
    """Native or CloudEvents: 201 the first time, 200 after it, 422 when it is none."""
    service = await clients.of(school, Role.SERVICE)
    event = room.event([essay((room.pupils[0], 0.9))])
    path = f"{C}/batches/{event.data['batch_id']}/matches"
    kind = {"content-type": "application/cloudevents+json"}

    first = await service.post(path, content=encode_structured(event), headers=kind)
    again = await service.post(path, content=encode_native(event))
    wrong = await service.post(path, content=b"{")

    assert (first.status_code, first.json()["stored"]) == (201, 1)
    assert (again.status_code, again.json()["repeated"]) == (200, True)
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_event")


async def test_pages_have_a_maximum(teacher: AsyncClient) -> None:
    """No list can be asked for whole."""
    for path in ("/classes", "/batches"):
        for limit in (0, -1, 1001, "all"):
            assert (await teacher.get(f"{C}{path}?limit={limit}")).status_code == 422
