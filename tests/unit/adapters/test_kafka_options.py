"""Where the brokers are is read before librdkafka waits for them for ever."""

from typing import Any

import pytest

from onefold.adapters.kafka.options import servers
from onefold.errors import InvalidSetting


@pytest.mark.parametrize("given", ["a", "a:9092", "PLAINTEXT://a:1, b.c:2", "[::1]:9092"])
def test_servers_are_taken_as_they_are(given: str) -> None:
    """Names, addresses, several of them."""
    assert servers(given) == given


@pytest.mark.parametrize("given", ["", "a:b", "no such:1", "a,", "http://a/b", ["a:1"], None])
def test_what_is_no_server_is_refused(given: Any) -> None:
    """With what was given, and what would be right."""
    with pytest.raises(InvalidSetting, match="expected host:port"):
        servers(given)
