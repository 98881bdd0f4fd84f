"""The queries of the directory, for both databases. Each belongs to a caller's transaction."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import and_, bindparam, delete, select, update

from onefold.ports.tables import Row, row_of, rows_of
from onefold.ports.unit_of_work import Transaction
from onefold_server.domains.directory.rules import RosterLine
from onefold_server.domains.directory.tables import api_keys, enrolments, schools, students, users


async def all_schools(tx: Transaction) -> Sequence[Row]:
    """Every school, the oldest first."""
    query = select(schools).order_by(schools.c.created_at, schools.c.id)
    return rows_of(await tx.execute(query))


async def school(tx: Transaction, school_id: UUID) -> Row | None:
    """One school by its id."""
    return row_of(await tx.execute(select(schools).where(schools.c.id == school_id)))


async def enrolled(tx: Transaction, school_id: UUID, ids: Collection[UUID]) -> set[UUID]:
    """Those of *ids* who are enrolled in the school and have not left."""
    query = select(enrolments.c.student_id).where(
        enrolments.c.school_id == school_id,
        enrolments.c.student_id.in_(ids),
        enrolments.c.left_at.is_(None),
    )
    return set((await tx.execute(query)).scalars())


async def enrol(
    tx: Transaction, school_id: UUID, lines: Sequence[RosterLine], *, now: datetime
) -> set[UUID]:
    """Insert pupils who are not there yet, and their enrolments; which of them were new."""
    new = await tx.insert_new(
        students,
        [
            {
                "school_id": school_id,
                "id": line.student_id,
                "name": line.name,
                "external_id": line.external_id,
                "created_at": now,
                "first_name": line.first_name,
                "last_name": line.last_name,
                "email": line.email,
            }
            for line in lines
        ],
    )
    await tx.insert_new(
        enrolments,
        [
            {
                "school_id": school_id,
                "student_id": line.student_id,
                "class_name": line.class_name,
                "enrolled_at": now,
                "left_at": None,
            }
            for line in lines
        ],
    )
    return {id_ for _, id_ in new}


async def withdraw(tx: Transaction, school_id: UUID, ids: Collection[UUID]) -> None:
    """Take back pupils whom this transaction enrolled and for whom it recorded nothing."""
    if not ids:
        return
    for table, column in ((enrolments, enrolments.c.student_id), (students, students.c.id)):
        await tx.execute(delete(table).where(table.c.school_id == school_id, column.in_(ids)))


async def roster(tx: Transaction, school_id: UUID) -> Sequence[Row]:
    """The whole roster of a school as it stands, with those who have left."""
    return rows_of(await tx.execute(_roster(school_id)))


async def is_known(tx: Transaction, school_id: UUID, student_id: UUID) -> bool:
    """Whether the school has this pupil, or had it before it left."""
    query = select(students.c.id).where(
        students.c.school_id == school_id, students.c.id == student_id
    )
    return row_of(await tx.execute(query)) is not None


async def names(tx: Transaction, school_id: UUID, ids: Collection[UUID]) -> dict[UUID, str]:
    """The names of those of the school's *ids* that have one."""
    query = select(students.c.id, students.c.name).where(
        students.c.school_id == school_id, students.c.id.in_(ids), students.c.name.is_not(None)
    )
    return {row.id: row.name for row in await tx.execute(query)}


async def roster_page(
    tx: Transaction, school_id: UUID, *, after: UUID | None, limit: int
) -> Sequence[Row]:
    """The school's pupils in the order of their ids, those after *after*."""
    query = _roster(school_id).order_by(students.c.id).limit(limit)
    if after is not None:
        query = query.where(students.c.id > after)
    return rows_of(await tx.execute(query))


def _roster(school_id: UUID) -> Any:
    same = and_(
        enrolments.c.school_id == students.c.school_id, enrolments.c.student_id == students.c.id
    )
    return (
        select(
            students.c.id.label("student_id"),
            students.c.name,
            students.c.external_id,
            students.c.first_name,
            students.c.last_name,
            students.c.email,
            enrolments.c.class_name,
            enrolments.c.enrolled_at,
            enrolments.c.left_at,
        )
        .join(enrolments, same)
        .where(students.c.school_id == school_id)
    )


_OF_PUPIL = ("name", "external_id", "first_name", "last_name", "email")


async def amend_roster(tx: Transaction, school_id: UUID, lines: Sequence[RosterLine]) -> None:
    """Overwrite names and classes of pupils who are there; who had left is back."""
    if not lines:
        return
    ordered = sorted(lines, key=lambda line: line.student_id)
    pupil = (students.c.school_id == school_id) & (students.c.id == bindparam("_id"))
    await tx.execute(
        update(students).where(pupil),
        [{"_id": o.student_id} | {name: getattr(o, name) for name in _OF_PUPIL} for o in ordered],
    )
    enrolment = (enrolments.c.school_id == school_id) & (
        enrolments.c.student_id == bindparam("_id")
    )
    await tx.execute(
        update(enrolments).where(enrolment),
        [{"_id": o.student_id, "class_name": o.class_name, "left_at": None} for o in ordered],
    )


async def key(tx: Transaction, prefix: str) -> Row | None:
    """The live key of that prefix."""
    query = select(api_keys).where(api_keys.c.prefix == prefix, api_keys.c.revoked_at.is_(None))
    return row_of(await tx.execute(query))


async def keys(tx: Transaction, school_id: UUID) -> Sequence[Row]:
    """The school's keys, the oldest first, without their secrets' digests."""
    shown = [c for c in api_keys.c if c is not api_keys.c.secret_sha256]
    query = select(*shown).where(api_keys.c.school_id == school_id)
    ordered = query.order_by(api_keys.c.created_at, api_keys.c.prefix)
    return rows_of(await tx.execute(ordered))


async def revoke_key(tx: Transaction, school_id: UUID, prefix: str, *, now: datetime) -> bool:
    """Whether a live key of that prefix was there to revoke."""
    query = update(api_keys).where(
        api_keys.c.school_id == school_id,
        api_keys.c.prefix == prefix,
        api_keys.c.revoked_at.is_(None),
    )
    return bool((await tx.execute(query.values(revoked_at=now))).rowcount)


async def user(tx: Transaction, name: str) -> Row | None:
    """The user of that name."""
    return row_of(await tx.execute(select(users).where(users.c.name == name)))


async def set_password(tx: Transaction, row: Mapping[str, Any]) -> None:
    """Create the user, or give an existing one the new password."""
    if await tx.insert_new(users, [row]):
        return
    same = (users.c.school_id == row["school_id"]) & (users.c.name == row["name"])
    changed = {"password_hash": row["password_hash"], "role": row["role"]}
    await tx.execute(update(users).where(same).values(changed))
