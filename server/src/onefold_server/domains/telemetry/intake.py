"""
Which events of one request count.

An event counts once within its school: its insert decides, and every other step only
prepares it or tells what it decided. In the order of the locks, which is the same for all:
pupils, sessions (by id), events (by id), batch. A session's row is held from before its
events are inserted until the commit, so that a close sees either all of a request's events
or none, and a request sees whether its session is closed. Pupils and sessions that turn out
to have got no event are taken back in the same transaction.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from onefold.core.fields import list_problems
from onefold.errors import FieldProblem, InvalidInput, StoreContended
from onefold.ports.unit_of_work import Transaction
from onefold_server.domains.directory import store as directory
from onefold_server.domains.directory.rules import RosterLine
from onefold_server.domains.telemetry import store
from onefold_server.domains.telemetry.rules import TelemetryEvent, read_event
from onefold_server.domains.telemetry.tables import events, sessions


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """
    Why one event of a request does not count.

    Attributes:
        index: Its place in the request, from 0.
        event_id: Its id, if it has one.
        code: Stable: of the first wrong field, or `conflict`, `unknown_student`,
            `session_of_another_student`, `not_your_student`.
        reason: For people.
        problems: Every wrong field; empty when the fields are right.
    """

    index: int
    event_id: str | None
    code: str
    reason: str
    problems: Sequence[FieldProblem] = ()


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What became of the events of one request; the three add up to what was received."""

    applied: int
    repeated: int
    refused: Sequence[Refusal]


@dataclass(frozen=True, kw_only=True)
class RequestOrigin:
    """Where a request comes from, kept with each of its events."""

    school_id: UUID
    received_at: datetime
    batch_id: UUID | None = None
    client_version: str | None = None
    only_student: UUID | None = None  # a pupil's own key writes for that pupil alone


@dataclass
class TelemetryIntake:
    """The events of one request that still may count, and the verdicts on the others."""

    origin: RequestOrigin
    waiting: dict[int, TelemetryEvent] = field(default_factory=dict)
    refused: dict[int, Refusal] = field(default_factory=dict)
    repeated: set[int] = field(default_factory=set)
    applied: int = 0

    @classmethod
    def read(
        cls, origin: RequestOrigin, raws: Sequence[Any], *, max_age: timedelta | None
    ) -> "TelemetryIntake":
        """Check each event by itself: a bad one costs itself alone."""
        intake = cls(origin)
        for index, raw in enumerate(raws):
            try:
                event = read_event(raw, now=origin.received_at, max_age=max_age)
            except InvalidInput as error:
                intake.refused[index] = _invalid(index, raw, error.problems)
            else:
                intake.waiting[index] = event
        return intake

    def copy(self) -> "TelemetryIntake":
        """An independent one, for another attempt at the transaction."""
        return TelemetryIntake(
            self.origin, dict(self.waiting), dict(self.refused), set(self.repeated)
        )

    def receipt(self) -> Receipt:
        """The verdicts, once `record` has run."""
        refused = [self.refused[index] for index in sorted(self.refused)]
        return Receipt(applied=self.applied, repeated=len(self.repeated), refused=refused)

    async def record(self, tx: Transaction) -> dict[UUID, dict[str, Any]]:
        """
        Insert the events that count, and bring their sessions up to date.

        Returns:
            The sessions that got events, by id, as they now stand.
        """
        self._refuse_other_students()
        await self._settle_recorded(tx)
        enrolled = await self._enrol(tx)
        held = await self._hold_sessions(tx)
        applied = await self._insert(tx)
        await self._settle_recorded(tx)
        if self.waiting:  # an id was taken and is free again: only another attempt can tell
            raise StoreContended("recorded events vanished while they were being compared")
        grown = await self._update_sessions(tx, held, applied)
        strangers = enrolled - {event.student_id for event in applied}
        await directory.withdraw(tx, self.origin.school_id, strangers)
        return grown

    def _firsts(self) -> dict[UUID, int]:
        """Where the first waiting event of each id stands."""
        firsts: dict[UUID, int] = {}
        for index, event in self.waiting.items():
            firsts.setdefault(event.event_id, index)
        return firsts

    async def _insert(self, tx: Transaction) -> Sequence[TelemetryEvent]:
        """Insert the first event of each id; those that were new are no longer waiting."""
        firsts = self._firsts()
        rows = [self._event_row(self.waiting[index]) for index in firsts.values()]
        new = {event_id for _, event_id in await tx.insert_new(events, rows)}
        self.applied = len(new)
        return [self.waiting.pop(firsts[event_id]) for event_id in firsts if event_id in new]

    def _refuse(self, index: int, code: str, reason: str) -> None:
        event = self.waiting.pop(index)
        self.refused[index] = Refusal(
            index=index, event_id=str(event.event_id), code=code, reason=reason
        )

    def _refuse_other_students(self) -> None:
        only = self.origin.only_student
        for index, event in list(self.waiting.items()):
            if only is not None and event.student_id != only:
                self._refuse(index, "not_your_student", "this key writes for its own pupil alone")

    async def _settle_recorded(self, tx: Transaction) -> None:
        """Tell repeats and conflicts among events whose id is recorded already."""
        if not self.waiting:
            return
        ids = {event.event_id for event in self.waiting.values()}
        recorded = await store.contents(tx, self.origin.school_id, ids)
        for index, event in list(self.waiting.items()):
            content = recorded.get(event.event_id)
            if content == event.content:
                del self.waiting[index]
                self.repeated.add(index)
            elif content is not None:
                reason = "this event_id was recorded before with other content"
                self._refuse(index, "conflict", reason)

    async def _enrol(self, tx: Transaction) -> set[UUID]:
        """
        Refuse events of unknown pupils, or enrol these where the school wants that.

        Returns:
            The pupils that were not there before.
        """
        wanted = {event.student_id for event in self.waiting.values()}
        if not wanted:
            return set()
        school_id, now = self.origin.school_id, self.origin.received_at
        unknown = wanted - await directory.enrolled(tx, school_id, wanted)
        if not unknown:
            return set()
        new: set[UUID] = set()
        school = await directory.school(tx, school_id)
        if school and school["auto_enrol"]:
            lines = [RosterLine(student_id=id_) for id_ in unknown]
            new = await directory.enrol(tx, school_id, lines, now=now)
            unknown -= new
            if unknown:  # who was enrolled just now by another request may play, who left may not
                unknown -= await directory.enrolled(tx, school_id, unknown)
        for index, event in list(self.waiting.items()):
            if event.student_id in unknown:
                self._refuse(index, "unknown_student", "this pupil is not enrolled in the school")
        return new

    async def _hold_sessions(self, tx: Transaction) -> dict[UUID, dict[str, Any]]:
        """Create and lock the sessions; refuse events whose session is another pupil's."""
        rows: dict[UUID, dict[str, Any]] = {}
        firsts = [self.waiting[index] for index in self._firsts().values()]
        # Those that may count first: a new session is not opened by a repeat in the request.
        for event in (*firsts, *self.waiting.values()):
            if event.session_id not in rows:
                rows[event.session_id] = self._session_row(event)
        if not rows:
            return {}
        await tx.insert_new(sessions, list(rows.values()))
        locked = await store.lock_sessions(tx, self.origin.school_id, rows.keys())
        chosen: set[UUID] = set()
        for index, event in list(self.waiting.items()):
            if event.event_id in chosen:
                continue  # it counts already: this one is a repeat or a conflict
            if locked[event.session_id]["student_id"] == event.student_id:
                chosen.add(event.event_id)
            else:
                reason = "this session belongs to another pupil"
                self._refuse(index, "session_of_another_student", reason)
        return {id_: dict(row) for id_, row in locked.items()}

    async def _update_sessions(
        self,
        tx: Transaction,
        held: Mapping[UUID, dict[str, Any]],
        applied: Iterable[TelemetryEvent],
    ) -> dict[UUID, dict[str, Any]]:
        grown: dict[UUID, dict[str, Any]] = {}
        for event in applied:
            session = grown.setdefault(event.session_id, held[event.session_id])
            at = event.timestamp
            if not session["event_count"]:  # its times are of an event that may not have counted
                session.update(started_at=at, last_event_at=at)
            session["event_count"] += 1
            session["started_at"] = min(session["started_at"], at)
            session["last_event_at"] = max(session["last_event_at"], at)
        moving = ("id", "event_count", "started_at", "last_event_at")
        changes = [{name: grown[id_][name] for name in moving} for id_ in sorted(grown)]
        await store.save_sessions(tx, self.origin.school_id, changes)
        empty = [id_ for id_ in held if id_ not in grown and not held[id_]["event_count"]]
        if empty:  # none of their events counted
            await store.drop_sessions(tx, self.origin.school_id, empty)
        return grown

    def _session_row(self, event: TelemetryEvent) -> dict[str, Any]:
        return {
            "school_id": self.origin.school_id,
            "id": event.session_id,
            "student_id": event.student_id,
            "mission_id": event.mission_id,
            "game_version": event.game_version,
            "started_at": event.timestamp,
            "last_event_at": event.timestamp,
            "event_count": 0,
            "closed_at": None,
            "closed_by": None,
            "revision": 0,
        }

    def _event_row(self, event: TelemetryEvent) -> dict[str, Any]:
        return {
            "school_id": self.origin.school_id,
            "event_id": event.event_id,
            "session_id": event.session_id,
            "student_id": event.student_id,
            "event_type": event.event_type,
            "occurred_at": event.timestamp,
            "received_at": self.origin.received_at,
            "batch_id": self.origin.batch_id,
            "mission_id": event.mission_id,
            "game_version": event.game_version,
            "client_version": self.origin.client_version,
            "data": event.data,
            "fingerprint": event.content,
        }


def _invalid(index: int, raw: Any, problems: Sequence[FieldProblem]) -> Refusal:
    return Refusal(
        index=index,
        event_id=_id_in(raw),
        code=problems[0].code,
        reason=list_problems(problems),
        problems=problems,
    )


def _id_in(raw: Any) -> str | None:
    """The event's id; nothing else that stands there is repeated to anyone."""
    try:
        return str(msgspec.convert(raw["event_id"], UUID))
    except (TypeError, KeyError, ValueError):
        return None
