"""The school's pupils over HTTP."""

from uuid import uuid4

import pytest
from httpx import AsyncClient
from tests.integration.http.conftest import Clients
from tests.support import School

from onefold_server.domains.directory.rules import Role

IMPORT = "/api/v1/students/import"


async def test_a_roster_is_imported_and_listed(admin: AsyncClient) -> None:
    """What became of its lines, and then the pupils in the order of their ids."""
    ids = sorted(str(uuid4()) for _ in range(3))
    csv = "student_id,name,class_name\r\n" + "".join(f"{i},Pupil {i[:4]},7b\r\n" for i in ids[::-1])

    report = await admin.post(IMPORT, content=csv + "x,Nobody,7b\r\n")
    page = (await admin.get("/api/v1/students", params={"limit": 2})).json()
    cursor = page["next_cursor"]
    rest = (await admin.get("/api/v1/students", params={"cursor": cursor})).json()

    assert report.status_code == 200
    assert report.json() == {
        "created": 3,
        "updated": 0,
        "unchanged": 0,
        "refused": [
            {"line": 5, "field": "student_id", "code": "not_a_uuid", "reason": "expected a UUID"}
        ],
    }
    assert [s["student_id"] for s in page["students"] + rest["students"]] == ids
    assert rest["next_cursor"] is None
    assert page["students"][0]["class_name"] == "7b"


async def test_importing_again_changes_nothing(admin: AsyncClient) -> None:
    """With or without a byte order mark."""
    csv = "external_id,name\n7,Ada\n8,Bo\n"
    await admin.post(IMPORT, content=csv)

    again = await admin.post(IMPORT, content="\ufeff" + csv)

    assert (again.json()["unchanged"], again.json()["created"]) == (2, 0)


async def test_a_cell_may_hold_any_line_end(admin: AsyncClient) -> None:
    """Between quotes; some of them only Python takes for one."""
    name = "Ada\u2028the\nfirst\x0b!"

    report = await admin.post(IMPORT, content=f'external_id,name\n7,"{name}"\n')
    listed = await admin.get("/api/v1/students")

    assert report.json()["created"] == 1
    assert listed.json()["students"][0]["name"] == name


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("name\nAda\n", ("header", "columns")),
        ("", ("header", "columns")),
        (b"external_id\n\xff\n", ("body", "malformed")),
        ("external_id\n" + '"' + "x" * 200_000, ("body", "malformed")),
    ],
)
async def test_a_file_that_cannot_be_used_is_refused_as_a_whole(
    admin: AsyncClient, content: str | bytes, problem: tuple[str, str]
) -> None:
    """With what is wrong."""
    answer = await admin.post(IMPORT, content=content)

    (error,) = answer.json()["errors"]
    assert (answer.status_code, (error["field"], error["code"])) == (422, problem)


async def test_a_cursor_of_another_list_is_refused(admin: AsyncClient) -> None:
    """It is not what this list gave."""
    answer = await admin.get("/api/v1/students", params={"cursor": "WzFd"})

    assert answer.status_code == 422


@pytest.mark.parametrize("role", [Role.TEACHER, Role.SERVICE])
async def test_only_the_admin_imports(clients: Clients, school: School, role: Role) -> None:
    """Others may look."""
    client = await clients.of(school, role)

    refused = await client.post(IMPORT, content="external_id\n7\n")
    listed = await client.get("/api/v1/students")

    assert (refused.status_code, listed.status_code) == (403, 200)


async def test_a_pupil_does_not_read_the_roster(clients: Clients, school: School) -> None:
    """Names of classmates are none of its business."""
    _, pupil = await clients.pupil(school)

    answer = await pupil.get("/api/v1/students")

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
