"""Whose learning it is: every use case asks here before it writes for a learner."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from onefold.errors import Forbidden, NotFound
from onefold.ports.unit_of_work import Transaction
from onefold_server.domains.directory import store as directory
from onefold_server.domains.directory.rules import Principal, RosterLine, Scope


async def learners(
    tx: Transaction, school_id: UUID, wanted: Collection[UUID], *, now: datetime
) -> set[UUID]:
    """
    Those of *wanted* who are enrolled; where the school wants that, after enrolling them.
    """
    known = await directory.enrolled(tx, school_id, wanted)
    unknown = set(wanted) - known
    if not unknown:
        return known
    school = await directory.school(tx, school_id)
    if school is None or not school["auto_enrol"]:
        return known
    lines = [RosterLine(student_id=id_) for id_ in sorted(unknown)]
    await directory.enrol(tx, school_id, lines, now=now)
    return known | await directory.enrolled(tx, school_id, unknown)  # who had left stays out


async def require_learner(
    tx: Transaction, caller: Principal, student_id: UUID, *, now: datetime
) -> None:
    """Raise `NotFound` unless *student_id* learns in the caller's school, and it may see that."""
    require_visible(caller, student_id)
    if not await learners(tx, caller.school_id, [student_id], now=now):
        raise NotFound("student", str(student_id))


def require_visible(caller: Principal, student_id: UUID) -> None:
    """Raise `NotFound` when data of *student_id* does not exist for this caller."""
    if not caller.may_see(student_id):
        raise NotFound("student", str(student_id))


def require_staff(caller: Principal, scope: Scope) -> None:
    """Raise `Forbidden` unless the caller has *scope* and is not a pupil's own key."""
    caller.require(scope)
    if caller.student_id is not None:
        raise Forbidden(f"{scope} for the whole school")
