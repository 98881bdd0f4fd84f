"""The use cases of telemetry: one call, one transaction."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from onefold.core.clock import Clock
from onefold.core.cursor import decode_cursor, encode_cursor
from onefold.errors import FieldProblem, Forbidden, InvalidInput, NotFound
from onefold.ports.tables import Row
from onefold.ports.unit_of_work import Transaction, UnitOfWork, in_transaction
from onefold_server.domains.directory import store as directory
from onefold_server.domains.directory.rules import Principal, Scope
from onefold_server.domains.page import Page
from onefold_server.domains.telemetry import store
from onefold_server.domains.telemetry.events import features_computed
from onefold_server.domains.telemetry.intake import Receipt, RequestOrigin, TelemetryIntake
from onefold_server.domains.telemetry.rules import (
    FEATURES_VERSION,
    MAX_BATCH,
    Profile,
    features,
)
from onefold_server.domains.telemetry.tables import features as features_table

MAX_PAGE: Final = 1000  # rows


@dataclass(frozen=True, kw_only=True)
class Policy:
    """
    The settable rules.

    Attributes:
        max_age: How old an event may be when it arrives; None for any age.
        idle_gap: How long after its last event an open session is over.
        profile: Which definitions of the features hold.
    """

    max_age: timedelta | None = timedelta(days=30)
    idle_gap: timedelta = timedelta(minutes=30)
    profile: Profile = Profile.STANDARD


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """
    A session's events over time.

    Attributes:
        start: Of its first event.
        step: How long each step of time is.
        counts: Type of event to number of step (0, 1, …) to how many; empty steps left out.
            Types in the order of their first event.
    """

    start: datetime
    step: timedelta
    counts: Mapping[str, Mapping[int, int]]


class TelemetryService:
    """
    Events in, sessions kept, features out.

    Every call names its caller or school, and nothing of another school exists for it.
    """

    def __init__(self, uow: UnitOfWork, *, clock: Clock, policy: Policy) -> None:
        self._uow, self._clock, self._policy = uow, clock, policy

    async def ingest(
        self,
        caller: Principal,
        raws: Sequence[Any],
        *,
        batch_id: UUID | None = None,
        client_version: str | None = None,
    ) -> Receipt:
        """
        Record each event once; good ones count although others are refused.

        When this returns, what it reports is committed. Any number of calls may run at
        once with the same events: each id counts once among them all. Features of closed
        sessions that get events are computed anew, as a new revision, in the same
        transaction. The number of statements is the same for 1 and for 1000 events: 7 for
        known pupils, 10 for new ones, 11 for late events, and a few more where a request
        is mixed or loses a race.

        Args:
            caller: Needs `telemetry:write`; a pupil's own key writes for that pupil alone.
            raws: 1 to 1000 decoded JSON values.
            batch_id: Names the request in `batch_status`; sent again, it is added to.
            client_version: Of the game's uploader, at most 20 characters.

        Raises:
            Forbidden: the scope is missing.
            InvalidInput: no events, or too many. Nothing was recorded.
            StoreUnavailable, StoreContended: nothing was recorded.
            CommitUnknown: may have been recorded. Sending the same again is always safe.
        """
        caller.require(Scope.TELEMETRY_WRITE)
        if not 1 <= len(raws) <= MAX_BATCH:
            reason = f"expected 1 to {MAX_BATCH} events, got {len(raws)}"
            raise InvalidInput([FieldProblem("events", "length", reason)])
        origin = RequestOrigin(
            school_id=caller.school_id,
            received_at=self._clock.now(),
            batch_id=batch_id,
            client_version=client_version,
            only_student=caller.student_id,
        )
        read = TelemetryIntake.read(origin, raws, max_age=self._policy.max_age)

        async def work(tx: Transaction) -> Receipt:
            intake = read.copy()
            grown = await intake.record(tx)
            closed = {id_: row for id_, row in grown.items() if row["closed_at"]}
            await self._compute(tx, caller.school_id, closed)
            receipt = intake.receipt()
            if receipt.refused:
                codes = Counter(refusal.code for refusal in receipt.refused)
                await store.count_refused(tx, caller.school_id, codes, now=origin.received_at)
            if batch_id is not None:
                await store.add_to_batch(tx, _batch_row(origin, batch_id, receipt))
            return receipt

        return await in_transaction(self._uow, work)

    async def close_session(self, caller: Principal, session_id: UUID) -> Row:
        """
        Close a session and compute its features; closing it again changes nothing.

        Returns:
            The session as `session` gives it.

        Raises:
            Forbidden: the scope is missing.
            NotFound: no such session for this caller.
        """
        caller.require(Scope.TELEMETRY_WRITE)

        async def work(tx: Transaction) -> Row:
            held = await store.lock_sessions(tx, caller.school_id, [session_id])
            if session_id not in held or not caller.may_see(held[session_id]["student_id"]):
                raise NotFound("session", str(session_id))
            await self._close(tx, list(held.values()), by="request")
            return await _session(tx, caller, session_id)

        return await in_transaction(self._uow, work)

    async def close_idle_sessions(self, *, limit: int = 100) -> int:
        """
        Close open sessions whose last event is `idle_gap` ago, of every school.

        Any number of workers may call this at once; each session is closed by one.

        Returns:
            How many were closed, at most *limit*; as many as that means there may be more.
        """

        async def work(tx: Transaction) -> int:
            quiet_since = self._clock.now() - self._policy.idle_gap
            idle = await store.lock_idle_sessions(tx, quiet_since=quiet_since, limit=limit)
            await self._close(tx, idle, by="idle")
            return len(idle)

        return await in_transaction(self._uow, work)

    async def batch_status(self, caller: Principal, batch_id: UUID) -> Row:
        """
        What became of a batch, over all the times it was sent.

        Raises:
            Forbidden: the scope is missing.
            NotFound: no such batch was ever received from this school, or a pupil's own
                key asks for one that it did not send.
        """
        caller.require(Scope.TELEMETRY_READ)
        async with self._uow.read() as tx:
            found = await store.batch(tx, caller.school_id, batch_id)
        theirs = found is not None and caller.student_id not in {None, found["student_id"]}
        if found is None or theirs:
            raise NotFound("batch", str(batch_id))
        return found

    async def session(self, caller: Principal, session_id: UUID) -> Row:
        """
        One session with the newest revision of its features, if it is closed.

        Raises:
            Forbidden: the scope is missing.
            NotFound: no such session for this caller.
        """
        caller.require(Scope.TELEMETRY_READ)
        async with self._uow.read() as tx:
            return await _session(tx, caller, session_id)

    async def session_events(
        self, caller: Principal, session_id: UUID, *, cursor: str | None = None, limit: int = 100
    ) -> Page[Row]:
        """A page of a session's events in the order of their time. Raises as `session`."""
        caller.require(Scope.TELEMETRY_READ)
        after = decode_cursor(cursor, store.EventPosition) if cursor else None
        async with self._uow.read() as tx:
            await _session(tx, caller, session_id)
            rows = await store.events_page(
                tx, caller.school_id, session_id, after=after, limit=_page_size(limit) + 1
            )
        return _page(rows, limit, key=("occurred_at", "event_id"))

    async def revisions(self, caller: Principal, session_id: UUID) -> Sequence[Row]:
        """Every revision of a session's features, the newest first. Raises as `session`."""
        caller.require(Scope.TELEMETRY_READ)
        async with self._uow.read() as tx:
            await _session(tx, caller, session_id)
            return await store.revisions(tx, caller.school_id, session_id)

    async def sessions(
        self,
        caller: Principal,
        *,
        student_id: UUID | None = None,
        closed_only: bool = False,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[Row]:
        """
        A page of sessions with their features, the newest first.

        Args:
            caller: Needs `telemetry:read`; a pupil's own key sees that pupil's alone.
            student_id: Whose; None for all that the caller may see.
            closed_only: Leave out sessions that have no features yet.
            cursor: `next_cursor` of the page before.
            limit: 1 to 1000 rows.

        Raises:
            Forbidden: the scope is missing.
            NotFound: sessions of this pupil do not exist for this caller.
            InvalidInput: the cursor is not one of this list, or the limit out of bounds.
        """
        caller.require(Scope.TELEMETRY_READ)
        if student_id is not None and not caller.may_see(student_id):
            raise NotFound("student", str(student_id))
        after = decode_cursor(cursor, store.EventPosition) if cursor else None
        async with self._uow.read() as tx:
            if student_id and not await directory.is_known(tx, caller.school_id, student_id):
                raise NotFound("student", str(student_id))
            rows = await store.sessions_page(
                tx,
                caller.school_id,
                student_id=student_id or caller.student_id,
                closed_only=closed_only,
                after=after,
                limit=_page_size(limit) + 1,
            )
        return _page(rows, limit, key=("started_at", "id"))

    async def timeline(self, caller: Principal, session_id: UUID, *, steps: int = 240) -> Timeline:
        """
        When a session's events of each type happened, summed up in equal steps of time.

        The database does the summing: the answer is small however long the session is.

        Args:
            caller: Needs `telemetry:read`.
            session_id: Whose events.
            steps: How many steps lie between the first and the last event, at the most.

        Raises:
            As `session`.
        """
        caller.require(Scope.TELEMETRY_READ)
        async with self._uow.read() as tx:
            found = await _session(tx, caller, session_id)
            span = found["last_event_at"] - found["started_at"]
            step = span // steps + timedelta(microseconds=1)  # the last event is inside, too
            rows = await store.timeline(
                tx, caller.school_id, session_id, start=found["started_at"], step=step
            )
        counts: dict[str, dict[int, int]] = defaultdict(dict)
        for row in rows:
            counts[row["event_type"]][row["step"]] = row["n"]
        return Timeline(start=found["started_at"], step=step, counts=dict(counts))

    async def refusals(self, caller: Principal) -> Sequence[Row]:
        """How many events of the caller's school were ever refused, by code."""
        caller.require(Scope.TELEMETRY_READ)
        if caller.student_id is not None:
            raise Forbidden("telemetry:read of the whole school")
        async with self._uow.read() as tx:
            return await store.refused(tx, caller.school_id)

    async def totals(self, caller: Principal) -> Row:
        """How many sessions, open ones, pupils and events the caller may see."""
        caller.require(Scope.TELEMETRY_READ)
        async with self._uow.read() as tx:
            return await store.totals(tx, caller.school_id, student_id=caller.student_id)

    async def _close(self, tx: Transaction, held: Sequence[Row], *, by: str) -> None:
        """Close those of the *held* sessions that are open, and compute their features."""
        now = self._clock.now()
        for school_id in sorted({row["school_id"] for row in held}):
            opened = {
                row["id"]: dict(row) | {"closed_at": now, "closed_by": by}
                for row in held
                if row["school_id"] == school_id and row["closed_at"] is None
            }
            await self._compute(tx, school_id, opened)

    async def _compute(
        self, tx: Transaction, school_id: UUID, held: Mapping[UUID, dict[str, Any]]
    ) -> None:
        """A new revision of the features of the closed sessions *held*, and its event."""
        if not held:
            return
        now, profile = self._clock.now(), self._policy.profile
        summaries = await store.summaries(tx, school_id, held)
        rows = []
        for id_ in sorted(held):
            held[id_]["revision"] += 1
            computed = features(summaries[id_], profile)
            rows.append(
                {
                    "school_id": school_id,
                    "session_id": id_,
                    "revision": held[id_]["revision"],
                    "computed_at": now,
                    "version": FEATURES_VERSION,
                    "profile": profile.value,
                    "event_count": summaries[id_].event_count,
                    "metrics": computed.metrics,
                    "undefined": computed.undefined,
                    "event_types": dict(sorted(summaries[id_].counts.items())),
                }
            )
        await tx.insert_new(features_table, rows)
        columns = ("id", "closed_at", "closed_by", "revision")
        changes = [{name: held[id_][name] for name in columns} for id_ in sorted(held)]
        await store.save_sessions(tx, school_id, changes)
        facts = [features_computed(row, held[row["session_id"]], at=now) for row in rows]
        await tx.publish(*facts, now=now)


async def _session(tx: Transaction, caller: Principal, session_id: UUID) -> Row:
    found = await store.session(tx, caller.school_id, session_id)
    if found is None or not caller.may_see(found["student_id"]):
        raise NotFound("session", str(session_id))
    return found


def _batch_row(origin: RequestOrigin, batch_id: UUID, receipt: Receipt) -> dict[str, Any]:
    return {
        "school_id": origin.school_id,
        "id": batch_id,
        "student_id": origin.only_student,
        "client_version": origin.client_version,
        "received_at": origin.received_at,
        "last_received_at": origin.received_at,
        "posts": 1,
        "applied": receipt.applied,
        "repeated": receipt.repeated,
        "refused": [
            {"index": r.index, "event_id": r.event_id, "code": r.code, "reason": r.reason}
            for r in receipt.refused
        ],
    }


def _page_size(limit: int) -> int:
    if not 1 <= limit <= MAX_PAGE:
        reason = f"expected 1 to {MAX_PAGE}"
        raise InvalidInput([FieldProblem("limit", "bounds", reason)])
    return limit


def _page(rows: Sequence[Row], limit: int, *, key: tuple[str, str]) -> Page[Row]:
    """The page of *rows*, of which one more than *limit* was asked for."""
    shown = rows[:limit]
    more = len(rows) > limit
    cursor = encode_cursor(tuple(shown[-1][name] for name in key)) if more else None
    return Page(rows=shown, next_cursor=cursor)
