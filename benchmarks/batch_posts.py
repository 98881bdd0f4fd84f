"""Batch posts: 100 and 1000 events a request, from 1 and 4 connections."""

from collections.abc import Sequence

import msgspec
from benchmarks.workload import Event, Workload

PATH = "/api/v1/telemetry/batch"


def _body(events: Sequence[Event]) -> bytes:
    # The first event's id will do as the batch's: unique, and the same for a seed.
    head = {"batch_id": events[0]["event_id"], "client_version": "2.0.0"}
    return msgspec.json.encode(head | {"events": events})


WORKLOADS = [
    Workload(
        name=f"batches of {size} × {connections}",
        path=PATH,
        connections=connections,
        per_request=size,
        body=_body,
    )
    for size in (100, 1000)
    for connections in (1, 4)
]
