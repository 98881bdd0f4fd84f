"""Learning over HTTP: what is answered, and that nothing of another school exists."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from tests.support import School, new_school
from tests.support_learning import finish_scenario, http_client, key_of, open_session, play_all

from onefold.testing.clock import ManualClock
from onefold_server.domains.directory.rules import Role, Scope
from onefold_server.domains.learning.calendar import Period
from onefold_server.domains.learning.content.rules import ContentKind, Given
from onefold_server.http.app import create_app
from onefold_server.installation import Installation


async def test_a_learner_is_served_from_session_to_summary(  # noqa: PLR0915 (one story)
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Every route of learning answers what its use case gives."""
    student = str(uuid4())
    key = await key_of(onefold, school.id, Role.ADMIN)
    async with http_client(onefold) as client:
        client.headers["authorization"] = key

        async def call(method: str, path: str, status: int, **body: object) -> Any:
            answer = await client.request(method, path, json=body or None)
            assert answer.status_code == status, answer.text
            return answer.json() if answer.content else None

        begun = await call(
            "POST", "/sessions", 201,
            student_id=student, session_type="conversation", language="es", metadata={"n": 1},
        )  # fmt: skip
        session = f"/sessions/{begun['session_id']}"
        moved = await call("PATCH", session, 200, change_id=str(uuid4()), add={"items_correct": 3})
        clock.advance(timedelta(seconds=90))
        done = await call("POST", f"{session}/complete", 200)
        assert (moved["version"], done["duration_s"], done["accuracy_rate"]) == (2, 90, 1.0)
        assert (await call("GET", session, 200)) == done
        stale = await call(
            "PATCH", session, 409,
            change_id=str(uuid4()), set={"items_correct": 1}, expected_version=1, correction=True,
        )  # fmt: skip
        assert stale["code"] == "outdated"
        wrong = await call("PATCH", session, 422, change_id="?", extra=1)
        assert {e["field"] for e in wrong["errors"]} == {"change_id", "extra"}
        assert (await call("POST", f"{session}/abandon", 409))["code"] == "illegal_transition"
        listed = await call("GET", "/sessions?open=false&language=es", 200)
        assert [s["session_id"] for s in listed["sessions"]] == [begun["session_id"]]

        catalogue = await call("GET", "/scenarios?language=es", 200)
        assert len(catalogue["scenarios"]) == 12
        trip = (await call("GET", "/scenarios/airport", 200)) | {"id": "trip"}
        imported = await call("POST", "/scenarios/import", 200, scenarios=[trip, {}])
        assert (imported["added"], len(imported["refused"])) == (["trip v1"], 1)
        await call("DELETE", "/scenarios/trip", 204)
        attempt = await call(
            "POST", "/scenarios/attempts", 201,
            student_id=student, scenario_id="airport", language="es",
        )  # fmt: skip
        at = f"/scenarios/attempts/{attempt['attempt_id']}"
        for phase in attempt["phases"]:
            own = trip["languages"]["es"]["phases"]
            evidence = [
                o["evidence"][0] for p in own if p["id"] == phase["id"] for o in p["objectives"]
            ]
            said = ". ".join([*phase["vocabulary"], *phase["phrases"], *evidence])
            await call("POST", f"{at}/turns", 200, turn_id=str(uuid4()), said=said)
        assert (await call("GET", at, 200))["scenario_complete"]
        ended = await call("POST", f"{at}/complete", 200)
        assert (ended["outcome"], len(ended["recommended"]) > 0) == ("completed", True)
        assert (await call("GET", at, 200))["result"]["completion_score"] == 100.0
        assert len((await call("GET", "/scenarios/attempts", 200))["attempts"]) == 1
        assert len((await call("GET", "/scenarios/history", 200))["history"]) == 1
        given_up = await call(
            "POST", "/scenarios/attempts", 201,
            student_id=student, scenario_id="hotel", language="en",
        )  # fmt: skip
        await call("POST", f"/scenarios/attempts/{given_up['attempt_id']}/abandon", 200)

        card = await call("POST", "/cards", 201, student_id=student, language="es", word="sol")
        answer = {"review_id": str(uuid4()), "answer": 3}
        await call("POST", f"/cards/{card['card_id']}/reviews", 200, **answer)
        assert len((await call("GET", f"/cards/{card['card_id']}", 200))["reviews"]) == 1
        learner = f"/learners/{student}"
        assert (await call("GET", f"{learner}/cards?due=true&limit=2", 200))["next_cursor"]
        assert (await call("GET", f"{learner}/retention", 200))["reviews"] == 0
        assert len((await call("GET", f"{learner}/forecast?days=3", 200))["forecast"]) == 3
        exported = await client.get(f"{learner}/cards.csv")
        other = f"/learners/{uuid4()}/cards.csv"
        assert (await client.post(other, content=exported.content)).json()["created"] > 1
        assert (await client.post(other, content=b"\xff")).status_code == 422

        note = {
            "student_id": student, "kind": "note", "title": "T", "language": "es",
            "body": "el sol sale", "topics": ["astro"],
            "materials": [{"kind": "quiz", "title": "Q", "body": {}}],
        }  # fmt: skip
        saved = await call("POST", "/content", 201, **note)
        assert (await call("POST", "/content", 200, **note))["content_id"] == saved["content_id"]
        assert (await call("GET", "/content?q=sol", 200))["content"][0]["excerpt"] == "el sol sale"
        assert len((await call("GET", "/content?topic=astro", 200))["content"]) == 1
        assert (await call("GET", f"/content/{saved['content_id']}", 200))["body"] == "el sol sale"
        assert (await call("GET", f"{learner}/content-statistics", 200))["contents"] == 1
        await call("DELETE", f"/content/{saved['content_id']}", 204)

        budget = await call("PUT", "/budgets", 200, student_id=student, period="day", limit="0.50")
        assert budget["limit"] == "0.5"
        one, two = str(uuid4()), str(uuid4())
        for id_ in (one, two):
            await call(
                "POST", "/budgets/reservations", 201,
                student_id=student, reservation_id=id_, amount="0.25",
            )  # fmt: skip
        over = await call(
            "POST", "/budgets/reservations", 402,
            student_id=student, reservation_id=str(uuid4()), amount="0.01",
        )  # fmt: skip
        assert over["code"] == "budget_exhausted"
        paid = await call(
            "POST", f"/budgets/reservations/{one}/settle", 200,
            cost="0.2", provider="acme", model="small",
        )  # fmt: skip
        assert paid["cost"] == "0.2"
        await call("POST", f"/budgets/reservations/{two}/release", 200)
        standing = (await call("GET", f"/budgets?student_id={student}", 200))["budgets"]
        assert (standing[0]["spent"], standing[0]["left"]) == ("0.2", "0.3")
        assert (await call("GET", "/budgets/history", 200))["history"][0]["cost"] == "0.2"
        naive = await call("GET", "/budgets/history?since=2026-01-01T00:00:00", 422)
        assert naive["errors"][0]["code"] == "naive_timestamp"
        inexact = await call("PUT", "/budgets", 422, period="day", limit=0.1)
        assert inexact["errors"][0]["field"] == "limit"

        await call("PUT", f"{learner}/zone", 204, zone="Asia/Tokyo")
        summary = await call("GET", learner, 200)
        assert (summary["zone"], summary["totals"]["scenarios"]) == ("Asia/Tokyo", 1)
        days = (await call("GET", f"{learner}/days", 200))["days"]
        recounted = (await call("POST", f"{learner}/recompute", 200))["days"]
        assert [d["day"] for d in days] == [d["day"] for d in recounted]
        await call("GET", "/classes/7b", 404)


# Method, path and right body of every route that names something of a school's.
ID = str(uuid4())
NAMED: list[tuple[str, str, dict[str, Any] | None]] = [
    ("GET", "/sessions/{session}", None),
    ("PATCH", "/sessions/{session}", {"change_id": ID, "add": {"items_studied": 1}}),
    ("POST", "/sessions/{session}/complete", None),
    ("POST", "/sessions/{session}/abandon", None),
    ("GET", "/scenarios/attempts/{attempt}", None),
    ("POST", "/scenarios/attempts/{attempt}/turns", {"turn_id": ID, "said": "hola"}),
    ("POST", "/scenarios/attempts/{attempt}/complete", None),
    ("POST", "/scenarios/attempts/{attempt}/abandon", None),
    ("GET", "/cards/{card}", None),
    ("POST", "/cards/{card}/reviews", {"review_id": ID, "answer": 3}),
    ("GET", "/content/{content}", None),
    ("DELETE", "/content/{content}", None),
    ("POST", "/budgets/reservations/{reservation}/release", None),
    (
        "POST",
        "/budgets/reservations/{reservation}/settle",
        {"cost": "0.1", "provider": "a", "model": "b"},
    ),
    ("GET", "/learners/{student}", None),
    ("POST", "/learners/{student}/recompute", None),
    ("PUT", "/learners/{student}/zone", {"zone": "UTC"}),
    ("GET", "/classes/{class_name}", None),
    ("DELETE", "/scenarios/{scenario}", None),
]

# Routes that name something and are no 404 for another school: what they list is empty
# there, or they name what every school may have.
EMPTY_ELSEWHERE = 8


def test_every_route_that_names_something_is_called_below(onefold: Installation) -> None:
    """A new one fails this test until it is called as a stranger, and this number raised."""
    paths = create_app(onefold, worker=False).openapi()["paths"]

    named = [
        (method, path)
        for path, methods in paths.items()
        for method in methods
        if path.startswith("/api/v1/learning") and "{" in path
    ]

    assert len(named) == len(NAMED) + EMPTY_ELSEWHERE, sorted(named)


async def test_another_schools_key_finds_nothing(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Every route that names something answers 404 to another school, and 401 to nobody."""
    student = uuid4()
    begun = await open_session(onefold, school, student_id=student)
    ended = await finish_scenario(onefold, school, student, "airport", "es", clock=clock)
    card = (await onefold.learning.reviews.cards(school.service, student)).rows[0]
    given = Given(kind=ContentKind.NOTE, title="T", language="es", body="sol")
    saved = await onefold.learning.content.save(school.service, student, given)
    budgets, reservation = onefold.learning.budgets, uuid4()
    await budgets.set_budget(school.admin, student_id=student, period=Period.DAY, limit="1")
    await budgets.reserve(school.service, student, reservation, "0.5")
    elsewhere = (await new_school(onefold, "Elsewhere", auto_enrol=False)).id
    key = await key_of(onefold, elsewhere, Role.ADMIN)
    things = {
        "session": begun.id,
        "attempt": ended["attempt_id"],
        "card": card["id"],
        "content": saved["id"],
        "reservation": reservation,
        "student": student,
        "class_name": "7b",
        "scenario": "trip",
    }
    lists = ["/sessions", "/scenarios/attempts", "/scenarios/history", "/content", "/content?q=sol"]
    async with http_client(onefold) as client:
        for method, template, body in NAMED:
            path = template.format(**things)
            nobody = await client.request(method, path, json=body)
            foreign = await client.request(method, path, json=body, headers={"authorization": key})
            assert (nobody.status_code, foreign.status_code) == (401, 404), path
        for path in lists:
            rows = (await client.get(path, headers={"authorization": key})).json()
            assert [value for value in rows.values() if value] == [], path
        cards = await client.get(f"/learners/{student}/cards", headers={"authorization": key})
        assert cards.json()["cards"] == []


HOSTILE = [
    ("GET", "/learners/{student}/cards?language=%00", None),
    ("GET", "/learners/{student}/forecast?language=%00", None),
    ("GET", "/learners/{student}/cards.csv?language=%00", None),
    ("GET", "/content?topic=%00", None),
    ("GET", "/content?q=sol&cursor=Wzk5OTk5OTk5OTk5OTk5OTk5OTld", None),
    ("GET", "/classes/%00", None),
    ("DELETE", "/scenarios/%00", None),
    ("GET", "/budgets/history?until=0001-01-01T00:00:00Z", None),
    ("GET", "/budgets/history?since=0001-01-01T00:00:00%2B23:59", None),
    ("POST", "/cards", {"language": "el", "word": "\u0390" * 200}),
    ("POST", "/content", {"kind": "note", "title": "t", "language": "de", "body": "b",
                          "topics": ["\u00df" * 50]}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "body"), HOSTILE, ids=[f"{m} {p[:30]}" for m, p, _ in HOSTILE]
)
async def test_what_cannot_be_stored_or_found_is_the_callers_to_mend(
    onefold: Installation, school: School, method: str, path: str, body: dict[str, Any] | None
) -> None:
    """On both databases alike: refused by name, or nothing found; never the server's fault."""
    student = uuid4()
    await open_session(onefold, school, student_id=student)
    key = await key_of(onefold, school.id, Role.ADMIN)
    async with http_client(onefold) as client:
        answer = await client.request(
            method,
            path.format(student=student),
            json=body and body | {"student_id": str(student)},
            headers={"authorization": key},
        )

    assert answer.status_code in {200, 404, 422}, answer.text


async def test_a_key_that_may_only_write_completes_a_scenario(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """What was done is answered as done: what to play next is told to those who may read."""
    begun = await onefold.learning.scenarios.start(school.service, uuid4(), "airport", "en")
    await play_all(onefold, school, begun, clock=clock)
    writes = await onefold.directory.create_key(
        school.id, role=Role.SERVICE, label="writes", scopes=[Scope.LEARNING_WRITE]
    )
    async with http_client(onefold) as client:
        client.headers["authorization"] = f"Bearer {writes}"
        answer = await client.post(f"/scenarios/attempts/{begun['id']}/complete")

    assert (answer.status_code, answer.json()["outcome"]) == (200, "completed")
