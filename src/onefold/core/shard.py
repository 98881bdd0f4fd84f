"""Which of the outbox's shards an event belongs to. Pure."""

from typing import Final
from zlib import crc32

from onefold.core.envelope import Event

SHARDS: Final = 16  # as many relays can work side by side; changing it is a migration


def shard_of(event: Event) -> int:
    """0 to 15; the same for all events of one key, so that one relay at a time has them all."""
    return crc32((event.key if event.key is not None else event.identity).encode()) % SHARDS
