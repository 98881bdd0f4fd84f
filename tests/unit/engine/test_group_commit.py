"""Group commit: who waits at the same time shares a round, and gets an answer of their own."""

import asyncio
from collections.abc import Sequence

import pytest
from tests.support_learning import one_turn

from onefold.engine.group_commit import GroupCommit
from onefold.errors import NotFound, OnefoldError, StoreUnavailable


class Rounds:
    """Carries out orders that are numbers: odd ones are refused, 13 is a bug."""

    def __init__(self) -> None:
        self.rounds: list[list[int]] = []
        self.down = False
        self.gate = asyncio.Event()  # closed, it keeps a round under way
        self.gate.set()

    async def carry_out(self, orders: Sequence[int]) -> Sequence[str | OnefoldError]:
        self.rounds.append(list(orders))
        await one_turn()
        await self.gate.wait()
        if self.down:
            raise StoreUnavailable("down")
        if 13 in orders:
            raise ZeroDivisionError
        return [NotFound("order", str(n)) if n % 2 else str(n) for n in orders]


async def test_callers_share_rounds_and_get_their_own_answers() -> None:
    """The first waits for nobody; those who came meanwhile go together, at most so many."""
    rounds = Rounds()
    submit = GroupCommit(rounds.carry_out, at_most=3)

    answers = await asyncio.gather(*(submit(n) for n in range(0, 10, 2)))

    assert answers == ["0", "2", "4", "6", "8"]
    assert rounds.rounds == [[0, 2, 4], [6, 8]]
    assert await submit(10) == "10"


async def test_a_round_is_as_heavy_as_it_may_be() -> None:
    """Orders of many items: as many as weigh no more together, in line; a heavier one alone."""
    rounds: list[list[list[int]]] = []

    async def carry_out(orders: Sequence[list[int]]) -> Sequence[int]:
        rounds.append(list(orders))
        await one_turn()
        return [sum(order) for order in orders]

    submit = GroupCommit(carry_out, at_most=3, weigh=len)
    orders = [[1], [1, 1], [1], [9, 9, 9, 9, 9], [2, 2], [3, 3]]

    assert await asyncio.gather(*map(submit, orders)) == [1, 2, 1, 45, 4, 6]

    assert rounds == [[[1], [1, 1]], [[1]], [[9, 9, 9, 9, 9]], [[2, 2]], [[3, 3]]]


async def test_an_error_is_its_callers_alone() -> None:
    """A refused order, and one that is a bug, hinder no other in their round."""
    rounds = Rounds()
    submit = GroupCommit(rounds.carry_out)

    answers = await asyncio.gather(*(submit(n) for n in (2, 3, 13, 4)), return_exceptions=True)

    assert [type(a) for a in answers] == [str, NotFound, ZeroDivisionError, str]


async def test_an_outage_is_everybodys() -> None:
    """What became of the round is told to all who were in it."""
    rounds = Rounds()
    rounds.down = True
    submit = GroupCommit(rounds.carry_out)

    answers = await asyncio.gather(*(submit(n) for n in (2, 4)), return_exceptions=True)

    assert {type(a) for a in answers} == {StoreUnavailable}


async def test_who_gave_up_waiting_is_left_out() -> None:
    """A caller cancelled in line is not carried out; one cancelled in its round hurts nobody."""
    rounds = Rounds()
    submit = GroupCommit(rounds.carry_out)
    rounds.gate.clear()
    tasks = [asyncio.create_task(submit(n)) for n in (2, 4)]
    await one_turn()
    await one_turn()
    waiting = asyncio.create_task(submit(6))
    await one_turn()
    waiting.cancel()
    tasks[0].cancel()
    await one_turn()
    rounds.gate.set()

    assert await tasks[1] == "4"
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await submit(8) == "8"
    assert 6 not in [n for orders in rounds.rounds for n in orders]


async def test_a_cancelled_caller_of_a_failing_round_is_let_go() -> None:
    """The error of a lone order finds nobody to tell, and the line goes on."""
    rounds = Rounds()
    submit = GroupCommit(rounds.carry_out)
    task = asyncio.create_task(submit(13))
    await one_turn()
    await one_turn()
    task.cancel()

    assert await submit(2) == "2"
