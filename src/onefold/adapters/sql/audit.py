"""
Looks whether a live database keeps the promises: one snapshot, read only, no lock.

What a check cannot see it leaves to the tests: that nothing was lost *before* the inbox, or
doubled outside of the database.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Select,
    String,
    and_,
    cast,
    column,
    exists,
    func,
    or_,
    select,
    table,
)

from onefold.adapters.sql.claim_tables import claims, unprotected
from onefold.adapters.sql.message_tables import headers_of, messages, partitions, shares
from onefold.adapters.sql.schema import (
    dead_letters,
    deadlines,
    inbox,
    outbox,
    relay_shards,
    spans,
)
from onefold.core.envelope import Event
from onefold.core.shard import shard_of
from onefold.core.wire import decode
from onefold.errors import FieldProblem, InvalidEvent, InvalidInput
from onefold.ports.audit import Check, Severity
from onefold.ports.transport import Partition
from onefold.ports.unit_of_work import Transaction, UnitOfWork

_SAMPLES: Final = 5
_LATE: Final = timedelta(hours=1)  # what should happen in seconds, and has not
_AHEAD: Final = timedelta(hours=1)  # how far clocks may be apart
_LONGEST_LEASE: Final = timedelta(days=1)

_EARLIER = outbox.alias("earlier")


@dataclass(frozen=True)
class _Look:
    """One snapshot, and what is asked of it."""

    tx: Transaction
    now: datetime
    markers: Mapping[str, str]
    depth: int
    settled: Mapping[str, Mapping[Partition, int]]

    async def rows(self, query: Select[Any]) -> list[Any]:
        return list(await self.tx.execute(query))

    async def finds(
        self,
        source: Any,
        where: Sequence[ColumnElement[bool]],
        shown: Sequence[ColumnElement[Any]],
    ) -> tuple[int, list[str]]:
        """How many rows of *source* are so, and some of them in words."""
        counted = select(func.count()).select_from(source).where(*where)
        found = int((await self.tx.execute(counted)).scalar_one())
        if not found:
            return 0, []
        some = select(*shown).select_from(source).where(*where).limit(_SAMPLES)
        return found, [_words(row) for row in await self.tx.execute(some)]


Found = tuple[int, list[str]]
Checker = Callable[[_Look], Awaitable[Found]]


class SqlAudit:
    """See `ports.audit.Audit`."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow

    async def run(
        self,
        *,
        now: datetime,
        markers: Mapping[str, str],
        depth: int,
        settled: Mapping[str, Mapping[Partition, int]] | None = None,
    ) -> Sequence[Check]:
        async with self._uow.read() as tx:
            look = _Look(tx, now, markers, depth, settled or {})
            return [
                await _checked(look, name, promise, weight, checker)
                for name, promise, weight, checker in _CHECKS
            ]


async def _checked(
    look: _Look, name: str, promise: str, weight: Severity, checker: Checker
) -> Check:
    if name.startswith("marker") and not look.markers:
        return Check(name=name, promise=promise, weight=weight, unknown="no marker was named")
    found, samples = await checker(look)
    return Check(name=name, promise=promise, weight=weight, found=found, samples=samples[:_SAMPLES])


# -- effects ------------------------------------------------------------------------------


async def _markers_missing(look: _Look) -> Found:
    found, samples = 0, list[str]()
    for consumer, place in look.markers.items():
        source, marker = _marker(place)
        has_effect = exists().where(_digits(marker) == _digits(inbox.c.event_id))
        where = [inbox.c.consumer == consumer, ~has_effect.select_from(source)]
        more, some = await look.finds(inbox, where, [inbox.c.consumer, inbox.c.event_id])
        found, samples = found + more, samples + some
    return found, samples


async def _markers_twice(look: _Look) -> Found:
    samples = []
    for place in look.markers.values():
        source, marker = _marker(place)
        times = func.count().label("times")
        twice = select(marker, times).select_from(source).where(marker.is_not(None))
        grouped = twice.group_by(marker).having(times > 1)
        samples += [f"{place} has {row[0]} {row[1]} times" for row in await look.rows(grouped)]
    return len(samples), samples


def _digits(id_: ColumnElement[Any]) -> ColumnElement[str]:
    """An id without hyphens, as SQLite keeps a column of UUIDs."""
    return func.replace(cast(id_, String), "-", "")


def _marker(place: str) -> tuple[Any, ColumnElement[Any]]:
    """The table and the column of `table.column`, or `schema.table.column`."""
    *path, name = place.split(".")
    if not path or not all(part.isidentifier() for part in (*path, name)):
        problem = FieldProblem("marker", "no_place", f"{place!r}: expected table.column")
        raise InvalidInput([problem])
    source = table(path[-1], column(name), schema=path[-2] if len(path) > 1 else None)
    return source, source.c[name]


# -- claims and leases --------------------------------------------------------------------


async def _leases_over(look: _Look) -> Found:
    over = [claims.c.state == "leased", claims.c.until <= look.now - _LATE]
    return await look.finds(claims, over, [claims.c.consumer, claims.c.event_id, claims.c.until])


async def _leases_far_ahead(look: _Look) -> Found:
    far = look.now + _LONGEST_LEASE
    held = [claims.c.state == "leased", claims.c.until > far]
    of_claims = await look.finds(claims, held, [claims.c.consumer, claims.c.event_id])
    relay = [relay_shards.c.leased_until > far]
    of_shards = await look.finds(relay_shards, relay, [relay_shards.c.shard, relay_shards.c.owner])
    mine = [shares.c.until > far]
    of_shares = await look.finds(shares, mine, [shares.c.group_name, shares.c.topic])
    return _together(of_claims, of_shards, of_shares)


async def _records_of_the_future(look: _Look) -> Found:
    wrong = or_(
        inbox.c.claimed_at > look.now + _AHEAD,
        inbox.c.forget_at <= inbox.c.claimed_at,
    )
    return await look.finds(inbox, [wrong], [inbox.c.consumer, inbox.c.event_id])


# -- the outbox ---------------------------------------------------------------------------


async def _outbox_contradictions(look: _Look) -> Found:
    wrong = or_(
        and_(outbox.c.sent_at.is_not(None), outbox.c.dead_at.is_not(None)),
        outbox.c.published_at > look.now + _AHEAD,
    )
    return await look.finds(outbox, [wrong], [outbox.c.position, outbox.c.event_type])


async def _overtaken(look: _Look) -> Found:
    waiting = and_(
        _EARLIER.c.shard == outbox.c.shard,
        _EARLIER.c.key == outbox.c.key,
        _EARLIER.c.position < outbox.c.position,
        _EARLIER.c.sent_at.is_(None),
    )
    over = [outbox.c.sent_at.is_not(None), exists().where(waiting)]
    return await look.finds(outbox, over, [outbox.c.position, outbox.c.event_type, outbox.c.key])


async def _bodies(look: _Look) -> Found:
    newest = select(outbox).order_by(outbox.c.position.desc()).limit(look.depth)
    wrong = [
        f"position {row.position}: {why}"
        for row in await look.rows(newest)
        if (why := _differs(row))
    ]
    return len(wrong), wrong


def _differs(row: Any) -> str:
    """How the row is not its body's; nothing when it is."""
    try:
        event = decode(row.body)
    except InvalidEvent as error:
        return f"its body is no event: {error}"
    says = {
        "event_id": event.identity,
        "event_type": event.type,
        "key": event.key,
        "shard": shard_of(event),
    }
    wrong = [name for name, value in says.items() if getattr(row, name) != value]
    return f"its body has another {', '.join(wrong)}" if wrong else ""


async def _not_sent(look: _Look) -> Found:
    late = [
        outbox.c.sent_at.is_(None),
        outbox.c.dead_at.is_(None),
        outbox.c.published_at <= look.now - _LATE,
    ]
    return await look.finds(outbox, late, [outbox.c.position, outbox.c.event_type])


async def _dead_events(look: _Look) -> Found:
    dead = [outbox.c.dead_at.is_not(None), outbox.c.sent_at.is_(None)]
    shown = [outbox.c.position, outbox.c.event_type, outbox.c.last_error]
    return await look.finds(outbox, dead, shown)


# -- offsets ------------------------------------------------------------------------------


async def _settled_beyond_the_log(look: _Look) -> Found:
    same = and_(shares.c.topic == partitions.c.topic, shares.c.number == partitions.c.number)
    beyond = [shares.c.settled_to > partitions.c.next_position]
    shown = [shares.c.group_name, shares.c.topic, shares.c.number, shares.c.settled_to]
    return await look.finds(shares.join(partitions, same), beyond, shown)


async def _settled_beyond_what_was_begun(look: _Look) -> Found:
    same = and_(
        shares.c.group_name == spans.c.consumer,
        shares.c.topic == spans.c.topic,
        shares.c.number == spans.c.partition,
    )
    beyond = [shares.c.settled_to > spans.c.last + 1]
    shown = [shares.c.group_name, shares.c.topic, shares.c.number, shares.c.settled_to]
    here = await look.finds(shares.join(spans, same), beyond, shown)
    elsewhere = await _beyond_elsewhere(look)
    return _together(here, (len(elsewhere), elsewhere))


async def _beyond_elsewhere(look: _Look) -> list[str]:
    mine = select(spans).where(spans.c.consumer.in_(look.settled))
    begun = {(r.consumer, r.topic, r.partition): r.last for r in await look.rows(mine)}
    return [
        f"{consumer} {place.topic} {place.number} {to}"
        for consumer, places in look.settled.items()
        for place, to in sorted(places.items())
        if to > begun.get((consumer, *place), to) + 1
    ]


async def _settled_without_a_trace(look: _Look) -> Found:
    """Of the newest messages settled by a consumer: neither a record nor a letter is there."""
    same = and_(shares.c.topic == messages.c.topic, shares.c.number == messages.c.number)
    named = exists().where(inbox.c.consumer == shares.c.group_name)
    # A record's time may be over where its message is still there: only young ones are asked.
    young = messages.c.sent_at > look.now - timedelta(days=1)
    settled = (
        select(shares.c.group_name, messages)
        .select_from(shares.join(messages, same))
        .where(messages.c.position < shares.c.settled_to, named, young)
        .order_by(messages.c.sent_at.desc())
        .limit(look.depth)
    )
    open_ = [(row, _event(row)) for row in await look.rows(settled)]
    known = await _records(look, {(row.group_name, e.identity) for row, e in open_ if e})
    parked = await _parked(look)
    lost = [
        f"{row.group_name} {row.topic}/{row.number} {row.position}"
        for row, event in open_
        if (row.group_name, row.topic, row.number, row.position) not in parked
        and (event is None or (row.group_name, event.identity) not in known)
    ]
    return len(lost), lost


def _event(row: Any) -> Event | None:
    try:
        return decode(row.value or b"", headers_of(row.headers), received_at=row.sent_at)
    except InvalidEvent:
        return None


async def _records(look: _Look, wanted: set[tuple[str, str]]) -> set[tuple[str, str]]:
    ids, found = sorted({id_ for _, id_ in wanted}), set[tuple[str, str]]()
    for start in range(0, len(ids), 1000):
        some = inbox.c.event_id.in_(ids[start : start + 1000])
        query = select(inbox.c.consumer, inbox.c.event_id).where(some)
        found.update((row.consumer, row.event_id) for row in await look.rows(query))
    return found


async def _parked(look: _Look) -> set[tuple[Any, ...]]:
    place = ("consumer", "topic", "partition", "position")
    query = select(*(dead_letters.c[name] for name in place))
    return {tuple(row) for row in await look.rows(query)}


# -- what waits for somebody --------------------------------------------------------------


async def _letters(look: _Look) -> Found:
    waiting = [dead_letters.c.state == "parked"]
    shown = [dead_letters.c.consumer, dead_letters.c.reason, dead_letters.c.id]
    return await look.finds(dead_letters, waiting, shown)


async def _replays_late(look: _Look) -> Found:
    late = [dead_letters.c.state == "asked", dead_letters.c.moved_at <= look.now - _LATE]
    return await look.finds(dead_letters, late, [dead_letters.c.consumer, dead_letters.c.id])


async def _deadlines_overdue(look: _Look) -> Found:
    over = [deadlines.c.due_at <= look.now - _LATE]
    return await look.finds(deadlines, over, [deadlines.c.kind, deadlines.c.key])


async def _unprotected(look: _Look) -> Found:
    open_ = [unprotected.c.settled_at.is_(None)]
    return await look.finds(unprotected, open_, [unprotected.c.consumer, unprotected.c.event_id])


async def _records_too_old(look: _Look) -> Found:
    over = [inbox.c.forget_at <= look.now - timedelta(days=7)]
    return await look.finds(inbox, over, [inbox.c.consumer, inbox.c.event_id])


_CHECKS: Sequence[tuple[str, str, Severity, Checker]] = (
    ("marker_missing", "every record has its effect's marker", Severity.BROKEN, _markers_missing),
    ("marker_twice", "no event left its marker twice", Severity.BROKEN, _markers_twice),
    ("record_times", "records were made before now, to be kept", Severity.BROKEN,
     _records_of_the_future),
    ("lease_too_long", "no lease reaches beyond its longest time", Severity.BROKEN,
     _leases_far_ahead),
    ("outbox_states", "no event is both sent and dead, or of the future", Severity.BROKEN,
     _outbox_contradictions),
    ("outbox_order", "no event was sent before an earlier one of its key", Severity.BROKEN,
     _overtaken),
    ("outbox_bodies", "each outbox row is that of its event", Severity.BROKEN, _bodies),
    ("settled_log", "no group has settled what was never sent", Severity.BROKEN,
     _settled_beyond_the_log),
    ("settled_begun", "no group has settled what it never began", Severity.BROKEN,
     _settled_beyond_what_was_begun),
    ("settled_done", "what was settled was applied or parked (a policy that drops leaves no trace)",
     Severity.BROKEN, _settled_without_a_trace),
    ("lease_over", "no lease was left behind", Severity.WAITING, _leases_over),
    ("unsent", "no event waits for a relay for an hour", Severity.WAITING, _not_sent),
    ("dead_events", "no event was given up by the relay", Severity.WAITING, _dead_events),
    ("dead_letters", "no message lies parked", Severity.WAITING, _letters),
    ("replays_late", "no replay waits for a worker for an hour", Severity.WAITING, _replays_late),
    ("deadlines", "no deadline is an hour overdue", Severity.WAITING, _deadlines_overdue),
    ("unprotected", "no unprotected run is unsettled (`onefold reconcile`)", Severity.WAITING,
     _unprotected),
    ("records_old", "no record is a week over its time", Severity.WAITING, _records_too_old),
)  # fmt: skip


def _together(*found: Found) -> Found:
    return sum(n for n, _ in found), [sample for _, samples in found for sample in samples]


def _words(row: Iterable[Any]) -> str:
    return " ".join("–" if value is None else str(value) for value in row)
