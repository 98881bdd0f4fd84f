"""A message whose handler takes the process with it is found, counted, and parked."""

from collections.abc import Sequence
from typing import Any

import pytest
from tests.crash.test_consumer_deaths import World, _effect

from onefold.core.envelope import Event
from onefold.engine.consumer import Consumer
from onefold.engine.delivery import HandlerTransaction
from onefold.testing.crash.points import Crash, Reaper

KILLER = 3


async def _killed_by_one(event: Event, tx: HandlerTransaction) -> None:
    await _effect(event, tx)
    if event.data["n"] == KILLER:
        raise Crash("the handler segfaults")


class Forgetful(Consumer):
    """Twin: starts are not noted, so that every process begins as if nothing had happened."""

    async def _note(self, fresh: Sequence[Any]) -> None:
        """Nothing is noted."""


async def _processes_until_one_lives(world: World, *, most: int) -> int:
    for number in range(1, most + 1):
        try:
            await world.run(Reaper())
        except Crash:
            continue
        return number
    raise AssertionError(f"the message has killed {most} processes")


def _world(build: type[Consumer] = Consumer) -> World:
    return World(build, handler=_killed_by_one, max_batch=6, max_attempts=3)


async def test_a_message_that_kills_its_process_is_parked() -> None:
    """After the batch it died in it is begun three times alone; its neighbours count once."""
    world = _world()

    died = await _processes_until_one_lives(world, most=20) - 1

    (letter,) = await world.ledger.letters()
    assert (letter["reason"], letter["attempts"]) == ("killed_its_worker", 4)
    assert died == 1 + 3
    effects = world.uow.committed.records["effects"]
    assert sorted(effects) == [n for n in range(6) if n != KILLER]


async def test_a_consumer_that_forgets_its_starts_is_caught() -> None:
    """Without the note, the same message kills every process there is."""
    world = _world(Forgetful)

    with pytest.raises(AssertionError, match="has killed 20 processes"):
        await _processes_until_one_lives(world, most=20)
