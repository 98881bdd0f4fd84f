"""Single posts: one event a request, from 1, 8 and 32 connections."""

from collections.abc import Sequence

import msgspec
from benchmarks.workload import Event, Workload

PATH = "/api/v1/telemetry/events"


def _body(events: Sequence[Event]) -> bytes:
    (event,) = events
    return msgspec.json.encode(event)


WORKLOADS = [
    Workload(
        name=f"single posts × {connections}",
        path=PATH,
        connections=connections,
        per_request=1,
        share=0.2,
        body=_body,
    )
    for connections in (1, 8, 32)
]
