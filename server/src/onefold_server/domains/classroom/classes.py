"""
The use cases of classes and their pupils: one call, one transaction.

A class exists for its owner and for the school's admins; for everybody else it is not found.
What work is attached to is not removed: leaving and deleting keep the rows, and are refused
while an essay of the pupil or the class waits for a decision.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from onefold.core.clock import Clock
from onefold.core.cursor import decode_cursor, encode_cursor
from onefold.core.envelope import Event
from onefold.core.ids import Random, new_event_id
from onefold.errors import (
    Conflict,
    ConstraintViolated,
    FieldProblem,
    IllegalTransition,
    InvalidInput,
    NotFound,
)
from onefold.ports.tables import Row
from onefold.ports.unit_of_work import Transaction, UnitOfWork, in_transaction, look_and_write
from onefold_server.domains.classroom import classes_store as store
from onefold_server.domains.classroom import events
from onefold_server.domains.classroom.rules import require_mine, require_teacher
from onefold_server.domains.classroom.tables import classes
from onefold_server.domains.directory import store as directory
from onefold_server.domains.directory.roster import RosterFile, read_roster
from onefold_server.domains.directory.rules import (
    Principal,
    Role,
    RosterLine,
    read_email,
    require_text,
)

MAX_ENROLLED: Final = 1000  # pupils of one call


class ClassService:
    """
    Classes, their pupils, and rosters.

    Args:
        uow: Where they are kept.
        clock: What time it is.
        random: For ids.
    """

    def __init__(self, uow: UnitOfWork, *, clock: Clock, random: Random) -> None:
        self._uow, self._clock, self._random = uow, clock, random

    async def courses(self, caller: Principal) -> list[Row]:
        """Every course that a class can be of."""
        require_teacher(caller)
        async with self._uow.read() as tx:
            return await store.all_courses(tx)

    # -- classes ---------------------------------------------------------------------------

    async def create(
        self, caller: Principal, name: str, course_code: str, *, class_id: UUID | None = None
    ) -> Row:
        """
        Create a class of the caller's; with a `class_id`, again is the same as once.

        Raises:
            InvalidInput: no such course, or the name is not 1 to 100 characters.
            Conflict: the id is another class's.
        """
        require_teacher(caller)
        require_text("name", name, longest=100)
        now = self._clock.now()
        row: Row = {
            "school_id": caller.school_id,
            "id": class_id or new_event_id(now, self._random),
            "name": name,
            "course_code": course_code,
            "owner": caller.name,
            "created_at": now,
            "deleted_at": None,
        }

        async def work(tx: Transaction) -> Row:
            await self._require_course(tx, course_code)
            if await tx.insert_new(classes, [row]):
                await self._tell(tx, events.CLASS_CREATED, row, now=now)
                return row | {"student_count": 0}
            found = await store.get(tx, caller.school_id, row["id"])
            same = ("name", "course_code", "owner")
            if found is None or any(found[column] != row[column] for column in same):
                raise Conflict("class", str(row["id"]))
            return found

        try:
            return _class(await in_transaction(self._uow, work))
        except ConstraintViolated:  # the id is a class's of another school
            raise Conflict("class", str(row["id"])) from None

    async def get(self, caller: Principal, class_id: UUID) -> Row:
        """One class; `NotFound` unless it is the caller's."""
        require_teacher(caller)
        async with self._uow.read() as tx:
            return _class(await self._mine(tx, caller, class_id))

    async def page(self, caller: Principal, *, cursor: str | None = None, limit: int = 100) -> Row:
        """A page of the caller's classes, the newest first; an admin sees the school's."""
        require_teacher(caller)
        after = decode_cursor(cursor, tuple[datetime, UUID]) if cursor else None
        owner = None if caller.role is Role.ADMIN else caller.name
        async with self._uow.read() as tx:
            rows = await store.page(tx, caller.school_id, owner=owner, after=after, limit=limit + 1)
        last = rows[limit - 1] if len(rows) > limit else None
        return {
            "classes": [_class(row) for row in rows[:limit]],
            "next_cursor": encode_cursor((last["created_at"], last["id"])) if last else None,
        }

    async def update(
        self,
        caller: Principal,
        class_id: UUID,
        *,
        name: str | None = None,
        course_code: str | None = None,
    ) -> Row:
        """
        Rename a class, or move it to another course; what is None stays as it is.

        Raises:
            NotFound: no such class for this caller.
            InvalidInput: as for `create`.
        """
        require_teacher(caller)
        if name is not None:
            require_text("name", name, longest=100)

        async def work(tx: Transaction) -> Row:
            now = self._clock.now()
            found = await self._mine(tx, caller, class_id, lock=True)
            if course_code is not None:
                await self._require_course(tx, course_code)
            given = {"name": name, "course_code": course_code}
            new = {k: v for k, v in given.items() if v not in {None, found[k]}}
            if new:
                await store.change(tx, caller.school_id, class_id, new)
                await self._tell(tx, events.CLASS_UPDATED, found | new, now=now)
            return found | new

        return _class(await in_transaction(self._uow, work))

    async def delete(self, caller: Principal, class_id: UUID) -> None:
        """
        Delete a class: it is not found any more, and its decided work stays.

        Raises:
            NotFound: no such class for this caller.
            IllegalTransition: a batch of it waits for decisions.
        """
        require_teacher(caller)

        async def work(tx: Transaction) -> None:
            now = self._clock.now()
            found = await self._mine(tx, caller, class_id, lock=True)
            if await store.has_open_batch(tx, caller.school_id, class_id):
                raise IllegalTransition("with an open batch", "deleting the class")
            await store.change(tx, caller.school_id, class_id, {"deleted_at": now})
            await self._tell(tx, events.CLASS_DELETED, found, now=now)

        await in_transaction(self._uow, work)

    # -- who is in a class -----------------------------------------------------------------

    async def roster(
        self, caller: Principal, class_id: UUID, *, cursor: str | None = None, limit: int = 100
    ) -> Row:
        """A page of the class's pupils, in the order of their ids."""
        require_teacher(caller)
        after = decode_cursor(cursor, tuple[UUID])[0] if cursor else None
        async with self._uow.read() as tx:
            await self._mine(tx, caller, class_id)
            rows = await store.roster(tx, caller.school_id, class_id, after=after, limit=limit + 1)
        more = len(rows) > limit
        return {
            "students": rows[:limit],
            "next_cursor": encode_cursor((rows[limit - 1]["student_id"],)) if more else None,
        }

    async def enrol(self, caller: Principal, class_id: UUID, ids: Collection[UUID]) -> int:
        """
        Put pupils of the school into a class; again is the same as once.

        Returns:
            How many were not in it before.

        Raises:
            NotFound: no such class for this caller.
            InvalidInput: no such pupils in the school; each is named. Nobody was enrolled.
        """
        require_teacher(caller)
        if not 1 <= len(ids) <= MAX_ENROLLED:
            reason = f"expected 1 to {MAX_ENROLLED} pupils"
            raise InvalidInput([FieldProblem("student_ids", "length", reason)])

        async def work(tx: Transaction) -> int:
            await self._mine(tx, caller, class_id, lock=True)
            found = await store.known(tx, caller.school_id, ids)
            unknown = sorted(set(ids) - {row["student_id"] for row in found})
            if unknown:
                raise InvalidInput(
                    [FieldProblem("student_ids", "unknown", f"no pupil {id_}") for id_ in unknown]
                )
            return await store.enrol(
                tx, caller.school_id, class_id, set(ids), now=self._clock.now()
            )

        return await in_transaction(self._uow, work)

    async def withdraw(self, caller: Principal, class_id: UUID, student_id: UUID) -> None:
        """
        Take a pupil out of a class; decided work stays with them.

        Raises:
            NotFound: no such class for this caller, or no such pupil in it.
            IllegalTransition: an open essay of the class is suggested to be theirs.
        """
        require_teacher(caller)

        async def work(tx: Transaction) -> None:
            await self._mine(tx, caller, class_id, lock=True)
            if await store.has_work(tx, caller.school_id, student_id, class_id=class_id):
                raise IllegalTransition("with open essays", "leaving the class")
            if not await store.withdraw(
                tx, caller.school_id, [student_id], now=self._clock.now(), class_id=class_id
            ):
                raise NotFound("student", str(student_id))

        await in_transaction(self._uow, work)

    async def import_roster(
        self, caller: Principal, class_id: UUID, text: Iterable[str], *, dry_run: bool = False
    ) -> Row:
        """
        Enrol the pupils of a CSV file in a class; importing it again changes nothing.

        Pupils whom the school does not know are created. Those it knows (by `student_id`,
        `external_id` or `email`) are enrolled and otherwise left as they are: correcting
        them is the school's roster's business.

        Args:
            caller: The class's owner, or an admin.
            class_id: Which class.
            text: The file's lines; columns as for the school's roster.
            dry_run: Only tell what would happen.

        Returns:
            `created`, `enrolled`, `unchanged`, `refused` (line, field, code, reason), `dry_run`.

        Raises:
            NotFound: no such class for this caller.
            InvalidInput: the header is not usable, or it is no CSV. Nothing was recorded.
        """
        require_teacher(caller)
        read = read_roster(caller.school_id, text)

        async def work(tx: Transaction) -> Row:
            now = self._clock.now()
            await self._mine(tx, caller, class_id, lock=not dry_run)
            whom = await _whom(tx, caller.school_id, read)
            lines = whom.lines
            known = {r["student_id"] for r in await store.known(tx, caller.school_id, lines)}
            there = {r["student_id"] for r in await store.roster(tx, caller.school_id, class_id)}
            new = [line for id_, line in lines.items() if id_ not in known]
            if not dry_run:
                await self._add(tx, caller, new, now=now)
                if lines:
                    await store.enrol(tx, caller.school_id, class_id, set(lines), now=now)
            return {
                "created": len(new),
                "enrolled": len(lines.keys() - there),
                "unchanged": len(lines.keys() & there),
                "refused": whom.refused,
                "dry_run": dry_run,
            }

        if dry_run:
            async with self._uow.read() as tx:
                return await work(tx)
        return await look_and_write(self._uow, work)

    # -- pupils ----------------------------------------------------------------------------

    async def create_student(self, caller: Principal, given: Mapping[str, Any]) -> Row:
        """
        Add a pupil to the school, and to classes of the caller's.

        Args:
            caller: A teacher or an admin.
            given: `first_name` and `last_name` or `name`; `email`, `external_id`,
                `student_id`, `class_ids`.

        Raises:
            InvalidInput: a field is wrong.
            NotFound: a class is not the caller's.
            Conflict: e-mail, outside id or id is another pupil's. Nothing was recorded.
        """
        require_teacher(caller)
        line = self._line(given)

        async def work(tx: Transaction) -> Row:
            now = self._clock.now()
            if await _taken(tx, caller.school_id, line):
                raise Conflict("student", line.email or str(line.student_id))
            for class_id in sorted(set(given.get("class_ids") or ())):
                await self._mine(tx, caller, class_id, lock=True)
            await self._add(tx, caller, [line], now=now)
            for class_id in sorted(set(given.get("class_ids") or ())):
                await store.enrol(tx, caller.school_id, class_id, {line.student_id}, now=now)
            made = _pupil_of(line) | {"external_id": line.external_id}
            return made | {"class_ids": sorted(set(given.get("class_ids") or ()))}

        return await look_and_write(self._uow, work)

    async def student(self, caller: Principal, student_id: UUID) -> Row:
        """
        A pupil with those of their classes that are the caller's.

        Raises:
            NotFound: no such pupil in the school, or in no class of the caller's.
        """
        require_teacher(caller)
        async with self._uow.read() as tx:
            return await self._pupil(tx, caller, student_id)

    async def update_student(
        self, caller: Principal, student_id: UUID, given: Mapping[str, Any]
    ) -> Row:
        """
        Change names or e-mail of a pupil; what is not given stays as it is.

        Raises:
            NotFound: as for `student`.
            InvalidInput: a field is wrong.
            Conflict: the e-mail is another pupil's. Nothing was changed.
        """
        require_teacher(caller)
        new = {k: v for k, v in given.items() if v is not None}
        for field in ("name", "first_name", "last_name"):
            if field in new:
                require_text(field, new[field], longest=200 if field == "name" else 100)
        if "email" in new:
            new["email"] = read_email(new["email"])

        async def work(tx: Transaction) -> Row:
            now = self._clock.now()
            found = await self._pupil(tx, caller, student_id)
            changed = {k: v for k, v in new.items() if v != found[k]}
            if not changed:
                return found
            if {"first_name", "last_name"} & changed.keys() and "name" not in changed:
                names = (found | changed)["first_name"], (found | changed)["last_name"]
                changed["name"] = " ".join(filter(None, names))
            holders = await store.holders(
                tx, caller.school_id, emails=[changed.get("email", "")], external_ids=()
            )
            if any(row["id"] != student_id for row in holders):
                raise Conflict("student", changed["email"])
            await store.change_pupil(tx, caller.school_id, student_id, changed)
            await self._tell_of(tx, events.STUDENT_UPDATED, caller, found | changed, now=now)
            return found | changed

        return await look_and_write(self._uow, work)

    async def delete_student(self, caller: Principal, student_id: UUID) -> None:
        """
        The pupil leaves the school and all classes; decided work stays attached to them.

        Raises:
            NotFound: as for `student`.
            IllegalTransition: an open essay is suggested to be theirs.
        """
        require_teacher(caller)

        async def work(tx: Transaction) -> None:
            now = self._clock.now()
            found = await self._pupil(tx, caller, student_id)
            if await store.has_work(tx, caller.school_id, student_id):
                raise IllegalTransition("with open essays", "leaving the school")
            await store.withdraw(tx, caller.school_id, [student_id], now=now)
            await store.leave_school(tx, caller.school_id, student_id, now=now)
            await self._tell_of(tx, events.STUDENT_DELETED, caller, found, now=now)

        await in_transaction(self._uow, work)

    # -- shared ----------------------------------------------------------------------------

    async def _mine(
        self, tx: Transaction, caller: Principal, class_id: UUID, *, lock: bool = False
    ) -> Row:
        found = await store.get(tx, caller.school_id, class_id, lock=lock)
        require_mine(caller, found, "class", class_id)
        assert found is not None  # noqa: S101 (required the line before)
        return found

    async def _require_course(self, tx: Transaction, code: str) -> None:
        there = {row["code"] for row in await store.all_courses(tx)}
        if code not in there:
            reason = f"expected one of {', '.join(sorted(there))}"
            raise InvalidInput([FieldProblem("course_code", "unknown", reason)])

    async def _pupil(self, tx: Transaction, caller: Principal, student_id: UUID) -> Row:
        found = await store.pupil(tx, caller.school_id, student_id)
        owner = None if caller.role is Role.ADMIN else caller.name
        theirs = await store.classes_of(tx, caller.school_id, student_id, owner=owner)
        if found is None or (owner is not None and not theirs):
            raise NotFound("student", str(student_id))
        return found | {"class_ids": theirs}

    def _line(self, given: Mapping[str, Any]) -> RosterLine:
        for field, longest in (("first_name", 100), ("last_name", 100), ("external_id", 100)):
            if given.get(field) is not None:
                require_text(field, given[field], longest=longest)
        names = " ".join(filter(None, (given.get("first_name"), given.get("last_name"))))
        name = given.get("name") or names
        require_text("name", name, longest=200)
        email = given.get("email")
        now = self._clock.now()
        return RosterLine(
            student_id=given.get("student_id") or new_event_id(now, self._random),
            name=name,
            external_id=given.get("external_id"),
            first_name=given.get("first_name"),
            last_name=given.get("last_name"),
            email=None if email is None else read_email(email),
        )

    async def _add(
        self, tx: Transaction, caller: Principal, lines: Collection[RosterLine], *, now: datetime
    ) -> None:
        """Add pupils to the school, or bring back those who had left it."""
        if not lines:
            return
        added = await directory.enrol(tx, caller.school_id, list(lines), now=now)
        back = [line for line in lines if line.student_id not in added]
        await directory.amend_roster(tx, caller.school_id, back)
        facts = [
            self._fact(events.STUDENT_CREATED, caller, _pupil_of(line), now=now) for line in lines
        ]
        await tx.publish(*facts, now=now)

    async def _tell(self, tx: Transaction, type_: str, row: Row, *, now: datetime) -> None:
        data = {
            "school_id": str(row["school_id"]),
            "class_id": str(row["id"]),
            "name": row["name"],
            "course_code": row["course_code"],
            "owner": row["owner"],
        }
        id_ = new_event_id(now, self._random)
        await tx.publish(events.about(type_, row["id"], data, event_id=id_, at=now), now=now)

    async def _tell_of(
        self, tx: Transaction, type_: str, caller: Principal, row: Row, *, now: datetime
    ) -> None:
        await tx.publish(self._fact(type_, caller, row, now=now), now=now)

    def _fact(self, type_: str, caller: Principal, row: Row, *, now: datetime) -> Event:
        data = {"school_id": str(caller.school_id), "student_id": str(row["student_id"])}
        data |= {name: row[name] for name in ("name", "first_name", "last_name", "email")}
        id_ = new_event_id(now, self._random)
        return events.about(type_, row["student_id"], data, event_id=id_, at=now)


async def _whom(tx: Transaction, school_id: UUID, read: RosterFile) -> RosterFile:
    """*read* with each line under the pupil who has its address or outside id already."""
    unique = read.without_taken({}).without_taken({}, unique="email")
    lines = list(unique.lines.values())
    holders = await store.holders(
        tx,
        school_id,
        emails={line.email for line in lines if line.email},
        external_ids={line.external_id for line in lines if line.external_id},
    )
    known = {row["student_id"] for row in await store.known(tx, school_id, unique.lines)}
    found: dict[UUID, RosterLine] = {}
    refused = list(unique.refused)
    for line in lines:
        marks = {
            row["id"]
            for row in holders
            if (line.email and row["email"] == line.email)
            or (line.external_id and row["external_id"] == line.external_id)
        }
        if line.student_id in known:
            marks.add(line.student_id)
        if len(marks) > 1:
            problem = FieldProblem("line", "taken", "names two pupils of the school")
            refused.append({"line": unique.line_of[line.student_id], **problem._asdict()})
        else:
            meant = next(iter(marks), line.student_id)
            found[meant] = replace(line, student_id=meant)
    return replace(unique, lines=found, refused=refused)


async def _taken(tx: Transaction, school_id: UUID, line: RosterLine) -> bool:
    holders = await store.holders(
        tx,
        school_id,
        emails=[line.email] if line.email else [],
        external_ids=[line.external_id] if line.external_id else [],
    )
    return bool(holders) or await directory.is_known(tx, school_id, line.student_id)


def _pupil_of(line: RosterLine) -> Row:
    shown = ("student_id", "name", "first_name", "last_name", "email")
    return {name: getattr(line, name) for name in shown}


def _class(row: Row) -> Row:
    shown = ("name", "course_code", "owner", "created_at", "student_count")
    return {"class_id": row["id"]} | {name: row[name] for name in shown}
