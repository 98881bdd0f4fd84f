"""`/metrics` of a process that serves nothing else."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from onefold.wiring.metrics import METRICS_TYPE, Meters, Texts, scraped
from onefold_server.scrapes import may_scrape
from onefold_server.settings import Settings
from onefold_server.sockets import listen


class _Beside(uvicorn.Server):
    """A server beside a worker, which has its own idea of what a signal means."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def metrics_served(
    settings: Settings, meters: Meters, *, texts: Texts = (), port: int
) -> AsyncIterator[str]:
    """
    Answer `GET /metrics` beside the block, on the host of *settings*; the address.

    A token is asked for when *settings* have one.

    Raises:
        InvalidSetting: the port cannot be had.
    """

    async def answer(request: Request) -> Response:
        if not may_scrape(settings, request.headers.get("authorization", "")):
            told = "send the token of ONEFOLD_METRICS_TOKEN: Authorization: Bearer\n"
            return Response(told, 401, {"www-authenticate": "Bearer"}, "text/plain")
        return Response(await scraped(meters, texts), media_type=METRICS_TYPE)

    app = Starlette(routes=[Route("/metrics", answer)])
    config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False)
    with listen(settings.model_copy(update={"port": port})) as (socket, url):
        server = _Beside(config)
        serving = asyncio.create_task(server.serve(sockets=[socket]))
        try:
            yield f"{url}/metrics"
        finally:
            server.should_exit = True
            await serving
