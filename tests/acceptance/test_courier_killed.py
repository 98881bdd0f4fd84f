"""
Couriers killed by SIGKILL, at every step and at moments of a seed; real bytes, both databases.

Nothing is lost; every attempt of a delivery is the same message, byte for byte; none is early;
and the receipts say what the receiver saw.
"""

import asyncio
import hashlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from secrets import randbits
from typing import Any

import pytest
from pydantic import SecretStr
from tests.acceptance.support import PATIENCE_S, tell
from tests.support import School, new_school, rows
from tests.support_fork import AsyncForked, ForkHost
from tests.support_receiver import Received, Receiver, receiving
from tests.support_trace import files, trade

from onefold.adapters.sql.schema import deadlines
from onefold.core.ids import derived_id
from onefold.testing.clock import ManualClock
from onefold_server.domains.trades.tables import attempts, deliveries, destinations
from onefold_server.installation import Installation, build
from onefold_server.settings import Settings

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

LEASE_S = 2.0  # what a dead one held is soon taken over, and a busy machine is no dead one
PLACES = ("hook", "folder")
KILLS = 8
COURIER = "tests.acceptance.courier:main"
FAILING: list[int | str] = [503, "reset"]
LOST = ("was lost", "is not one whole file")  # whichever destination came first


@dataclass
class Couriers:
    """Courier processes over one database, a receiver and a folder."""

    host: ForkHost
    order: dict[str, Any]
    home: Path
    killed: int = 0
    runs: int = 0

    async def go(self, **how: Any) -> AsyncForked:
        """Start one."""
        self.runs += 1
        order = self.order | {"seen": str(self.home / f"seen-{self.runs}"), "trades": []} | how
        with (self.home / "couriers.log").open("ab") as log:
            return await self.host.start(json.dumps(order), call=COURIER, stderr=log)

    async def run(self, **how: Any) -> list[str] | None:
        """One courier from its start to its end: the boundaries passed; None if it died."""
        code = await (await self.go(**how)).wait()
        if code == 0:
            seen: list[str] = json.loads((self.home / f"seen-{self.runs}").read_text())
            return seen
        assert code == -signal.SIGKILL, (self.home / "couriers.log").read_text()
        self.killed += 1
        return None

    async def kill(self, courier: AsyncForked) -> None:
        """SIGKILL, wherever it is."""
        courier.kill()
        assert await courier.wait() == -signal.SIGKILL
        self.killed += 1


@dataclass
class World:
    """One school with two destinations, and those who deliver to them."""

    onefold: Installation
    school: School
    there: Receiver
    couriers: Couriers
    out: Path
    arrived: list[tuple[float, str]] = field(default_factory=list)
    real_time: bool = False

    async def place(self, name: str, sink: str, **how: Any) -> None:
        """A destination, and the consent of the one user."""
        service, admin = self.onefold.trace.service, self.school.admin
        await service.create_destination(admin, name, sink, **how)
        await service.subscribe(
            admin, "user-ada", name, profile="full", consent_version="1", delay_s=0
        )

    def note(self, one: Received) -> None:
        """When it came, by this machine's clock."""
        self.arrived.append((time.time(), one.headers["webhook-id"]))

    async def flaws(self) -> list[str]:
        """What is not as it must be, now that all is over."""
        sent = await rows(self.onefold, deliveries)
        tried = await rows(self.onefold, attempts)
        places = {row["id"]: row["name"] for row in await rows(self.onefold, destinations)}
        left = await rows(self.onefold, deadlines)
        found = [f"{len(left)} deadlines are left"] if left else []
        if len(sent) != len(self.couriers.order["ids"]) * len(PLACES):
            found.append(f"{len(sent)} deliveries")
        for row in sent:
            mine = [one for one in tried if one["delivery_id"] == row["id"]]
            found += _flaws_of_receipt(row, mine)
            see = self._flaws_of_file if places[row["destination_id"]] == "folder" else self._seen
            found += see(row)
        names = {str(row["id"]) for row in sent}
        found += [f"{id_} is no delivery" for _, id_ in self.arrived if id_ not in names]
        return found

    def _seen(self, row: Any) -> list[str]:
        """What the receiver's raw bytes say of a delivery."""
        id_ = str(row["id"])
        got = [one for one in self.there.got if one.headers["webhook-id"] == id_]
        if not got:
            return [f"{id_} was lost"]
        found = []
        if {one.body for one in got} != {row["body"]}:
            found.append(f"{id_} came with other bytes")
        numbers = [int(one.headers["x-trace-retry-count"]) for one in got]
        if len(set(numbers)) != len(numbers) or max(numbers) >= row["attempts"]:
            found.append(f"{id_} was sent without its attempt recorded")
        first = min(float(one.headers["webhook-timestamp"]) for one in got)
        if first + 1 <= row["not_before"].timestamp():  # whole seconds
            found.append(f"{id_} was early")
        came = min(at for at, name in self.arrived if name == id_)
        if self.real_time and came < row["not_before"].timestamp():
            found.append(f"{id_} came early")
        return found

    def _flaws_of_file(self, row: Any) -> list[str]:
        written = [one for one in files(self.out) if one.name == f"{row['id']}.json"]
        whole = [one.read_bytes() for one in written] == [row["body"] + b"\n"]
        return [] if whole else [f"{row['id']} is not one whole file"]


def _flaws_of_receipt(row: Any, tried: Sequence[Any]) -> list[str]:
    """Whether a delivery and its attempts say the same."""
    id_, found = row["id"], []
    if row["state"] != "delivered":
        return [f"{id_} is {row['state']}"]
    began = sorted(one["number"] for one in tried if one["fact"] == "began")
    ended = [one for one in tried if one["fact"] == "ended" and one["outcome"] == "delivered"]
    if began != list(range(1, row["attempts"] + 1)):
        found.append(f"{id_} has {row['attempts']} attempts, and {began} began")
    if len(ended) != 1 or ended[0]["at"] != row["delivered_at"]:
        found.append(f"{id_} was received {len(ended)} times")
    if min(one["at"] for one in tried) < row["not_before"]:
        found.append(f"{id_} was begun early")
    if hashlib.sha256(row["body"]).digest() != row["body_sha256"]:
        found.append(f"{id_} has another hash")
    return found


@asynccontextmanager
async def world(host: ForkHost, url: str, home: Path, clock: ManualClock) -> AsyncIterator[World]:
    """A receiver, a folder, consents to both, and couriers."""
    settings = Settings(database_url=SecretStr(url), trace_loopback=True, trace_folder=home)
    onefold = build(settings, clock=clock)
    try:
        async with receiving() as there:
            school = await new_school(onefold)
            order = {"database": url, "school": str(school.id), "lease_s": LEASE_S}
            order |= {"folder": str(home), "ids": []}
            at = World(
                onefold, school, there, Couriers(host, order, home), home / str(school.id) / "out"
            )
            there.on_got = at.note
            hook = {"url": there.url, "loopback": True, "timeout_s": 1.5}
            await at.place("hook", "webhook", config=hook, secrets={"token": "t"})
            await at.place("folder", "file", config={"path": "out"})
            yield at
    finally:
        await onefold.aclose()


class Steps:
    """
    Two trades a death, on a clock that is moved: from the close to the receipt.

    Two, so that the folder takes them in one call; the web hook takes each alone.
    """

    def __init__(self, at: World) -> None:
        self._world, self._clock = at, ManualClock()
        self._given: list[tuple[str, dict[str, Any]]] = []

    def _close(self) -> tuple[str, dict[str, Any]]:
        number = len(self._world.couriers.order["ids"])
        id_ = str(derived_id("killed", str(number)))
        self._world.couriers.order["ids"].append(id_)
        given = trade(self._clock.now())
        times = {k: given[k].isoformat() for k in ("entry_time", "exit_time")}
        self._given.append((id_, given | times))
        return self._given[-1]

    async def one(self, **how: Any) -> list[str] | None:
        """A courier for two trades and for what others left; the boundaries it passed, or None."""
        return await self._run([self._close(), self._close()], **how)

    async def over(self, **how: Any) -> None:
        """Every close is said again, as by one who got no answer; then a courier that lives."""
        assert await self._run(self._given, **how) is not None

    async def _run(self, trades: Any, **how: Any) -> list[str] | None:
        at = self._clock.now().isoformat()
        self._clock.advance(timedelta(minutes=10))
        return await self._world.couriers.run(at=at, trades=trades, **how)


def _named(passed: Sequence[str]) -> list[str]:
    """A courier's steps and commits, each before and after; statements are the explorer's."""
    calls = ("deadlines.", "desk.open", "desk.settle", "sink.")
    steps = [one for one in passed if one.startswith(calls) and "#1:" in one]
    commits = [one for one in passed if one.endswith(".commit:before")]
    # A look changes nothing; what is postponed on a busy machine may not be when it dies.
    other = [one for one in steps if one.startswith(("deadlines.next_due", "deadlines.postpone"))]
    return [*(one for one in steps if one not in other), "transaction#1.commit:after", *commits[:5]]


async def test_killed_at_every_step_nothing_is_lost_or_doubled(
    host: ForkHost, database_url: str, tmp_path: Path
) -> None:
    """Close, claim, open, send, settle, complete: before each and after it; each dies anew."""
    async with world(host, database_url, tmp_path, ManualClock()) as at:
        steps = Steps(at)
        deaths = _named(await steps.one() or [])
        for death in deaths:
            assert await steps.one(die_at=death) is None, f"{death} was not reached"
        await steps.over()

        flaws = await at.flaws()

    tell(f"killed at {', '.join(deaths)}")
    assert flaws == []
    assert at.couriers.killed == len(deaths) >= 18
    for step in ("deadlines.claim", "desk.open", "desk.settle", "deadlines.complete"):
        assert {f"{step}#1:before", f"{step}#1:after"} <= set(deaths)
    for step in ("sink.send", "sink.send_many"):
        assert {f"{step}#1:before", f"{step}#1:after"} <= set(deaths)


@pytest.mark.parametrize(
    ("twin", "die_at", "flaws"),
    [
        ("settles first", "sink.send#1:before", LOST),
        ("names anew", "sink.send#1:after", ("is no delivery",)),
    ],
)
async def test_a_courier_that_breaks_a_promise_is_caught(
    host: ForkHost,
    sqlite_url: str,
    tmp_path: Path,
    twin: str,
    die_at: str,
    flaws: tuple[str, ...],
) -> None:
    """The verdict above is no formality: each of these is told by its name."""
    async with world(host, sqlite_url, tmp_path, ManualClock()) as at:
        steps = Steps(at)
        await steps.one(twin=twin, die_at=die_at)
        await steps.over(twin=twin)

        told = await at.flaws()

    assert any(one.endswith(flaws) for one in told)


async def test_a_courier_whose_clock_is_ahead_is_caught(
    host: ForkHost, sqlite_url: str, tmp_path: Path
) -> None:
    """The receiver's own clock says what is early, not the courier's."""
    clock = ManualClock()
    async with world(host, sqlite_url, tmp_path, clock) as at:
        at.real_time = True
        await _fall_due(at, clock, [50.0])
        courier = await at.couriers.go(twin="hasty")
        async with asyncio.timeout(PATIENCE_S):
            while await _waiting(at):  # noqa: ASYNC110 (another process)
                await asyncio.sleep(0.05)
        await at.couriers.kill(courier)

        assert any("came early" in one for one in await at.flaws())


async def test_killed_at_any_moment_nothing_is_lost_doubled_or_early(
    host: ForkHost, database_url: str, tmp_path: Path
) -> None:
    """Two couriers at a time under a real clock, killed again and again while records fall due."""
    seed = int(os.environ.get("ONEFOLD_SEED", "0")) or randbits(32)
    tell(f"replay with ONEFOLD_SEED={seed}")
    random = Random(seed)
    clock = ManualClock()
    async with world(host, database_url, tmp_path, clock) as at:
        at.real_time = True
        await _fall_due(at, clock, [random.uniform(0.2, 2.5) for _ in range(24)])
        # Never so many failures in a row that the destination is left alone.
        for _ in range(8):
            at.there.script += [200, random.choice(FAILING), 200]
        working = [await at.couriers.go() for _ in range(2)]
        until = time.monotonic() + 2 * PATIENCE_S  # eight kills on a busy machine
        while await _waiting(at) and time.monotonic() < until:
            await asyncio.sleep(random.uniform(0.05, 0.5))
            if at.couriers.killed < KILLS:
                await at.couriers.kill(working.pop(random.randrange(2)))
                working.append(await at.couriers.go())
        for courier in working:
            await at.couriers.kill(courier)

        flaws = await at.flaws()

    repeats = len(at.arrived) - len({name for _, name in at.arrived})
    tell(f"{at.couriers.killed} killed, {repeats} of {len(at.arrived)} came again")
    assert flaws == []
    assert at.couriers.killed >= KILLS


async def _fall_due(at: World, clock: ManualClock, after_s: Sequence[float]) -> None:
    """Trades closed by a process whose floor of a minute has nearly passed."""
    for number, seconds in enumerate(after_s):
        clock.set(datetime.now(UTC) - timedelta(seconds=60 - seconds))
        id_ = derived_id("killed", str(number))
        at.couriers.order["ids"].append(str(id_))
        given = trade(clock.now(), entry_price=f"1.{number:02}")
        await at.onefold.trace.service.record(at.school.service, given, trade_id=id_)


async def _waiting(at: World) -> bool:
    """A receipt comes before its deadline's end: who kills between the two leaves the deadline."""
    late = any(row["state"] != "delivered" for row in await rows(at.onefold, deliveries))
    return late or bool(await rows(at.onefold, deadlines))
