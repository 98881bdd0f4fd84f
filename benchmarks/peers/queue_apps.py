"""
The applications that the command lines of Celery, dramatiq and taskiq load.

Which one, where its broker is and where receipts go, says the environment.
"""

import os
from typing import Any

from receipts import received


def celery(broker: str) -> Any:
    """Celery at what its guide "Optimizing" says of many short tasks: no results, far ahead."""
    from celery import Celery

    app = Celery("bench", broker=broker)
    app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=128)
    note = received()

    @app.task(name="job")
    def job(n: int) -> None:
        note(n)

    return app


def dramatiq(broker: str) -> Any:
    """dramatiq without what a no-op does not need: no results, no time limits, no metrics."""
    import dramatiq as library
    from dramatiq.brokers.redis import RedisBroker
    from dramatiq.middleware import Retries

    made = RedisBroker(url=broker, middleware=[Retries()])
    library.set_broker(made)
    note = received()

    @library.actor(actor_name="job")
    def job(n: int) -> None:
        note(n)

    return made


def taskiq(broker: str, *, acknowledged: bool) -> Any:
    """taskiq on a list, which is lost with its worker, or on a stream, which is acknowledged."""
    from taskiq_redis import ListQueueBroker, RedisStreamBroker

    made: Any
    if acknowledged:
        made = RedisStreamBroker(url=broker, xread_count=500)
    else:
        made = ListQueueBroker(url=broker)
    note = received()

    @made.task(task_name="job")
    async def job(n: int) -> None:
        note(n)

    return made


def _made() -> Any:
    broker = os.environ["BENCH_BROKER"]
    which = os.environ["BENCH_PEER"]
    if which == "celery":
        return celery(broker)
    if which == "dramatiq":
        return dramatiq(broker)
    return taskiq(broker, acknowledged=which == "taskiq-stream")


app = _made()
