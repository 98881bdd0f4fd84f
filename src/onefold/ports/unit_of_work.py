"""One transaction for a domain's rows, the inbox, the outbox and the deadlines."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from sqlalchemy import CursorResult, Executable, Table

from onefold.core.envelope import Event
from onefold.errors import ConstraintViolated, FieldProblem, InvalidInput, StoreContended
from onefold.ports.deadlines import Deadline
from onefold.ports.features import Features

T = TypeVar("T")
_LONGEST_ID = 255

KEEP: Final = timedelta(days=14)  # twice Kafka's default retention (`log.retention.hours` 168)


class InboxClaim(NamedTuple):
    """One event that a consumer is about to apply."""

    event_id: str  # the event's identity
    fingerprint: bytes  # SHA-256 of its content
    keep: timedelta = KEEP  # how long the record must stay, from the claim


class Claimed(Enum):
    """What an inbox says of a claim."""

    FIRST = auto()  # this transaction applies it
    REPEATED = auto()  # it was applied before
    CONFLICT = auto()  # the id was applied before with other content


class Transaction(Protocol):
    """
    What can be done before the commit; all of it happens, or none.

    Ended by leaving `UnitOfWork.begin`; a transaction used after that raises
    `IllegalTransition`. Not to be shared by concurrent tasks.

    A call that the store failed, or that was cancelled, leaves the transaction fit for
    rollback only: every further call raises `IllegalTransition`, and so does leaving the
    block as if nothing had happened. A call that was refused for its arguments changed
    nothing, and the transaction goes on.
    """

    @property
    def features(self) -> Features:
        """What the adapter behind this transaction can do."""
        ...

    async def execute(
        self, statement: Executable, parameters: Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[Any]:
        """
        Run the domain's own SQLAlchemy Core statement. One round trip.

        Args:
            statement: A Core statement; plain `insert`, `select`, `update`, `delete`.
            parameters: Rows for one `executemany`; such a statement returns no rows.

        Returns:
            Its result; of a plain insert `rowcount` alone, see `ports.inserts`.

        Raises:
            ConstraintViolated, StoreContended, StoreUnavailable, StoreFailed: the
                transaction will be rolled back; nothing is recorded.
            Unsupported: the adapter has no SQL (`Features.sql`).
        """
        ...

    async def insert_new(
        self, table: Table, rows: Sequence[Mapping[str, Any]]
    ) -> set[tuple[Any, ...]]:
        """
        Insert those rows whose primary key is not there yet, and tell which they were.

        The insert itself decides: of two transactions with the same key the second waits
        for the first to end, and the row is not new for it, whatever else is unique in the
        table. `ConstraintViolated` is told of a row whose own key is not there, and whose
        other unique values are another row's. An adapter that cannot tell the two apart
        raises `StoreContended`: begun again, it is answered by what was recorded.

        Rows are written in the order of their key, so that two overlapping calls cannot
        deadlock. One round trip on PostgreSQL, and one more when some were not new and the
        table has a unique constraint without its key; on SQLite one statement per some
        thousand bound values.

        Args:
            table: Where to insert; its primary key decides what is new.
            rows: Each a full mapping of column name to value, the same columns in every
                row, no key twice. None is NULL, in JSON columns too. An empty sequence
                does nothing.

        Returns:
            The primary keys, as tuples in the table's key order, of the rows inserted.

        Raises:
            As `execute`.
        """
        ...

    async def claim(self, consumer: str, event_id: str, *, now: datetime) -> bool:
        """
        Record that *consumer* applies *event_id*, at most once. One round trip.

        Belongs to this transaction: rolling back forgets the claim. When another open
        transaction holds the same claim, waits for it to end.

        Args:
            consumer: Stable name, 1-64 characters; part of the key.
            event_id: The envelope's id. Not the broker's offset, which changes on replay.
            now: Aware instant, kept beside the claim for housekeeping.

        Returns:
            True the first time, False ever after.

        Raises:
            InvalidInput: a name is empty or too long; nothing was claimed.
            Others: as `execute`.
        """
        ...

    async def claim_many(
        self, consumer: str, claims: Sequence[InboxClaim], *, now: datetime
    ) -> Sequence[Claimed]:
        """
        As `claim`, for a whole poll: one round trip, one more when any is not the first.

        Ids are taken in their order, so that two overlapping calls cannot deadlock. Of an id
        that comes twice in *claims* the first is FIRST, the others are compared with it.

        Raises:
            As `execute`.
        """
        ...

    async def publish(self, *events: Event, now: datetime) -> None:
        """
        Write *events* to the outbox: they leave with this transaction or not at all.

        Publishing an event of the same identity again changes nothing. One round trip for all.

        Raises:
            As `execute`.
        """
        ...

    async def schedule(
        self, kind: str, key: str, *, due_at: datetime, payload: Mapping[str, Any]
    ) -> None:
        """
        Arm the deadline (*kind*, *key*); arming it again moves it. One round trip.

        Args:
            kind: What is due, 1-64 characters; says who will act on it.
            key: For what it is due, 1-200 characters; unique within its kind.
            due_at: Aware instant, not before which it is due.
            payload: JSON object handed to whoever acts, as JSON gives it back (a tuple
                becomes a list). No text with U+0000, which PostgreSQL cannot store.

        Raises:
            InvalidInput: a name is empty or too long, the instant is naive; nothing was armed.
            Others: as `execute`.
        """
        ...

    async def schedule_many(self, many: Sequence[Deadline]) -> None:
        """
        As `schedule` for each, the last of a key counting. One round trip on PostgreSQL.

        Keys are taken in their order, so that two overlapping calls cannot deadlock.

        Raises:
            InvalidInput: as `schedule`, of any of them; nothing was armed.
            Others: as `execute`.
        """
        ...


class UnitOfWork(Protocol):
    """
    Opens transactions. Safe to share by any number of tasks of one event loop.

    A task has at most one transaction open: a second could wait for the first for ever.
    Asking for one, to read or to write, raises `IllegalTransition` and leaves the first alone.
    """

    @property
    def features(self) -> Features:
        """What this adapter can do."""
        ...

    def begin(self) -> AbstractAsyncContextManager[Transaction]:
        """
        Open a writing transaction: committed on leaving, rolled back on any exception.

        Cancellation before the commit rolls back. Cancellation during the commit leaves
        what a lost reply leaves: it may have been recorded.

        Raises:
            StoreUnavailable: on entering: nothing was begun.
            StoreContended: another writer did not let go in time; nothing was recorded.
            CommitUnknown: on leaving: the commit was sent and its answer lost. It may
                have been recorded; read back by id before repeating anything.
            IllegalTransition: this task has a transaction open, `aclose` was called, or
                an error of a call was swallowed in the block; nothing was recorded.
        """
        ...

    def read(self) -> AbstractAsyncContextManager[Transaction]:
        """
        Open a transaction that sees one consistent state and refuses to write.

        Raises:
            As `begin` on entering; a write raises `IllegalTransition` and changes nothing.
        """
        ...

    async def aclose(self) -> None:
        """
        Let go of every connection. Safe twice.

        Open transactions are rolled back: their next call or their commit raises
        `StoreUnavailable`. None can be begun any more.
        """
        ...


async def in_transaction(
    uow: UnitOfWork, work: Callable[[Transaction], Awaitable[T]], *, attempts: int = 5
) -> T:
    """
    Run *work* in one transaction, again from its start when the store chose another.

    Only `StoreContended` is retried (deadlock, serialisation failure, lock timeout: the
    database says that nothing was recorded). *work* must have no effect outside its
    transaction.

    Args:
        uow: Where to begin.
        work: Called with a fresh transaction at each attempt.
        attempts: How often at the most; the last failure is raised.
    """
    for _ in range(attempts - 1):
        try:
            async with uow.begin() as tx:
                return await work(tx)
        except StoreContended:
            continue
    async with uow.begin() as tx:
        return await work(tx)


async def look_and_write(uow: UnitOfWork, work: Callable[[Transaction], Awaitable[T]]) -> T:
    """
    As `in_transaction`, for *work* that looks whether a value is free before it writes it.

    Another transaction may take the value between the look and the write. The violation that
    follows is no answer yet: *work* is begun again once, sees what was recorded, and answers
    as if the two had come one after the other.

    Raises:
        ConstraintViolated: at the second time too; nothing was recorded.
        Others: as `in_transaction`.
    """
    try:
        return await in_transaction(uow, work)
    except ConstraintViolated:
        return await in_transaction(uow, work)


def check_claim(consumer: str, event_id: str, *, now: datetime) -> None:
    """Raise `InvalidInput` unless every adapter can keep such a claim."""
    _refuse(
        _name("consumer", consumer, 64),
        _name("event_id", event_id, _LONGEST_ID),
        _aware("now", now),
    )


def check_claims(consumer: str, event_ids: Collection[str], *, now: datetime) -> None:
    """As `check_claim`, for many at once."""
    shortest = min(map(len, event_ids), default=1)
    longest = max(map(len, event_ids), default=1)
    if not (shortest and longest <= _LONGEST_ID) or "\0" in "".join(event_ids):
        for event_id in event_ids:
            check_claim(consumer, event_id, now=now)
    check_claim(consumer, next(iter(event_ids), "none"), now=now)


def check_deadline(kind: str, key: str, *, due_at: datetime) -> None:
    """Raise `InvalidInput` unless every adapter can keep such a deadline."""
    _refuse(_name("kind", kind, 64), _name("key", key, 200), _aware("due_at", due_at))


def check_deadlines(deadlines: Sequence[Deadline]) -> Sequence[Deadline]:
    """The last of each key, in the order of the keys; `InvalidInput` as `check_deadline`."""
    for one in deadlines:
        check_deadline(one.kind, one.key, due_at=one.due_at)
    last = {(one.kind, one.key): one for one in deadlines}
    return [last[key] for key in sorted(last)]


def _refuse(*problems: FieldProblem | None) -> None:
    found = [problem for problem in problems if problem]
    if found:
        raise InvalidInput(found)


def _name(field: str, value: str, longest: int) -> FieldProblem | None:
    if 0 < len(value) <= longest and "\0" not in value:
        return None
    return FieldProblem(field, "name", f"expected 1 to {longest} characters, none of them U+0000")


def _aware(field: str, value: datetime) -> FieldProblem | None:
    if value.tzinfo is not None:
        return None
    return FieldProblem(field, "instant", "expected an instant with its time zone")


def judge_claims(
    claims: Sequence[InboxClaim], new: Collection[str], content: Mapping[str, bytes]
) -> list[Claimed]:
    """
    The verdict on each claim: what every adapter's `claim_many` answers.

    Args:
        claims: What was claimed.
        new: The ids that this transaction was the first to claim.
        content: The fingerprint recorded for each id; an empty one matches any.
    """
    unseen = set(new)
    verdicts = []
    for claim in claims:
        recorded = content[claim.event_id]
        if claim.event_id in unseen:
            unseen.discard(claim.event_id)
            verdicts.append(Claimed.FIRST)
        elif recorded and claim.fingerprint and recorded != claim.fingerprint:
            verdicts.append(Claimed.CONFLICT)
        else:
            verdicts.append(Claimed.REPEATED)
    return verdicts
