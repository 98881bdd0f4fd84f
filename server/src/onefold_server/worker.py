"""The worker process: the loops alone."""

import asyncio
import signal
from contextlib import AsyncExitStack

from onefold_server.installation import build, run_worker
from onefold_server.logs import log_as
from onefold_server.settings import Settings


def work(settings: Settings, *, metrics_port: int | None = None) -> None:
    """
    Run the loops until SIGINT or SIGTERM; the step under way is rolled back.

    Args:
        settings: What to work on.
        metrics_port: Where to answer `/metrics`; None for not at all.
    """
    log_as(settings)
    asyncio.run(_work(settings, metrics_port))


async def _work(settings: Settings, metrics_port: int | None) -> None:
    onefold = build(settings)
    over = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, over.set)
    try:
        await onefold.prepare()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(run_worker(onefold))
            if metrics_port is not None:
                # Only here: a worker alone needs no HTTP server.
                from onefold_server.metrics import metrics_served  # noqa: PLC0415

                served = metrics_served(
                    settings, onefold.meters, texts=onefold.texts, port=metrics_port
                )
                print(f"metrics at {await stack.enter_async_context(served)}", flush=True)
            await over.wait()
    finally:
        await onefold.aclose()
