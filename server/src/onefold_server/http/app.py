"""The HTTP server of one `Onefold`."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

import onefold as package
from onefold_server.http.problems import answer_errors
from onefold_server.http.routes import (
    classroom,
    directory,
    health,
    learning,
    metrics,
    telemetry,
    trace,
)
from onefold_server.installation import Installation, notify_only, run_worker

_PARTS = (health, metrics, telemetry, learning, directory, classroom, trace)


def create_app(onefold: Installation, *, worker: bool = True) -> FastAPI:
    """
    The application: every route, every error answered by a problem.

    Args:
        onefold: The parts it serves; closed when the application ends.
        worker: Run the worker's loops in this process too.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(onefold.aclose)
            await onefold.prepare()
            await stack.enter_async_context(run_worker(onefold) if worker else notify_only(onefold))
            yield

    app = FastAPI(
        title="Onefold",
        version=package.__version__,
        lifespan=lifespan,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
        # As they are: `include_router` analyses each again, which the first request waits for.
        routes=[route for part in _PARTS for route in part.router.routes],
    )
    app.state.onefold = onefold
    answer_errors(app)
    return app
