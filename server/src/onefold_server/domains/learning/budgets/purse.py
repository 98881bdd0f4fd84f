"""Lets a judge pay for a language model out of the learner's budget."""

from decimal import Decimal
from uuid import UUID

from onefold.core.ids import derived_id
from onefold.errors import BudgetExhausted, Conflict, NotFound
from onefold_server.domains.directory.rules import Principal, Role, Scope
from onefold_server.domains.learning.budgets.service import BudgetService, Usage
from onefold_server.domains.learning.language_model import Completion, LanguageModel
from onefold_server.domains.learning.turn_judge import Turn


class BudgetPurse:
    """
    See `scenarios.judge.Purse`. A turn asks and pays once, however often it is judged, and
    by how many at once: its reservation's id follows from the turn's.
    """

    def __init__(self, budgets: BudgetService) -> None:
        self._budgets = budgets

    async def reserve(self, turn: Turn, amount: Decimal) -> bool:
        try:
            found = await self._budgets.reserve(
                _tutor(turn), turn.student_id, _reservation(turn), amount
            )
        except (BudgetExhausted, Conflict, NotFound):
            return False
        return bool(found["created"])

    async def settle(
        self, turn: Turn, cost: Decimal, model: LanguageModel, used: Completion
    ) -> None:
        usage = Usage(
            provider=model.provider,
            model=model.model,
            input_tokens=used.input_tokens,
            output_tokens=used.output_tokens,
        )
        await self._budgets.settle(_tutor(turn), _reservation(turn), cost, usage)

    async def release(self, turn: Turn) -> None:
        await self._budgets.release(_tutor(turn), _reservation(turn))


def _reservation(turn: Turn) -> UUID:
    return derived_id("learning.turn.reservation", str(turn.school_id), str(turn.turn_id))


def _tutor(turn: Turn) -> Principal:
    return Principal(
        school_id=turn.school_id,
        role=Role.SERVICE,
        scopes=frozenset({Scope.LEARNING_WRITE}),
        name="tutor",
    )
