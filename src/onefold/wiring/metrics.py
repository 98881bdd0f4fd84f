"""Renders measures in Prometheus' text format. Needs `prometheus-client`."""

from collections.abc import Callable, Iterable, Sequence

from onefold.adapters.prometheus import CONTENT_TYPE as METRICS_TYPE
from onefold.adapters.prometheus import exposition
from onefold.engine.meters import gathered
from onefold.ports.meter import Meter

Meters = Sequence[Meter]
Texts = Iterable[Callable[[], bytes]]

__all__ = ["METRICS_TYPE", "Meters", "Texts", "scraped"]


async def scraped(meters: Meters, texts: Texts = ()) -> bytes:
    """What Prometheus is answered: measures, and what keeps a registry of its own."""
    return exposition(await gathered(meters)) + b"".join(text() for text in texts)
