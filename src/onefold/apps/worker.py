"""The worker process: the loops alone."""

import asyncio
import signal

from onefold.settings import Settings
from onefold.wiring import build, running


def work(settings: Settings) -> None:
    """Run the loops until SIGINT or SIGTERM; the step under way is rolled back."""
    asyncio.run(_work(settings))


async def _work(settings: Settings) -> None:
    onefold = build(settings)
    over = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, over.set)
    try:
        await onefold.prepare()
        async with running(onefold):
            await over.wait()
    finally:
        await onefold.aclose()
