"""
Workers that die and pause while broker and database die too: nothing lost, nothing doubled.

A short run over each transport; `make chaos` lets it go on for minutes. The moments come from
a seed, which is printed: `make chaos SEED=…` plays it again, as far as processes can be made to.
"""

import os
from pathlib import Path
from secrets import randbits

import pytest
from tests.acceptance.chaos.servers import Broker, Kafka, postgres, valkey
from tests.acceptance.chaos.storm import Storm
from tests.acceptance.support import tell
from tests.support_kafka import kafka_server

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where servers and workers keep their files; pytest keeps those of failed runs."""
    return tmp_path


async def _survives(broker: Broker, home: Path, *, lasts_s: float) -> None:
    seed = int(os.environ.get("ONEFOLD_SEED", "0")) or randbits(32)
    tell(f"replay with ONEFOLD_SEED={seed}; the workers' log is {home / 'workers.log'}")
    with postgres() as database:
        report = await Storm(broker, database, seed, lasts_s, home).run()
    tell(report.line)
    tell(report.details)

    assert report.harm == []
    assert report.verdict.events > 1000
    assert report.kills >= 2
    assert report.pauses >= 1


@pytest.mark.xdist_group("kafka")
async def test_kafka_and_its_workers_die_and_every_event_counts_once(home: Path) -> None:
    """Each event one effect, each follow-up sent and applied once, order kept in every key."""
    with kafka_server(home / "kafka") as server:
        await _survives(Kafka(server), home, lasts_s=18)


async def test_valkey_and_its_workers_die_and_every_event_counts_once(home: Path) -> None:
    """The same over Valkey streams."""
    with valkey(home / "valkey") as broker:
        await _survives(broker, home, lasts_s=14)
