"""The benchmarks run, so that they cannot rot; what they measure is looked at elsewhere."""

import asyncio
from pathlib import Path

import pytest
from benchmarks.deliveries import Receipts, courier, trace
from benchmarks.run import WAYS, WORKLOADS, Options, run, table
from benchmarks.testing import main
from tests.support_valkey import Valkey

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.deadlines import SqlDeadlines
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.adapters.valkey.connection import connect
from onefold.adapters.valkey.deadlines import ValkeyDeadlines
from onefold.core.clock import SystemClock
from onefold.ports.sink import Parcel


@pytest.mark.timeout(120)
def test_the_benchmarks_run() -> None:
    """A few events go every way, and the table has a line for each workload and database."""
    samples = asyncio.run(run(Options(reps=1, events=50, once=True, save=False)))

    shown = table(samples)

    workloads = {workload for _, workload, _ in samples}
    assert {database for database, _, _ in samples} == {"SQLite", "PostgreSQL"}
    assert workloads >= {w.name for w in WORKLOADS if w.connections * w.per_request <= 1000}
    assert len(samples) == 2 * len(workloads) * len(WAYS)
    assert all(shown.count(f"\n{workload} ") == 2 for workload in workloads)


@pytest.mark.timeout(120)
def test_the_benchmark_of_the_test_kit_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few schedules of each kind, and every death."""
    monkeypatch.setattr("sys.argv", ["testing", "--once"])

    main()

    assert capsys.readouterr().out.count("schedules:") == 3


@pytest.mark.timeout(120)
async def test_the_benchmark_of_deliveries_runs(
    postgres_url: str, valkey: Valkey, tmp_path: Path
) -> None:
    """A few jobs go each of our ways, on both servers; the peers have an environment of theirs."""
    product = await trace(postgres_url, None, tmp_path, 20)
    through_valkey = await trace(postgres_url, valkey.url, tmp_path, 20)
    uow, server = SqlUnitOfWork(Database(postgres_url)), connect(valkey.url)
    try:
        alone = await courier(SqlDeadlines(uow), tmp_path, 20)
        there = await courier(ValkeyDeadlines(server, prefix=valkey.prefix), tmp_path, 20)
    finally:
        await uow.aclose()
        await server.aclose()

    runs = (product, through_valkey, alone, there)
    assert all(each.work > each.both > 0 for each in runs)


async def test_a_run_that_loses_or_doubles_is_not_measured(tmp_path: Path) -> None:
    """Receipts are counted, and told apart."""
    sink = Receipts(tmp_path)
    now = SystemClock().now()
    for id_ in ("0", "1", "1"):
        parcel = Parcel(message_id=id_, body=b"", occurred_at=now, attempt=1)
        await sink.send(parcel, now=now)

    for wrong in (2, 3, 4):
        with pytest.raises(AssertionError):
            sink.require(wrong)
    await sink.aclose()
