"""
Counts and times the delivery attempts of this process; the labels are destination names.

Deliveries that wait, are held or are dead are counted in the database, by
`wiring.trades.delivery_meter`.
"""

from collections.abc import Mapping
from typing import Any

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)

from onefold.ports.sink import OutcomeKind, SendOutcome

_DELAYS = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600, 7 * 24 * 3600)
_DURATIONS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class TraceMetrics:
    """Counts settled attempts."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._registry = registry
        self.pushed = Counter(
            "trust_traces_pushed_total",
            "Attempts that ended, by what became of the delivery",
            ["adapter", "status"],
            registry=registry,
        )
        self.failed = Counter(
            "trust_trace_fail_total",
            "Attempts that did not deliver, by reason",
            ["adapter", "reason"],
            registry=registry,
        )
        self.delay = Histogram(
            "trust_trace_delay_seconds",
            "From when a delivery might leave to when it was received",
            ["adapter"],
            buckets=_DELAYS,
            registry=registry,
        )
        self.duration = Histogram(
            "trust_trace_post_duration_seconds",
            "How long an attempt took",
            ["adapter"],
            buckets=_DURATIONS,
            registry=registry,
        )

    def text(self) -> bytes:
        """What Prometheus is answered."""
        return generate_latest(self._registry)

    def watch(
        self, adapter: str, delivery: Mapping[str, Any], outcome: SendOutcome, seconds: float
    ) -> None:
        """One attempt ended and was recorded."""
        again = "waiting" if outcome.kind is OutcomeKind.WAITING else "retry"
        status = {"pending": again}.get(delivery["state"], delivery["state"])
        self.pushed.labels(adapter, status).inc()
        self.duration.labels(adapter).observe(max(seconds, 0.0))
        if outcome.kind is OutcomeKind.DELIVERED:
            late = (delivery["delivered_at"] - delivery["not_before"]).total_seconds()
            self.delay.labels(adapter).observe(max(late, 0.0))
        elif (
            outcome.kind is not OutcomeKind.WAITING
        ):  # a look that has not seen it yet failed in nothing
            self.failed.labels(adapter, outcome.reason[:40]).inc()
