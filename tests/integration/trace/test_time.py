"""Late enough on any host: in any zone, through clock changes, and when a clock is set."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr
from tests.support import new_school
from tests.support_trace import BUSY, HOUR, MINUTE, OK, Scripted, World, files, opening
from tests.support_valkey import Valkey

from onefold.adapters.sinks.posting import retry_after
from onefold.ports.sink import OutcomeKind, SendOutcome
from onefold.testing.clock import ManualClock
from onefold_server.cli.statement import read_statement
from onefold_server.installation import build
from onefold_server.settings import Settings

pytestmark = pytest.mark.usefixtures("zone")

SECOND = timedelta(seconds=1)
NEW_YORK = ZoneInfo("America/New_York")
# Five minutes before each of New York's clocks are changed, in 2026.
FORWARD = datetime(2026, 3, 8, 6, 55, tzinfo=UTC)
BACK = datetime(2026, 11, 1, 5, 55, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgres", "valkey"])
def settings(request: pytest.FixtureRequest) -> Settings:
    """A database of either kind, which tells what is due; or Valkey does."""
    if request.param != "valkey":
        url: str = request.getfixturevalue(f"{request.param}_url")
        return Settings(database_url=SecretStr(url))
    server: Valkey = request.getfixturevalue("valkey")
    return Settings(
        database_url=SecretStr(request.getfixturevalue("sqlite_url")),
        trace_valkey_url=SecretStr(server.url),
        trace_valkey_prefix=f"time-{os.urandom(4).hex()}",
    )


@pytest.fixture
async def world(settings: Settings, clock: ManualClock) -> AsyncIterator[World]:
    """Trace with scripted sinks."""
    built = build(settings, clock=clock)
    yield World(built, await new_school(built))
    await built.aclose()


def at(world: World) -> ManualClock:
    """The world's clock."""
    clock: ManualClock = world.onefold.clock  # type: ignore[assignment]
    return clock


async def work_off(world: World, after: timedelta = timedelta(0)) -> dict[str, int]:
    """Let *after* pass on the clock, bring over what Valkey must know, deliver what is due."""
    at(world).advance(after)
    await world.onefold.trace.feed()
    return await world.work_off()


@pytest.mark.parametrize("change", [FORWARD, BACK], ids=["forward", "back"])
@pytest.mark.parametrize("minutes", [5, 90])
async def test_a_change_of_the_clocks_moves_no_instant(
    world: World, change: datetime, minutes: int
) -> None:
    """A delay is a time that passes, over the hour that is missing and the one that comes twice."""
    there = await world.destination()
    await world.subscribe(delay_s=minutes * 60)
    at(world).set(change)
    local = change.astimezone(NEW_YORK)
    await world.closed(exit_time=local, entry_time=local - HOUR)

    assert await work_off(world, timedelta(minutes=minutes) - SECOND) == {}
    assert await work_off(world, SECOND) == {"delivered": 1}
    assert json.loads(there.bodies[0])["data"]["exit_time"] == change.strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_the_hour_that_comes_twice_is_two_hours(world: World) -> None:
    """01:30 and 01:30, told apart by their offsets: the later one leaves an hour later."""
    there = await world.destination()
    await world.subscribe(delay_s=300)
    readings = [datetime(2026, 11, 1, 1, 30, tzinfo=NEW_YORK, fold=fold) for fold in (0, 1)]
    first, second = (one.astimezone(timezone(one.utcoffset() or HOUR)) for one in readings)
    assert second - first == HOUR
    for n, exit_ in enumerate((first, second)):
        at(world).set(exit_)
        await world.closed(exit_time=exit_, entry_time=first - HOUR, entry_price=f"1.0{n}")

    assert await work_off(world) == {"delivered": 1}  # the first, an hour ago
    assert await work_off(world, MINUTE * 5 - SECOND) == {}
    assert await work_off(world, SECOND) == {"delivered": 1}
    assert len(there.got) == 2


@pytest.mark.parametrize("back", [SECOND * 2, HOUR * 2, timedelta(days=3)])
async def test_a_clock_set_back_makes_nothing_early(world: World, back: timedelta) -> None:
    """Nor lost: what waited for its instant waits for it again."""
    there = await world.destination()
    await world.subscribe(delay_s=300)
    await world.closed()
    due = world.now + MINUTE * 5
    at(world).advance(MINUTE * 4)

    assert await work_off(world, -back) == {}
    assert await work_off(world, due - SECOND - world.now) == {}
    assert await work_off(world, SECOND) == {"delivered": 1}
    assert [when for when, _ in there.got] == [due]


async def test_a_clock_set_back_between_tries_keeps_their_order(world: World) -> None:
    """A retry that was promised for an instant is not made before it, and the lease ends too."""
    there = await world.destination(sink=Scripted([BUSY, OK]))
    await world.subscribe()
    await world.closed()
    await work_off(world, MINUTE * 5)
    again = world.now + SECOND * 4.995  # five seconds, nearly all of them drawn

    assert await work_off(world, -HOUR) == {}
    assert await work_off(world, again - SECOND - world.now) == {}
    assert await work_off(world, SECOND) == {"delivered": 1}
    assert there.got[1][0] >= again


async def test_a_clock_set_back_under_a_lease_sends_no_second_copy(world: World) -> None:
    """While one courier sends, the other sees a lease that has not ended, however late it was."""
    there = await world.destination()
    await world.subscribe()
    await world.closed()
    sending, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_: object) -> None:
        sending.set()
        await go_on.wait()

    there.before = wait
    at(world).advance(MINUTE * 5)
    await world.onefold.trace.feed()
    async with world.courier() as one, world.courier() as two:
        await one.step()
        await sending.wait()
        at(world).advance(-HOUR)
        await two.work_off()
        assert len(there.got) == 1
        go_on.set()
        await one.settled()

    assert (await world.only())["state"] == "delivered"
    assert len(there.got) == 1


async def test_a_breaker_is_not_left_open_by_a_clock_that_was_set_back(world: World) -> None:
    """It rests five minutes at the most, whatever the clock said when it opened."""
    there = await world.destination(sink=Scripted([BUSY] * 5 + [OK]), concurrency=5)
    await world.subscribe()
    for n in range(5):
        await world.closed(entry_price=f"1.0{n}")
    at(world).advance(HOUR * 2)  # wrong by two hours, and not noticed yet
    assert await work_off(world) == {"retry": 5}

    at(world).advance(-HOUR * 2)
    await world.closed(entry_price="1.09", exit_time=world.now)

    assert await work_off(world, MINUTE * 5) == {"delivered": 1}
    assert len(there.got) == 6


async def test_a_rate_is_not_kept_for_hours_by_a_clock_that_was_set_back(world: World) -> None:
    """Two a second, from the instant that it is, and not from the one that it was said to be."""
    there = await world.destination(rate_per_s=2.0)
    await world.subscribe()
    await world.closed()
    at(world).advance(HOUR * 2)
    assert await work_off(world) == {"delivered": 1}

    at(world).advance(-HOUR * 2)
    await world.closed(entry_price="1.09", exit_time=world.now)

    assert await work_off(world, MINUTE * 5) == {"delivered": 1}
    assert len(there.got) == 2


async def test_a_clock_set_forward_is_early_for_no_reader_of_ours(world: World) -> None:
    """A courier whose clock is ahead is the operator's to mend; a trade recorded by it waits."""
    there = await world.destination()
    await world.subscribe(delay_s=300)
    at(world).advance(HOUR)  # a server whose clock is an hour ahead
    await world.closed(exit_time=world.now - HOUR)
    at(world).advance(-HOUR)

    assert await work_off(world, HOUR + MINUTE * 5 - SECOND) == {}
    assert await work_off(world, SECOND) == {"delivered": 1}
    assert len(there.got) == 1


async def test_a_day_is_a_day_of_utc(database_url: str, clock: ManualClock, tmp_path: Path) -> None:
    """A file's folder and a report's line are of the exit in UTC, wherever the host is."""
    settings = Settings(database_url=SecretStr(database_url), trace_folder=tmp_path / "out")
    onefold = build(settings, clock=clock)
    world = World(onefold, await new_school(onefold))
    admin = world.school.admin
    await world.service.create_destination(admin, "folder", "file", config={"path": "out"})
    await world.subscribe("folder")
    clock.set(datetime(2026, 3, 8, 23, 30, tzinfo=NEW_YORK))
    await world.closed()
    await world.work_off(MINUTE * 5)

    covered = await world.service.coverage(admin, since=world.now - HOUR, until=world.now)
    (file,) = files(tmp_path / "out")
    await onefold.aclose()
    assert file.parent.name == covered[0]["day"] == "2026-03-09"


async def test_an_open_trade_closed_in_local_time_waits_its_delay(world: World) -> None:
    """Entry and exit of either side of the change, each with its own offset."""
    there = await world.destination()
    await world.subscribe(delay_s=300)
    at(world).set(FORWARD)
    entry = FORWARD.astimezone(NEW_YORK)
    opened = opening(world.now, entry_time=entry)
    made = await world.service.record(world.school.service, opened)
    at(world).advance(MINUTE * 30)
    exit_ = {"exit_time": world.now.astimezone(NEW_YORK), "exit_price": "1.1"}
    await world.service.close(world.school.service, made["trade_id"], exit_)

    assert await work_off(world, MINUTE * 5 - SECOND) == {}
    assert await work_off(world, SECOND) == {"delivered": 1}
    data = json.loads(there.bodies[0])["data"]
    assert (data["entry_time"], data["exit_time"]) == (
        "2026-03-08T06:55:00Z",
        "2026-03-08T07:25:00Z",
    )


def test_a_date_in_retry_after_is_of_no_zone_but_its_own() -> None:
    """GMT, as HTTP says; also where it says no zone at all."""
    for text in ("Sun, 08 Mar 2026 07:55:00 GMT", "Sun, 08 Mar 2026 07:55:00 -0000"):
        assert retry_after(text, now=FORWARD) == HOUR


def test_a_statement_means_the_instants_it_says(tmp_path: Path) -> None:
    """Not the host's: an offset is needed, and kept."""
    file = tmp_path / "s.csv"
    head = "ticket,instrument,side,entry_time,entry_price,exit_time,exit_price\n"
    file.write_text(f"{head}1,EURUSD,buy,2026-03-08T01:55:00-05:00,1,2026-03-08T03:05:00-04:00,2\n")

    (line,) = read_statement(file, user="u", account="a", mode="live")

    assert line.facts["exit_time"] - line.facts["entry_time"] == MINUTE * 10


async def test_what_a_receiver_asks_for_passes_over_the_change(world: World) -> None:
    """An hour's wait over the hour that comes twice is one hour."""
    busy = SendOutcome(OutcomeKind.RETRY, "http_429", 429, retry_after=HOUR)
    there = await world.destination(sink=Scripted([busy, OK]))
    await world.subscribe(delay_s=60)
    at(world).set(BACK)
    await world.closed()
    assert await work_off(world, MINUTE) == {"retry": 1}

    assert await work_off(world, HOUR - SECOND) == {}
    assert await work_off(world, SECOND) == {"delivered": 1}
    assert len(there.got) == 2
