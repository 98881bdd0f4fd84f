"""
The use cases of learning sessions.

Every write is an `Order`; `apply` carries out any number of them in one transaction, each
judged by itself. Alone or together an order has the same effect: the server puts concurrent
ones together (`engine.together`), so that a commit is shared by all who wait for one.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from onefold.core.clock import Clock
from onefold.core.envelope import Event
from onefold.core.identity import fingerprint
from onefold.core.ids import Random, new_event_id
from onefold.errors import Conflict, NotFound, OnefoldError
from onefold.ports.unit_of_work import Transaction, UnitOfWork, in_transaction
from onefold_server.domains.directory.rules import Principal, Scope
from onefold_server.domains.learning.calendar import local_day
from onefold_server.domains.learning.days import store as days
from onefold_server.domains.learning.days.rules import DayShare, negated, session_counts
from onefold_server.domains.learning.paging import PagePosition, page, read_place
from onefold_server.domains.learning.people import learners, require_visible
from onefold_server.domains.learning.sessions import events, rules, store
from onefold_server.domains.learning.sessions.rules import (
    Change,
    End,
    Session,
    SessionState,
    SessionTypes,
    Start,
)
from onefold_server.domains.learning.sessions.tables import changes as changes_table
from onefold_server.domains.learning.values import check_language
from onefold_server.domains.page import Page


@dataclass(frozen=True, kw_only=True)
class Order:
    """One write that is asked for: who, which session, what."""

    caller: Principal
    session_id: UUID
    what: Start | Change | End

    @property
    def key(self) -> store.Key:
        return self.caller.school_id, self.session_id


Outcome = Session | OnefoldError
Apply = Callable[[Sequence[Order]], Awaitable[Sequence[Outcome]]]
Submit = Callable[[Order], Awaitable[Session]]
GroupCommit = Callable[[Apply], Submit]


def alone(apply: Apply) -> Submit:
    """Carry out each order in a transaction of its own."""

    async def submit(order: Order) -> Session:
        (outcome,) = await apply([order])
        if isinstance(outcome, OnefoldError):
            raise outcome
        return outcome

    return submit


class SessionService:
    """
    Start, change, end and read learning sessions.

    Nothing is held in memory: any number of servers over one database behave as one.
    Within a caller's school only; a pupil's own key reaches that pupil's sessions alone.

    Args:
        uow: Where they are kept.
        clock: What time it is.
        random: For ids of sessions that come without one.
        types: Which types of session there are.
        together: How concurrent writes are carried out; each alone by default.
        abandoned_after: How long an open session may go without a change.
    """

    def __init__(
        self,
        uow: UnitOfWork,
        *,
        clock: Clock,
        random: Random,
        types: SessionTypes,
        together: GroupCommit = alone,
        abandoned_after: timedelta = timedelta(hours=6),
    ) -> None:
        self._uow, self._clock, self._random, self.types = uow, clock, random, types
        self._abandoned_after = abandoned_after
        self._submit = together(self.apply)

    async def start(
        self,
        caller: Principal,
        student_id: UUID,
        session_type: str,
        language: str,
        *,
        source_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        session_id: UUID | None = None,
    ) -> Session:
        """
        Begin a session; with a `session_id`, again is the same as once.

        Args:
            caller: Needs `learning:write`.
            student_id: Who learns.
            session_type: One of `types`.
            language: What is learnt, as a tag such as `es`.
            source_id: Of the scenario or content, at most 100 characters.
            metadata: A JSON object of at most 16 KiB.
            session_id: The caller's own id, by which a retry is recognised.

        Raises:
            InvalidInput: naming the wrong field. Nothing was recorded.
            NotFound: the learner is not enrolled in the caller's school.
            Conflict: the id belongs to a session that was started otherwise.
        """
        what = rules.check_start(
            Start(
                student_id=student_id,
                session_type=session_type,
                language=language,
                source_id=source_id,
                metadata={} if metadata is None else metadata,
            ),
            self.types,
        )
        id_ = session_id or new_event_id(self._clock.now(), self._random)
        return await self._order(caller, id_, what)

    async def change(self, caller: Principal, session_id: UUID, given: Change) -> Session:
        """
        Move counters and merge metadata; a change of the same id counts once.

        Returns:
            The session as it now stands; for a repeat too.

        Raises:
            InvalidInput: a field is wrong, or a counter would leave its bounds.
            NotFound: no such session for this caller.
            Outdated: `expected_version` is not the session's: read it and try again.
            IllegalTransition: it has ended and this is no correction, or the reverse.
            Conflict: the change's id was used for another change of this session.
        """
        return await self._order(caller, session_id, rules.check_change(given))

    async def complete(self, caller: Principal, session_id: UUID) -> Session:
        """
        End a session now; completing it again answers the first result.

        Raises:
            NotFound: no such session for this caller.
            IllegalTransition: it was abandoned.
        """
        return await self._order(caller, session_id, End(to=SessionState.COMPLETED))

    async def abandon(self, caller: Principal, session_id: UUID) -> Session:
        """End a session as given up, at its last change. Raises as `complete`."""
        return await self._order(caller, session_id, End(to=SessionState.ABANDONED))

    async def get(self, caller: Principal, session_id: UUID) -> Session:
        """
        One session.

        Raises:
            NotFound: no such session for this caller.
        """
        caller.require(Scope.LEARNING_READ)
        async with self._uow.read() as tx:
            found = await store.get(tx, caller.school_id, session_id)
        if found is None or not caller.may_see(found.student_id):
            raise NotFound("session", str(session_id))
        return found

    async def sessions(
        self,
        caller: Principal,
        *,
        student_id: UUID | None = None,
        session_type: str | None = None,
        language: str | None = None,
        is_open: bool | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[Session]:
        """
        A page of sessions, the newest first; each argument that is not None narrows it.

        Raises:
            NotFound: sessions of this learner do not exist for this caller.
            InvalidInput: an unknown type, a wrong language, cursor or limit.
        """
        caller.require(Scope.LEARNING_READ)
        if student_id is not None:
            require_visible(caller, student_id)
        if session_type is not None:
            self.types.check(session_type)
        if language is not None:
            check_language(language)
        async with self._uow.read() as tx:
            rows = await store.page(
                tx,
                caller.school_id,
                student_id=student_id or caller.student_id,
                session_type=session_type,
                language=language,
                is_open=is_open,
                after=read_place(cursor),
                limit=limit,
            )
        return page(rows, [PagePosition(s.started_at, s.id) for s in rows], limit)

    async def abandon_idle(self, *, limit: int = 100) -> int:
        """
        End open sessions without a change for `abandoned_after`, of every school.

        Any number of workers may call this at once; each session is ended by one.

        Returns:
            How many, at most *limit*; as many as that means there may be more.
        """

        async def work(tx: Transaction) -> int:
            now = self._clock.now()
            since = now - self._abandoned_after
            idle = await store.lock_idle(tx, quiet_since=since, limit=limit)
            round_ = _Round(now)
            for session in idle:
                round_.held[session.school_id, session.id] = session, b""
                round_.end(session, SessionState.ABANDONED)
            await round_.write(tx)
            return len(idle)

        return await in_transaction(self._uow, work)

    async def _order(
        self, caller: Principal, session_id: UUID, what: Start | Change | End
    ) -> Session:
        caller.require(Scope.LEARNING_WRITE)
        return await self._submit(Order(caller=caller, session_id=session_id, what=what))

    async def apply(self, orders: Sequence[Order]) -> Sequence[Outcome]:
        """
        Carry out *orders* in their order, in one transaction of at most 12 statements.

        Returns:
            For each order the session after it, or why it was refused; a refused one
            leaves no trace and hinders no other.

        Raises:
            StoreUnavailable, StoreContended: none of them was recorded.
            CommitUnknown: all or none of them; sending them again is safe.
        """

        async def work(tx: Transaction) -> Sequence[Outcome]:
            round_ = _Round(self._clock.now())
            await round_.read(tx, orders)
            outcomes = [round_.carry_out(order) for order in orders]
            await round_.write(tx)
            return outcomes

        return await in_transaction(self._uow, work)


@dataclass
class _Round:
    """The orders of one transaction: what they need is read, they are judged, all is written."""

    now: datetime
    held: dict[store.Key, tuple[Session, bytes]] = field(default_factory=dict)
    begun: set[store.Key] = field(default_factory=set)
    # Starts for learners who are not enrolled, or not the caller's.
    strangers: set[tuple[store.Key, UUID]] = field(default_factory=set)
    counted: dict[tuple[UUID, UUID, UUID], bytes] = field(default_factory=dict)
    written: dict[store.Key, Session] = field(default_factory=dict)
    changes: list[dict[str, Any]] = field(default_factory=list)
    facts: list[Event] = field(default_factory=list)
    ends: list[tuple[Session, bool]] = field(default_factory=list)  # counts once, or back

    async def read(self, tx: Transaction, orders: Sequence[Order]) -> None:
        """Create the sessions that begin; lock all; see which changes have counted."""
        await self._begin(tx, [o for o in orders if isinstance(o.what, Start)])
        keys = {order.key for order in orders}
        self.held = await store.lock(tx, keys)
        ids = {order.what.id for order in orders if isinstance(order.what, Change)}
        if ids:
            self.counted = await store.recorded(tx, keys, ids)

    async def _begin(self, tx: Transaction, orders: Sequence[Order]) -> None:
        known: set[tuple[UUID, UUID]] = set()
        for school_id in sorted({order.caller.school_id for order in orders}):
            wanted = {
                o.what.student_id
                for o in orders
                if isinstance(o.what, Start) and o.caller.school_id == school_id
            }
            found = await learners(tx, school_id, wanted, now=self.now)
            known |= {(school_id, id_) for id_ in found}
        rows: dict[store.Key, dict[str, Any]] = {}
        for order in orders:
            assert isinstance(order.what, Start)  # noqa: S101 (chosen by its caller)
            whose = order.caller.school_id, order.what.student_id
            if whose not in known or not order.caller.may_see(order.what.student_id):
                self.strangers.add((order.key, order.what.student_id))
            elif order.key not in rows:
                session = rules.begin(*order.key, order.what, now=self.now)
                rows[order.key] = store.to_row(session, started_as=order.what.fingerprint())
        if rows:
            self.begun = await store.insert(tx, list(rows.values()))

    def carry_out(self, order: Order) -> Outcome:
        """The session after *order*, or why not."""
        try:
            if isinstance(order.what, Start):
                return self._started(order, order.what)
            session = self._visible(order)
            if isinstance(order.what, Change):
                return self._changed(session, order.what)
            return self.end(session, order.what.to)
        except OnefoldError as refusal:
            return refusal

    def _visible(self, order: Order) -> Session:
        held = self.held.get(order.key)
        if held is None or not order.caller.may_see(held[0].student_id):
            raise NotFound("session", str(order.session_id))
        return self.written.get(order.key, held[0])

    def _started(self, order: Order, what: Start) -> Session:
        if (order.key, what.student_id) in self.strangers:
            raise NotFound("student", str(what.student_id))
        session, started_as = self.held[order.key]
        if started_as != what.fingerprint():
            raise Conflict("session", str(session.id))
        if order.key in self.begun:
            self.begun.remove(order.key)
            self.facts.append(events.session_fact(events.STARTED, session, at=self.now))
        return self.written.get(order.key, session)

    def _changed(self, session: Session, what: Change) -> Session:
        key = session.school_id, session.id, what.id
        content = what.content()
        sealed = fingerprint(content)
        if key in self.counted:
            if self.counted[key] != sealed:
                raise Conflict("change", str(what.id))
            return session
        after = rules.change(session, what, now=self.now)
        self.counted[key] = sealed
        self.changes.append(
            {
                "school_id": key[0],
                "session_id": key[1],
                "change_id": key[2],
                "version": after.version,
                "at": self.now,
                "content": content,
                "fingerprint": sealed,
            }
        )
        if what.correction:
            self.ends += [(session, False), (after, True)]
        self._write(after, events.CORRECTED if what.correction else events.UPDATED)
        return after

    def end(self, session: Session, to: SessionState) -> Session:
        """*session* ended; one that had ended the same way is left as it is."""
        after = rules.end(session, to, now=self.now)
        if after is not session:
            self.ends.append((after, True))
            self._write(after, _ENDED[to])
        return after

    def _write(self, after: Session, fact: str) -> None:
        self.written[after.school_id, after.id] = after
        self.facts.append(events.session_fact(fact, after, at=self.now))

    async def write(self, tx: Transaction) -> None:
        """Write what the orders have done."""
        await store.save(tx, [self.written[key] for key in sorted(self.written)])
        if self.changes:
            await tx.insert_new(changes_table, self.changes)
        await count_ends(tx, self.ends, now=self.now)
        if self.facts:
            await tx.publish(*self.facts, now=self.now)


_ENDED: Final = {SessionState.COMPLETED: events.COMPLETED, SessionState.ABANDONED: events.ABANDONED}


async def count_ends(
    tx: Transaction, ends: Sequence[tuple[Session, bool]], *, now: datetime
) -> None:
    """Add ended sessions to their learners' days; those marked False are taken back."""
    zones = await days.hold_zones(tx, {(s.school_id, s.student_id) for s, _ in ends}, now=now)
    shares = []
    for session, counts in ends:
        share = share_of(session, zones[session.school_id, session.student_id])
        shares.append(share if counts else share._replace(counts=negated(share.counts)))
    await days.add(tx, shares)


def share_of(session: Session, zone: ZoneInfo) -> DayShare:
    """What an ended session adds to the day of its end, where its learner is."""
    day = local_day(session.ended_at or session.changed_at, zone)
    counts = session_counts(
        seconds=session.duration_s or 0,
        studied=session.items_studied,
        correct=session.items_correct,
        incorrect=session.items_incorrect,
    )
    return DayShare(session.school_id, session.student_id, day, counts)
