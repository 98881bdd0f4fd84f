"""The use cases of trace: one call, one transaction; a close and its deliveries are one."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec

from onefold.core.clock import Clock
from onefold.core.delivery import SCHEDULES, DeliveryFact, DeliveryState, advance
from onefold.core.fields import text_flaw
from onefold.core.ids import derived_id, new_event_id
from onefold.core.published import PROFILES, encode
from onefold.errors import Conflict, ConstraintViolated, IllegalTransition, NotFound
from onefold.ports.deadlines import Deadline
from onefold.ports.sink import Parcel, SendOutcome, Sink, one_at_a_time
from onefold.ports.tables import Row
from onefold.ports.unit_of_work import Transaction, UnitOfWork, in_transaction
from onefold_server.domains.directory.rules import Principal, Scope
from onefold_server.domains.trades import rules, store
from onefold_server.domains.trades.privacy import payload, rfc3339
from onefold_server.domains.trades.tables import (
    deliveries,
    destinations,
    revisions,
    subscriptions,
    trades,
)

KIND: Final = "trace:"  # of deadlines, before a destination's id
_MOST: Final = 1000
_MOST_BYTES: Final = 16 * 1024  # of a destination's configuration, and of its secrets
_TAKEN: Final = "is there already: change it, remove it, or choose another name"
# What a person asked for that cannot be, and what could.
_DOING: Final = {
    DeliveryFact.REPLAYED: "replaying (only dead deliveries; release waiting or held ones)",
    DeliveryFact.RELEASED: "releasing (only waiting or held deliveries; replay dead ones)",
    DeliveryFact.CANCELLED: "cancelling (what was sent, or is being sent, cannot be recalled)",
}
_SETTLED: Final = timedelta(minutes=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CHANGEABLE: Final = ("config", "delay_floor_s", "schedule", "concurrency", "rate_per_s")


class MakeSink(Protocol):
    """Makes the sink that a destination of a school names."""

    def __call__(
        self, kind: str, config: Mapping[str, Any], secrets: Mapping[str, Any], *, school: UUID
    ) -> Sink:
        """The sink; raises `InvalidInput` when its configuration makes none."""
        ...


class Send(Protocol):
    """Sends a marked test."""

    async def __call__(self, sink: Sink, parcel: Parcel, *, now: datetime) -> SendOutcome:
        """What became of it; *sink* is closed."""
        ...


async def _send(sink: Sink, parcel: Parcel, *, now: datetime) -> SendOutcome:
    try:
        return await sink.send(parcel, now=now)
    finally:
        await sink.aclose()


def kind_of(destination_id: UUID) -> str:
    """The kind of a destination's deadlines."""
    return f"{KIND}{destination_id}"


class TraceService:
    """
    Trades, destinations, subscriptions and what became of deliveries.

    Args:
        uow: Where they are kept.
        clock: What time it is.
        random: That many unpredictable bytes, for ids.
        make: Makes sinks.
        send: Sends one parcel by a sink that was made for it, and closes it.
    """

    def __init__(
        self,
        uow: UnitOfWork,
        *,
        clock: Clock,
        random: Callable[[int], bytes],
        make: MakeSink,
        send: Send | None = None,
    ) -> None:
        self._uow, self._clock, self._random, self._make = uow, clock, random, make
        self._send = send or _send

    # --- trades --------------------------------------------------------------------------

    async def record(
        self, caller: Principal, given: Mapping[str, Any], *, trade_id: UUID | None = None
    ) -> Row:
        """
        Record a trade, open or closed; the same one again under its id is the same as once.

        Args:
            caller: Who records it.
            given: Its facts as `rules.facts` reads them, `user_id`, `account_id`, and under
                `private` what may never leave.
            trade_id: Makes a retry the same as once.

        Raises:
            InvalidInput: a fact is not one. Nothing was recorded.
            Conflict: the id has another trade. Nothing was changed.
        """
        caller.require(Scope.TRACE_WRITE)
        id_ = trade_id or new_event_id(self._clock.now(), self._random)

        async def work(tx: Transaction) -> Row:
            return await self._record(tx, caller.school_id, id_, given)

        return await in_transaction(self._uow, work)

    async def record_many(
        self, caller: Principal, many: Sequence[tuple[UUID, Mapping[str, Any]]]
    ) -> Sequence[bool]:
        """
        As `record` for each, in one transaction; whether each was new.

        Raises:
            InvalidInput, Conflict: as `record`; none was recorded.
        """
        caller.require(Scope.TRACE_WRITE)

        async def work(tx: Transaction) -> Sequence[bool]:
            return await self._record_many(tx, caller.school_id, many)

        return await in_transaction(self._uow, work)

    async def _record(
        self, tx: Transaction, school_id: UUID, id_: UUID, given: Mapping[str, Any]
    ) -> Row:
        now = self._clock.now()
        row = await self._revision(tx, school_id, id_, 1, rules.facts(given), now)
        head = _head(school_id, id_, given, now)
        if not await tx.insert_new(trades, [head]):
            return await _same(tx, head, row, given)
        await tx.insert_new(revisions, [row])
        if row["status"] == "closed":
            await self._plan(tx, [head | row])
        return _shown(row | head)

    async def _record_many(
        self, tx: Transaction, school_id: UUID, many: Sequence[tuple[UUID, Mapping[str, Any]]]
    ) -> Sequence[bool]:
        """Seven statements for all that are new, and two for each that is not."""
        now = self._clock.now()
        facts = [(id_, given, rules.facts(given)) for id_, given in many]
        unsaid = {f["instrument"] for _, _, f in facts if f["profit_gross"] is None}
        known = await store.instruments_of(tx, school_id, unsaid) if unsaid else {}
        made = []
        for id_, given, fact in facts:
            key = {"school_id": school_id, "trade_id": id_, "revision": 1, "recorded_at": now}
            row = key | rules.with_profit(fact, known.get(fact["instrument"]))
            made.append((_head(school_id, id_, given, now), row, given))
        firsts = {head["id"]: (head, row) for head, row, _ in reversed(made)}
        new = {id_ for _, id_ in await tx.insert_new(trades, [head for head, _ in firsts.values()])}
        fresh = [pair for id_, pair in firsts.items() if id_ in new]
        await tx.insert_new(revisions, [row for _, row in fresh])
        await self._plan(tx, [head | row for head, row in fresh if row["status"] == "closed"])
        told = []
        for head, row, given in made:
            told.append(head["id"] in new)
            if head["id"] not in new:
                await _same(tx, head, row, given)
            new.discard(head["id"])  # it may come again in the same call
        return told

    async def _revision(
        self,
        tx: Transaction,
        school_id: UUID,
        id_: UUID,
        number: int,
        facts: Mapping[str, Any],
        now: datetime,
    ) -> Row:
        instrument = None
        if facts["profit_gross"] is None:
            instrument = await store.instrument(tx, school_id, facts["instrument"])
        key = {"school_id": school_id, "trade_id": id_, "revision": number, "recorded_at": now}
        return key | rules.with_profit(facts, instrument)

    async def close(self, caller: Principal, trade_id: UUID, exit_: Mapping[str, Any]) -> Row:
        """
        Close an open trade and plan its deliveries, in one transaction.

        Closing again with the same exit changes nothing.

        Raises:
            NotFound: no such trade in this school.
            InvalidInput: no exit price or time, or a wrong one. Nothing was recorded.
            IllegalTransition: it was closed with another exit; `correct` adds a revision.
        """
        caller.require(Scope.TRACE_WRITE)

        async def work(tx: Transaction) -> Row:
            known = await self._known(tx, caller, trade_id)
            facts = rules.facts(_facts(known) | dict(exit_) | {"status": "closed"})
            if known["status"] == "closed":
                if any(facts[name] != known[name] for name in exit_):
                    raise IllegalTransition("closed", "closing with another exit")
                return _shown(known)
            return await self._revise(tx, known, facts)

        return await in_transaction(self._uow, work)

    async def correct(
        self,
        caller: Principal,
        trade_id: UUID,
        changed: Mapping[str, Any],
        *,
        expected_revision: int,
    ) -> Row:
        """
        Add a revision with *changed* facts; what was recorded stays, and is never edited.

        Waiting deliveries of the earlier revision are cancelled when they come up, those of
        the new one are planned as for a close.

        Raises:
            NotFound, InvalidInput: as `close`.
            Conflict: the present revision is another than expected. Nothing was recorded.
        """
        caller.require(Scope.TRACE_WRITE)

        async def work(tx: Transaction) -> Row:
            known = await self._known(tx, caller, trade_id)
            if known["revision"] != expected_revision:
                raise Conflict("revision of trade", str(trade_id))
            facts = rules.facts(_facts(known) | dict(changed))
            if all(facts[name] == known[name] for name in facts):
                raise rules.wrong("facts", "unchanged", "say nothing that is not recorded already")
            if "profit_gross" not in changed and facts["profit_gross"] is not None:
                table = await store.instrument(tx, caller.school_id, known["instrument"])
                facts["profit_gross"] = rules.without_derived_profit(known, table)["profit_gross"]
            return await self._revise(tx, known, facts)

        return await in_transaction(self._uow, work)

    async def _revise(self, tx: Transaction, known: Row, facts: Row) -> Row:
        number, now = known["revision"] + 1, self._clock.now()
        row = await self._revision(tx, known["school_id"], known["trade_id"], number, facts, now)
        await tx.insert_new(revisions, [row])
        await store.present(tx, known["school_id"], known["trade_id"], number)
        made = known | row
        if row["status"] == "closed":
            await self._plan(tx, [made])
        return _shown(made)

    async def _plan(self, tx: Transaction, closed: Sequence[Row]) -> int:
        """
        One delivery of each for each destination that a consent in force names; how many are new.

        Args:
            tx: The transaction that closes them.
            closed: Closed trades of one school with their present revisions.
        """
        if not closed:
            return 0
        users = {trade["user_id"] for trade in closed}
        given: dict[str, list[Row]] = {user: [] for user in users}
        for one in await store.subscriptions_of_users(tx, closed[0]["school_id"], users):
            given[one["user_id"]].append(one)
        on = [
            (trade, one)
            for trade in closed
            for one in given[trade["user_id"]]
            if rules.consents(one, trade["recorded_at"])
        ]
        if not on:
            return 0
        # Not locked: a pause that comes between is seen when the delivery is to leave.
        places = await store.destinations_of(tx, {one["destination_id"] for _, one in on})
        made = [_delivery(trade, one, places[one["destination_id"]]) for trade, one in on]
        rows = {row["id"]: row for row in made}  # one a destination: its id says so
        new = await tx.insert_new(deliveries, list(rows.values()))
        await arm(tx, [row for row in rows.values() if (row["school_id"], row["id"]) in new])
        return len(new)

    async def trade(self, caller: Principal, trade_id: UUID) -> Row:
        """
        A trade, its revisions, and what became of its deliveries.

        Raises:
            NotFound: no such trade in this school.
        """
        caller.require(Scope.TRACE_READ)
        async with self._uow.read() as tx:
            known = await store.trade(tx, caller.school_id, trade_id)
            if known is None:
                raise NotFound("trade", str(trade_id))
            history = await store.history(tx, caller.school_id, trade_id)
            sent = await store.of_trade(tx, caller.school_id, trade_id)
        return _shown(known) | {
            "revisions": [_shown(row) for row in history],
            "deliveries": [shown_delivery(row) for row in sent],
        }

    async def dry_run(self, caller: Principal, trade_id: UUID, profile: str) -> bytes:
        """
        What a closed trade would say under *profile*, its references made up; nothing is kept.

        Raises:
            NotFound: no such trade. IllegalTransition: it is open. InvalidInput: no such profile.
        """
        caller.require(Scope.TRACE_READ)
        if profile not in PROFILES:
            raise rules.wrong("profile", "choice", f"expected one of {', '.join(PROFILES)}")
        async with self._uow.read() as tx:
            row = await store.trade(tx, caller.school_id, trade_id)
        if row is None:
            raise NotFound("trade", str(trade_id))
        if row["status"] != "closed":
            raise IllegalTransition("open", "publishing")
        data = payload(profile, row, trade_ref="a" * 26, account_ref="b" * 26)
        at = rfc3339(row["exit_time"])
        return encode(profile, data, id_=str(UUID(int=0)), occurred_at=at)

    async def set_instrument(
        self, caller: Principal, symbol: str, contract_size: str, currency: str
    ) -> None:
        """Say what one unit of an instrument's volume is, so that its profits can be worked out."""
        caller.require(Scope.TRACE_MANAGE)
        size = rules.amount(contract_size, "contract_size")
        if size is None or size <= 0:
            raise rules.wrong("contract_size", "bounds", "expected more than 0")
        if rules.currency(currency) is None:
            raise rules.wrong("currency", "missing", "is required")
        row = {
            "school_id": caller.school_id,
            "symbol": rules.symbol(symbol, "symbol"),
            "contract_size": size,
            "currency": currency,
        }
        async with self._uow.begin() as tx:
            await store.put_instrument(tx, row)

    async def _known(self, tx: Transaction, caller: Principal, trade_id: UUID) -> Row:
        known = await store.trade(tx, caller.school_id, trade_id, lock=True)
        if known is None:
            raise NotFound("trade", str(trade_id))
        return known

    # --- destinations --------------------------------------------------------------------

    async def create_destination(
        self,
        caller: Principal,
        name: str,
        sink: str,
        *,
        config: Mapping[str, Any] | None = None,
        secrets: Mapping[str, Any] | None = None,
        delay_floor_s: int = 60,
        schedule: str = "standard",
        concurrency: int = 4,
        rate_per_s: float | None = None,
    ) -> Row:
        """
        Create a destination; its configuration is tried before it is kept.

        Of a sink whose receiver takes one delivery at a time the concurrency is 1.

        Raises:
            InvalidInput: the configuration makes no sink, or a bound is wrong.
            Conflict: the school has a destination of that name. Nothing was recorded.
        """
        caller.require(Scope.TRACE_MANAGE)
        _check_name(name)
        if await self._tried(caller, sink, config or {}, secrets or {}):
            concurrency = 1
        _check_destination(delay_floor_s, schedule, concurrency, rate_per_s)
        row = {
            "school_id": caller.school_id,
            "id": new_event_id(self._clock.now(), self._random),
            "name": name,
            "sink": sink,
            "config": dict(config or {}),
            "secrets": dict(secrets or {}),
            "state": "active",
            "version": 1,
            "delay_floor_s": delay_floor_s,
            "schedule": schedule,
            "concurrency": concurrency,
            "rate_per_s": rate_per_s,
            "next_slot_at": None,
            "failures": 0,
            "rest_until": None,
            "created_at": self._clock.now(),
            "occupied_by": None,
        }

        async def work(tx: Transaction) -> None:
            if await store.destination(tx, caller.school_id, name) is not None:
                raise Conflict("destination", name, _TAKEN)
            await tx.insert_new(destinations, [row])

        try:
            await in_transaction(self._uow, work)
        except ConstraintViolated:  # another made one of that name meanwhile
            raise Conflict("destination", name, _TAKEN) from None
        return shown_destination(row)

    async def _tried(
        self,
        caller: Principal,
        sink: str,
        config: Mapping[str, Any],
        secrets: Mapping[str, Any],
    ) -> bool:
        """Whether the sink that these make takes one delivery at a time."""
        _check_size(config, "config")
        _check_size(secrets, "secrets")
        made = self._make(sink, config, secrets, school=caller.school_id)
        await made.aclose()
        return one_at_a_time(made)

    async def destinations(self, caller: Principal) -> Sequence[Row]:
        """The school's destinations; never their secrets."""
        caller.require(Scope.TRACE_READ)
        async with self._uow.read() as tx:
            found = await store.all_destinations(tx, caller.school_id)
        return [shown_destination(row) for row in found]

    async def destination(self, caller: Principal, named: str) -> Row:
        """
        One destination by its name or id; never its secrets.

        Raises:
            NotFound: no such destination.
        """
        caller.require(Scope.TRACE_READ)
        async with self._uow.read() as tx:
            row = await self._destination(tx, caller, named, lock=False)
        return shown_destination(row)

    async def rotate(self, caller: Principal, named: str, secrets: Mapping[str, Any]) -> Row:
        """
        Give a destination other secrets; couriers use them from their next attempt on.

        Raises:
            NotFound: no such destination. InvalidInput: they make no sink; the old ones stay.
        """
        caller.require(Scope.TRACE_MANAGE)

        async def work(tx: Transaction) -> Row:
            row = await self._destination(tx, caller, named)
            await self._tried(caller, row["sink"], row["config"], secrets)
            await store.change_destination(tx, row, secrets=dict(secrets), occupied_by=None)
            return shown_destination(row | {"secrets": secrets})

        return await in_transaction(self._uow, work)

    async def change(self, caller: Principal, named: str, changed: Mapping[str, Any]) -> Row:
        """
        Change how a destination is reached; couriers do so from their next attempt on.

        Its state stays: one that was disabled goes on when it is resumed. Its failures so far
        are forgotten, for they were of what it was.

        Args:
            caller: Who changes it.
            named: Its name or id.
            changed: Any of `config`, `delay_floor_s`, `schedule`, `concurrency`, `rate_per_s`.
                `config` is merged as a JSON merge patch is (RFC 7396): None takes a key out.

        Raises:
            NotFound: no such destination.
            InvalidInput: it makes no sink, or a bound is wrong; everything stays as it was.
        """
        caller.require(Scope.TRACE_MANAGE)
        unknown = sorted(set(changed) - set(_CHANGEABLE))
        if unknown or not changed:
            reason = f"expected some of {', '.join(_CHANGEABLE)}"
            raise rules.wrong(unknown[0] if unknown else "body", "unknown_field", reason)

        async def work(tx: Transaction) -> Row:
            row = await self._destination(tx, caller, named)
            merged = _merged(row["config"], changed.get("config") or {})
            made = row | dict(changed) | {"config": merged}
            _check_destination(*(made[name] for name in _CHANGEABLE[1:]))
            if await self._tried(caller, row["sink"], merged, row["secrets"]):
                made["concurrency"] = 1
            fresh = {"failures": 0, "rest_until": None, "next_slot_at": None, "occupied_by": None}
            kept = {name: made[name] for name in _CHANGEABLE}
            await store.change_destination(tx, row, **kept, **fresh)
            return shown_destination(made | fresh)

        return await in_transaction(self._uow, work)

    async def pause(self, caller: Principal, named: str) -> int:
        """Hold what waits for a destination, spending no attempts; how many."""
        return await self._put(caller, named, "paused", of=("active",))

    async def resume(self, caller: Principal, named: str) -> int:
        """Let what was held for a paused or disabled destination go on; how many."""
        return await self._put(caller, named, "active", of=("paused", "disabled"))

    async def remove(self, caller: Principal, named: str) -> int:
        """Take a destination out of use; what waits for it is held, its receipts stay."""
        return await self._put(caller, named, "removed", of=("active", "paused", "disabled"))

    async def _put(self, caller: Principal, named: str, to: str, *, of: tuple[str, ...]) -> int:
        caller.require(Scope.TRACE_MANAGE)

        async def work(tx: Transaction) -> int:
            row = await self._destination(tx, caller, named)
            if row["state"] == to:
                return 0
            if row["state"] not in of:
                raise IllegalTransition(row["state"], f"becoming {to}")
            changed: dict[str, Any] = {"state": to, "failures": 0, "rest_until": None}
            if to == "removed":  # its name is free again; nobody can use its secrets
                changed |= {"secrets": {}, "name": f"{row['name'][:60]} ({row['id']})"}
            await store.change_destination(tx, row, **changed)
            if to != "active":
                return await store.hold_of_destination(tx, row["id"], reason=to)
            return await store.release_of_destination(
                tx, row["id"], of=rules.BY_DESTINATION, now=self._clock.now()
            )

        return await in_transaction(self._uow, work)

    async def _destination(
        self, tx: Transaction, caller: Principal, named: str, *, lock: bool = True
    ) -> Row:
        row = await store.destination(tx, caller.school_id, _named(named), lock=lock)
        if row is None or row["state"] == "removed":
            raise NotFound("destination", named)
        return row

    async def send_test(self, caller: Principal, named: str, *, send: bool = True) -> Row:
        """
        The exact bytes of a marked test, and what the destination answered.

        Raises:
            NotFound: no such destination.
        """
        caller.require(Scope.TRACE_MANAGE)
        async with self._uow.read() as tx:
            row = await self._destination(tx, caller, named, lock=False)
        now = self._clock.now()
        id_ = str(new_event_id(now, self._random))
        body = marked_body(id_, now)
        if not send:
            return {"id": id_, "body": body.decode()}
        sink = self._make(row["sink"], row["config"], row["secrets"], school=caller.school_id)
        parcel = Parcel(message_id=id_, body=body, occurred_at=now, attempt=1)
        outcome = await self._send(sink, parcel, now=now)
        return {"id": id_, "body": body.decode()} | _shown_outcome(outcome)

    # --- subscriptions -------------------------------------------------------------------

    async def subscribe(
        self,
        caller: Principal,
        user_id: str,
        destination: str,
        *,
        profile: str,
        consent_version: str,
        delay_s: int = int(rules.DEFAULT_DELAY.total_seconds()),
        until: datetime | None = None,
    ) -> Row:
        """
        Record a user's consent that closed trades of theirs go to a destination from now on.

        The same consent again is the same subscription, unless another was given in between:
        the one that was given last counts, whatever the clocks said. What waits under an
        earlier one for the same destination, and was never attempted, takes on whatever this
        one is stricter in: fewer fields, a longer delay; never the reverse.

        Raises:
            NotFound: no such destination. InvalidInput: no such profile, or a wrong delay.
        """
        caller.require(Scope.TRACE_MANAGE)
        if profile not in PROFILES:
            raise rules.wrong("profile", "choice", f"expected one of {', '.join(PROFILES)}")
        rules.name(user_id, "user_id")
        rules.name(consent_version, "consent_version", longest=40)
        until = rules.instant(until, "until")
        if until is not None and until <= self._clock.now():
            raise rules.wrong("until", "bounds", "is over already")
        if not 0 <= delay_s <= rules.MAX_DELAY.total_seconds():
            raise rules.wrong("delay_s", "bounds", "expected 0 seconds to a year")

        async def work(tx: Transaction) -> Row:
            place = await self._destination(tx, caller, destination)
            now = self._clock.now()
            wanted = {
                "user_id": user_id,
                "destination_id": place["id"],
                "profile": profile,
                "delay_s": delay_s,
                "consent_version": consent_version,
                "until": until,
            }
            # One after the other, for the destination is locked: the highest number is the newest.
            given = await store.subscriptions_of(tx, caller.school_id, user_id)
            earlier = [row for row in given if row["destination_id"] == place["id"]]
            newest = max(earlier, key=lambda row: row["number"], default=None)
            if newest and rules.consents(newest, now) and wanted.items() <= newest.items():
                return newest
            await self._narrow(tx, caller.school_id, [row["id"] for row in earlier], wanted)
            row = wanted | {
                "school_id": caller.school_id,
                "id": new_event_id(now, self._random),
                "since": now,
                "number": 1 + (newest["number"] if newest else 0),
                "withdrawn_at": None,
            }
            await tx.insert_new(subscriptions, [row])
            return row

        return await in_transaction(self._uow, work)

    async def _narrow(
        self, tx: Transaction, school_id: UUID, ids: Sequence[UUID], wanted: Row
    ) -> None:
        """Apply to what waits under earlier consents what the new one is stricter in."""
        if not ids:
            return
        waiting = await store.of_subscriptions(tx, school_id, ids, waiting=True)
        delay = timedelta(seconds=wanted["delay_s"])
        changes = []
        for row in waiting:
            if row["attempts"] or row["body_sha256"] is not None:
                continue  # the receiver may have it already: the same bytes, or none
            least = row["created_at"] + delay
            made = {
                "id": row["id"],
                "profile": rules.narrower(row["profile"], wanted["profile"]),
                "not_before": max(row["not_before"], least),
                "next_at": max(row["next_at"], least),
                "first_due_at": max(row["first_due_at"], least),
            }
            if made.items() - row.items():
                changes.append(made)
        await store.change_deliveries(tx, changes)
        by_id = {row["id"]: row for row in waiting}
        moved = [by_id[change["id"]] | change for change in changes]
        await arm(tx, [row for row in moved if row["state"] == DeliveryState.PENDING])

    async def subscriptions(self, caller: Principal, user_id: str | None = None) -> Sequence[Row]:
        """The school's subscriptions, or one user's."""
        caller.require(Scope.TRACE_READ)
        if user_id is not None:
            rules.name(user_id, "user_id")
        async with self._uow.read() as tx:
            found = await store.subscriptions_of(tx, caller.school_id, user_id)
            places = await store.destinations_of(tx, {row["destination_id"] for row in found})
        return [row | {"destination": places[row["destination_id"]]["name"]} for row in found]

    async def withdraw(self, caller: Principal, subscription_id: UUID) -> Row:
        """
        End a consent: cancel what waits, and list what cannot be recalled. Again is as once.

        Every consent of this user for this destination ends: one that a newer one had taken
        the place of must not come to life again.

        Returns:
            `cancelled`: how many; `not_recalled`: what was received, or may have been: each
            that was sent or is being sent now, whatever was answered.

        Raises:
            NotFound: no such subscription.
        """
        caller.require(Scope.TRACE_MANAGE)

        async def work(tx: Transaction) -> Row:
            known = await store.subscription(tx, caller.school_id, subscription_id)
            if known is None:
                raise NotFound("subscription", str(subscription_id))
            # Destinations before deliveries, as couriers do: they cannot deadlock.
            await store.lock_destinations(tx, [known["destination_id"]])
            given = await store.subscriptions_of(tx, caller.school_id, known["user_id"])
            same = [r for r in given if r["destination_id"] == known["destination_id"]]
            ids = [row["id"] for row in same]
            await store.withdraw(tx, caller.school_id, ids, now=self._clock.now())
            waiting = await store.of_subscriptions(tx, caller.school_id, ids, waiting=True)
            changes = [
                {
                    "id": row["id"],
                    "state": _after(row, DeliveryFact.CANCELLED),
                    "reason": "withdrawn",
                }
                for row in waiting
            ]
            await store.change_deliveries(tx, changes)
            sent = await store.of_subscriptions(tx, caller.school_id, ids, waiting=False)
            kept = sorted(sent, key=lambda row: (row["not_before"], row["id"]))
            return {
                "cancelled": len(changes),
                "not_recalled": [shown_delivery(row) for row in kept],
            }

        return await in_transaction(self._uow, work)

    # --- deliveries ----------------------------------------------------------------------

    async def deliveries(
        self,
        caller: Principal,
        *,
        states: Sequence[str],
        destination: str | None = None,
        limit: int = 100,
    ) -> Sequence[Row]:
        """Deliveries in those states, the longest due first."""
        caller.require(Scope.TRACE_READ)
        unknown = set(states) - {state.value for state in DeliveryState}
        if unknown:
            raise rules.wrong("state", "choice", f"expected {', '.join(DeliveryState)}")
        async with self._uow.read() as tx:
            place = None
            if destination is not None:
                found = await store.destination(tx, caller.school_id, _named(destination))
                if found is None:
                    raise NotFound("destination", destination)
                place = found["id"]
            rows = await store.listed(
                tx, caller.school_id, states=states, destination_id=place, limit=min(limit, _MOST)
            )
        return [shown_delivery(row) for row in rows]

    async def delivery(self, caller: Principal, delivery_id: UUID) -> Row:
        """
        One delivery with its attempts, and the bytes that leave or left.

        Raises:
            NotFound: no such delivery.
        """
        caller.require(Scope.TRACE_READ)
        async with self._uow.read() as tx:
            row = await store.delivery(tx, caller.school_id, delivery_id)
            if row is None:
                raise NotFound("delivery", str(delivery_id))
            made = await store.attempts_of(tx, caller.school_id, delivery_id)
        body = None if row["body"] is None else row["body"].decode()
        return shown_delivery(row) | {
            "body": body,
            "attempts_made": [
                {k: v for k, v in one.items() if k not in {"school_id", "delivery_id"}}
                for one in made
            ],
        }

    async def replay(self, caller: Principal, delivery_id: UUID) -> Row:
        """
        Try a dead delivery again from its start, with the same id and the same bytes.

        Raises:
            NotFound: no such delivery. IllegalTransition: it is not dead.
        """
        return await self._act(caller, delivery_id, DeliveryFact.REPLAYED)

    async def cancel(self, caller: Principal, delivery_id: UUID) -> Row:
        """
        Never send what was not sent yet.

        Raises:
            NotFound: no such delivery. IllegalTransition: it was sent, or is being sent.
        """
        return await self._act(caller, delivery_id, DeliveryFact.CANCELLED)

    async def release(self, caller: Principal, delivery_id: UUID) -> Row:
        """
        Send a waiting or held delivery as soon as its destination's floor allows.

        For one that the tripwire holds, this is the person's decision, and kept as such.

        Raises:
            NotFound: no such delivery. IllegalTransition: it is neither pending nor held.
        """
        return await self._act(caller, delivery_id, DeliveryFact.RELEASED)

    async def _act(self, caller: Principal, delivery_id: UUID, fact: DeliveryFact) -> Row:
        caller.require(Scope.TRACE_MANAGE)

        async def work(tx: Transaction) -> Row:
            found = await store.delivery(tx, caller.school_id, delivery_id)
            if found is None:
                raise NotFound("delivery", str(delivery_id))
            # Destinations before deliveries, as couriers do: they cannot deadlock.
            places = await store.lock_destinations(tx, [found["destination_id"]])
            row = (await store.load(tx, [delivery_id]))[delivery_id]
            state, now = _asked(row, fact), self._clock.now()
            changed: Row = {"id": row["id"], "state": state, "reason": None}
            if fact is DeliveryFact.CANCELLED:
                changed["reason"] = "by hand"
            else:
                place = places[row["destination_id"]]
                floor = max(rules.FLOOR, timedelta(seconds=place["delay_floor_s"]))
                at = max(now, row["exit_time"] + floor)
                changed |= {"next_at": at, "first_due_at": at, "tries": 0}
                changed["not_before"] = min(row["not_before"], at)
                # Only of one that was looked at: to hurry one is not to clear it.
                tripped = fact is DeliveryFact.RELEASED and row["reason"] == "tripwire"
                changed["cleared"] = caller.name if tripped else row["cleared"]
                if place["state"] != "active":
                    changed |= {"state": DeliveryState.HELD.value, "reason": place["state"]}
            await store.change_deliveries(tx, [changed])
            if fact is not DeliveryFact.CANCELLED:
                await arm(tx, [row | changed])
            return shown_delivery(row | changed)

        return await in_transaction(self._uow, work)

    async def coverage(
        self, caller: Principal, *, since: datetime, until: datetime
    ) -> Sequence[Row]:
        """For each user's account and day of exit (UTC): closed, delivered, pending, dead, held."""
        caller.require(Scope.TRACE_READ)
        async with self._uow.read() as tx:
            return await store.coverage(
                tx,
                caller.school_id,
                since=rules.instant(since, "since") or since,
                until=rules.instant(until, "until") or until,
            )

    async def kinds(self) -> Sequence[str]:
        """The kinds of every destination's deadlines."""
        async with self._uow.read() as tx:
            return [kind_of(id_) for id_ in await store.destination_ids(tx)]

    async def gauges(self) -> Sequence[Row]:
        """What waits, is dead or held, by destination: for the metrics."""
        async with self._uow.read() as tx:
            return await store.gauges(tx)

    # --- what a worker does --------------------------------------------------------------

    async def reconcile(
        self,
        *,
        limit: int = 100,
        rows: int = 1000,
        grace: timedelta = timedelta(minutes=10),
    ) -> int:
        """
        Plan what a consent asks for and nobody planned; wake what a lost deadline forgot.

        Looks at *rows* closed revisions that are new since the last round, and at as many of
        all, where the last round ended: so a round costs the same however many trades there
        are, what was missed while it closed is found in the next, and what was lost by hand
        after all/*rows* rounds. Any number of workers may do it at once.

        Args:
            limit: Wake so many at the most.
            rows: Look at so many; more where they were recorded at one instant.
            grace: How late the forgotten are.

        Returns:
            How many were planned.
        """

        async def wake(tx: Transaction) -> None:
            now = self._clock.now()
            found = await store.forgotten(tx, before=now - grace, limit=limit)
            await arm(tx, found)  # at its own instant: the longest due stays the first

        done = 0
        for name in ("new", "all"):
            done += await in_transaction(self._uow, partial(self._round, name=name, rows=rows))
        await in_transaction(self._uow, wake)
        return done

    async def _round(self, tx: Transaction, *, name: str, rows: int) -> int:
        now = self._clock.now()
        # A transaction that closes may commit a little later than what it says.
        until = now - _SETTLED if name == "new" else now
        first = until if name == "new" else _EPOCH
        after = await store.position(tx, name, start=first)
        if after is None:  # another worker is at it
            return 0
        end, found = await store.page_end(tx, after=after, until=until, rows=rows)
        planned = 0
        if end is not None:
            for school in _by_school(await store.unplanned(tx, after=after, until=end)):
                planned += await self._plan(tx, school)
        if name == "all" and found < rows:
            end = _EPOCH  # from the beginning again
        if end is not None and end != after:
            await store.advance_position(tx, name, end)
        return planned


async def arm(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Let a courier look at deliveries at their next instants."""
    await tx.schedule_many(
        [
            Deadline(
                kind=kind_of(row["destination_id"]),
                key=str(row["id"]),
                due_at=row["next_at"],
                payload={"school_id": str(row["school_id"])},
            )
            for row in rows
        ]
    )


def _head(school_id: UUID, id_: UUID, given: Mapping[str, Any], now: datetime) -> Row:
    """Whose trade it is."""
    return {
        "school_id": school_id,
        "id": id_,
        "user_id": rules.name(given.get("user_id"), "user_id"),
        "account_id": rules.name(given.get("account_id"), "account_id"),
        "private": _private(given.get("private") or {}),
        "revision": 1,
        "created_at": now,
    }


def _delivery(trade: Row, subscription: Row, place: Row) -> Row:
    floor = timedelta(seconds=place["delay_floor_s"])
    at = rules.earliest_send(
        trade,
        recorded_at=trade["recorded_at"],
        delay=timedelta(seconds=subscription["delay_s"]),
        floor=floor,
    )
    unique = (trade["school_id"], trade["trade_id"], place["id"], trade["revision"])
    stopped = None if place["state"] == "active" else place["state"]
    return {
        "school_id": trade["school_id"],
        # The same for the same record, destination and revision: twice planned is once.
        "id": derived_id("trace.delivery", *map(str, unique)),
        "trade_id": trade["trade_id"],
        "destination_id": place["id"],
        "revision": trade["revision"],
        "subscription_id": subscription["id"],
        "state": DeliveryState.HELD.value if stopped else DeliveryState.PENDING.value,
        "reason": stopped,
        "not_before": at,
        "next_at": at,
        "attempts": 0,
        "tries": 0,
        "first_due_at": at,
        "fence": 0,
        "profile": subscription["profile"],
        "created_at": trade["recorded_at"],
    }


async def _same(tx: Transaction, head: Row, row: Row, given: Mapping[str, Any]) -> Row:
    """The trade that has the id already, if it is this one."""
    known = await store.trade(tx, head["school_id"], head["id"])
    first = (await store.history(tx, head["school_id"], head["id"]))[0]
    # What it leaves unknown may have been worked out, then or now, from the instrument's table.
    left = {"recorded_at", *(n for n in ("profit_gross", "currency") if given.get(n) is None)}
    same = {name: row[name] for name in row if name not in left}
    if known is None or same.items() - first.items():
        raise Conflict("trade", str(head["id"]))
    if any(known[name] != head[name] for name in ("user_id", "account_id", "private")):
        raise Conflict("trade", str(head["id"]))
    return _shown(known)


def _private(given: Any) -> dict[str, str]:
    if not isinstance(given, dict):
        raise rules.wrong("private", "not_an_object", "expected a JSON object")
    unknown = sorted(set(map(str, given)) - set(rules.PRIVATE))
    if unknown:
        raise rules.wrong("private", "unknown_field", f"known are {', '.join(rules.PRIVATE)}")
    return {key: rules.name(value, key, longest=200) for key, value in given.items()}


def _facts(row: Row) -> Row:
    return {name: value for name, value in row.items() if name in revisions.c}


def _after(row: Row, fact: DeliveryFact) -> str:
    return advance(DeliveryState(row["state"]), fact).value


def _asked(row: Row, fact: DeliveryFact) -> str:
    """As `_after`, for somebody who asked; told what could be asked instead."""
    try:
        return _after(row, fact)
    except IllegalTransition as error:
        raise IllegalTransition(error.state, _DOING[fact]) from None


def _named(named: str) -> str | UUID:
    try:
        return UUID(named)
    except ValueError:
        if text_flaw(named):  # no store could look for it
            raise NotFound("destination", ascii(named)) from None
        return named


def _by_school(rows: Sequence[Row]) -> list[list[Row]]:
    """Each trade once, for `_plan` plans all of its destinations; those of a school together."""
    found: dict[UUID, dict[UUID, Row]] = {}
    for row in rows:
        found.setdefault(row["school_id"], {})[row["trade_id"]] = row
    return [list(of_school.values()) for of_school in found.values()]


def _merged(there: Any, patch: Any) -> Any:
    """*there* as the merge patch says (RFC 7396, section 2): None takes out, at any depth."""
    if not isinstance(patch, Mapping):
        return patch
    kept = dict(there) if isinstance(there, Mapping) else {}
    made = kept | {key: _merged(kept.get(key), value) for key, value in patch.items()}
    return {key: value for key, value in made.items() if value is not None}


def _check_name(name: str) -> None:
    """What a log, a label and a table can show, and what is not taken for an id."""
    rules.name(name, "name")
    if not name.isprintable():
        raise rules.wrong("name", "not_printable", "holds a character that cannot be shown")
    if isinstance(_named(name), UUID):
        raise rules.wrong("name", "uuid", "would be taken for an id: choose another")


def _check_size(given: Mapping[str, Any], field: str) -> None:
    try:
        body = msgspec.json.encode(given)
    except (TypeError, ValueError, RecursionError):
        raise rules.wrong(field, "not_json", "expected a JSON object in Unicode") from None
    if len(body) > _MOST_BYTES:  # couriers read it again and again
        raise rules.wrong(field, "too_large", f"expected at most {_MOST_BYTES} bytes of JSON")
    if b"\\u0000" in body:
        raise rules.wrong(field, "nul_character", "holds the character U+0000")


def _check_destination(
    delay_floor_s: int, schedule: str, concurrency: int, rate_per_s: float | None
) -> None:
    if not 0 <= delay_floor_s <= rules.MAX_DELAY.total_seconds():
        raise rules.wrong("delay_floor_s", "bounds", "expected 0 seconds to a year")
    if schedule not in SCHEDULES:
        raise rules.wrong("schedule", "choice", f"expected one of {', '.join(SCHEDULES)}")
    if not 1 <= concurrency <= 1000:
        raise rules.wrong("concurrency", "bounds", "expected 1 to 1000")
    if rate_per_s is not None and not 0.001 <= rate_per_s <= 10_000:
        raise rules.wrong("rate_per_s", "bounds", "expected 0.001 to 10000")


def marked_body(id_: str, now: datetime) -> bytes:
    """A payload that no tracker can take for a result: of an instrument named TEST, on paper."""
    data = PROFILES["result_only"](
        trade_ref="a" * 26,
        instrument="TEST",
        side="buy",
        exit_time=rfc3339(now),
        mode="paper",
        revision=1,
        status="CLOSED",
        disclaimer="hypothetical",
    )
    return encode("result_only", data, id_=id_, occurred_at=rfc3339(now), test=True)


def _shown_outcome(outcome: SendOutcome) -> Row:
    return {
        "outcome": outcome.kind.value,
        "reason": outcome.reason,
        "status": outcome.status,
        "remote_ref": outcome.remote_ref,
    }


def shown_destination(row: Row) -> Row:
    """A destination as anybody may see it: which secrets it has, never what they are."""
    shown = {k: v for k, v in row.items() if k not in {"secrets", "school_id", "version"}}
    return shown | {"secrets": sorted(row["secrets"])}


def shown_delivery(row: Row) -> Row:
    """A delivery as its school may see it."""
    names: tuple[str, ...] = (
        *("id", "trade_id", "destination_id", "revision", "state", "reason", "not_before"),
        *("next_at", "attempts", "profile", "last_outcome", "last_status", "delivered_at"),
        *("remote_ref", "policy", "fields", "cleared"),
    )
    if "destination" in row:
        names += ("destination",)
    shown = {name: row.get(name) for name in names}
    digest = row.get("body_sha256")
    return shown | {"body_sha256": None if digest is None else digest.hex()}


def _shown(row: Row) -> Row:
    """A trade for its own school: its own facts, amounts as text."""
    names = (*revisions.c.keys(), "user_id", "account_id")
    shown = {name: row[name] for name in names if name in row and name != "school_id"}
    for name in rules.AMOUNTS:
        if shown.get(name) is not None:
            shown[name] = f"{shown[name]:f}"
    return shown
