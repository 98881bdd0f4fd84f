"""
In which order a poll is handled when somebody began some of it before, and did not end it.

Theory. Most of those who did not end were stopped: they died of a deployment, not of a
message. To begin each of their messages by itself costs two transactions a message, so that
is kept for when it is needed. Suspects are handled in pieces, each noted before it is begun;
a message that kills its process is then found in a piece, whose messages are cut into pieces
again, and at last begun one by one, each start counted. What one call noted together is cut
together. So of n messages a killer costs one death for the poll, one for each cut, and its
`max_attempts`; one cut for up to a thousand messages, two for up to a million.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from math import isqrt
from typing import Final

from onefold.engine.delivery import Delivery
from onefold.ports.ledger import Begun
from onefold.ports.transport import Partition

ALONE_AT_MOST: Final = 32  # messages; twice as many transactions, and no further death


def turns_of(fresh: Sequence[Delivery], begun: Collection[Begun]) -> list[list[Delivery]]:
    """
    What to handle one after the other, each turn noted before it is begun; at least one.

    Each partition keeps its order. Deliveries that must be begun by themselves are marked.

    Args:
        fresh: What was received.
        begun: What was noted of it before.
    """
    if not begun:
        return [list(fresh)]
    suspected = {each.span.partition: each for each in begun}
    of_partition: dict[Partition, list[Delivery]] = defaultdict(list)
    for delivery in fresh:
        of_partition[delivery.message.partition].append(delivery)
    innocent: list[Delivery] = []
    suspects: dict[str, list[Delivery]] = defaultdict(list)
    behind: list[Delivery] = []
    for partition, deliveries in of_partition.items():
        start, end = _suspected(deliveries, suspected.get(partition))
        innocent += deliveries[:start]
        if start < end:
            suspects[suspected[partition].token] += deliveries[start:end]
        behind += deliveries[end:]
    pieces = [piece for together in suspects.values() for piece in _pieces(together)]
    return [turn for turn in (innocent, *pieces, behind) if turn]


def _suspected(deliveries: Sequence[Delivery], begun: Begun | None) -> tuple[int, int]:
    """From where to where: all between two suspects is one too, since order is kept."""
    if begun is None:
        return len(deliveries), len(deliveries)
    _, first, last = begun.span
    found = [i for i, d in enumerate(deliveries) if first <= d.message.position <= last]
    return (found[0], found[-1] + 1) if found else (len(deliveries), len(deliveries))


def _pieces(together: list[Delivery]) -> Iterable[list[Delivery]]:
    if len(together) <= ALONE_AT_MOST:
        for delivery in together:
            delivery.alone = True
        return [together]
    size = max(ALONE_AT_MOST, isqrt(len(together)))
    return [together[start : start + size] for start in range(0, len(together), size)]
