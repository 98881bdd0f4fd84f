"""Replies of the server, however the network cuts them."""

from typing import Any

import pytest
from redis.exceptions import NoScriptError, ResponseError

from onefold.adapters.valkey.connection import _More, packed, parsed

REPLIES: list[tuple[bytes, Any]] = [
    (b"+OK\r\n", b"OK"),
    (b":-12\r\n", -12),
    (b"$0\r\n\r\n", b""),
    (b"$6\r\na\r\nb\x00\xff\r\n", b"a\r\nb\x00\xff"),
    (b"$-1\r\n", None),
    (b"*-1\r\n", None),
    (b"*0\r\n", []),
    (b"*3\r\n$1\r\nx\r\n*1\r\n:7\r\n$-1\r\n", [b"x", [7], None]),
]


@pytest.mark.parametrize(("wire", "value"), REPLIES, ids=lambda each: repr(each)[:20])
def test_a_reply_is_read_whole_or_not_at_all(wire: bytes, value: Any) -> None:
    """Cut anywhere, it waits for more; complete, it ends where it ends."""
    for cut in range(len(wire)):
        with pytest.raises(_More):
            parsed(wire[:cut], 0)

    assert parsed(b"??" + wire + b"+next", 2) == (value, 2 + len(wire))


@pytest.mark.parametrize(
    ("wire", "kind"),
    [(b"-NOSCRIPT No matching script.\r\n", NoScriptError), (b"-ERR wrong\r\n", ResponseError)],
)
def test_an_error_is_a_value(wire: bytes, kind: type[Exception]) -> None:
    """It belongs to one command; the connection goes on."""
    error, end = parsed(wire, 0)

    assert type(error) is kind
    assert str(error) == wire[1:-2].decode()
    assert end == len(wire)


def test_a_command_is_packed_as_bulk_strings() -> None:
    """Any bytes pass."""
    assert packed((b"SET", b"k", b"a\r\nb")) == b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\na\r\nb\r\n"
