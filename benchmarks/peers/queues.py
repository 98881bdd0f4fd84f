"""
The job queues of `benchmarks/deliveries.py`, each in processes of its own.

    .venv-peers/bin/python benchmarks/peers/queues.py <peer> <url> <count> <receipts>

Jobs 0 to count-1 are enqueued in the peer's own batches, then a worker is started; each job
appends a receipt (`receipts.received`). Printed: how long enqueueing took, and when the
peer had recorded the last job as done, on the clock of the receipts, where it records that.
The caller counts receipts, and the time from the first of them.
"""

import asyncio
import json
import logging
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

from receipts import RECEIPT, received

logging.disable(logging.CRITICAL)
HERE = Path(__file__).parent
BATCH = 500
Told = dict[str, float]


async def procrastinate(url: str, count: int) -> Told:
    """procrastinate: `batch_defer_async`, one worker with 20 jobs at once, a pool of 20."""
    from procrastinate import App, PsycopgConnector

    app = App(connector=PsycopgConnector(conninfo=url, min_size=10, max_size=20))
    receipt = received()

    @app.task(queue="bench")
    async def job(n: int) -> None:
        receipt(n)

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        began = perf_counter()
        for start in range(0, count, BATCH):
            some = range(start, min(start + BATCH, count))
            await job.batch_defer_async(*({"n": n} for n in some))
        enqueued = perf_counter() - began
        # What autovacuum would do within its first minute.
        await app.connector.execute_query_async("ANALYZE procrastinate_jobs")
        await app.run_worker_async(
            wait=False, concurrency=20, install_signal_handlers=False, queues=["bench"]
        )
        done = perf_counter()
        jobs = await app.job_manager.list_jobs_async(status="succeeded")
        assert len(list(jobs)) == count, "not all succeeded"
    return {"enqueue": enqueued, "done": done}


async def pgqueuer(url: str, count: int) -> Told:
    """pgqueuer: `enqueue` of lists, `pgq autovac`, five managers as its own bench has."""
    import asyncpg
    from pgqueuer.db import AsyncpgDriver
    from pgqueuer.models import Job
    from pgqueuer.qm import QueueManager
    from pgqueuer.queries import Queries
    from pgqueuer.types import QueueExecutionMode

    managers, batch = 5, 250
    connections = [await asyncpg.connect(url) for _ in range(managers + 1)]
    drivers = [AsyncpgDriver(connection) for connection in connections]
    queries = Queries(drivers[-1])
    await queries.install()
    await queries.optimize_autovacuum()
    receipt = received()
    queues = [QueueManager(Queries(driver)) for driver in drivers[:-1]]
    for queue in queues:

        @queue.entrypoint("job")
        async def job(job: Job) -> None:
            receipt(int(job.payload or b"-1"))

    began = perf_counter()
    for start in range(0, count, BATCH):
        some = [b"%d" % n for n in range(start, min(start + BATCH, count))]
        await queries.enqueue(["job"] * len(some), some, [0] * len(some))
    enqueued = perf_counter() - began
    await connections[-1].execute("ANALYZE pgqueuer")
    drain = QueueExecutionMode.drain
    await asyncio.gather(*(queue.run(batch_size=batch, mode=drain) for queue in queues))
    done = perf_counter()
    log = "SELECT count(DISTINCT job_id) FROM pgqueuer_log WHERE status = 'successful'"
    assert await connections[-1].fetchval(log) == count, "not all succeeded"
    for connection in connections:
        await connection.close()
    return {"enqueue": enqueued, "done": done}


async def arq(url: str, count: int) -> Told:
    """arq: 500 `enqueue_job` at a time; a burst worker, 1000 jobs at once, no results kept."""
    from arq import create_pool
    from arq.connections import RedisSettings
    from arq.worker import Worker, func

    settings = RedisSettings.from_dsn(url)
    pool = await create_pool(settings)
    receipt = received()

    async def job(_context: Any, n: int) -> None:
        receipt(n)

    began = perf_counter()
    for start in range(0, count, BATCH):
        some = range(start, min(start + BATCH, count))
        await asyncio.gather(*(pool.enqueue_job("job", n) for n in some))
    enqueued = perf_counter() - began
    worker = Worker(
        functions=[func(job, name="job")],
        redis_settings=settings,
        burst=True,
        max_jobs=1000,
        keep_result=0,
        poll_delay=0.01,
        handle_signals=False,
    )
    await worker.main()
    done = perf_counter()
    await worker.close()
    await pool.aclose()
    return {"enqueue": enqueued, "done": done}


async def taskiq(url: str, count: int, *, acknowledged: bool) -> Told:
    """taskiq-redis: 500 `kiq` at a time; a worker process a core, 1000 tasks at once."""
    import queue_apps

    del url, acknowledged  # queue_apps has read the environment
    await queue_apps.app.startup()
    job = queue_apps.app.find_task("job")
    began = perf_counter()
    for start in range(0, count, BATCH):
        some = range(start, min(start + BATCH, count))
        await asyncio.gather(*(job.kiq(n) for n in some))
    enqueued = perf_counter() - began
    options = ("--workers", "2", "--max-async-tasks", "1000", "--log-level", "ERROR")
    with worker("taskiq", "worker", "queue_apps:app", *options):
        await asyncio.to_thread(wait_for, count)
    await queue_apps.app.shutdown()
    return {"enqueue": enqueued}


def dramatiq(url: str, count: int) -> Told:
    """dramatiq: one `enqueue` a job; two processes of eight threads, 500 prefetched by each."""
    import queue_apps

    del url
    actor = queue_apps.app.get_actor("job")
    began = perf_counter()
    for n in range(count):
        queue_apps.app.enqueue(actor.message(n))
    enqueued = perf_counter() - began
    with worker("dramatiq", "queue_apps", "--processes", "2", "--threads", "8"):
        wait_for(count)
    return {"enqueue": enqueued}


def celery(url: str, count: int) -> Told:
    """Celery: one `apply_async` a job on one connection; the prefork pool, a process a core."""
    import queue_apps

    del url
    job = queue_apps.app.tasks["job"]
    began = perf_counter()
    with queue_apps.app.producer_pool.acquire(block=True) as producer:
        for n in range(count):
            job.apply_async((n,), producer=producer)
    enqueued = perf_counter() - began
    options = ("-A", "queue_apps:app", "worker", "--pool", "prefork", "--concurrency", "2")
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "ERROR")
    with worker("celery", *options, *quiet):
        wait_for(count)
    return {"enqueue": enqueued}


@contextmanager
def worker(module: str, *words: str) -> Any:
    """A worker by its own command line."""
    command = [sys.executable, "-m", module, *words]
    environment = os.environ | {"dramatiq_queue_prefetch": "500"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=HERE, env=environment, **quiet) as process:  # type: ignore[call-overload]
        try:
            yield
        finally:
            process.terminate()


def wait_for(count: int, most_s: float = 120.0) -> None:
    """Until so many receipts are there."""
    until = perf_counter() + most_s
    while Path(os.environ["BENCH_RECEIPTS"]).stat().st_size < count * RECEIPT.size:
        assert perf_counter() < until, "not all came"
        sleep(0.02)


def main() -> None:
    """One peer, once."""
    peer, url, count, receipts = sys.argv[1:]
    os.environ |= {"BENCH_PEER": peer, "BENCH_BROKER": url, "BENCH_RECEIPTS": receipts}
    Path(receipts).touch()
    many = int(count)
    if peer == "pgqueuer":
        import uvloop  # as its own command line does

        told = uvloop.run(pgqueuer(url, many))
    elif peer in {"procrastinate", "arq"}:
        told = asyncio.run(globals()[peer](url, many))
    elif peer.startswith("taskiq"):
        told = asyncio.run(taskiq(url, many, acknowledged=peer == "taskiq-stream"))
    else:
        told = globals()[peer](url, many)
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
