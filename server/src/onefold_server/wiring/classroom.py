"""Builds the classroom; `onefold_server.installation` calls it."""

import asyncio
from collections.abc import Sequence

from onefold.core.clock import Clock
from onefold.core.envelope import Event
from onefold.core.ids import Random
from onefold.engine.consumer import ConsumerSpec
from onefold.engine.delivery import HandlerTransaction
from onefold.engine.failure_policy import FailureAction, retry_then_park
from onefold.errors import Refused
from onefold.ports.meter import Measure, Meter
from onefold.ports.unit_of_work import UnitOfWork
from onefold_server.domains.classroom.batches import CONSUMER, BatchService
from onefold_server.domains.classroom.classes import ClassService
from onefold_server.domains.classroom.matching import Essay, Match, Pupil, match
from onefold_server.domains.classroom.service import ClassroomService
from onefold_server.settings import Settings


def classroom_over(
    uow: UnitOfWork, *, settings: Settings, clock: Clock, random: Random
) -> ClassroomService:
    """Every area of the classroom over *uow*."""
    return ClassroomService(
        classes=ClassService(uow, clock=clock, random=random),
        batches=BatchService(
            uow,
            clock=clock,
            random=random,
            deadline=settings.classroom_deadline,
            match=_match_beside,
        ),
    )


async def _match_beside(essays: Sequence[Essay], pupils: Sequence[Pupil]) -> Sequence[Match]:
    """As `match`, in a thread: the server answers others meanwhile."""
    return await asyncio.to_thread(match, essays, pupils)


def essay_meter(batches: BatchService) -> Meter:
    """What became of essays and suggestions; what is begun again counts again."""

    async def meter() -> Sequence[Measure]:
        return [
            Measure(
                name="onefold_classroom_essays_total",
                help="Essays and suggestions that came in, by what became of them",
                value=number,
                labels={"outcome": outcome},
            )
            for outcome, number in batches.seen.items()
        ]

    return meter


def matches_spec(classroom: ClassroomService, topic: str) -> ConsumerSpec:
    """Who takes suggested authors from a broker."""

    async def take(event: Event, tx: HandlerTransaction) -> None:
        await classroom.batches.take(tx.tx, event, now=tx.now)

    return ConsumerSpec(
        name=CONSUMER, topics=(topic,), handler=take, max_batch=20, policy=park_refused
    )


def park_refused(error: BaseException, attempt: int, most: int) -> FailureAction:
    """What was refused can never succeed: parked at once, with the refusal as its reason."""
    if isinstance(error, Refused):
        return FailureAction.PARK
    return retry_then_park(error, attempt, most)


def consumers_of(classroom: ClassroomService, settings: Settings) -> list[ConsumerSpec]:
    """The consumer of suggested authors, where a broker is set."""
    if settings.kafka is None and settings.valkey is None:
        return []
    return [matches_spec(classroom, settings.classroom_topic)]
