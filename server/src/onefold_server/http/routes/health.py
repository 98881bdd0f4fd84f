"""
Whether this server can do its work. Open to all: it tells nothing of anybody.

Liveness (`/livez`) fails only when the event loop does. Readiness (`/healthz`, and `/readyz`
for probes) fails when the database cannot be written, or a consumer of this process is dead.
"""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request

from onefold.engine.consumer_loop import ConsumerState
from onefold.engine.loop import Loop
from onefold.errors import OnefoldError
from onefold_server.http.auth import Served
from onefold_server.http.problems import RETRY_AFTER_S, problem
from onefold_server.http.replies import Reply

router = APIRouter(tags=["health"])


@router.get("/healthz")
@router.get("/readyz")
async def healthz(request: Request, onefold: Served) -> Reply:
    """
    200 when the database was just written and read and consumers work, else 503 and why.
    """
    try:
        await onefold.check()
    except OnefoldError as error:
        wait = {"Retry-After": str(RETRY_AFTER_S)}
        return problem(request, 503, error.code, _why(error), headers=wait)
    states = [state for worker in onefold.workers for state in worker.states()]
    loops = [loop for worker in onefold.workers for loop in worker.loops]
    status = _status(states, loops)
    body: dict[str, Any] = {
        "status": status,
        "database": onefold.uow.features.name,
    }
    if states:
        body["consumers"] = [_consumer(state) for state in states]
    if loops:
        body["loops"] = [_loop(loop) for loop in loops]
    return Reply(body, status_code=200 if status == "ok" else 503)


@router.get("/livez")
async def livez() -> Reply:
    """200 for as long as the event loop answers."""
    return Reply({"status": "ok"})


def _why(error: OnefoldError) -> str:
    """Without the advice, which names files: this is read by anybody."""
    reason = getattr(error, "reason", None)
    return f"{error.code}: {reason}" if reason else str(error)


def _status(states: Sequence[ConsumerState], loops: Sequence[Loop]) -> str:
    if not all(state.alive for state in states):
        return "consumer_dead"
    return "ok" if all(loop.ready for loop in loops) else "loop_dead"


def _loop(loop: Loop) -> dict[str, Any]:
    error = loop.last_error
    return {
        "name": loop.name,
        "running": loop.ready,
        "errors": loop.errors,
        "last_error": None if error is None else getattr(error, "code", type(error).__name__),
    }


def _consumer(state: ConsumerState) -> dict[str, Any]:
    return {
        "name": state.name,
        "running": state.running,
        "alive": state.alive,
        "partitions": [
            {"topic": partition.topic, "partition": partition.number, "lag": lag}
            for partition, lag in sorted(state.partitions.items())
        ],
        "lag": state.lag,
        "seconds_since_progress": state.since_progress_s,
        "last_error": state.last_error,
        "restarts": state.restarts,
        "counts": vars(state.counts),
    }
