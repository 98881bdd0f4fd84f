"""All of learning in one place: what each area offers, over one unit of work."""

from dataclasses import dataclass

from onefold.domains.learning.sessions.service import SessionService


@dataclass(frozen=True, kw_only=True)
class LearningService:
    """The areas of learning; each is a service of its own and knows what it needs."""

    sessions: SessionService

    async def sweep(self, *, limit: int = 100) -> bool:
        """
        End what was abandoned, in every school.

        Returns:
            Whether there may be more.
        """
        return await self.sessions.abandon_idle(limit=limit) == limit
