"""The use cases of budgets: one call, one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from onefold.core.clock import Clock
from onefold.errors import Conflict, IllegalTransition, NotFound
from onefold.ports.tables import Row
from onefold.ports.unit_of_work import Transaction, UnitOfWork, in_transaction
from onefold_server.domains.directory.rules import Principal, Scope
from onefold_server.domains.learning.budgets import rules, store
from onefold_server.domains.learning.budgets.events import threshold_reached
from onefold_server.domains.learning.budgets.rules import (
    BudgetStatus,
    Enforcement,
    ReservationState,
)
from onefold_server.domains.learning.calendar import Period, TimeSpan, zone_of
from onefold_server.domains.learning.people import require_learner, require_staff, require_visible
from onefold_server.domains.learning.values import check_count, check_text

_FIRST: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a call used: for history by provider and model."""

    provider: str
    model: str
    input_tokens: int = 0
    output_tokens: int = 0

    def checked(self) -> "Usage":
        """This, when it can be stored; else `InvalidInput`."""
        check_text(self.provider, "provider", longest=100)
        check_text(self.model, "model", longest=100)
        check_count(self.input_tokens, "input_tokens")
        check_count(self.output_tokens, "output_tokens")
        return self


class BudgetService:
    """
    Limits, and the money set aside and spent under them, within a caller's school.

    A learner spends under their own budgets and the school's at once. Concurrent calls for
    one budget wait for each other: none sees a sum that another is about to change.
    """

    def __init__(self, uow: UnitOfWork, *, clock: Clock) -> None:
        self._uow, self._clock = uow, clock

    async def set_budget(
        self,
        caller: Principal,
        *,
        student_id: UUID | None,
        period: Period,
        limit: Any,
        zone: str = "UTC",
        enforcement: Enforcement = Enforcement.BLOCK,
        thresholds: Sequence[int] = rules.THRESHOLDS,
    ) -> Row:
        """
        Set a learner's budget, or with no learner the school's; again is the same as once.

        A new limit holds at once, a new zone from the next period on.

        Raises:
            Forbidden: needs `learning:manage`; a pupil's own key has it never.
            InvalidInput: limit, zone or thresholds are wrong.
            NotFound: no such learner in this school.
        """
        require_staff(caller, Scope.LEARNING_MANAGE)
        now = self._clock.now()
        zone_of(zone)
        row = {
            "school_id": caller.school_id,
            "id": rules.budget_id(student_id, period),
            "student_id": student_id,
            "period": period.value,
            "zone": zone,
            "limit_amount": rules.read_amount(limit, "limit", zero=True),
            "enforcement": enforcement.value,
            "thresholds": rules.check_thresholds(thresholds),
            "changed_at": now,
        }

        async def work(tx: Transaction) -> None:
            if student_id is not None:
                await require_learner(tx, caller, student_id, now=now)
            await store.put(tx, row)

        await in_transaction(self._uow, work)
        return row

    async def reserve(
        self,
        caller: Principal,
        student_id: UUID,
        reservation_id: UUID,
        amount: Any,
        *,
        lapse: timedelta = rules.LAPSE,
    ) -> Row:
        """
        Set *amount* aside for a call; the same reservation again is the same as once.

        Args:
            caller: Needs `learning:write`, and is not a pupil's own key.
            student_id: Who spends.
            reservation_id: The caller's own id, under which it will settle or release.
            amount: At most what the call can cost, as exact text.
            lapse: After how long it counts no more when nobody settles.

        Returns:
            The reservation, with how each budget stands, and `created`: whether it is new.

        Raises:
            BudgetExhausted: a budget that blocks has less left. Nothing was reserved.
            NotFound: no such learner, or nothing is budgeted for them: what is not allowed
                is not spent.
            Conflict: the id was used for another amount or learner.
        """
        require_staff(caller, Scope.LEARNING_WRITE)
        wanted = rules.read_amount(amount, "amount")
        rules.check_lapse(lapse)

        async def work(tx: Transaction) -> Row:
            now = self._clock.now()
            await require_learner(tx, caller, student_id, now=now)
            applying = await store.lock_applying(tx, caller.school_id, student_id)
            known = await store.reservation(tx, caller.school_id, reservation_id)
            if known is not None:
                if (known["student_id"], known["amount"]) != (student_id, wanted):
                    raise Conflict("reservation", str(reservation_id))
                return _shown(known, await self._standings(tx, applying, now), now) | {
                    "created": False
                }
            if not applying:
                raise NotFound("budget", f"of student {student_id}")
            standings = await self._standings(tx, applying, now)
            admitted = [
                (
                    budget,
                    span,
                    rules.admit(
                        str(budget["id"]), standing, wanted, Enforcement(budget["enforcement"])
                    ),
                )
                for budget, span, standing in standings
            ]
            row = {
                "school_id": caller.school_id,
                "id": reservation_id,
                "student_id": student_id,
                "amount": wanted,
                "state": ReservationState.RESERVED.value,
                "reserved_at": now,
                "lapses_at": now + lapse,
                "ended_at": None,
                "cost": None,
                "provider": None,
                "model": None,
                "input_tokens": None,
                "output_tokens": None,
            }
            for budget, span, _ in admitted:
                await store.open_period(tx, caller.school_id, budget["id"], span)
            parts = [_hold(row, budget, span) for budget, span, _ in admitted]
            if not await store.insert_reservation(tx, row, parts):
                raise Conflict("reservation", str(reservation_id))
            return _shown(row, admitted, now) | {"created": True}

        return await in_transaction(self._uow, work)

    async def settle(self, caller: Principal, reservation_id: UUID, cost: Any, usage: Usage) -> Row:
        """
        Record what a reserved call really cost; again is the same as once.

        A reservation that has lapsed can be settled all the same: the money is spent. So
        can one that cost more than was set aside. Thresholds that are reached for the first
        time in a period are published as events, in the same transaction.

        Raises:
            NotFound: no such reservation in this school.
            Conflict: it was settled at another cost.
            IllegalTransition: it was released.
        """
        require_staff(caller, Scope.LEARNING_WRITE)
        paid = rules.read_amount(cost, "cost", zero=True)
        usage.checked()

        async def work(tx: Transaction) -> Row:
            now = self._clock.now()
            known, parts, budgets = await self._held(tx, caller, reservation_id)
            if known["state"] == ReservationState.SETTLED:
                if known["cost"] != paid:
                    raise Conflict("reservation", str(reservation_id))
                return _shown(known, (), now)
            if known["state"] == ReservationState.RELEASED:
                raise IllegalTransition(known["state"], "settling")
            ended = {
                "state": ReservationState.SETTLED.value,
                "ended_at": now,
                "cost": paid,
                "provider": usage.provider,
                "model": usage.model,
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
            }
            await store.end_reservation(tx, caller.school_id, reservation_id, ended)
            for hold in parts:
                spent = await store.spend(tx, hold, paid)
                await _alert(tx, budgets[hold["budget_id"]], hold, spent, now=now)
            return _shown(known | ended, (), now)

        return await in_transaction(self._uow, work)

    async def release(self, caller: Principal, reservation_id: UUID) -> Row:
        """
        Give back what was set aside for a call that did not happen; again is as once.

        Raises:
            NotFound: no such reservation in this school.
            IllegalTransition: it was settled.
        """
        require_staff(caller, Scope.LEARNING_WRITE)

        async def work(tx: Transaction) -> Row:
            now = self._clock.now()
            known, _, _ = await self._held(tx, caller, reservation_id)
            if known["state"] == ReservationState.SETTLED:
                raise IllegalTransition(known["state"], "releasing")
            if known["state"] == ReservationState.RELEASED:
                return _shown(known, (), now)
            ended = {"state": ReservationState.RELEASED.value, "ended_at": now}
            await store.end_reservation(tx, caller.school_id, reservation_id, ended)
            return _shown(known | ended, (), now)

        return await in_transaction(self._uow, work)

    async def budgets(self, caller: Principal, student_id: UUID | None = None) -> Sequence[Row]:
        """
        How the budgets stand that *student_id* spends under; without, the school's own.

        Raises:
            NotFound: no such learner for this caller.
        """
        caller.require(Scope.LEARNING_READ)
        if student_id is not None:
            require_visible(caller, student_id)
        now = self._clock.now()
        async with self._uow.read() as tx:
            applying = await store.applying(tx, caller.school_id, student_id)
            standings = await self._standings(tx, applying, now)
        return [_standing_row(*one) for one in standings]

    async def history(
        self,
        caller: Principal,
        *,
        student_id: UUID | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Sequence[Row]:
        """What was spent by provider and model, the most first; the last 30 days by default."""
        caller.require(Scope.LEARNING_READ)
        if student_id is not None:
            require_visible(caller, student_id)
        end = until or self._clock.now() + timedelta(microseconds=1)
        month = min(timedelta(days=30), end - _FIRST)  # there is none before the year 1
        async with self._uow.read() as tx:
            return await store.by_model(
                tx,
                caller.school_id,
                student_id=student_id or caller.student_id,
                since=since or end - month,
                until=end,
            )

    async def _held(
        self, tx: Transaction, caller: Principal, reservation_id: UUID
    ) -> tuple[Row, Sequence[Row], dict[UUID, Row]]:
        """A reservation with its holds and budgets; the budgets locked first, as in `reserve`."""
        parts = await store.holds_of(tx, caller.school_id, reservation_id)
        ids = [hold["budget_id"] for hold in parts]
        locked = await store.lock_budgets(tx, caller.school_id, ids) if ids else ()
        known = await store.reservation(tx, caller.school_id, reservation_id, lock=True)
        if known is None:
            raise NotFound("reservation", str(reservation_id))
        return known, parts, {budget["id"]: budget for budget in locked}

    async def _standings(
        self, tx: Transaction, budgets: Sequence[Row], now: datetime
    ) -> list[tuple[Row, TimeSpan, BudgetStatus]]:
        return [(budget, *await _standing(tx, budget, now)) for budget in budgets]


async def _standing(tx: Transaction, budget: Row, now: datetime) -> tuple[TimeSpan, BudgetStatus]:
    """The budget's current period, and how it stands in it."""
    last = await store.last_period(tx, budget["school_id"], budget["id"])
    before = TimeSpan(last["starts_at"], last["ends_at"]) if last else None
    span = rules.current_period(Period(budget["period"]), budget["zone"], before, now)
    if last is None or span != before:
        return span, BudgetStatus(budget["limit_amount"], Decimal(0), Decimal(0))
    held = await store.reserved(tx, budget["school_id"], budget["id"], span.start, now=now)
    return span, BudgetStatus(budget["limit_amount"], last["spent"], held)


async def _alert(tx: Transaction, budget: Row, hold: Row, spent: Decimal, *, now: datetime) -> None:
    """Publish the thresholds that are reached for the first time in the hold's period."""
    due = rules.reached(budget["thresholds"], budget["limit_amount"], spent)
    fresh = await store.new_alerts(tx, hold, due, now=now)
    facts = [threshold_reached(budget, hold["starts_at"], t, spent, at=now) for t in fresh]
    await tx.publish(*facts, now=now)


def _hold(reservation: Row, budget: Row, span: TimeSpan) -> Row:
    return {
        "school_id": reservation["school_id"],
        "reservation_id": reservation["id"],
        "budget_id": budget["id"],
        "starts_at": span.start,
        "amount": reservation["amount"],
        "live_until": reservation["lapses_at"],
    }


def _standing_row(budget: Row, span: TimeSpan, standing: BudgetStatus) -> Row:
    return {
        "budget_id": budget["id"],
        "student_id": budget["student_id"],
        "period": budget["period"],
        "zone": budget["zone"],
        "enforcement": budget["enforcement"],
        "thresholds": budget["thresholds"],
        "starts_at": span.start,
        "ends_at": span.end,
        "limit": standing.limit,
        "spent": standing.spent,
        "reserved": standing.reserved,
        "left": standing.left,
        "over": standing.over,
    }


def _shown(
    reservation: Row, standings: Sequence[tuple[Row, TimeSpan, BudgetStatus]], now: datetime
) -> Row:
    state = rules.shown_state(reservation["state"], reservation["lapses_at"], now)
    return dict(reservation) | {
        "state": state.value,
        "budgets": [_standing_row(*one) for one in standings],
    }
