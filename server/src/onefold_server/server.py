"""The server process: HTTP, the pages, and unless told otherwise the worker's loops."""

import asyncio
from collections.abc import Callable
from socket import socket

import uvicorn
from fastapi import FastAPI

from onefold_server.http.app import create_app
from onefold_server.installation import Installation
from onefold_server.logs import log_as
from onefold_server.pages.app import mount_pages


def full_app(onefold: Installation, *, worker: bool = True) -> FastAPI:
    """The API and the pages over the same parts; see `create_app`."""
    app = create_app(onefold, worker=worker)
    mount_pages(app, onefold)
    return app


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


def serve(
    app: FastAPI, onefold: Installation, *, socket: socket, ready: Callable[[], None]
) -> None:
    """
    Serve *app* until SIGINT or SIGTERM; requests under way are finished first.

    Args:
        app: Of `full_app`, over *onefold*.
        onefold: The parts; closed at the end.
        socket: From `sockets.listen`.
        ready: Called once requests are answered, and never when it does not come to that.

    Raises:
        OnefoldError: the database is not fit to serve; nothing was served.
    """
    config = uvicorn.Config(
        app,
        log_config=None,  # all goes through the root logger
        log_level=onefold.settings.log_level,
        access_log=False,
        server_header=False,
    )
    log_as(onefold.settings)

    async def run() -> None:
        try:
            await onefold.prepare()  # also the app's first step, but from there no error returns
            await _Server(config, ready).serve(sockets=[socket])
        finally:
            await onefold.aclose()

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(run())
