"""What the watchdog keeps of handlers that are over."""

from weakref import ref

from onefold.engine.watchdog import Watch, Watchdog


class Run:
    """Stands for an event and all that hangs on it."""

    async def renew(self) -> bool:
        return True


async def test_a_handler_that_is_over_is_let_go() -> None:
    """Its watch waits in the heap for a third of its lease; the event does not wait with it."""
    watchdog, run = Watchdog(), Run()
    left = ref(run)

    with watchdog.watching(Watch("grades", 100.0, run.renew)):
        pass
    del run

    assert left() is None
