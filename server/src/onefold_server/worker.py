"""The worker process: the loops alone."""

import asyncio
from contextlib import AsyncExitStack

from onefold.wiring.signals import work_until_signalled
from onefold_server.installation import build, run_worker
from onefold_server.logs import log_as
from onefold_server.settings import Settings


def work(settings: Settings, *, metrics_port: int | None = None) -> bool:
    """
    Run the loops until SIGINT or SIGTERM, which drains; a second signal leaves at once.

    Args:
        settings: What to work on.
        metrics_port: Where to answer `/metrics`; None for not at all.

    Returns:
        Whether all that was under way was finished; else it is done again elsewhere.
    """
    log_as(settings)
    return asyncio.run(_work(settings, metrics_port))


async def _work(settings: Settings, metrics_port: int | None) -> bool:
    onefold = build(settings)
    try:
        await onefold.prepare()
        async with AsyncExitStack() as stack:
            worker = await stack.enter_async_context(run_worker(onefold))
            if metrics_port is not None:
                # Only here: a worker alone needs no HTTP server.
                from onefold_server.metrics import metrics_served  # noqa: PLC0415

                served = metrics_served(
                    settings, onefold.meters, texts=onefold.texts, port=metrics_port
                )
                print(f"metrics at {await stack.enter_async_context(served)}", flush=True)
            return await work_until_signalled(worker)
    finally:
        await onefold.aclose()
