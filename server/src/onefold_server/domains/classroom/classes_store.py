"""The queries of classes and pupils, for both databases. Each belongs to a caller's transaction."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, and_, exists, func, or_, select, update

from onefold.ports.tables import Row, row_of, rows_of
from onefold.ports.unit_of_work import Transaction
from onefold_server.domains.classroom.tables import (
    associations,
    batches,
    classes,
    courses,
    enrolments,
)
from onefold_server.domains.directory.tables import enrolments as school_enrolments
from onefold_server.domains.directory.tables import students


async def all_courses(tx: Transaction) -> list[Row]:
    """Every course there is."""
    return rows_of(await tx.execute(select(courses).order_by(courses.c.code)))


def _classes() -> Select[Any]:
    pupils = (
        select(func.count())
        .where(
            enrolments.c.school_id == classes.c.school_id,
            enrolments.c.class_id == classes.c.id,
            enrolments.c.left_at.is_(None),
        )
        .scalar_subquery()
    )
    return select(classes, pupils.label("student_count")).where(classes.c.deleted_at.is_(None))


async def get(
    tx: Transaction, school_id: UUID, class_id: UUID, *, lock: bool = False
) -> Row | None:
    """One class, with the number of its pupils; with *lock* held until the commit."""
    query = _classes().where(classes.c.school_id == school_id, classes.c.id == class_id)
    if lock:
        query = query.with_for_update(of=classes)
    return row_of(await tx.execute(query))


async def page(
    tx: Transaction,
    school_id: UUID,
    *,
    owner: str | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[Row]:
    """The school's classes, or an owner's, the newest first."""
    query = _classes().where(classes.c.school_id == school_id)
    if owner is not None:
        query = query.where(classes.c.owner == owner)
    if after is not None:
        at, id_ = after
        earlier = and_(classes.c.created_at == at, classes.c.id < id_)
        query = query.where(or_(classes.c.created_at < at, earlier))
    ordered = query.order_by(classes.c.created_at.desc(), classes.c.id.desc()).limit(limit)
    return rows_of(await tx.execute(ordered))


async def change(
    tx: Transaction, school_id: UUID, class_id: UUID, values: Mapping[str, Any]
) -> None:
    """Overwrite columns of a class."""
    mine = (classes.c.school_id == school_id) & (classes.c.id == class_id)
    await tx.execute(update(classes).where(mine).values(**values))


async def has_open_batch(tx: Transaction, school_id: UUID, class_id: UUID) -> bool:
    """Whether a batch of the class waits for decisions."""
    waiting = exists().where(
        batches.c.school_id == school_id,
        batches.c.class_id == class_id,
        batches.c.closed_at.is_(None),
    )
    return bool((await tx.execute(select(waiting))).scalar_one())


async def has_work(
    tx: Transaction, school_id: UUID, student_id: UUID, *, class_id: UUID | None = None
) -> bool:
    """Whether an open essay is suggested to be this pupil's, in the class or anywhere."""
    theirs = and_(
        associations.c.school_id == school_id,
        associations.c.suggested_student_id == student_id,
        associations.c.validated_at.is_(None),
    )
    if class_id is not None:
        theirs = theirs & (associations.c.class_id == class_id)
    return bool((await tx.execute(select(exists().where(theirs)))).scalar_one())


def _pupils() -> Select[Any]:
    same = and_(
        school_enrolments.c.school_id == students.c.school_id,
        school_enrolments.c.student_id == students.c.id,
    )
    shown = [students.c[n] for n in ("name", "first_name", "last_name", "email", "external_id")]
    return (
        select(students.c.id.label("student_id"), *shown)
        .join(school_enrolments, same)
        .where(school_enrolments.c.left_at.is_(None))
    )


async def roster(
    tx: Transaction,
    school_id: UUID,
    class_id: UUID,
    *,
    after: UUID | None = None,
    limit: int | None = None,
) -> list[Row]:
    """The pupils of a class in the order of their ids, those after *after*."""
    same = and_(
        enrolments.c.school_id == students.c.school_id, enrolments.c.student_id == students.c.id
    )
    query = (
        _pupils()
        .join(enrolments, same)
        .where(
            students.c.school_id == school_id,
            enrolments.c.class_id == class_id,
            enrolments.c.left_at.is_(None),
        )
        .order_by(students.c.id)
    )
    if after is not None:
        query = query.where(students.c.id > after)
    return rows_of(await tx.execute(query.limit(limit)))


async def pupil(tx: Transaction, school_id: UUID, student_id: UUID) -> Row | None:
    """A pupil who has not left the school."""
    mine = (students.c.school_id == school_id) & (students.c.id == student_id)
    return row_of(await tx.execute(_pupils().where(mine)))


async def classes_of(
    tx: Transaction, school_id: UUID, student_id: UUID, *, owner: str | None
) -> list[UUID]:
    """The classes that a pupil is in, or those of them that *owner* owns."""
    same = and_(
        classes.c.school_id == enrolments.c.school_id, classes.c.id == enrolments.c.class_id
    )
    query = (
        select(classes.c.id)
        .join(enrolments, same)
        .where(
            enrolments.c.school_id == school_id,
            enrolments.c.student_id == student_id,
            enrolments.c.left_at.is_(None),
            classes.c.deleted_at.is_(None),
        )
        .order_by(classes.c.id)
    )
    if owner is not None:
        query = query.where(classes.c.owner == owner)
    return list((await tx.execute(query)).scalars())


async def change_pupil(
    tx: Transaction, school_id: UUID, student_id: UUID, values: Mapping[str, Any]
) -> None:
    """Overwrite columns of a pupil."""
    mine = (students.c.school_id == school_id) & (students.c.id == student_id)
    await tx.execute(update(students).where(mine).values(**values))


async def enrol(
    tx: Transaction, school_id: UUID, class_id: UUID, ids: Collection[UUID], *, now: datetime
) -> int:
    """Put pupils into a class; who had left is back. How many were not in it."""
    rows = [
        {
            "school_id": school_id,
            "class_id": class_id,
            "student_id": id_,
            "enrolled_at": now,
            "left_at": None,
        }
        for id_ in sorted(ids)
    ]
    new = await tx.insert_new(enrolments, rows)
    theirs = _theirs(school_id, class_id, ids) & enrolments.c.left_at.is_not(None)
    back = await tx.execute(update(enrolments).where(theirs).values(left_at=None))
    return len(new) + back.rowcount


async def withdraw(
    tx: Transaction,
    school_id: UUID,
    ids: Collection[UUID],
    *,
    now: datetime,
    class_id: UUID | None = None,
) -> int:
    """Take pupils out of a class, or of all classes; how many were in it."""
    theirs = _theirs(school_id, class_id, ids) & enrolments.c.left_at.is_(None)
    return (await tx.execute(update(enrolments).where(theirs).values(left_at=now))).rowcount


def _theirs(school_id: UUID, class_id: UUID | None, ids: Collection[UUID]) -> Any:
    found = (enrolments.c.school_id == school_id) & enrolments.c.student_id.in_(ids)
    return found if class_id is None else found & (enrolments.c.class_id == class_id)


async def leave_school(
    tx: Transaction, school_id: UUID, student_id: UUID, *, now: datetime
) -> None:
    """The pupil has left; their work stays."""
    mine = (school_enrolments.c.school_id == school_id) & (
        school_enrolments.c.student_id == student_id
    )
    await tx.execute(update(school_enrolments).where(mine).values(left_at=now))


async def known(tx: Transaction, school_id: UUID, ids: Collection[UUID]) -> list[Row]:
    """Those of *ids* who are pupils of the school."""
    mine = (students.c.school_id == school_id) & students.c.id.in_(ids)
    return rows_of(await tx.execute(_pupils().where(mine)))


async def holders(
    tx: Transaction, school_id: UUID, *, emails: Collection[str], external_ids: Collection[str]
) -> list[Row]:
    """Whoever in the school, left or not, has one of these addresses or outside ids."""
    query = select(students.c.id, students.c.email, students.c.external_id).where(
        students.c.school_id == school_id,
        or_(students.c.email.in_(emails), students.c.external_id.in_(external_ids)),
    )
    return rows_of(await tx.execute(query))
