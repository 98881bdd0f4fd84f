"""All of learning in one place: what each area offers, over one unit of work."""

from dataclasses import dataclass

from onefold_server.domains.learning.analytics.service import AnalyticsService
from onefold_server.domains.learning.budgets.service import BudgetService
from onefold_server.domains.learning.content.service import ContentService
from onefold_server.domains.learning.reviews.service import ReviewService
from onefold_server.domains.learning.scenarios.service import ScenarioService
from onefold_server.domains.learning.sessions.service import SessionService


@dataclass(frozen=True, kw_only=True)
class LearningService:
    """The areas of learning; each is a service of its own and knows what it needs."""

    sessions: SessionService
    scenarios: ScenarioService
    reviews: ReviewService
    content: ContentService
    budgets: BudgetService
    analytics: AnalyticsService

    async def sweep(self, *, limit: int = 100) -> bool:
        """
        End what was abandoned, in every school.

        Returns:
            Whether there may be more.
        """
        ended = await self.sessions.abandon_idle(limit=limit)
        given_up = await self.scenarios.abandon_idle(limit=limit)
        return limit in {ended, given_up}
