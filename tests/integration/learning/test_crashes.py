"""Completing a scenario and settling a reservation, dying at every step of it."""

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.support import School
from tests.support_crash import Explorer
from tests.support_learning import finish_scenario, play_all

from onefold.adapters.sql.outbox import SqlOutbox
from onefold.ports.unit_of_work import UnitOfWork
from onefold.testing.clock import ManualClock
from onefold_server.domains.learning.budgets.rules import read_amount
from onefold_server.domains.learning.budgets.service import BudgetService, Usage
from onefold_server.domains.learning.calendar import Period
from onefold_server.domains.learning.reviews import store as review_store
from onefold_server.domains.learning.reviews.service import add_vocabulary
from onefold_server.domains.learning.scenarios import store as scenario_store
from onefold_server.domains.learning.scenarios.judge import LemmaJudge
from onefold_server.domains.learning.scenarios.service import ScenarioService
from onefold_server.domains.learning.sessions import store as session_store
from onefold_server.installation import Installation

pytestmark = pytest.mark.timeout(120)
USAGE = Usage(provider="acme", model="small")


@dataclass(frozen=True)
class Attempt:
    """A finished attempt that waits for its completion; its learner has finished another."""

    id: UUID
    student: UUID


@dataclass(frozen=True)
class Left:
    """What a completion leaves."""

    history: int
    sessions: int
    cards: int
    answers: int
    events: int
    counted: int


async def left(onefold: Installation, school: School, attempt: Attempt) -> Left:
    """What is there of an attempt's learner."""
    async with onefold.uow.read() as tx:
        cards = await review_store.all_cards(tx, school.id, attempt.student)
        answers = await review_store.answers(tx, school.id, attempt.student)
        ended = await session_store.ended(tx, school.id, attempt.student)
        history = await scenario_store.finished(tx, school.id, attempt.id)
    facts = await SqlOutbox(onefold.uow).unsent(limit=100_000)
    days = await onefold.learning.analytics.days(school.service, attempt.student)
    return Left(
        history=int(history is not None),
        sessions=len(ended),
        cards=len(cards),
        answers=len(answers),
        events=sum(f.key == str(attempt.student) for f in facts),
        counted=sum(day["scenarios"] for day in days),
    )


# The first completion made 14 cards; the second scenario shares `receipt` and `cash`.
NOTHING = Left(history=0, sessions=1, cards=15, answers=0, events=1, counted=1)
ALL = Left(history=1, sessions=2, cards=30, answers=2, events=2, counted=2)


def scenarios_over(uow: UnitOfWork, clock: ManualClock) -> ScenarioService:
    """A freshly started process' service."""
    return ScenarioService(uow, clock=clock, random=bytes, judge=LemmaJudge())


async def is_caught(explorer: Explorer[Any], death: str) -> None:
    """Exploring fails at a death of that name, and not at how it ends without one."""

    async def anything(_: object) -> None:
        """Holds always."""

    with pytest.raises(AssertionError, match=death):
        await replace(explorer, check=anything).explore()


def completion(
    onefold: Installation, school: School, clock: ManualClock, act: Any = None
) -> Explorer[Attempt]:
    """Completing an attempt, or *act* in its place, under every death."""

    async def fresh() -> Attempt:
        student = uuid4()
        await finish_scenario(onefold, school, student, "clothes-shopping", "en", clock=clock)
        scenarios = onefold.learning.scenarios
        begun = await scenarios.start(school.service, student, "restaurant", "en")
        await play_all(onefold, school, begun, clock=clock)
        return Attempt(begun["id"], student)

    async def complete(uow: UnitOfWork, attempt: Attempt) -> None:
        await scenarios_over(uow, clock).complete(school.service, attempt.id)

    async def all_once(attempt: Attempt) -> None:
        assert await left(onefold, school, attempt) == ALL

    async def nothing_or_all(attempt: Attempt) -> None:
        assert await left(onefold, school, attempt) in {NOTHING, ALL}

    return Explorer(
        uow=onefold.uow,
        fresh=fresh,
        act=act or complete,
        check=all_once,
        after_death=nothing_or_all,
    )


async def test_completing_a_scenario_survives_every_death(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Wherever the process dies, there is nothing or all, and a retry makes it all once."""
    deaths = await completion(onefold, school, clock).explore()

    assert deaths >= 30


async def test_the_explorer_catches_completion_in_steps(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """A twin that commits the cards before the rest (fault 2) is caught, and its death named."""

    async def in_two_commits(uow: UnitOfWork, attempt: Attempt) -> None:
        async with uow.begin() as tx:
            await add_vocabulary(
                tx,
                school.id,
                attempt.student,
                "en",
                ["table", "menu"],
                scenario_id="restaurant",
                attempt_id=uuid4(),
                now=clock.now(),
            )
        await scenarios_over(uow, clock).complete(school.service, attempt.id)

    await is_caught(completion(onefold, school, clock, act=in_two_commits), r"dying .* step")


def settlement(
    onefold: Installation, school: School, clock: ManualClock, act: Any = None
) -> Explorer[tuple[UUID, UUID]]:
    """Settling a reservation, or *act* in its place, under every death."""
    budgets = onefold.learning.budgets

    async def fresh() -> tuple[UUID, UUID]:
        student, id_ = uuid4(), uuid4()
        await budgets.set_budget(school.admin, student_id=student, period=Period.DAY, limit="1")
        await budgets.reserve(school.service, student, id_, "0.9")
        return student, id_

    async def settle(uow: UnitOfWork, case: tuple[UUID, UUID]) -> None:
        service = BudgetService(uow, clock=clock)
        await service.settle(school.service, case[1], "0.6", USAGE)

    async def standing(student: UUID) -> tuple[Decimal, Decimal, int]:
        (found,) = await budgets.budgets(school.service, student)
        facts = await SqlOutbox(onefold.uow).unsent(limit=100_000)
        alerts = [f for f in facts if f.data.get("student_id") == str(student)]
        return found["spent"], found["reserved"], len(alerts)

    async def spent_once(case: tuple[UUID, UUID]) -> None:
        assert await standing(case[0]) == (Decimal("0.6"), Decimal(0), 1)

    async def reserved_or_spent(case: tuple[UUID, UUID]) -> None:
        held, gone = read_amount("0.9", "a"), read_amount("0.6", "a")
        assert await standing(case[0]) in {(Decimal(0), held, 0), (gone, Decimal(0), 1)}

    return Explorer(
        uow=onefold.uow,
        fresh=fresh,
        act=act or settle,
        check=spent_once,
        after_death=reserved_or_spent,
    )


async def test_settling_survives_every_death(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Money is reserved or spent, never both or neither, and alerted once."""
    deaths = await settlement(onefold, school, clock).explore()

    assert deaths >= 16


async def test_the_explorer_catches_settling_without_a_claim(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """A twin that spends first and ends the reservation in another commit is caught."""
    from onefold_server.domains.learning.budgets import store

    async def spend_then_end(uow: UnitOfWork, case: tuple[UUID, UUID]) -> None:
        async with uow.begin() as tx:
            for hold in await store.holds_of(tx, school.id, case[1]):
                await store.spend(tx, hold, Decimal("0.6"))
        async with uow.begin() as tx:
            ended = {"state": "released", "ended_at": clock.now()}
            await store.end_reservation(tx, school.id, case[1], ended)

    twin = settlement(onefold, school, clock, act=spend_then_end)
    await is_caught(twin, r"dying after step .* commit of begin")
