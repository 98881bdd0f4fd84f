"""What a courier asks of trace: which attempts may begin, and what became of them."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from onefold.core.delivery import DeliveryFact, DeliveryState, advance
from onefold.core.ids import Random, derived_id
from onefold.core.published import POLICY, encode, fields_of, tripped
from onefold.errors import InvalidInput
from onefold.ports.delivery_book import DeliveryResult, Route, Sending
from onefold.ports.sink import DestinationEffect, OutcomeKind, Parcel, SendOutcome
from onefold.ports.tables import Row
from onefold.ports.unit_of_work import Transaction, UnitOfWork, in_transaction
from onefold_server.domains.trades import rules, store
from onefold_server.domains.trades.privacy import payload, rfc3339, surrogate
from onefold_server.domains.trades.service import kind_of
from onefold_server.domains.trades.tables import attempts

# What a person must see: their own ids and codes alone, nothing of a record or a receiver.
log = logging.getLogger("onefold.trace")

_AFTER_LOOK = timedelta(seconds=1)

Watch = Callable[
    [str, Row, SendOutcome, float], None
]  # destination's name, delivery, outcome, seconds


class TradeDeliveries:
    """
    See `ports.desk.Desk`.

    Args:
        uow: Where trades and deliveries are kept.
        random: That many unpredictable bytes, for surrogates.
        jitter: Uniform in [0, 1), for retries.
        watch: Told of every settled attempt, for the metrics.
    """

    def __init__(
        self,
        uow: UnitOfWork,
        *,
        random: Random,
        jitter: Callable[[], float],
        watch: Watch,
    ) -> None:
        self._uow, self._random, self._jitter, self._watch = uow, random, jitter, watch

    async def routes(self, *, now: datetime) -> tuple[Sequence[Route], datetime | None]:
        async with self._uow.read() as tx:
            rows, next_at = await store.usable(tx, now)
        return [_route(row) for row in rows if _room(row, row["busy"]) > 0], next_at

    async def open(
        self, route: Route, keys: Sequence[str], *, now: datetime, lease: timedelta
    ) -> tuple[Sequence[Sending], Sequence[DeliveryResult]]:
        alarms: list[str] = []

        async def work(tx: Transaction) -> tuple[Sequence[Sending], Sequence[DeliveryResult]]:
            alarms.clear()
            return await self._open(tx, route, keys, now, lease, alarms)

        done = await in_transaction(self._uow, work)
        _sound(alarms)
        return done

    async def _open(
        self,
        tx: Transaction,
        route: Route,
        keys: Sequence[str],
        now: datetime,
        lease: timedelta,
        alarms: list[str],
    ) -> tuple[Sequence[Sending], Sequence[DeliveryResult]]:
        id_ = UUID(route.destination)
        place = (await store.lock_destinations(tx, [id_])).get(id_)
        if place is not None and place["version"] != route.version:
            # Changed since the route was read: its sink would still go where it went before.
            return [], [DeliveryResult(key=key, said="later", again_at=now) for key in keys]
        rows = await store.load(tx, [UUID(key) for key in keys])
        verdicts = [
            DeliveryResult(key=key, said="skipped") for key in keys if UUID(key) not in rows
        ]
        ready, changes = [], []
        for row in rows.values():
            stop = _stop(row, place, now)
            if stop is None:
                ready.append(row)
                continue
            verdicts.append(_verdict(row, stop.said, stop.again_at))
            if stop.fact is not None:
                state = advance(DeliveryState(row["state"]), stop.fact).value
                changes.append(_stopped(row, state, stop.reason))
                alarms += _alarm(row | changes[-1], place)
        sendings: list[Sending] = []
        if place is not None and ready:
            ready, later = await self._admit(tx, place, ready, now)
            sendings, held = await self._begin(tx, place, ready, now, lease)
            verdicts += later + [_verdict(row, "held") for row, _ in held]
            changes += [_stopped(row, DeliveryState.HELD.value, why) for row, why in held]
            for row, why in held:
                alarms += _alarm(row | {"state": DeliveryState.HELD, "reason": why}, place)
        await store.change_deliveries(tx, changes)
        return sendings, verdicts

    async def _admit(
        self, tx: Transaction, place: Row, ready: Sequence[Row], now: datetime
    ) -> tuple[list[Row], list[DeliveryResult]]:
        """As many of *ready*, the longest due first, as the destination's limits allow."""
        ready, behind = await self._unoccupied(tx, place, ready, now)
        in_order = sorted(ready, key=lambda row: (row["next_at"], row["id"]))
        room = _room(place, await store.count_busy(tx, place["id"], now))
        again = now  # when there is room, and not sooner, it is claimed again
        rest = rules.paused_until(place, now=now)
        if rest is not None:
            room, again = 0, rest
        elif place["rate_per_s"] is not None and room > 0:
            room = min(room, max(1, int(place["rate_per_s"])), len(in_order))
            again = now + timedelta(seconds=room / place["rate_per_s"])
            await store.note_health(tx, place["id"], next_slot_at=again)
        late = in_order[max(room, 0) :]
        return in_order[: max(room, 0)], behind + [_verdict(row, "later", again) for row in late]

    async def _unoccupied(
        self, tx: Transaction, place: Row, ready: Sequence[Row], now: datetime
    ) -> tuple[Sequence[Row], list[DeliveryResult]]:
        """While the receiver is at one delivery, that one alone; the others after its look."""
        holder = place["occupied_by"]
        if holder is None:
            return ready, []
        at = await store.looked_at(tx, holder)
        if at is None:
            await store.note_health(tx, place["id"], occupied_by=None)
            return ready, []
        again = max(at, now) + _AFTER_LOOK
        others = [_verdict(row, "later", again) for row in ready if row["id"] != holder]
        return [row for row in ready if row["id"] == holder], others

    async def _begin(
        self, tx: Transaction, place: Row, ready: Sequence[Row], now: datetime, lease: timedelta
    ) -> tuple[list[Sending], list[tuple[Row, str]]]:
        """Count and record the attempts of *ready*; those that may not leave, and why."""
        names = await self._surrogates(tx, place, [row for row in ready if row["body"] is None])
        changes, sendings, held = [], [], []
        for row in ready:
            made = _made(row, place["id"], names) if row["body"] is None else _kept(row)
            if isinstance(made, str):
                held.append((row, made))
                continue
            change = made | {
                "id": row["id"],
                "state": DeliveryState.LEASED.value,
                "leased_until": now + lease,
                "fence": row["fence"] + 1,
                "attempts": row["attempts"] + 1,
                "tries": row["tries"] + 1,
            }
            changes.append(change)
            sendings.append(_sending(row | change, place))
        await store.change_deliveries(tx, changes)
        # Recorded before anything is sent: a courier that dies has still used an attempt.
        began = [_attempt(row, by, now) for row, by in _paired(ready, changes)]
        await tx.insert_new(attempts, began)
        return sendings, held

    async def _surrogates(
        self, tx: Transaction, place: Row, rows: Sequence[Row]
    ) -> dict[tuple[UUID, str, str], str]:
        wanted = [
            {
                "school_id": row["school_id"],
                "destination_id": place["id"],
                "kind": kind,
                "subject": subject,
                "surrogate": surrogate(self._random),
            }
            for row in rows
            for kind, subject in _subjects(row)
        ]
        return await store.surrogates(tx, wanted) if wanted else {}

    async def settle(
        self, results: Sequence[tuple[Sending, SendOutcome, datetime]], *, now: datetime
    ) -> Sequence[DeliveryResult]:
        told: list[tuple[str, Row, SendOutcome, float]] = []
        alarms: list[str] = []

        async def work(tx: Transaction) -> Sequence[DeliveryResult]:
            told.clear()
            alarms.clear()
            return await self._settle(tx, results, now, told, alarms)

        verdicts = await in_transaction(self._uow, work)
        for one in told:  # after the commit: what is counted was recorded
            self._watch(*one)
        _sound(alarms)
        return verdicts

    async def _settle(
        self,
        tx: Transaction,
        results: Sequence[tuple[Sending, SendOutcome, datetime]],
        now: datetime,
        told: list[tuple[str, Row, SendOutcome, float]],
        alarms: list[str],
    ) -> Sequence[DeliveryResult]:
        # Destinations before deliveries, as in `open`: two couriers cannot deadlock.
        places = await store.lock_destinations(tx, {UUID(s.destination) for s, _, _ in results})
        rows = await store.lock_deliveries(tx, [UUID(sending.key) for sending, _, _ in results])
        verdicts, mine = [], []
        for sending, outcome, began in results:
            row = rows.get(UUID(sending.key))
            if row is None or (row["state"], row["fence"]) != ("leased", sending.fence):
                # Another courier has it; its own outcome counts, and this one changes nothing.
                verdicts.append(DeliveryResult(key=sending.key, said="lost", again_at=now))
                continue
            place = places[row["destination_id"]]
            changed = rules.settled(
                row, outcome, schedule=place["schedule"], now=now, jitter=self._jitter()
            )
            mine.append((row, changed, outcome, (now - began).total_seconds()))
            noted = places[place["id"]] = await _note(tx, place, row | changed, outcome, now)
            if noted["state"] != place["state"]:
                alarms.append(
                    f"destination {place['name']} is {noted['state']}: {outcome.reason[:40]}"
                )
        changes, ended = [], []
        for row, settled, outcome, seconds in mine:  # by what all of them say of its destination
            place = places[row["destination_id"]]
            changed = settled | _by_destination(place, settled)
            changes.append({"id": row["id"], **changed})
            ended.append(_ending(row, outcome, now, seconds))
            verdicts.append(_told(row | changed, outcome))
            told.append((place["name"], row | changed, outcome, seconds))
            alarms += _alarm(row | changed, place)
        await store.change_deliveries(tx, changes)
        await tx.insert_new(attempts, ended)
        return verdicts


def _alarm(row: Row, place: Row | None) -> list[str]:
    """What a person must see of a delivery: that it was given up, or waits for their decision."""
    waits = row["state"] == DeliveryState.HELD and row["reason"] not in (
        *rules.BY_DESTINATION,
        "consent",
    )
    if row["state"] != DeliveryState.DEAD and not waits:
        return []
    name = "a destination that is gone" if place is None else place["name"]
    return [f"delivery {row['id']} to {name} is {DeliveryState(row['state'])}: {row['reason']}"]


def _sound(alarms: Sequence[str]) -> None:
    for one in alarms:
        log.error(one)


def _route(row: Row) -> Route:
    return Route(
        kind=kind_of(row["id"]),
        school=str(row["school_id"]),
        destination=str(row["id"]),
        room=_room(row, row["busy"]),
        version=row["version"],
        sink=row["sink"],
        config=row["config"],
        secrets=row["secrets"],
    )


def _room(place: Row, busy: int) -> int:
    """How many more attempts may be under way: one where it must show that it is back."""
    most = 1 if rules.BREAKER.probing(place["failures"]) else place["concurrency"]
    return int(most - busy)


def _stop(row: Row, place: Row | None, now: datetime) -> rules.Stop | None:
    floor = timedelta(seconds=place["delay_floor_s"]) if place else rules.FLOOR
    schedule = place["schedule"] if place else "standard"
    failing = place is not None and place["failures"] > 0
    stop = rules.stopped(row, now=now, floor=floor, schedule=schedule, failing=failing)
    if stop is None and (place is None or place["state"] != "active"):
        reason = "removed" if place is None else place["state"]
        return rules.Stop("held", DeliveryFact.STOPPED, reason, now + timedelta(minutes=1))
    return stop


def _verdict(row: Row, said: str, again_at: datetime | None = None) -> DeliveryResult:
    return DeliveryResult(key=str(row["id"]), said=said, again_at=again_at)


def _told(row: Row, outcome: SendOutcome) -> DeliveryResult:
    if row["state"] == DeliveryState.PENDING:
        said = "waiting" if outcome.kind is OutcomeKind.WAITING else "retry"
        # The one that others wait for is the first when its destination has rested.
        return _verdict(row, said, row["first_due_at" if _at_it(row, outcome) else "next_at"])
    again = row["next_at"] if row["reason"] in rules.BY_DESTINATION else None
    return _verdict(row, row["state"], again)


def _stopped(row: Row, state: str, reason: str | None) -> Row:
    return {"id": row["id"], "state": state, "reason": reason, "leased_until": None}


def _subjects(row: Row) -> tuple[tuple[str, str], tuple[str, str]]:
    # The account's owner is part of its name: two users may call theirs alike.
    account = derived_id("trace.account", row["user_id"], row["account_id"])
    return ("trade", str(row["trade_id"])), ("account", str(account))


def _made(row: Row, place: UUID, names: dict[tuple[UUID, str, str], str]) -> Row | str:
    """The bytes of a delivery and their evidence; or why a person must decide first."""
    trade_ref, account_ref = (names[place, kind, subject] for kind, subject in _subjects(row))
    try:
        data = payload(row["profile"], row, trade_ref=trade_ref, account_ref=account_ref)
        body = encode(
            row["profile"], data, id_=str(row["id"]), occurred_at=rfc3339(row["exit_time"])
        )
    except InvalidInput:
        return "schema"
    known = (row["user_id"], row["account_id"], *row["private"].values())
    if row["cleared"] is None and tripped(data, known):
        return "tripwire"
    return {
        "body": body,
        "body_sha256": hashlib.sha256(body).digest(),
        "fields": list(fields_of(row["profile"])),
        "policy": POLICY,
    }


def _kept(row: Row) -> Row:
    return {name: row[name] for name in ("body", "body_sha256", "fields", "policy")}


def _sending(row: Row, place: Row) -> Sending:
    mine = place["occupied_by"] == row["id"]  # else its receiver was at something else since
    return Sending(
        key=str(row["id"]),
        destination=str(row["destination_id"]),
        fence=row["fence"],
        parcel=Parcel(
            message_id=str(row["id"]),
            body=row["body"],
            occurred_at=row["exit_time"],
            attempt=row["attempts"],
            remote_ref=row["remote_ref"] if mine else None,
        ),
    )


def _paired(rows: Sequence[Row], changes: Sequence[Row]) -> list[tuple[Row, Row]]:
    by_id = {row["id"]: row for row in rows}
    return [(by_id[change["id"]], change) for change in changes]


def _attempt(row: Row, change: Row, now: datetime) -> Row:
    return {
        "school_id": row["school_id"],
        "delivery_id": row["id"],
        "number": change["attempts"],
        "fact": "began",
        "at": now,
        "outcome": None,
        "reason": None,
        "status": None,
        "duration_s": None,
    }


def _ending(row: Row, outcome: SendOutcome, now: datetime, seconds: float) -> Row:
    return {
        "school_id": row["school_id"],
        "delivery_id": row["id"],
        "number": row["attempts"],
        "fact": "ended",
        "at": now,
        "outcome": outcome.kind.value,
        "reason": outcome.reason[:40],
        "status": outcome.status,
        "duration_s": max(seconds, 0.0),
    }


_TOLLS = {DestinationEffect.PAUSE: "paused", DestinationEffect.DISABLE: "disabled"}


def _by_destination(place: Row, changed: Row) -> Row:
    """A retry to a destination that is paused meanwhile is held, and so not tried."""
    if changed["state"] == DeliveryState.PENDING and place["state"] != "active":
        return {"state": DeliveryState.HELD.value, "reason": place["state"]}
    return {}


async def _note(tx: Transaction, place: Row, row: Row, outcome: SendOutcome, now: datetime) -> Row:
    """What this answer says of the destination: healthy, failing, occupied, or closed to us."""
    failures = place["failures"] + 1 if outcome.kind is OutcomeKind.RETRY else 0
    rest = rules.BREAKER.rest(failures)
    until = None if rest is None else now + rest
    changed: dict[str, Any] = {
        "failures": failures,
        "rest_until": row["next_at"] if outcome.toll is DestinationEffect.REST else until,
        "occupied_by": _occupant(place, row, outcome),
    }
    if any(place[name] != value for name, value in changed.items()):
        await store.note_health(tx, place["id"], **changed)
    closed = _TOLLS.get(outcome.toll)
    if closed is not None and place["state"] == "active":
        changed["state"] = closed
        await store.change_destination(tx, place, state=closed)
        await store.hold_of_destination(tx, place["id"], reason=closed)
    return place | changed


def _at_it(row: Row, outcome: SendOutcome) -> bool:
    """Whether the receiver has the delivery, and is not done with it."""
    waits = outcome.kind is OutcomeKind.WAITING and outcome.remote_ref is not None
    return waits and row["state"] in {DeliveryState.PENDING, DeliveryState.HELD}


def _occupant(place: Row, row: Row, outcome: SendOutcome) -> Any:
    if _at_it(row, outcome):
        return row["id"]
    return None if place["occupied_by"] == row["id"] else place["occupied_by"]
