"""The one query that analytics has of its own; the others are those of the areas."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import and_, select

from onefold.ports.tables import Row, rows_of
from onefold.ports.unit_of_work import Transaction
from onefold_server.domains.directory.tables import enrolments, students


async def class_of(tx: Transaction, school_id: UUID, class_name: str) -> Sequence[Row]:
    """The pupils of a class who have not left, by name."""
    same = and_(
        enrolments.c.school_id == students.c.school_id, enrolments.c.student_id == students.c.id
    )
    query = (
        select(students.c.id.label("student_id"), students.c.name)
        .join(enrolments, same)
        .where(
            students.c.school_id == school_id,
            enrolments.c.class_name == class_name,
            enrolments.c.left_at.is_(None),
        )
        .order_by(students.c.name, students.c.id)
    )
    return rows_of(await tx.execute(query))
