"""What tests on Kafka share: a real broker, and groups that miss their dead soon."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from onefold.testing.kafka.server import KafkaMissing, KafkaServer

# Members that die are missed after two seconds, not after the 45 of production; after one, a busy
# machine misses the living too.
FAST_GROUPS: dict[str, str | int] = {
    "session.timeout.ms": 2000,
    "heartbeat.interval.ms": 100,
    "log_level": 2,  # brokers come and go
}


@contextmanager
def kafka_server(home: Path) -> Iterator[KafkaServer]:
    """
    A real broker of its own, to be killed and restarted; stopped at the end.

    Where there can be none the test is skipped, unless ONEFOLD_REQUIRE_KAFKA=1: it fails.
    """
    try:
        server = KafkaServer(home, session_s=1.0)
        server.start()
    except KafkaMissing as error:
        if os.environ.get("ONEFOLD_REQUIRE_KAFKA") == "1":
            raise
        pytest.skip(f"no Kafka: {error}; ONEFOLD_KAFKA_BOOTSTRAP may name one")
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def kafka_bootstrap(home: Path) -> Iterator[str]:
    """Where a real broker listens: the one that ONEFOLD_KAFKA_BOOTSTRAP names, or our own."""
    if named := os.environ.get("ONEFOLD_KAFKA_BOOTSTRAP"):
        yield named
        return
    with kafka_server(home) as server:
        yield server.bootstrap
