"""`onefold ingest` is stopped in the middle, and run again."""

import json
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import PIPE
from typing import Any
from uuid import UUID

import pytest
from tests.support_fork import ForkHost

pytestmark = pytest.mark.acceptance

ROWS = 6_000
ROW_BYTES = 400  # so that a pipe, which holds 64 KiB, holds no thousand rows
STUDENT, SESSION = UUID(int=1), UUID(int=2)


def rows() -> bytes:
    """A log without ids; every second line is there twice."""
    start = datetime(2026, 1, 31, tzinfo=UTC)
    lines = []
    for number in range(ROWS):
        at = start + timedelta(seconds=number // 2)
        event = {
            "student_id": str(STUDENT),
            "session_id": str(SESSION),
            "event_type": "pause",
            "timestamp": at.isoformat(),
            "data": {"filling": "x" * 200},
        }
        lines.append(json.dumps(event).ljust(ROW_BYTES - 1) + "\n")
    return "".join(lines).encode()


def ingest(database_url: str, *arguments: str) -> list[str]:
    return ["ingest", *arguments, "--database", database_url, "--create-school", "A"]


def stopped(
    host: ForkHost, database_url: str, folder: Path, after_rows: int, number: signal.Signals
) -> Any:
    """What an ingest that is stopped after having read some rows leaves with."""
    command = ingest(database_url, "-", "--source", "log.jsonl", "--json")
    with host.popen(*command, cwd=folder, stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
        assert process.stdin
        assert process.stdout
        # Writing returns when all but what the pipe holds was read.
        process.stdin.write(rows()[: after_rows * ROW_BYTES])
        process.stdin.flush()
        process.send_signal(number)
        told = process.stdout.read()
        code = process.wait()
    return code, told


def completed(host: ForkHost, database_url: str, folder: Path) -> Any:
    """The total of an ingest of the whole file."""
    (folder / "log.jsonl").write_bytes(rows())
    done = host.run(*ingest(database_url, "log.jsonl", "--json"), cwd=folder)
    done.check_returncode()
    return json.loads(done.stdout)["total"]


def features(host: ForkHost, database_url: str) -> Any:
    done = host.run("features", str(SESSION), "--json", "--database", database_url)
    done.check_returncode()
    return json.loads(done.stdout)


@pytest.mark.timeout(120)
def test_an_ingest_that_was_killed_goes_on_where_it_was(
    host: ForkHost, database_url: str, tmp_path: Path
) -> None:
    """kill -9 in the middle, twice: nothing is lost, nothing is there twice."""
    for after_rows in (1_500, 3_333):
        code, _ = stopped(host, database_url, tmp_path, after_rows, signal.SIGKILL)
        assert code == -signal.SIGKILL

    total = completed(host, database_url, tmp_path)

    assert total["applied"] + total["repeated"] == total["rows"] == ROWS
    assert total["repeated"] >= 3_000  # batches of 1000 that were read were committed
    assert total["applied"] > 0
    assert features(host, database_url)["event_count"] == ROWS


@pytest.mark.timeout(120)
def test_an_ingest_that_was_interrupted_tells_what_it_did(
    host: ForkHost, database_url: str, tmp_path: Path
) -> None:
    """Ctrl-C leaves with the usual code; what the table says is there, and no more."""
    code, told = stopped(host, database_url, tmp_path, 2_500, signal.SIGINT)
    before = json.loads(told)["total"]["applied"]

    total = completed(host, database_url, tmp_path)

    assert code == 130
    assert json.loads(told)["interrupted"] is True
    assert before >= 2_000
    assert (total["repeated"], total["applied"]) == (before, ROWS - before)


def test_an_ingest_waiting_for_input_stops_at_once(
    host: ForkHost, sqlite_url: str, tmp_path: Path
) -> None:
    """Ctrl-C is heard though no more rows come, and the way to go on is told."""
    command = ingest(sqlite_url, "-", "--source", "log.jsonl")
    with host.popen(*command, cwd=tmp_path, stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
        assert process.stdin
        assert process.stderr
        process.stdin.write(rows()[: 1_200 * ROW_BYTES])
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        told = process.stderr.read().decode()

    assert process.returncode == 130
    assert told == (
        "onefold: stopped; running the same command again goes on, and counts nothing twice\n"
    )
