"""Errors of the Valkey client become ours at this border; a test walks its classes."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions as theirs

from onefold.errors import OnefoldError, StoreFailed, StoreUnavailable

__all__ = ["DRIVER_ERRORS", "at_the_border", "translate"]

DRIVER_ERRORS: tuple[type[Exception], ...] = (
    theirs.RedisError,
    theirs.RedisClusterException,  # no RedisError, though its name says so
    theirs.ChildDeadlockedError,
    theirs.IncorrectPolicyType,
    OSError,
    TimeoutError,
    EOFError,  # `asyncio.IncompleteReadError`: the peer closed within a reply
)

# Somebody must look: neither the caller nor time will mend these, although some of them are
# written down as connection errors.
_BROKEN = (
    theirs.AuthenticationError,
    theirs.AuthorizationError,
    theirs.ExternalAuthProviderError,
)
_PASSING = (
    theirs.ConnectionError,
    theirs.TimeoutError,
    theirs.ClusterDownError,
    theirs.MasterDownError,
    theirs.TryAgainError,
    theirs.AskError,
    theirs.MovedError,
    theirs.SlotNotCoveredError,
    theirs.ReadOnlyError,  # a replica took the connection; a failover is on its way
    theirs.OutOfMemoryError,  # with `noeviction`: refused before anything was written
    OSError,
    TimeoutError,
    EOFError,
)
# Replies without a class of their own (the server's error codes, first word of the text).
_PASSING_CODES = frozenset(
    {"BUSY", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN"}
    | {"OOM", "READONLY", "MOVED", "ASK"}
)


def translate(error: Exception) -> OnefoldError:
    """Our error for the driver's *error*."""
    text = str(error).splitlines() or [type(error).__name__]
    if isinstance(error, _BROKEN):
        return StoreFailed(text[0])
    if isinstance(error, _PASSING) or text[0].split(" ", 1)[0] in _PASSING_CODES:
        return StoreUnavailable(text[0])
    return StoreFailed(text[0])


@contextmanager
def at_the_border() -> Iterator[None]:
    """Let no driver error pass; errors of the block's own code pass unchanged."""
    try:
        yield
    except DRIVER_ERRORS as error:
        raise translate(error) from error
