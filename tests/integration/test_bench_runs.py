"""The benchmarks run, so that they cannot rot; what they measure is looked at elsewhere."""

import asyncio

import pytest
from benchmarks.run import WAYS, WORKLOADS, Options, run, table
from benchmarks.testing import main


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
