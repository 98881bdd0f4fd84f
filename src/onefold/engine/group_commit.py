"""
Group commit: calls that wait at the same time share one transaction.

While one round is under way, whoever calls waits in line; the next round takes all of them.
A lone call is a round of one and waits for nobody, so that nothing is slower for it, and
under load the cost of a commit is shared by all who wait for it. Each caller gets its own
outcome after the commit that holds it, never before.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from onefold.errors import OnefoldError

log = logging.getLogger("onefold.engine")

Order = TypeVar("Order")
Result = TypeVar("Result")


class GroupCommit(Generic[Order, Result]):
    """
    Turns *carry_out*, which takes many orders, into a call that takes one.

    Args:
        carry_out: Carries out orders in one transaction and returns as many outcomes; an
            outcome that is an error is raised to its caller alone.
        at_most: What the orders of one round weigh together; a heavier one is a round alone.
        weigh: What one order weighs.
    """

    def __init__(
        self,
        carry_out: Callable[[Sequence[Order]], Awaitable[Sequence[Result | OnefoldError]]],
        *,
        at_most: int = 256,
        weigh: Callable[[Order], int] = lambda _: 1,
    ) -> None:
        self._carry_out, self._at_most, self._weigh = carry_out, at_most, weigh
        self._line: deque[tuple[Order, asyncio.Future[Result]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, order: Order) -> Result:
        """
        Carry out *order* in a round with whatever waits beside it.

        A caller that is cancelled while it waits in line is left out; in a round under way
        its order may be carried out all the same.

        Raises:
            OnefoldError: its own outcome, or what became of the whole round.
        """
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._line.append((order, answer))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._serve(), name="rounds of orders")
        return await answer

    async def over(self) -> None:
        """Wait until nobody waits in line and no round is under way."""
        while self._task is not None and not self._task.done():
            await asyncio.wait((self._task,))

    async def _serve(self) -> None:
        while self._line:
            taken = [self._line.popleft()]
            room = self._at_most - self._weigh(taken[0][0])
            while self._line and (room := room - self._weigh(self._line[0][0])) >= 0:
                taken.append(self._line.popleft())
            waiting = [(order, answer) for order, answer in taken if not answer.done()]
            if waiting:
                await self._round(waiting)

    async def _round(self, waiting: Sequence[tuple[Order, asyncio.Future[Result]]]) -> None:
        try:
            outcomes = await self._carry_out([order for order, _ in waiting])
        except OnefoldError as error:
            outcomes = [error] * len(waiting)
        except Exception as error:  # a bug: whoever's order it was, nobody may wait for ever
            log.exception("a round of %d orders failed", len(waiting))
            if len(waiting) > 1:
                for one in waiting:  # rolled back as a whole; alone only the culprit fails
                    await self._round([one])
                return
            for _, answer in waiting:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), outcome in zip(waiting, outcomes, strict=True):
            if answer.done():
                continue
            if isinstance(outcome, OnefoldError):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)
