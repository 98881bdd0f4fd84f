"""Rosters: what a file does to a school's pupils, on SQLite and PostgreSQL."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.support import (
    School,
    WatchedUnitOfWork,
    another_server,
    leave,
    new_school,
    rows,
    telemetry_event,
)

from onefold.errors import InvalidInput, NotFound
from onefold.testing.clock import ManualClock
from onefold_server.domains.directory.service import DirectoryService, RosterReport
from onefold_server.domains.directory.tables import enrolments, students
from onefold_server.installation import Installation


def a_file(*lines: str, header: str = "student_id,external_id,name,class_name") -> list[str]:
    return [f"{line}\n" for line in (header, *lines)]


def counts(report: RosterReport) -> tuple[int, int, int, list[tuple[int, str, str]]]:
    refused = [(r["line"], r["field"], r["code"]) for r in report.refused]
    return report.created, report.updated, report.unchanged, refused


async def names(onefold: Installation, school: School) -> dict[str, str | None]:
    """The name of each pupil, by external id."""
    return {r["external_id"]: r["name"] for r in await onefold.directory.students(school.id)}


async def test_a_roster_enrols_its_pupils(onefold: Installation, school: School) -> None:
    """With name and class."""
    pupil = uuid4()

    report = await onefold.directory.import_roster(school.id, a_file(f"{pupil},7,Ada,7b"))

    (row,) = await onefold.directory.students(school.id)
    assert counts(report) == (1, 0, 0, [])
    assert row == {
        "student_id": pupil,
        "external_id": "7",
        "name": "Ada",
        "first_name": None,
        "last_name": None,
        "email": None,
        "class_name": "7b",
        "enrolled_at": onefold.clock.now(),
        "left_at": None,
    }


async def test_importing_again_changes_nothing(onefold: Installation, school: School) -> None:
    """Whatever columns the file has."""
    for file in (
        a_file(f"{uuid4()},7,Ada,7b", f"{uuid4()},8,,"),
        a_file("17,Cy", "18,Dahl", header="external_id,name"),
    ):
        first = await onefold.directory.import_roster(school.id, file)
        again = await onefold.directory.import_roster(school.id, file)

        assert (counts(first), counts(again)) == ((2, 0, 0, []), (0, 0, 2, []))


async def test_an_address_says_who_a_pupil_is(onefold: Installation, school: School) -> None:
    """In any case, whether the pupil came by it or got it later; no two pupils share one."""
    header = "external_id,first_name,last_name,email"
    await onefold.directory.import_roster(
        school.id, a_file("7,Ada,Ek,Ada@skola.se", ",Bo,Ås,bo@skola.se", header=header)
    )

    again = await onefold.directory.import_roster(
        school.id,
        a_file("ADA@skola.se,Ada,Ekman", "BO@skola.se,Bo,Ås", header="email,first_name,last_name"),
    )
    taken = await onefold.directory.import_roster(
        school.id, a_file("8,ada@skola.se", header="external_id,email")
    )
    wrong = await onefold.directory.import_roster(
        school.id, a_file("nowhere", ",", header="email,name")
    )

    assert (again.created, again.updated, again.unchanged) == (0, 1, 1)
    assert [row["code"] for row in taken.refused] == ["taken"]
    assert {row["code"] for row in wrong.refused} == {"not_an_email", "missing"}
    found = {row["email"]: row["name"] for row in await onefold.directory.students(school.id)}
    assert found == {"ada@skola.se": "Ada Ekman", "bo@skola.se": "Bo Ås"}


async def test_what_changed_is_changed(onefold: Installation, school: School) -> None:
    """Pupils that the file does not name stay as they are."""
    header = "external_id,name"
    before = a_file("7,Ada", "8,Bo", "9,Cy", header=header)
    await onefold.directory.import_roster(school.id, before)

    report = await onefold.directory.import_roster(
        school.id, a_file("7,Ada", "8,Bob", "10,Dahl", header=header)
    )

    assert counts(report) == (1, 1, 1, [])
    assert await names(onefold, school) == {"7": "Ada", "8": "Bob", "9": "Cy", "10": "Dahl"}


async def test_a_pupil_who_left_comes_back(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """And may play again."""
    pupil = uuid4()
    file = a_file(f"{pupil},7,Ada,7b")
    await onefold.directory.import_roster(school.id, file)
    await leave(onefold, school.id, pupil)

    report = await onefold.directory.import_roster(school.id, file)

    receipt = await onefold.telemetry.ingest(
        school.service, [telemetry_event(clock.now(), student_id=str(pupil))]
    )
    assert (counts(report), receipt.applied) == ((0, 1, 0, []), 1)


async def test_a_pupil_enrolled_by_its_play_gets_its_name(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """The school learns later who it is."""
    event = telemetry_event(clock.now())
    await onefold.telemetry.ingest(school.service, [event])

    report = await onefold.directory.import_roster(
        school.id, a_file(f"{event['student_id']},7,Ada,7b")
    )

    assert counts(report) == (0, 1, 0, [])
    assert await names(onefold, school) == {"7": "Ada"}


async def test_an_external_id_twice_in_a_file_costs_the_later_line(
    onefold: Installation, school: School
) -> None:
    """Two pupils cannot share it; the other lines count."""
    file = a_file(f"{uuid4()},7,Ada,", f"{uuid4()},7,Bo,", f"{uuid4()},8,Cy,")

    report = await onefold.directory.import_roster(school.id, file)

    assert counts(report) == (2, 0, 0, [(3, "external_id", "taken")])
    assert await names(onefold, school) == {"7": "Ada", "8": "Cy"}


async def test_an_external_id_of_a_pupil_there_costs_the_line(
    onefold: Installation, school: School
) -> None:
    """New pupils and known ones alike, and also when only the derived id differs."""
    known, other = uuid4(), uuid4()
    await onefold.directory.import_roster(school.id, a_file(f"{known},7,Ada,", f"{other},8,Bo,"))

    renumbered = await onefold.directory.import_roster(school.id, a_file(f"{other},7,Bob,"))
    without_id = await onefold.directory.import_roster(school.id, a_file(",7,Ada,"))

    assert counts(renumbered) == counts(without_id) == (0, 0, 0, [(2, "external_id", "taken")])
    assert await names(onefold, school) == {"7": "Ada", "8": "Bo"}


async def test_an_external_id_set_free_is_taken_at_the_next_import(
    onefold: Installation, school: School
) -> None:
    """One file cannot hand it on: the order of its lines would decide."""
    one, two = uuid4(), uuid4()
    await onefold.directory.import_roster(school.id, a_file(f"{one},7,Ada,"))
    handed_on = a_file(f"{one},9,Ada,", f"{two},7,Bo,")

    first = await onefold.directory.import_roster(school.id, handed_on)
    second = await onefold.directory.import_roster(school.id, handed_on)

    assert counts(first) == (0, 1, 0, [(3, "external_id", "taken")])
    assert counts(second) == (1, 0, 1, [])


async def test_an_external_id_may_be_used_in_every_school(
    onefold: Installation, school: School
) -> None:
    """Schools count their pupils alike."""
    other = await new_school(onefold, "Other School")
    file = a_file("7,Ada", header="external_id,name")

    reports = [await onefold.directory.import_roster(s.id, file) for s in (school, other)]

    assert [report.created for report in reports] == [1, 1]
    ids = {row["id"] for row in await rows(onefold, students)}
    assert len(ids) == 2


async def test_the_same_pupil_in_two_schools_is_two_records(
    onefold: Installation, school: School
) -> None:
    """Neither school's file changes what the other calls it."""
    other, pupil = await new_school(onefold, "Other School"), uuid4()
    await onefold.directory.import_roster(school.id, a_file(f"{pupil},7,Ada,7b"))
    await onefold.directory.import_roster(other.id, a_file(f"{pupil},8,Bo,8c"))

    await onefold.directory.import_roster(other.id, a_file(f"{pupil},9,Cy,9d"))

    (mine,) = await onefold.directory.students(school.id)
    assert (mine["external_id"], mine["name"], mine["class_name"]) == ("7", "Ada", "7b")
    assert await onefold.directory.names(school.admin, [pupil]) == {pupil: "Ada"}


async def test_bad_lines_cost_themselves_alone(onefold: Installation, school: School) -> None:
    """What only a database would refuse, too."""
    file = a_file(
        "7,Ada", "8,a\0b", ",Bo", "9,\ud800", "10,Cy,x", "11,Dahl", header="external_id,name"
    )

    report = await onefold.directory.import_roster(school.id, file)

    assert counts(report) == (
        2,
        0,
        0,
        [
            (3, "name", "nul_character"),
            (4, "student_id", "missing"),
            (5, "name", "not_unicode"),
            (6, "line", "columns"),
        ],
    )


async def test_a_wrong_header_imports_nothing(onefold: Installation, school: School) -> None:
    """The whole file is refused."""
    with pytest.raises(InvalidInput, match="header"):
        await onefold.directory.import_roster(school.id, a_file("7,Ada", header="nr,name"))

    assert await rows(onefold, students) == []


async def test_a_roster_of_an_unknown_school_is_not_found(onefold: Installation) -> None:
    """Nothing is recorded."""
    with pytest.raises(NotFound):
        await onefold.directory.import_roster(uuid4(), a_file(",7,,"))


async def test_five_thousand_pupils_take_a_handful_of_statements(
    onefold: Installation, school: School
) -> None:
    """To add them, and to change every one."""
    calls: Counter[str] = Counter()

    async def count(name: str, args: tuple[Any, ...]) -> None:
        calls[name] += name != "insert_new" or len(args[1]) > 0  # no rows, no statement

    watched = WatchedUnitOfWork(onefold.uow, count)
    directory = DirectoryService(
        watched,
        clock=onefold.clock,
        random=bytes,
        passwords=None,  # type: ignore[arg-type]
    )
    header = "external_id,name"
    first = a_file(*(f"{n},Pupil {n}" for n in range(5000)), header=header)
    second = a_file(*(f"{n},Pupil no {n}" for n in range(5000)), header=header)

    added = await directory.import_roster(school.id, first)
    adding = calls.total()
    changed = await directory.import_roster(school.id, second)

    assert (counts(added), counts(changed)) == ((5000, 0, 0, []), (0, 5000, 0, []))
    assert (adding, calls.total() - adding) == (4, 4)


async def test_two_imports_of_one_file_at_once_add_each_pupil_once(
    onefold: Installation, school: School
) -> None:
    """Through two servers: one adds, the other finds."""
    file = a_file(*(f"{n},Pupil {n}" for n in range(100)), header="external_id,name")

    async with another_server(onefold) as other:
        reports = await asyncio.gather(
            *(s.directory.import_roster(school.id, file) for s in (onefold, other, onefold, other))
        )

    assert sum(report.created for report in reports) == 100
    assert sum(report.unchanged for report in reports) == 300
    assert len(await rows(onefold, enrolments)) == 100


async def test_two_imports_that_want_one_external_id_at_once_settle_it(
    onefold: Installation, school: School
) -> None:
    """One pupil gets it, the other's line is refused; nobody meets an error of the database."""
    files = [a_file(f"{uuid4()},7,Ada,"), a_file(f"{uuid4()},7,Bo,")]

    async with another_server(onefold) as other:
        reports = await asyncio.gather(
            onefold.directory.import_roster(school.id, files[0]),
            other.directory.import_roster(school.id, files[1]),
        )

    assert sorted(counts(report) for report in reports) == [
        (0, 0, 0, [(2, "external_id", "taken")]),
        (1, 0, 0, []),
    ]


async def test_a_pupil_who_begins_to_play_during_the_import_keeps_its_name(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Play may enrol it in the moment between the look and the insert."""
    event = telemetry_event(clock.now())
    pupil = UUID(event["student_id"])
    async with another_server(onefold) as other:

        async def before(name: str, args: tuple[Any, ...]) -> None:
            parallel = onefold.uow.features.parallel_writers
            if name == "insert_new" and args[0] is students and parallel:
                await other.telemetry.ingest(school.service, [event])

        directory = DirectoryService(
            WatchedUnitOfWork(onefold.uow, before),
            clock=clock,
            random=bytes,
            passwords=None,  # type: ignore[arg-type]
        )
        importing = replace(onefold, directory=directory)
        await importing.directory.import_roster(school.id, a_file(f"{pupil},7,Ada,"))

    assert await names(onefold, school) == {"7": "Ada"}


async def test_pupils_are_listed_page_by_page(onefold: Installation, school: School) -> None:
    """In the order of their ids."""
    ids = sorted(uuid4() for _ in range(3))
    await onefold.directory.import_roster(school.id, a_file(*(f"{i},,," for i in ids[::-1])))

    first = await onefold.directory.students(school.id, limit=2)
    rest = await onefold.directory.students(school.id, after=ids[1], limit=2)

    assert [row["student_id"] for row in (*first, *rest)] == ids
