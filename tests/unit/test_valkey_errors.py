"""No error of the Valkey client passes our border, and each means what it should."""

import inspect

import pytest
from redis import exceptions as theirs

from onefold.adapters.valkey.errors import DRIVER_ERRORS, at_the_border
from onefold.errors import OnefoldError, StoreFailed, StoreUnavailable

EXCEPTIONS = [
    each
    for _, each in inspect.getmembers(theirs, inspect.isclass)
    if issubclass(each, Exception) and each.__module__ == theirs.__name__
]


def _made(kind: type[Exception]) -> Exception:
    if issubclass(kind, theirs.AskError):  # MovedError too: they read where to go
        return kind("1234 127.0.0.1:7000")
    return kind("made up")


@pytest.mark.parametrize("kind", EXCEPTIONS, ids=lambda kind: kind.__name__)
def test_every_error_of_the_client_becomes_ours(kind: type[Exception]) -> None:
    """Whatever the client raises, the caller sees an error of ours with that cause."""
    error = _made(kind)

    with pytest.raises(OnefoldError) as ours, at_the_border():
        raise error

    assert isinstance(ours.value, StoreUnavailable | StoreFailed)
    assert ours.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        theirs.ConnectionError("refused"),
        theirs.TimeoutError("slow"),
        theirs.BusyLoadingError("loading"),
        theirs.OutOfMemoryError("maxmemory"),
        theirs.ReadOnlyError("a replica"),
        theirs.ClusterDownError("down"),
        theirs.ResponseError("BUSY Valkey is busy running a script"),
        theirs.ResponseError("MISCONF Errors writing to the AOF file"),
        TimeoutError(),
        ConnectionResetError("reset"),
    ],
    ids=repr,
)
def test_what_passes_is_worth_another_try(error: Exception) -> None:
    """Outages, failovers and full memories end; the same call may succeed later."""
    with pytest.raises(StoreUnavailable), at_the_border():
        raise error


@pytest.mark.parametrize(
    "error",
    [
        theirs.AuthenticationError("wrong password"),
        theirs.NoPermissionError("no permission to run evalsha"),
        theirs.ResponseError("WRONGTYPE Operation against a key"),
    ],
    ids=repr,
)
def test_what_does_not_pass_is_for_somebody_to_look_at(error: Exception) -> None:
    """A wrong password is no outage."""
    with pytest.raises(StoreFailed), at_the_border():
        raise error


def test_errors_of_the_blocks_own_code_pass() -> None:
    """A bug stays a bug."""
    assert not issubclass(KeyError, DRIVER_ERRORS)

    with pytest.raises(KeyError), at_the_border():
        raise KeyError("ours")
