"""The queries of trace, for both databases. Each belongs to a caller's transaction."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Select,
    Uuid,
    and_,
    any_,
    bindparam,
    case,
    func,
    literal,
    or_,
    select,
    type_coerce,
    update,
)

from onefold.ports.tables import Instant, Row, row_of, rows_of
from onefold.ports.unit_of_work import Transaction
from onefold_server.domains.trades import rules
from onefold_server.domains.trades.tables import (
    attempts,
    deliveries,
    destinations,
    instruments,
    pseudonyms,
    revisions,
    rounds,
    subscriptions,
    trades,
)


def _among(tx: Transaction, ids: Collection[UUID]) -> ColumnElement[bool]:
    """Whether a delivery is one of *ids*, in a statement that is the same for any number."""
    if tx.features.name == "postgresql":
        return deliveries.c.id == any_(literal(sorted(ids), ARRAY(Uuid)))
    return deliveries.c.id.in_(ids)


_PRESENT = and_(
    revisions.c.school_id == trades.c.school_id,
    revisions.c.trade_id == trades.c.id,
    revisions.c.revision == trades.c.revision,
)


async def trade(
    tx: Transaction, school_id: UUID, trade_id: UUID, *, lock: bool = False
) -> Row | None:
    """A trade with its present revision; with *lock*, held until the commit."""
    query = (
        select(revisions, trades.c.user_id, trades.c.account_id, trades.c.private)
        .join(trades, _PRESENT)
        .where(trades.c.school_id == school_id, trades.c.id == trade_id)
    )
    if lock:
        query = query.with_for_update(of=trades)
    return row_of(await tx.execute(query))


async def present(tx: Transaction, school_id: UUID, trade_id: UUID, revision: int) -> None:
    """Make *revision* the trade's present one."""
    mine = (trades.c.school_id == school_id) & (trades.c.id == trade_id)
    await tx.execute(update(trades).where(mine).values(revision=revision))


async def history(tx: Transaction, school_id: UUID, trade_id: UUID) -> Sequence[Row]:
    """All revisions of a trade, the first one first."""
    mine = (revisions.c.school_id == school_id) & (revisions.c.trade_id == trade_id)
    return rows_of(await tx.execute(select(revisions).where(mine).order_by(revisions.c.revision)))


async def instrument(tx: Transaction, school_id: UUID, symbol: str) -> Row | None:
    """What is known of an instrument's contract."""
    mine = (instruments.c.school_id == school_id) & (instruments.c.symbol == symbol)
    return row_of(await tx.execute(select(instruments).where(mine)))


async def instruments_of(
    tx: Transaction, school_id: UUID, symbols: Collection[str]
) -> dict[str, Row]:
    """What is known of these instruments, by symbol."""
    mine = (instruments.c.school_id == school_id) & instruments.c.symbol.in_(symbols)
    found = rows_of(await tx.execute(select(instruments).where(mine)))
    return {row["symbol"]: row for row in found}


async def put_instrument(tx: Transaction, row: Row) -> None:
    """Record an instrument's contract, or change it."""
    if await tx.insert_new(instruments, [row]):
        return
    mine = (instruments.c.school_id == row["school_id"]) & (instruments.c.symbol == row["symbol"])
    kept = {name: row[name] for name in ("contract_size", "currency")}
    await tx.execute(update(instruments).where(mine).values(kept))


# --- destinations and subscriptions ----------------------------------------------------------


async def all_destinations(tx: Transaction, school_id: UUID) -> Sequence[Row]:
    """The school's destinations by name, removed ones left out."""
    mine = (destinations.c.school_id == school_id) & (destinations.c.state != "removed")
    return rows_of(await tx.execute(select(destinations).where(mine).order_by(destinations.c.name)))


async def destination_ids(tx: Transaction) -> Sequence[UUID]:
    """Every destination that deliveries wait for, of every school."""
    query = select(destinations.c.id).where(destinations.c.state != "removed")
    return (await tx.execute(query)).scalars().all()


async def destination(
    tx: Transaction, school_id: UUID, named: str | UUID, *, lock: bool = False
) -> Row | None:
    """The destination of that id or name."""
    by = destinations.c.id == named if isinstance(named, UUID) else destinations.c.name == named
    query = select(destinations).where(destinations.c.school_id == school_id, by)
    return row_of(await tx.execute(query.with_for_update() if lock else query))


async def change_destination(tx: Transaction, row: Row, **changed: Any) -> None:
    """Change a destination; couriers learn of it by its version."""
    mine = (destinations.c.school_id == row["school_id"]) & (destinations.c.id == row["id"])
    values = changed | {"version": destinations.c.version + 1}
    await tx.execute(update(destinations).where(mine).values(values))


async def note_health(tx: Transaction, id_: UUID, **changed: Any) -> None:
    """Record what couriers tell each other of a destination."""
    await tx.execute(update(destinations).where(destinations.c.id == id_).values(changed))


async def usable(tx: Transaction, now: datetime) -> tuple[Sequence[Row], datetime | None]:
    """Active destinations with how many are on their way to each, and the next rest's end."""
    busy = (
        select(func.count())
        .where(
            deliveries.c.destination_id == destinations.c.id,
            deliveries.c.state == "leased",
            deliveries.c.leased_until > now,
        )
        .scalar_subquery()
    )
    query = select(destinations, busy.label("busy")).where(destinations.c.state == "active")
    rows = rows_of(await tx.execute(query))
    waits = [(row, rules.paused_until(row, now=now)) for row in rows]
    ready = [row for row, until in waits if until is None]
    return ready, min((until for _, until in waits if until is not None), default=None)


async def destinations_of(tx: Transaction, ids: Collection[UUID]) -> dict[UUID, Row]:
    """These destinations by id, as they are now."""
    query = select(destinations).where(destinations.c.id.in_(ids))
    return {row["id"]: row for row in rows_of(await tx.execute(query))}


async def lock_destinations(tx: Transaction, ids: Collection[UUID]) -> dict[UUID, Row]:
    """
    These destinations by id, held until the commit, taken in the order of their ids.

    Against each other and against changes, and not against a close, whose deliveries refer to
    them: it would wait for every round of the couriers, and they for it.
    """
    query = select(destinations).where(destinations.c.id.in_(ids)).order_by(destinations.c.id)
    held = query.with_for_update(key_share=True)
    return {row["id"]: row for row in rows_of(await tx.execute(held))}


async def count_busy(tx: Transaction, destination_id: UUID, now: datetime) -> int:
    """How many attempts are on their way to a destination."""
    query = select(func.count()).where(
        deliveries.c.destination_id == destination_id,
        deliveries.c.state == "leased",
        deliveries.c.leased_until > now,
    )
    return int((await tx.execute(query)).scalar_one())


async def looked_at(tx: Transaction, delivery_id: UUID) -> datetime | None:
    """When somebody looks at a delivery that is under way; None if it is over or held."""
    of = (deliveries.c.state, deliveries.c.next_at, deliveries.c.leased_until)
    row = row_of(await tx.execute(select(*of).where(deliveries.c.id == delivery_id)))
    if row is None or row["state"] not in {"pending", "leased"}:
        return None
    at: datetime = row["leased_until"] or row["next_at"]
    return at


async def subscriptions_of(tx: Transaction, school_id: UUID, user_id: str | None) -> Sequence[Row]:
    """Subscriptions, the oldest first; of one user where named."""
    query = select(subscriptions).where(subscriptions.c.school_id == school_id)
    if user_id is not None:
        query = query.where(subscriptions.c.user_id == user_id)
    order = (subscriptions.c.since, subscriptions.c.number, subscriptions.c.id)
    return rows_of(await tx.execute(query.order_by(*order)))


async def subscriptions_of_users(
    tx: Transaction, school_id: UUID, users: Collection[str]
) -> Sequence[Row]:
    """Subscriptions of these users; those for one destination as they were given."""
    mine = (subscriptions.c.school_id == school_id) & subscriptions.c.user_id.in_(users)
    query = select(subscriptions).where(mine)
    return rows_of(await tx.execute(query.order_by(subscriptions.c.number, subscriptions.c.id)))


async def subscription(
    tx: Transaction, school_id: UUID, id_: UUID, *, lock: bool = False
) -> Row | None:
    """One subscription."""
    mine = (subscriptions.c.school_id == school_id) & (subscriptions.c.id == id_)
    query = select(subscriptions).where(mine)
    return row_of(await tx.execute(query.with_for_update() if lock else query))


async def withdraw(
    tx: Transaction, school_id: UUID, ids: Collection[UUID], *, now: datetime
) -> None:
    """End the consent of these subscriptions, unless it was withdrawn before."""
    mine = and_(
        subscriptions.c.school_id == school_id,
        subscriptions.c.id.in_(ids),
        subscriptions.c.withdrawn_at.is_(None),
    )
    await tx.execute(update(subscriptions).where(mine).values(withdrawn_at=now))


# --- deliveries ------------------------------------------------------------------------------

_COLUMNS = (
    *("exit_time", "status", "instrument", "side", "mode", "entry_time", "entry_price"),
    *("exit_price", "volume", "stop_loss", "take_profit", "profit_gross", "fees", "swap"),
    *("profit_net", "currency", "return_pct", "r_multiple"),
)
_SUBSCRIBED = ("since", "until", "withdrawn_at")
_DELIVERY = (
    *("school_id", "id", "trade_id", "destination_id", "revision", "state", "reason"),
    *("not_before", "next_at", "attempts", "tries", "first_due_at", "fence", "leased_until"),
    *("profile", "body", "body_sha256", "fields", "policy", "cleared", "remote_ref"),
)


def _loaded() -> Select[Any]:
    """Deliveries with all that decides about them."""
    return (
        select(
            *(deliveries.c[name] for name in _DELIVERY),
            *(revisions.c[name] for name in _COLUMNS),
            trades.c.account_id,
            trades.c.private,
            trades.c.user_id,
            trades.c.revision.label("present_revision"),
            *(subscriptions.c[name].label(f"subscription_{name}") for name in _SUBSCRIBED),
        )
        .join(
            revisions,
            and_(
                revisions.c.school_id == deliveries.c.school_id,
                revisions.c.trade_id == deliveries.c.trade_id,
                revisions.c.revision == deliveries.c.revision,
            ),
        )
        .join(
            trades,
            and_(
                trades.c.school_id == deliveries.c.school_id, trades.c.id == deliveries.c.trade_id
            ),
        )
        .join(
            subscriptions,
            and_(
                subscriptions.c.school_id == deliveries.c.school_id,
                subscriptions.c.id == deliveries.c.subscription_id,
            ),
        )
    )


async def load(tx: Transaction, ids: Collection[UUID], *, lock: bool = True) -> dict[UUID, Row]:
    """These deliveries with all that decides about them, locked in the order of their ids."""
    query = _loaded().where(_among(tx, ids)).order_by(deliveries.c.id)
    if lock:
        query = query.with_for_update(of=deliveries)
    rows = rows_of(await tx.execute(query))
    for row in rows:
        row["subscription"] = {name: row.pop(f"subscription_{name}") for name in _SUBSCRIBED}
    return {row["id"]: row for row in rows}


_SETTLED = (
    *("school_id", "id", "destination_id", "state", "fence", "attempts", "tries"),
    *("not_before", "next_at", "first_due_at"),
)


async def lock_deliveries(tx: Transaction, ids: Collection[UUID]) -> dict[UUID, Row]:
    """What decides how an attempt's end is recorded, locked in the order of the ids."""
    columns = [deliveries.c[name] for name in _SETTLED]
    query = select(*columns).where(_among(tx, ids)).order_by(deliveries.c.id)
    return {row["id"]: row for row in rows_of(await tx.execute(query.with_for_update()))}


async def change_deliveries(tx: Transaction, changes: Sequence[Row]) -> None:
    """Write what *changes* say, the same columns in each; `id` says of which."""
    if not changes:
        return
    moved = [{"_id": row["id"], **{k: v for k, v in row.items() if k != "id"}} for row in changes]
    await tx.execute(update(deliveries).where(deliveries.c.id == bindparam("_id")), moved)


async def hold_of_destination(tx: Transaction, destination_id: UUID, *, reason: str) -> int:
    """Hold all waiting deliveries of a destination; how many."""
    mine = (deliveries.c.destination_id == destination_id) & (deliveries.c.state == "pending")
    return (
        await tx.execute(update(deliveries).where(mine).values(state="held", reason=reason))
    ).rowcount


async def release_of_destination(
    tx: Transaction, destination_id: UUID, *, of: tuple[str, ...], now: datetime
) -> int:
    """
    Let go on what is held for one of those reasons; how many.

    The time it was held is not held against it: its age counts from now.
    """
    mine = and_(
        deliveries.c.destination_id == destination_id,
        deliveries.c.state == "held",
        deliveries.c.reason.in_(of),
    )
    due, at = deliveries.c.first_due_at, literal(now, Instant())
    values = {"state": "pending", "reason": None, "first_due_at": case((due < at, at), else_=due)}
    return (await tx.execute(update(deliveries).where(mine).values(values))).rowcount


_WAITING = ("pending", "held", "dead")


async def of_subscriptions(
    tx: Transaction, school_id: UUID, ids: Collection[UUID], *, waiting: bool
) -> Sequence[Row]:
    """
    The deliveries of subscriptions, without their bytes.

    Args:
        tx: The transaction.
        school_id: Whose they are.
        ids: Which subscriptions.
        waiting: Those that can be cancelled, locked; or those that were attempted. In no order:
            that of the ids would be found through the school's whole key. Who locks them
            holds their destination.
    """
    columns = [c for c in deliveries.c if c.name != "body"]
    mine = (deliveries.c.school_id == school_id) & deliveries.c.subscription_id.in_(ids)
    query = select(*columns).where(mine)
    if waiting:
        return rows_of(
            await tx.execute(query.where(deliveries.c.state.in_(_WAITING)).with_for_update())
        )
    return rows_of(await tx.execute(query.where(deliveries.c.attempts > 0)))


async def of_trade(tx: Transaction, school_id: UUID, trade_id: UUID) -> Sequence[Row]:
    """The deliveries of a trade."""
    mine = (deliveries.c.school_id == school_id) & (deliveries.c.trade_id == trade_id)
    return rows_of(await tx.execute(select(deliveries).where(mine).order_by(deliveries.c.id)))


async def listed(
    tx: Transaction,
    school_id: UUID,
    *,
    states: Sequence[str],
    destination_id: UUID | None,
    limit: int,
) -> Sequence[Row]:
    """Deliveries in those states, the longest due first; without their bytes."""
    columns = [c for c in deliveries.c if c.name != "body"]
    query = _named(*columns).where(
        deliveries.c.school_id == school_id, deliveries.c.state.in_(states)
    )
    if destination_id is not None:
        query = query.where(deliveries.c.destination_id == destination_id)
    return rows_of(await tx.execute(query.order_by(deliveries.c.next_at).limit(limit)))


async def delivery(tx: Transaction, school_id: UUID, id_: UUID) -> Row | None:
    """One delivery, with its destination's name."""
    mine = (deliveries.c.school_id == school_id) & (deliveries.c.id == id_)
    return row_of(await tx.execute(_named(deliveries).where(mine)))


def _named(*what: Any) -> Select[Any]:
    """Deliveries with the names of their destinations."""
    its = and_(
        destinations.c.school_id == deliveries.c.school_id,
        destinations.c.id == deliveries.c.destination_id,
    )
    return select(*what, destinations.c.name.label("destination")).join(destinations, its)


async def attempts_of(tx: Transaction, school_id: UUID, id_: UUID) -> Sequence[Row]:
    """The attempts of a delivery, in their order."""
    mine = (attempts.c.school_id == school_id) & (attempts.c.delivery_id == id_)
    order = (attempts.c.number, attempts.c.fact)
    return rows_of(await tx.execute(select(attempts).where(mine).order_by(*order)))


async def surrogates(tx: Transaction, wanted: Sequence[Row]) -> dict[tuple[UUID, str, str], str]:
    """The surrogates of what *wanted* names; fresh ones are kept unless there is one already."""
    unique = {(r["destination_id"], r["kind"], r["subject"]): r for r in wanted}
    new = await tx.insert_new(pseudonyms, list(unique.values()))
    made = {key: unique[key]["surrogate"] for _, *rest in new if (key := tuple(rest)) in unique}
    wanted = [row for key, row in unique.items() if key not in made]
    if not wanted:
        return made
    some = next(iter(wanted))
    query = select(pseudonyms).where(
        pseudonyms.c.school_id == some["school_id"],
        pseudonyms.c.destination_id.in_({r["destination_id"] for r in wanted}),
        pseudonyms.c.subject.in_({r["subject"] for r in wanted}),
    )
    found = rows_of(await tx.execute(query))
    return made | {(r["destination_id"], r["kind"], r["subject"]): r["surrogate"] for r in found}


async def position(tx: Transaction, name: str, *, start: datetime) -> datetime | None:
    """How far that round has come, held until the commit; None while another holds it."""
    mine = select(rounds.c.recorded_at).where(rounds.c.name == name)
    found = row_of(await tx.execute(mine.with_for_update(skip_locked=True)))
    if found is not None:
        at: datetime = found["recorded_at"]
        return at
    new = await tx.insert_new(rounds, [{"name": name, "recorded_at": start}])
    return start if new else None


async def advance_position(tx: Transaction, name: str, at: datetime) -> None:
    """Say how far a round has come."""
    await tx.execute(update(rounds).where(rounds.c.name == name).values(recorded_at=at))


async def page_end(
    tx: Transaction, *, after: datetime, until: datetime, rows: int
) -> tuple[datetime | None, int]:
    """Up to which instant the next *rows* revisions were recorded, and how many there are."""
    page = (
        select(revisions.c.recorded_at)
        .where(revisions.c.recorded_at > after, revisions.c.recorded_at <= until)
        .order_by(revisions.c.recorded_at)
        .limit(rows)
        .subquery()
    )
    query = select(func.max(page.c.recorded_at).label("end"), func.count().label("rows"))
    found = row_of(await tx.execute(query.select_from(page)))
    return (found["end"], found["rows"]) if found else (None, 0)


async def unplanned(tx: Transaction, *, after: datetime, until: datetime) -> Sequence[Row]:
    """
    Closed present revisions recorded in that span that lack a delivery a subscription asks for.

    What a closing transaction itself leaves out is nothing; this finds what came to be
    wanted while it closed, or was lost by hand.

    Locked, and without those that another is planning: PostgreSQL answers a delivery made by two
    at once with a violation of its other unique indexes (test_two_reconcile_at_once).
    """
    query = (
        select(
            revisions,
            trades.c.user_id,
            subscriptions.c.id.label("subscription_id"),
        )
        .join(trades, _PRESENT)
        .join(
            subscriptions,
            and_(
                subscriptions.c.school_id == trades.c.school_id,
                subscriptions.c.user_id == trades.c.user_id,
            ),
        )
        .outerjoin(
            deliveries,
            and_(
                deliveries.c.school_id == trades.c.school_id,
                deliveries.c.trade_id == trades.c.id,
                deliveries.c.revision == trades.c.revision,
                deliveries.c.destination_id == subscriptions.c.destination_id,
            ),
        )
        .where(
            revisions.c.recorded_at > after,
            revisions.c.recorded_at <= until,
            revisions.c.status == "closed",
            subscriptions.c.withdrawn_at.is_(None),
            subscriptions.c.since <= revisions.c.recorded_at,
            or_(subscriptions.c.until.is_(None), subscriptions.c.until > revisions.c.recorded_at),
            deliveries.c.id.is_(None),
        )
        .with_for_update(of=trades, key_share=True, skip_locked=True)
    )
    return rows_of(await tx.execute(query))


async def forgotten(tx: Transaction, *, before: datetime, limit: int) -> Sequence[Row]:
    """Waiting deliveries whose deadline should have brought them up long ago."""
    late = or_(
        and_(deliveries.c.state == "pending", deliveries.c.next_at < before),
        and_(deliveries.c.state == "leased", deliveries.c.leased_until < before),
    )
    # Those of a destination that fails and rests are late, and not forgotten; but where it has
    # rested long ago and was not tried since, there is nothing left that would try it.
    rested = or_(destinations.c.rest_until.is_(None), destinations.c.rest_until < before)
    well = and_(
        destinations.c.id == deliveries.c.destination_id,
        destinations.c.state == "active",
        rested,
    )
    columns = ("id", "school_id", "destination_id", "next_at")
    query = select(*(deliveries.c[name] for name in columns))
    query = query.join(destinations, well).where(late)
    query = query.order_by(deliveries.c.next_at).limit(limit)
    return rows_of(await tx.execute(query))


async def coverage(
    tx: Transaction, school_id: UUID, *, since: datetime, until: datetime
) -> Sequence[Row]:
    """
    By account and day of exit (UTC): trades closed in the span, and deliveries by state.

    A row of the answer for each account and day, however many trades there were.
    """
    day = _utc_day(tx, revisions.c.exit_time)
    closed = (
        select(
            *(trades.c.user_id, trades.c.account_id, trades.c.id, deliveries.c.state),
            day.label("day"),
        )
        .join(trades, _PRESENT)
        .outerjoin(
            deliveries,
            and_(
                deliveries.c.school_id == revisions.c.school_id,
                deliveries.c.trade_id == revisions.c.trade_id,
                deliveries.c.revision == revisions.c.revision,
            ),
        )
        .where(
            revisions.c.school_id == school_id,
            revisions.c.status == "closed",
            revisions.c.exit_time >= since,
            revisions.c.exit_time < until,
        )
        .subquery()
    )
    kept = (closed.c.user_id, closed.c.account_id, closed.c.day)
    query = select(
        *kept,
        func.count(closed.c.id.distinct()).label("closed"),
        *(_count(closed.c.state, *states).label(name) for name, states in _COVERED.items()),
    )
    return rows_of(await tx.execute(query.group_by(*kept).order_by(*kept)))


_COVERED = {
    "delivered": ("delivered",),
    "pending": ("pending", "leased"),
    "dead": ("dead",),
    "held": ("held",),
    "cancelled": ("cancelled",),
}


def _count(state: ColumnElement[Any], *of: str) -> ColumnElement[Any]:
    return func.sum(case((state.in_(of), 1), else_=0))


def _utc_day(tx: Transaction, at: ColumnElement[Any]) -> ColumnElement[Any]:
    """The day of an instant as text; see `ports.tables.Instant` for what is stored."""
    if tx.features.name == "postgresql":
        return func.to_char(func.timezone("UTC", at), "YYYY-MM-DD")
    return func.date(type_coerce(at, BigInteger) // 1_000_000, "unixepoch")


async def gauges(tx: Transaction) -> Sequence[Row]:
    """How many deliveries are pending, dead and held at each destination, and the oldest."""
    state = deliveries.c.state
    oldest = func.min(
        case((deliveries.c.state.in_(("pending", "leased")), deliveries.c.first_due_at))
    )
    query = (
        select(
            destinations.c.name,
            *(_count(state, *_COVERED[of]).label(of) for of in ("pending", "dead", "held")),
            oldest.label("oldest"),
        )
        .join(destinations, destinations.c.id == deliveries.c.destination_id)
        .where(
            deliveries.c.state.in_(("pending", "leased", "dead", "held")),
            # What a removed one has left waits for nobody, and its series would never end.
            destinations.c.state != "removed",
        )
        .group_by(destinations.c.name)
    )
    return rows_of(await tx.execute(query))
