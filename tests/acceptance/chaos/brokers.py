"""Which broker a URL names; the application and the test that torments it agree on it."""

from datetime import timedelta
from typing import Final

from onefold.adapters.kafka.transport import KafkaTransport
from onefold.adapters.valkey.transport import ValkeyTransport
from onefold.wiring.brokers import Broker

ORDERS: Final = "orders"
APPLIED: Final = "orders.applied"
LEASE: Final = timedelta(seconds=2)  # after which a silent worker's share goes to others

_GROUPS: Final[dict[str, str | int]] = {
    "session.timeout.ms": LEASE // timedelta(milliseconds=1),
    "heartbeat.interval.ms": 200,
    "log_level": 2,  # brokers come and go
}


def transport_of(url: str) -> Broker:
    """A transport to `kafka:host:port` or `valkey://…`."""
    kind, _, rest = url.partition(":")
    if kind == "kafka":
        return KafkaTransport(rest, options=_GROUPS, wait_s=5)
    return ValkeyTransport(url, lease_s=LEASE.total_seconds())
