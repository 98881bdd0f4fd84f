"""Builds learning; `onefold_server.installation` calls it."""

from collections.abc import Callable

from onefold.core.clock import Clock
from onefold.engine.group_commit import GroupCommit
from onefold.errors import InvalidSetting
from onefold.ports.unit_of_work import UnitOfWork
from onefold_server.domains.learning.analytics.service import AnalyticsService
from onefold_server.domains.learning.budgets.purse import BudgetPurse
from onefold_server.domains.learning.budgets.service import BudgetService
from onefold_server.domains.learning.content.service import ContentService
from onefold_server.domains.learning.language_model import LanguageModel
from onefold_server.domains.learning.reviews.service import ReviewService
from onefold_server.domains.learning.scenarios.judge import LemmaJudge, LlmJudge
from onefold_server.domains.learning.scenarios.service import ScenarioService
from onefold_server.domains.learning.service import LearningService
from onefold_server.domains.learning.sessions.rules import SessionTypes
from onefold_server.domains.learning.sessions.service import SessionService
from onefold_server.domains.learning.turn_judge import TurnJudge
from onefold_server.settings import Settings


def learning_over(
    uow: UnitOfWork,
    *,
    settings: Settings,
    clock: Clock,
    random: Callable[[int], bytes],
    model: LanguageModel | None = None,
) -> LearningService:
    """Every area of learning over *uow*; with a *model*, or one set, it helps to judge turns."""
    model = model or _model_of(settings)
    budgets = BudgetService(uow, clock=clock)
    judge: TurnJudge = LemmaJudge()
    if model is not None:
        judge = LlmJudge(model, purse=BudgetPurse(budgets), look_first=judge)
    after = settings.learning_abandon_after
    return LearningService(
        sessions=SessionService(
            uow,
            clock=clock,
            random=random,
            types=SessionTypes(*settings.learning_session_types),
            together=GroupCommit,
            abandoned_after=after,
        ),
        scenarios=ScenarioService(
            uow, clock=clock, random=random, judge=judge, abandoned_after=after
        ),
        reviews=ReviewService(uow, clock=clock),
        content=ContentService(uow, clock=clock),
        budgets=budgets,
        analytics=AnalyticsService(uow, clock=clock),
    )


def _model_of(settings: Settings) -> LanguageModel | None:
    """The language model that is set; it keeps no connection, so there is nothing to close."""
    if settings.judge_url is None:
        return None
    if not settings.judge_model:
        raise InvalidSetting("ONEFOLD_JUDGE_MODEL", "is needed with ONEFOLD_JUDGE_URL")
    # Only here: the HTTP client takes a fifth of what `onefold worker` starts with.
    import httpx  # noqa: PLC0415

    from onefold_server.adapters.language_model import ChatModel  # noqa: PLC0415

    key = settings.judge_key
    try:
        client = httpx.AsyncClient(
            base_url=settings.judge_url,
            headers={"Authorization": f"Bearer {key.get_secret_value()}"} if key else {},
            timeout=settings.judge_wait_s,
            limits=httpx.Limits(max_keepalive_connections=0),
        )
    except httpx.InvalidURL as wrong:
        raise InvalidSetting("ONEFOLD_JUDGE_URL", str(wrong)) from None
    return ChatModel(
        client,
        provider=client.base_url.host[:100],
        model=settings.judge_model,
        input_price=settings.judge_input_price,
        output_price=settings.judge_output_price,
    )
