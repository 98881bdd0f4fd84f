"""The use cases of analytics. The days are a read model; `recompute` makes them from facts."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from onefold.core.clock import Clock
from onefold.errors import NotFound
from onefold.ports.tables import Row
from onefold.ports.unit_of_work import Transaction, UnitOfWork, in_transaction
from onefold_server.domains.directory import store as directory
from onefold_server.domains.directory.rules import Principal, Scope
from onefold_server.domains.learning.analytics import rules, store
from onefold_server.domains.learning.calendar import local_day, zone_of
from onefold_server.domains.learning.days import store as learner_days
from onefold_server.domains.learning.days.rules import NEW_CARD, SCENARIO, DayShare, review_counts
from onefold_server.domains.learning.people import require_learner, require_staff, require_visible
from onefold_server.domains.learning.reviews import store as review_store
from onefold_server.domains.learning.scenarios import store as scenario_store
from onefold_server.domains.learning.sessions import store as session_store
from onefold_server.domains.learning.sessions.service import share_of
from onefold_server.domains.learning.values import check_text, wrong


class AnalyticsService:
    """What learners have done, for themselves and for their teachers."""

    def __init__(self, uow: UnitOfWork, *, clock: Clock) -> None:
        self._uow, self._clock = uow, clock

    async def learner(self, caller: Principal, student_id: UUID) -> dict[str, Any]:
        """
        One learner: time, sessions by type, accuracy, words, streak, scenarios.

        Raises:
            NotFound: no such learner for this caller.
        """
        caller.require(Scope.LEARNING_READ)
        require_visible(caller, student_id)
        now, whose = self._clock.now(), [student_id]
        async with self._uow.read() as tx:
            if not await directory.is_known(tx, caller.school_id, student_id):
                raise NotFound("student", str(student_id))
            zone = await learner_days.zone(tx, caller.school_id, student_id)
            days = await learner_days.of_learners(tx, caller.school_id, whose)
            counts = await session_store.counts_by_type(tx, caller.school_id, whose)
            words = await review_store.word_counts(tx, caller.school_id, whose, now=now)
            scenarios = await scenario_store.completions(tx, caller.school_id, whose)
        return {
            "student_id": student_id,
            "zone": zone.key,
            "totals": rules.totals(days),
            "sessions_by_type": rules.sessions_by_type(counts),
            "words": rules.words(words),
            "streak": rules.streaks(days, local_day(now, zone)),
            "scenarios": [
                {name: row[name] for name in ("scenario_id", "completed", "best_score")}
                for row in scenarios
            ],
        }

    async def days(
        self, caller: Principal, student_id: UUID, *, days: int = 30
    ) -> list[dict[str, Any]]:
        """A learner's last *days* on which something happened, with each day's accuracy."""
        caller.require(Scope.LEARNING_READ)
        require_visible(caller, student_id)
        if not 1 <= days <= 3660:
            raise wrong("days", "bounds", "expected 1 to 3660")
        async with self._uow.read() as tx:
            zone = await learner_days.zone(tx, caller.school_id, student_id)
            since = local_day(self._clock.now(), zone) - timedelta(days=days - 1)
            found = await learner_days.of_learners(tx, caller.school_id, [student_id], since=since)
        return rules.by_day(found)

    async def class_(self, caller: Principal, class_name: str) -> dict[str, Any]:
        """
        A class for its teacher: its totals, and a line for each pupil.

        Raises:
            Forbidden: needs `learning:read`; a pupil's own key may not.
            NotFound: the school has no pupils in such a class.
        """
        require_staff(caller, Scope.LEARNING_READ)
        check_text(class_name, "class_name", longest=100)
        now = self._clock.now()
        async with self._uow.read() as tx:
            pupils = await store.class_of(tx, caller.school_id, class_name)
            if not pupils:
                raise NotFound("class", class_name)
            ids = [pupil["student_id"] for pupil in pupils]
            zones = await learner_days.zones(tx, caller.school_id, ids)
            days = await learner_days.of_learners(tx, caller.school_id, ids)
            words = await review_store.word_counts(tx, caller.school_id, ids, now=now)
        days_of, words_of = rules.grouped(days), rules.grouped(words)
        return {
            "class_name": class_name,
            "totals": rules.totals(days),
            "learners": [
                {
                    **pupil,
                    "totals": rules.totals(mine := days_of[pupil["student_id"]]),
                    "words": rules.words(words_of[pupil["student_id"]]),
                    "streak": rules.streaks(mine, local_day(now, zones[pupil["student_id"]])),
                }
                for pupil in pupils
            ],
        }

    async def set_zone(self, caller: Principal, student_id: UUID, zone: str) -> None:
        """
        Set a learner's time zone; their days are counted anew by it, in the same transaction.

        Raises:
            InvalidInput: there is no such zone.
            NotFound: no such learner for this caller.
        """
        caller.require(Scope.LEARNING_WRITE)
        zone_of(zone)

        async def work(tx: Transaction) -> None:
            now = self._clock.now()
            await require_learner(tx, caller, student_id, now=now)
            await learner_days.hold_alone(tx, caller.school_id, student_id, now=now)
            await learner_days.set_zone(tx, caller.school_id, student_id, zone, now=now)
            await _recount(tx, caller.school_id, student_id, zone_of(zone))

        await in_transaction(self._uow, work)

    async def recompute(self, caller: Principal, student_id: UUID) -> Sequence[Row]:
        """
        Count a learner's days anew from the facts.

        Returns:
            The days as they now stand. Unless the database was changed by hand, they are
            what they were (test_the_days_are_what_the_facts_say).
        """
        require_staff(caller, Scope.LEARNING_MANAGE)

        async def work(tx: Transaction) -> Sequence[Row]:
            now = self._clock.now()
            zone = await learner_days.hold_alone(tx, caller.school_id, student_id, now=now)
            await _recount(tx, caller.school_id, student_id, zone)
            return await learner_days.of_learners(tx, caller.school_id, [student_id])

        await require_known(self._uow, caller, student_id)
        return await in_transaction(self._uow, work)


async def require_known(uow: UnitOfWork, caller: Principal, student_id: UUID) -> None:
    """Raise `NotFound` unless the school has ever had this pupil."""
    async with uow.read() as tx:
        found = await directory.is_known(tx, caller.school_id, student_id)
    if not found:
        raise NotFound("student", str(student_id))


async def _recount(tx: Transaction, school_id: UUID, student_id: UUID, zone: ZoneInfo) -> None:
    """A learner's days from sessions, answers, cards and scenario history alone."""
    shares = [
        share_of(session, zone) for session in await session_store.ended(tx, school_id, student_id)
    ]
    facts = [
        *(
            (r["at"], review_counts(r["answer"]))
            for r in await review_store.answers(tx, school_id, student_id)
        ),
        *(
            (c["created_at"], NEW_CARD)
            for c in await review_store.all_cards(tx, school_id, student_id)
        ),
        *((at, SCENARIO) for at in await scenario_store.completed_at(tx, school_id, student_id)),
    ]
    shares += [DayShare(school_id, student_id, local_day(at, zone), counts) for at, counts in facts]
    await learner_days.forget(tx, school_id, student_id)
    await learner_days.add(tx, shares)
