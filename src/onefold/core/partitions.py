"""Which partition a key belongs to, and how members share partitions. Pure."""

from collections.abc import Collection
from zlib import crc32


def partition_of(key: bytes, count: int) -> int:
    """
    The partition of *key* among *count*; the same in every process and version.

    CRC-32 (ISO 3309), not Python's `hash`: that one differs from process to process.
    """
    return crc32(key) % count


def quota(member: str, members: Collection[str], topic: str, count: int) -> int:
    """
    How many of a topic's *count* partitions *member* may hold beside the other *members*.

    The quotas of all members add up to *count*, and differ by one at most. So members that
    each give up what is above their quota and take free partitions up to it come to rest
    without talking to each other, and nobody gives up a partition it may keep. Who gets
    one more differs from topic to topic: topics of one partition spread over the members.
    """
    if member not in members:
        return 0
    ranked = sorted(members)
    rank = (ranked.index(member) + crc32(topic.encode())) % len(ranked)
    return count // len(ranked) + (rank < count % len(ranked))
