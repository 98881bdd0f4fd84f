"""A Valkey cluster for tests; the plugin's `valkey` gives the server, each test its own keys."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis

from onefold.testing.servers import Valkey, valkey_server

__all__ = ["Valkey", "started_cluster"]


@contextmanager
def started_cluster() -> Iterator[str]:
    """The URL of a cluster of one node, which refuses keys of different slots as any does."""
    # The bus listens 10 000 ports higher, so the port itself must be low.
    server = valkey_server(lowest=20_000, **{"cluster-enabled": "yes"})
    with redis.Redis(port=server.port) as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
            pass
    try:
        yield f"cluster+valkey://127.0.0.1:{server.port}"
    finally:
        server.stop()
