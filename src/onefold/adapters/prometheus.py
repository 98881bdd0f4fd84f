"""Measures in the text that Prometheus reads."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from onefold.ports.meter import Measure

__all__ = ["CONTENT_TYPE", "exposition"]

CONTENT_TYPE = CONTENT_TYPE_LATEST


class _Once(Collector):
    def __init__(self, measures: Iterable[Measure]) -> None:
        self._by_name: dict[str, list[Measure]] = defaultdict(list)
        for measure in measures:
            self._by_name[measure.name].append(measure)

    def collect(self) -> Iterator[Metric]:
        for name, measures in self._by_name.items():
            yield _family(name, measures)


def _family(name: str, measures: Sequence[Measure]) -> Metric:
    first = measures[0]
    kind = CounterMetricFamily if first.grows else GaugeMetricFamily
    names = sorted(first.labels)
    totals: dict[tuple[str, ...], float] = defaultdict(float)
    for measure in measures:  # the same series from two loops is one
        totals[tuple(measure.labels[label] for label in names)] += measure.value
    family = kind(name, first.help, labels=names)
    for values, total in totals.items():
        family.add_metric(list(values), total)
    return family


def exposition(measures: Iterable[Measure]) -> bytes:
    """The text of one scrape."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(measures))
    return generate_latest(registry)
