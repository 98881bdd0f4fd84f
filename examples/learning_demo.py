"""
Three learners play twelve scenarios on three devices, review for thirty days, spend a budget.

Everything runs over one SQLite database (or the URL given as the first argument) through
three sets of parts, as three servers would. What is expected is counted here beside it, and
compared at the end with what is stored: sessions, cards, reviews, days and money.
"""

import asyncio
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

from onefold.core.ids import derived_id
from onefold.errors import BudgetExhausted
from onefold.testing.clock import ManualClock
from onefold_server.domains.directory.rules import Principal
from onefold_server.domains.learning.budgets.service import Usage
from onefold_server.domains.learning.calendar import Period
from onefold_server.domains.learning.scenarios.definitions import shipped
from onefold_server.domains.learning.sessions.rules import Change
from onefold_server.installation import Installation, build
from onefold_server.settings import Settings

LEARNERS = {"Ada": ("es", "Europe/Madrid"), "Bo": ("en", "Asia/Tokyo"), "Chi": ("es", "UTC")}
DAYS = 30
REVIEWS_A_DAY = 10
CALLS = 40
LIMIT = Decimal("0.10")  # a day
USAGE = Usage(provider="demo", model="small", input_tokens=200, output_tokens=50)


class Tally:
    """What should be stored, counted as it is asked for."""

    def __init__(self) -> None:
        self.sessions = self.items = self.reviews = 0
        self.words: dict[UUID, set[tuple[str, str]]] = {}
        self.spent: dict[UUID, Decimal] = {}


async def play(devices: list[Installation], caller: Principal, student: UUID, language: str,
               tally: Tally, clock: ManualClock) -> None:  # fmt: skip
    """All twelve scenarios, each turn and each completion sent by two devices at once."""
    for definition in shipped().values():
        script = definition.script(language)
        attempt_id = uuid4()
        for device in devices[:2]:
            await device.learning.scenarios.start(
                caller, student, definition.id, language, attempt_id=attempt_id
            )
        for phase in script.phases:
            shown = [objective.evidence[0] for objective in phase.objectives]
            said = ". ".join([*phase.vocabulary, *phase.phrases, *shown])
            clock.advance(timedelta(minutes=2))
            turn_id = uuid4()
            await asyncio.gather(
                *(d.learning.scenarios.turn(caller, attempt_id, turn_id, said) for d in devices[:2])
            )
            tally.words[student] |= {(language, word.casefold()) for word in phase.vocabulary}
        await asyncio.gather(*(d.learning.scenarios.complete(caller, attempt_id) for d in devices))
        tally.sessions += 1


async def study(devices: list[Installation], caller: Principal, student: UUID, language: str,
                tally: Tally) -> None:  # fmt: skip
    """A session that three devices count into at once, each change sent twice."""
    begun = await devices[0].learning.sessions.start(caller, student, "vocabulary_review", language)
    changes = [Change(id=uuid4(), add={"items_studied": 1, "items_correct": 1}) for _ in range(12)]
    await asyncio.gather(
        *(
            devices[(n + again) % 3].learning.sessions.change(caller, begun.id, change)
            for again in range(2)
            for n, change in enumerate(changes)
        )
    )
    await devices[1].learning.sessions.complete(caller, begun.id)
    tally.sessions += 1
    tally.items += len(changes)


async def review(devices: list[Installation], caller: Principal, student: UUID, random: Random,
                 tally: Tally) -> None:  # fmt: skip
    """What is due today, each answer sent by two devices."""
    due = await devices[0].learning.reviews.cards(
        caller, student, due_only=True, limit=REVIEWS_A_DAY
    )
    for card in due.rows:
        review_id, answer = uuid4(), random.choice((1, 3, 3, 3, 4))
        await asyncio.gather(
            *(d.learning.reviews.review(caller, card["id"], review_id, answer) for d in devices[:2])
        )
        tally.reviews += 1


async def spend(devices: list[Installation], caller: Principal, student: UUID, tally: Tally) -> int:
    """Forty calls at once against a limit of ten; one in five is given back."""
    amount, cost = LIMIT / 10, Decimal("0.007")

    async def one(number: int) -> int:
        budgets, id_ = devices[number % 3].learning.budgets, uuid4()
        try:
            await budgets.reserve(caller, student, id_, amount)
        except BudgetExhausted:
            return 0
        if number % 5 == 0:
            await budgets.release(caller, id_)
        else:
            await budgets.settle(caller, id_, cost, USAGE)
            tally.spent[student] += cost
        return 1

    return sum(await asyncio.gather(*(one(number) for number in range(CALLS))))


def check(what: str, stored: Any, expected: Any) -> None:
    """Stop the demo unless what is stored is what was asked for."""
    if stored != expected:
        sys.exit(f"{what}: stored {stored}, expected {expected}")


async def main(url: str) -> None:
    clock = ManualClock(datetime(2026, 3, 1, 8, tzinfo=UTC))
    devices = [build(Settings.load(database_url=url), clock=clock) for _ in range(3)]
    await devices[0].migrate()
    school = await devices[0].directory.create_school("Demo language school", auto_enrol=True)
    caller, random, tally = Principal.local(school), Random(7), Tally()
    students = {name: derived_id("learning demo", url, name) for name in LEARNERS}
    learning = devices[0].learning
    for name, student in students.items():
        tally.words[student], tally.spent[student] = set(), Decimal(0)
        await learning.analytics.set_zone(caller, student, LEARNERS[name][1])
        await learning.budgets.set_budget(
            caller, student_id=student, period=Period.DAY, limit=LIMIT, zone=LEARNERS[name][1]
        )
    await asyncio.gather(
        *(
            play(devices, caller, student, LEARNERS[name][0], tally, clock)
            for name, student in students.items()
        )
    )
    print(f"played 12 scenarios for {len(students)} learners on {len(devices)} devices")
    for _ in range(DAYS):
        clock.advance(timedelta(days=1))
        for name, student in students.items():
            await study(devices, caller, student, LEARNERS[name][0], tally)
            await review(devices, caller, student, random, tally)
    print(f"reviewed for {DAYS} days: {tally.reviews} answers, each sent twice")
    for student in students.values():
        await spend(devices, caller, student, tally)
        (standing,) = await learning.budgets.budgets(caller, student)
        check("spent", standing["spent"], tally.spent[student])
        check("reserved", standing["reserved"], Decimal(0))
        if standing["spent"] > LIMIT:
            sys.exit(f"overspent: {standing['spent']} of {LIMIT}")
    history = await learning.budgets.history(caller)
    check("history", sum(row["cost"] for row in history), sum(tally.spent.values()))

    sessions = cards = items = reviews = 0
    for student in students.values():
        summary = await learning.analytics.learner(caller, student)
        days = await learning.analytics.days(caller, student, days=60)
        await learning.analytics.recompute(caller, student)
        check("days", await learning.analytics.days(caller, student, days=60), days)
        check("words", summary["words"]["learnt"], len(tally.words[student]))
        check("scenarios", summary["totals"]["scenarios"], 12)
        sessions += summary["totals"]["sessions"]
        cards += summary["words"]["learnt"]
        reviews += summary["totals"]["reviews"]
        items += summary["sessions_by_type"]["vocabulary_review"]["completed"] * 12
    check("sessions", sessions, tally.sessions)
    check("items", items, tally.items)
    met_again = 0
    for student in students.values():
        met_again += sum(row["met"] - 1 for row in await all_cards(learning, caller, student))
    check("reviews", reviews, tally.reviews + met_again)
    for device in devices:
        await device.aclose()
    print(f"learning: {sessions} sessions, {cards} cards, totals exact, budget exact")


async def all_cards(learning: Any, caller: Principal, student: UUID) -> list[Any]:
    """Every card of a learner, page by page."""
    rows: list[Any] = []
    cursor = None
    while True:
        page = await learning.reviews.cards(caller, student, cursor=cursor, limit=1000)
        rows += page.rows
        cursor = page.next_cursor
        if cursor is None:
            return rows


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as home:
            asyncio.run(main(f"sqlite:///{Path(home) / 'learning.db'}"))
