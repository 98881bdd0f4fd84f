"""Sockets that are bound before anybody is told of them. No server here: a worker has one too."""

from collections.abc import Iterator
from contextlib import contextmanager
from socket import AF_INET, AF_INET6, SO_REUSEADDR, SOL_SOCKET, socket

from onefold.errors import InvalidSetting
from onefold_server.settings import Settings


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
            bound.listen()  # who is told the address may call before the server accepts
        except OSError as error:
            reason = f"cannot listen on {settings.host}:{settings.port}: {error.strerror}"
            raise InvalidSetting("port", f"{reason}; choose another port") from None
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        yield bound, f"http://{host}:{bound.getsockname()[1]}"
