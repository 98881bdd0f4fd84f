"""
Workers that die and pause while broker and database die too: nothing lost, nothing doubled.

A short run over each transport; `make chaos` lets it go on for minutes. The moments come from
a seed, which is printed: `make chaos SEED=…` plays it again, as far as processes can be made to.
"""

import re
from pathlib import Path
from secrets import randbits

import pytest
from tests.acceptance.chaos.__main__ import main
from tests.acceptance.chaos.servers import Kafka, postgres
from tests.acceptance.chaos.storm import Storm
from tests.acceptance.support import tell
from tests.support_kafka import kafka_server

pytestmark = [pytest.mark.acceptance, pytest.mark.storm, pytest.mark.timeout(400)]


@pytest.mark.xdist_group("kafka")
async def test_kafka_and_its_workers_die_and_every_event_counts_once(tmp_path: Path) -> None:
    """Each event one effect, each follow-up sent and applied once, order kept in every key."""
    seed = randbits(32)
    tell(f"replay with make chaos SEED={seed}; the workers' log is {tmp_path / 'workers.log'}")

    with kafka_server(tmp_path / "kafka") as server, postgres() as database:
        report = await Storm(Kafka(server), database, seed, 18, tmp_path).run()

    assert report.harm == []
    assert report.verdict.events > 1000
    assert report.kills >= 2
    assert report.pauses >= 1


def test_valkey_and_its_workers_die_and_every_event_counts_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The same over Valkey streams, by the command that `make chaos` gives; it tells the sum."""
    failed = main(["--only", "valkey", "--minutes", "0.5"])

    told = capsys.readouterr().out.splitlines()
    tell("\n".join(told))
    sums = "chaos: (.*) events, (.*) kills, (.*) pauses, 0 lost, 0 doubled, 0 out of order"
    found = re.fullmatch(sums, told[-1])
    assert not failed
    assert found
    events, kills, pauses = map(int, found.groups())
    assert (events > 1000, kills >= 2, pauses >= 1) == (True, True, True)
