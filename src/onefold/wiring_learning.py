"""The part of the wiring that puts learning together; `onefold.wiring` calls it."""

from collections.abc import Callable

from onefold.core.clock import Clock
from onefold.domains.learning.service import LearningService
from onefold.domains.learning.sessions.rules import SessionTypes
from onefold.domains.learning.sessions.service import SessionService
from onefold.engine.together import Together
from onefold.ports.unit_of_work import UnitOfWork
from onefold.settings import Settings


def learning_over(
    uow: UnitOfWork, *, settings: Settings, clock: Clock, random: Callable[[int], bytes]
) -> LearningService:
    """Every area of learning over *uow*."""
    sessions = SessionService(
        uow,
        clock=clock,
        random=random,
        types=SessionTypes(*settings.learning_session_types),
        together=Together,
        abandoned_after=settings.learning_abandon_after,
    )
    return LearningService(sessions=sessions)
