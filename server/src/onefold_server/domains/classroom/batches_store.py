"""
The queries of batches and associations, for both databases. Each belongs to a caller's
transaction, and none of them grows in number with the essays of a batch.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Select, and_, bindparam, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from onefold.ports.tables import Row, row_of, rows_of
from onefold.ports.unit_of_work import Transaction
from onefold_server.domains.classroom.matching.values import SURE
from onefold_server.domains.classroom.rules import Choice, EssayDecision, Method, Status
from onefold_server.domains.classroom.tables import associations, batches, classes, enrolments
from onefold_server.domains.directory.tables import students

_INSERT: Final[Mapping[str, Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_SUGGESTION: Final = (
    "suggested_at",
    "suggested_student_id",
    "score",
    "ambiguous",
    "reasons",
    "alternatives",
    "note",
    "status",
)
_A_TIME: Final = 2000  # rows of one statement: 15 values each stay below every database's limit


class Room(NamedTuple):
    """A class, and who of the pupils asked for is known and in it."""

    row: Row
    known: frozenset[UUID]
    enrolled: frozenset[UUID]


async def room(tx: Transaction, class_id: UUID, ids: Collection[UUID]) -> Room | None:
    """The class of that id in whichever school, and which of *ids* are its pupils."""
    asked = and_(students.c.school_id == classes.c.school_id, students.c.id.in_(sorted(ids)))
    in_it = and_(
        enrolments.c.school_id == classes.c.school_id,
        enrolments.c.class_id == classes.c.id,
        enrolments.c.student_id == students.c.id,
        enrolments.c.left_at.is_(None),
    )
    query = (
        select(
            classes,
            students.c.id.label("known_id"),
            enrolments.c.student_id.label("enrolled_id"),
        )
        .select_from(classes.outerjoin(students, asked).outerjoin(enrolments, in_it))
        .where(classes.c.id == class_id, classes.c.deleted_at.is_(None))
    )
    found = rows_of(await tx.execute(query))
    if not found:
        return None
    return Room(
        found[0],
        frozenset(row["known_id"] for row in found if row["known_id"]),
        frozenset(row["enrolled_id"] for row in found if row["enrolled_id"]),
    )


async def open_batch(tx: Transaction, row: Mapping[str, Any]) -> Row | None:
    """
    The batch, inserted or as it stood, held until the commit.

    None when that batch is of another class.
    """
    # Not by the statement below alone: at once with another it could break the other unique
    # constraint, for ON CONFLICT waits at the one that it names.
    if await tx.insert_new(batches, [row]):
        return dict(row)
    new = _INSERT[tx.features.name](batches).values(**row)
    query = new.on_conflict_do_update(
        index_elements=["school_id", "id"],
        set_={"total": new.excluded.total},
        where=batches.c.class_id == new.excluded.class_id,
    ).returning(*batches.c)
    return row_of(await tx.execute(query))


def association(batch: Mapping[str, Any], choice: Choice, *, source: str, at: datetime) -> Row:
    """The row of one essay as it begins."""
    best = choice.best
    return {
        "school_id": batch["school_id"],
        "essay_id": choice.essay.id,
        "batch_id": batch["id"],
        "class_id": batch["class_id"],
        "file_name": choice.essay.file_name,
        "source": source,
        "suggested_at": at,
        "suggested_student_id": best.student_id if best else None,
        "score": best.score if best else None,
        "ambiguous": choice.ambiguous,
        "reasons": list(best.reasons) if best else [],
        "alternatives": [other.shown() for other in choice.others],
        "note": None if best else choice.essay.note,
        "revision": 1,
        "status": choice.status.value,
    }


async def insert(tx: Transaction, rows: Sequence[Row]) -> set[UUID]:
    """Insert the associations of essays that have none; which they were. The key decides."""
    return {essay_id for _, essay_id in await tx.insert_new(associations, rows)}


async def improve(tx: Transaction, rows: Sequence[Row]) -> set[UUID]:
    """
    Replace open suggestions by later, better ones of the same source; which they were.

    What a person or the deadline has decided is left alone, and so is another class's.
    """
    improved: set[UUID] = set()
    ordered = sorted(rows, key=lambda row: row["essay_id"])
    for start in range(0, len(ordered), _A_TIME):
        new = _INSERT[tx.features.name](associations).values(ordered[start : start + _A_TIME])
        better = new.on_conflict_do_update(
            index_elements=["school_id", "essay_id"],
            set_={name: new.excluded[name] for name in _SUGGESTION}
            | {"revision": associations.c.revision + 1},
            where=and_(
                associations.c.validated_at.is_(None),
                associations.c.class_id == new.excluded.class_id,
                associations.c.source == new.excluded.source,
                associations.c.suggested_at < new.excluded.suggested_at,
                func.coalesce(associations.c.score, -1) < func.coalesce(new.excluded.score, -1),
            ),
        ).returning(associations.c.essay_id)
        improved.update((await tx.execute(better)).scalars())
    return improved


async def lock_batch(tx: Transaction, school_id: UUID, batch_id: UUID) -> Row | None:
    """A batch with its class's `owner` and `course_code`, held until the commit."""
    mine = (batches.c.school_id == school_id) & (batches.c.id == batch_id)
    query = _with_class().where(mine).with_for_update(of=batches)
    return row_of(await tx.execute(query))


async def batch(tx: Transaction, school_id: UUID, batch_id: UUID) -> Row | None:
    """A batch with its class's `owner`, `course_code` and name."""
    mine = (batches.c.school_id == school_id) & (batches.c.id == batch_id)
    return row_of(await tx.execute(_with_class().where(mine)))


def _with_class() -> Select[Any]:
    same = and_(classes.c.school_id == batches.c.school_id, classes.c.id == batches.c.class_id)
    return select(
        batches, classes.c.owner, classes.c.course_code, classes.c.name.label("class_name")
    ).join(classes, same)


async def essays(
    tx: Transaction, batch_: Mapping[str, Any], ids: Collection[UUID] | None = None
) -> list[Row]:
    """The batch's essays, or those of *ids*, in the order of their ids."""
    query = select(associations).where(_of(batch_)).order_by(associations.c.essay_id)
    if ids is not None:
        query = query.where(associations.c.essay_id.in_(ids))
    return rows_of(await tx.execute(query))


async def essay_page(
    tx: Transaction, batch_: Mapping[str, Any], *, after: UUID | None, limit: int
) -> list[Row]:
    """The batch's essays after *after*, in the order of their ids."""
    query = select(associations).where(_of(batch_)).order_by(associations.c.essay_id).limit(limit)
    if after is not None:
        query = query.where(associations.c.essay_id > after)
    return rows_of(await tx.execute(query))


async def essay(tx: Transaction, school_id: UUID, essay_id: UUID) -> Row | None:
    """One essay's association."""
    mine = (associations.c.school_id == school_id) & (associations.c.essay_id == essay_id)
    return row_of(await tx.execute(select(associations).where(mine)))


def _of(batch_: Mapping[str, Any]) -> Any:
    return and_(
        associations.c.school_id == batch_["school_id"], associations.c.batch_id == batch_["id"]
    )


async def open_essays(tx: Transaction, batch_: Mapping[str, Any]) -> int:
    """How many of the batch's essays wait for a decision."""
    query = select(func.count()).where(_of(batch_), associations.c.validated_at.is_(None))
    return int((await tx.execute(query.select_from(associations))).scalar_one())


async def pupils_of(
    tx: Transaction, school_id: UUID, class_id: UUID, ids: Collection[UUID]
) -> set[UUID]:
    """Those of *ids* who are in the class."""
    query = select(enrolments.c.student_id).where(
        enrolments.c.school_id == school_id,
        enrolments.c.class_id == class_id,
        enrolments.c.student_id.in_(ids),
        enrolments.c.left_at.is_(None),
    )
    return set((await tx.execute(query)).scalars())


async def decide(
    tx: Transaction,
    batch_: Mapping[str, Any],
    settled: Sequence[EssayDecision],
    *,
    by: str,
    at: datetime,
) -> None:
    """Write a person's decisions beside the suggestions."""
    mine = _of(batch_) & (associations.c.essay_id == bindparam("_essay"))
    written = {
        "status": bindparam("_status"),
        "student_id": bindparam("_student"),
        "method": Method.HUMAN.value,
        "validated_by": by,
        "validated_at": at,
    }
    await tx.execute(
        update(associations).where(mine).values(written),
        [
            {"_essay": one.essay_id, "_status": one.status.value, "_student": one.student_id}
            for one in sorted(settled, key=lambda one: one.essay_id)
        ],
    )


async def time_out(tx: Transaction, batch_: Mapping[str, Any], *, by: str, at: datetime) -> None:
    """Confirm what is sure and leave the rest as `no_match`: two statements, any batch."""
    written = {"method": Method.TIMEOUT.value, "validated_by": by, "validated_at": at}
    undecided = _of(batch_) & associations.c.validated_at.is_(None)
    sure = and_(
        associations.c.status == Status.PENDING.value,
        associations.c.score >= SURE,
        associations.c.ambiguous.is_(False),
    )
    confirmed = {
        "status": Status.TIMEOUT_CONFIRMED.value,
        "student_id": associations.c.suggested_student_id,
    }
    await tx.execute(update(associations).where(undecided, sure).values(confirmed | written))
    rest = {"status": Status.NO_MATCH.value} | written
    await tx.execute(update(associations).where(undecided).values(rest))


async def close(tx: Transaction, batch_: Mapping[str, Any], *, at: datetime) -> None:
    """The batch is over: nothing is due any more."""
    await _move(tx, batch_, {"closed_at": at, "due_at": None})


async def reopen(tx: Transaction, batch_: Mapping[str, Any], *, deadline: datetime) -> None:
    """More essays came after the batch was over."""
    moved = {"closed_at": None, "due_at": deadline, "deadline": deadline, "failures": 0}
    await _move(tx, batch_, moved | {"revision": batches.c.revision + 1})


async def postpone(tx: Transaction, batch_: Mapping[str, Any], *, due_at: datetime) -> None:
    """Count a start; should it not end, the batch is due again then."""
    await _move(tx, batch_, {"due_at": due_at, "failures": batches.c.failures + 1})


async def _move(tx: Transaction, batch_: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    mine = and_(batches.c.school_id == batch_["school_id"], batches.c.id == batch_["id"])
    await tx.execute(update(batches).where(mine).values(**values))


async def due(tx: Transaction, *, now: datetime) -> Row | None:
    """The batch longest due, of any school, that no other worker has in hand; held."""
    query = (
        select(batches)
        .where(batches.c.due_at <= now)
        .order_by(batches.c.due_at, batches.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    return row_of(await tx.execute(query))


async def page(
    tx: Transaction,
    school_id: UUID,
    *,
    class_id: UUID | None,
    owner: str | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[Row]:
    """The school's batches, the newest first, with how many of their essays are open."""
    waiting = (
        select(func.count())
        .where(
            associations.c.school_id == batches.c.school_id,
            associations.c.batch_id == batches.c.id,
            associations.c.validated_at.is_(None),
        )
        .scalar_subquery()
        .label("undecided")
    )
    query = _with_class().add_columns(waiting).where(batches.c.school_id == school_id)
    if class_id is not None:
        query = query.where(batches.c.class_id == class_id)
    if owner is not None:
        query = query.where(classes.c.owner == owner)
    if after is not None:
        at, id_ = after
        earlier = or_(
            batches.c.received_at < at, and_(batches.c.received_at == at, batches.c.id < id_)
        )
        query = query.where(earlier)
    ordered = query.order_by(batches.c.received_at.desc(), batches.c.id.desc()).limit(limit)
    return rows_of(await tx.execute(ordered))
