"""Applications that lose, double or disorder: the verdict on chaos tells each from the honest."""

import asyncio
import signal
from pathlib import Path
from random import Random

import pytest
from tests.acceptance.chaos.plan import Feed
from tests.acceptance.chaos.servers import valkey
from tests.acceptance.chaos.stage import Stage, send
from tests.acceptance.chaos.verdict import Verdict, judge
from tests.support_fork import ForkHost

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(90)]

APP = "tests.acceptance.chaos.twins:app"
KEYS = 2


FAREWELLS = "SELECT count(DISTINCT key) FROM effects WHERE consumer = 'tell' AND number = 11"
EFFECTS = "SELECT count(DISTINCT event_id) FROM effects WHERE consumer = 'tell'"


async def _verdict(
    host: ForkHost,
    postgres_url: str,
    home: Path,
    twin: str,
    *,
    until: str = FAREWELLS,
    count: int = KEYS,
) -> Verdict:
    """On what is left when a worker died in the middle, and another did what it could."""
    feed = Feed(Random(1))
    with valkey(home / "valkey") as broker:
        stage = Stage(broker.url, postgres_url, home, host)
        async with stage.set() as transport:
            worker = stage.worker(APP, CHAOS_TWIN=twin)
            moods = ["plain", "plain", "flaky", *["plain"] * 7]
            await send(
                transport, feed.these(*((f"k{n % KEYS}", moods[n // KEYS]) for n in range(20)))
            )
            running = asyncio.create_task(worker.run())
            try:
                await worker.died.wait()
                await send(transport, feed.farewells(KEYS))
                await _until_told(stage, until, count)
            finally:
                worker.leave()
                await running
            assert [life.code for life in worker.lives] == [-signal.SIGKILL, 0]
            return judge(feed.sent, await stage.left(transport))


async def _until_told(stage: Stage, until: str, count: int) -> None:
    """The second consumer has come so far: by default, to the farewell of every key."""
    while await stage.sql("fetchval", until) < count:  # noqa: ASYNC110 (other processes)
        await asyncio.sleep(0.1)


async def test_an_honest_application_survives_the_same_death(
    host: ForkHost, postgres_url: str, tmp_path: Path
) -> None:
    """What the twins are caught at, the application itself does not do."""
    assert (await _verdict(host, postgres_url, tmp_path, "honest")).harm == []


async def test_an_effect_committed_beside_is_told_as_doubled(
    host: ForkHost, postgres_url: str, tmp_path: Path
) -> None:
    """Its process died between the two commits, so the event had its effect again."""
    verdict = await _verdict(host, postgres_url, tmp_path, "commits beside")

    assert "2 effects of k1-1 at apply" in verdict.doubled
    assert verdict.lost == []


async def test_a_broker_told_before_the_commit_is_told_as_lost(
    host: ForkHost, postgres_url: str, tmp_path: Path
) -> None:
    """Its process died between the two, so nobody got the event again."""
    verdict = await _verdict(host, postgres_url, tmp_path, "settles first")

    assert "no effect of k1-1 at apply" in verdict.lost
    assert verdict.doubled == []


async def test_a_key_that_goes_on_without_its_failed_event_is_told(
    host: ForkHost, postgres_url: str, tmp_path: Path
) -> None:
    """
    Nothing is lost or doubled then; only the order tells.

    Of the key that the process died with: its flaky event cannot have failed before.
    """
    everything = 20 + KEYS  # what goes on without a failed event overtakes it
    verdict = await _verdict(
        host, postgres_url, tmp_path, "forgets order", until=EFFECTS, count=everything
    )

    assert [line for line in verdict.out_of_order if line.startswith("k1-3 at apply")]
    assert verdict.lost == verdict.doubled == []
