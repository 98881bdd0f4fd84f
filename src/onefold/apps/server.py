"""The server process: HTTP, the pages, and unless told otherwise the worker's loops."""

from collections.abc import Iterator
from contextlib import contextmanager
from socket import AF_INET, AF_INET6, SO_REUSEADDR, SOL_SOCKET, socket

import uvicorn
from fastapi import FastAPI

from onefold.apps.http.app import create_app
from onefold.apps.pages.app import mount_pages
from onefold.errors import InvalidSetting
from onefold.settings import Settings
from onefold.wiring import Installation, build


def full_app(onefold: Installation, *, worker: bool = True) -> FastAPI:
    """The API and the pages over the same parts; see `create_app`."""
    app = create_app(onefold, worker=worker)
    mount_pages(app, onefold)
    return app


@contextmanager
def listen(settings: Settings) -> Iterator[tuple[socket, str]]:
    """
    A socket bound where *settings* say, and the address it is reached at.

    Raises:
        InvalidSetting: the address or port cannot be had.
    """
    with socket(AF_INET6 if ":" in settings.host else AF_INET) as bound:
        bound.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        try:
            bound.bind((settings.host, settings.port))
        except OSError as error:
            reason = f"cannot listen on {settings.host}:{settings.port}: {error.strerror}"
            raise InvalidSetting("port", f"{reason}; choose another port") from None
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        yield bound, f"http://{host}:{bound.getsockname()[1]}"


def serve(settings: Settings, *, socket: socket, worker: bool = True) -> None:
    """
    Serve on a bound *socket* until SIGINT or SIGTERM; requests under way are finished first.

    Args:
        settings: What to serve.
        socket: From `listen`.
        worker: Run the worker's loops in this process too.
    """
    app = full_app(build(settings), worker=worker)
    config = uvicorn.Config(
        app, log_level=settings.log_level, access_log=False, server_header=False
    )
    uvicorn.Server(config).run(sockets=[socket])
