"""A server's worker ends as an application's does: the steps under way are finished."""

import asyncio
import logging

import pytest
from tests.support import new_school
from tests.support_trace import MINUTE, Scripted, World

from onefold.engine.retention import Keeps
from onefold.ports.sink import Parcel
from onefold.wiring.brokers import environment
from onefold.wiring.worker import worker_of
from onefold_server.installation import Installation, run_worker

WAIT_S = 15


class Held:
    """Holds whoever waits for it until it is released."""

    def __init__(self) -> None:
        self.began, self.released = asyncio.Event(), asyncio.Event()

    async def __call__(self, _: Parcel) -> None:
        self.began.set()
        await self.released.wait()


@pytest.fixture
async def world(onefold: Installation) -> World:
    """One trade, due now at a destination that answers when it is released."""
    made = World(onefold, await new_school(onefold))
    await made.destination(sink=Scripted(before=Held()))
    await made.subscribe()
    await made.closed()
    onefold.clock.advance(MINUTE * 5)  # type: ignore[attr-defined]
    return made


async def test_a_delivery_under_way_is_finished(world: World) -> None:
    """It is sent once: nobody has to wait for its lease, and no receiver gets it twice."""
    onefold, broker = world.onefold, world.onefold.broker()
    (sink,) = world.sinks.values()
    assert isinstance(sink, Scripted)
    held = sink.before
    assert isinstance(held, Held)
    async with world.courier() as courier, asyncio.timeout(WAIT_S):
        loops = onefold.trace.loops(courier, reconcile_every_s=3600)
        env = environment(onefold.clock)
        worker = worker_of(onefold.store, broker, [], env=env, keeps=Keeps(), loops=loops)
        worker.start()
        await held.began.wait()

        draining = asyncio.create_task(worker.drain())
        while any(loop.ready for loop in worker.loops if loop.name == "relay"):  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert not draining.done()
        held.released.set()
        await draining
    await broker.aclose()

    assert (await world.only())["state"] == "delivered"
    assert len(sink.got) == 1


async def test_a_stop_has_an_end(onefold: Installation, caplog: pytest.LogCaptureFixture) -> None:
    """A step that does not end within `drain_s` is cancelled, and the log says so."""
    impatient = onefold.settings.model_copy(update={"drain_s": 0.01})
    object.__setattr__(onefold, "settings", impatient)
    began = asyncio.Event()

    async with asyncio.timeout(WAIT_S):
        with caplog.at_level(logging.WARNING, "onefold.worker"):
            async with run_worker(onefold) as worker:
                (loop,) = (one for one in worker.loops if one.name == "close idle sessions")

                async def step() -> bool:
                    began.set()
                    await asyncio.Event().wait()
                    return False

                loop._step = step
                loop.wake()
                await began.wait()

    assert not any(one.ready for one in worker.loops)
    assert "did not drain within 0.01 s" in caplog.text
