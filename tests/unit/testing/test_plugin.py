"""The pytest plugin as a stranger's project sees it."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from onefold.testing import plugin

SUITE = """
from onefold.testing.crash.explorer import Scenario
from onefold.testing.crash.invariants import Effect


def test_memory(clock, uow, transport):
    assert transport.features.name == uow.features.name == "memory"
    assert clock.now().tzinfo


def test_race(schedule):
    async def scenario(s):
        seen = []

        class Box:
            async def get(self):
                return len(seen)

            async def put(self):
                seen.append(1)

        async def work(box):
            if await box.get() == 0:
                await box.put()

        box = s.port(Box(), "box")
        await s.together(work(box), work(box))
        assert len(seen) == 1, "twice"

    schedule(scenario, runs=100)


def test_deaths(crash):
    import asyncio

    def make():
        done, marked = [], []

        class Store:
            async def do(self):
                done.append(1)

            async def mark(self):
                marked.append(1)

        async def run(reaper):
            store = reaper.mortal(Store(), "store")
            if not marked:
                await store.mark()
                await store.do()

        async def effects():
            return [Effect(one) for one in done]

        return Scenario(run=run, expected=[Effect(1)], effects=effects)

    asyncio.run(crash(make))
"""


# Of the plug-ins that stand beside ours; the second takes half of what such a run costs.
UNUSED = ("cacheprovider", "hypothesispytest", "asyncio")


def run(folder: Path, *options: str, suite: str = SUITE) -> subprocess.CompletedProcess[str]:
    """Run *suite* as a project of its own."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_theirs.py").write_text(suite)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *_without(*UNUSED), *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def _without(*plugins: str) -> list[str]:
    return [option for name in plugins for option in ("-p", f"no:{name}")]


@pytest.mark.timeout(60)  # two runs of pytest, each a process
def test_a_failure_prints_the_line_that_replays_it(tmp_path: Path) -> None:
    """The test's own id, and the death or the schedule; pasted, it fails the same way."""
    ran = run(tmp_path)

    assert "1 passed" in ran.stdout, ran.stdout
    assert (
        "pytest 'test_theirs.py::test_deaths' --onefold-replay='store.mark#1:after'" in ran.stdout
    )
    line = "pytest 'test_theirs.py::test_race' --onefold-replay='"
    schedule = ran.stdout.partition(line)[2].partition("'")[0]
    again = run(tmp_path, "test_theirs.py::test_race", f"--onefold-replay={schedule}")
    assert f"under schedule {schedule}" in again.stdout
    assert "schedule 1 broke" in again.stdout


@pytest.mark.parametrize("options", [["--onefold-exhaustive"], ["--onefold-seed=7"]])
def test_its_options_reach_the_explorers(tmp_path: Path, options: list[str]) -> None:
    """Deep at night, or with another seed: the race is found either way."""
    ran = run(tmp_path, "-k", "race", *options)

    assert "twice" in ran.stdout


ON_KAFKA = """
import asyncio
import pytest
from onefold.adapters.kafka.transport import KafkaTransport
from onefold.ports.transport import Outgoing


@pytest.mark.parametrize("number", [1, 2])
def test_alone_on_its_topic(kafka, number):
    async def main():
        transport = KafkaTransport(kafka.bootstrap)
        topic = f"{kafka.prefix}.orders"
        await transport.create(topic, partitions=1)
        assert not any(await transport.publish([Outgoing(topic=topic, key=None, value=b"x")]))
        subscription = await transport.subscribe(f"{kafka.prefix}.group", [topic])
        got = []
        while not got:
            got = await subscription.receive(max_messages=10, wait_s=5)
        assert [message.value for message in got] == [b"x"]
        await transport.aclose()

    asyncio.run(main())
"""


@pytest.mark.timeout(90)
def test_each_test_has_a_real_kafka_and_names_of_its_own(tmp_path: Path) -> None:
    """Started once a run, when a test names it; nobody sees another's messages."""
    may_be_missing = "ONEFOLD_REQUIRE_KAFKA" not in os.environ and not shutil.which("mvn")
    if may_be_missing and "ONEFOLD_KAFKA_BOOTSTRAP" not in os.environ:
        pytest.skip("no Kafka: no `mvn` on the path")

    ran = run(tmp_path, suite=ON_KAFKA)

    assert "2 passed" in ran.stdout, ran.stdout


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    """Then its fixtures are not there."""
    ran = run(tmp_path, "-p", "no:onefold")

    assert "fixture 'clock' not found" in ran.stdout


def test_it_loads_nothing_for_those_who_do_not_use_it(tmp_path: Path) -> None:
    """Onefold may be installed beside any test suite without slowing it down."""
    suite = (
        "import sys\n"
        "def test_nothing_is_loaded():\n"
        "    heavy = ('sqlalchemy', 'msgspec', 'redis', 'asyncpg', 'onefold.core')\n"
        "    assert [name for name in heavy if name in sys.modules] == []\n"
    )

    ran = run(tmp_path, "-p", "no:anyio", suite=suite)

    assert ran.returncode == 0, ran.stdout


def test_no_run_uses_the_prefixes_of_another() -> None:
    """In a container each has the same process id, and a server that was given keeps its keys."""
    first, second = (runpy.run_path(plugin.__file__)["_prefix"] for _ in range(2))

    assert len({first(), first(), second(), second()}) == 4
