"""`/metrics`, scraped from a server, a worker process and an application."""

import asyncio
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from sqlalchemy import update
from tests.integration.engine.test_consumer import surroundings
from tests.support import client_of, new_school
from tests.support_classroom import essay, new_room
from tests.support_trace import Scripted
from tests.support_trace import World as TraceWorld

from onefold import Onefold
from onefold.adapters.sql.schema import outbox
from onefold.core.envelope import Event
from onefold.engine.delivery import HandlerTransaction
from onefold.engine.failure_policy import Park
from onefold.errors import StoreUnavailable
from onefold.ports.meter import Measure
from onefold.ports.sink import OutcomeKind, SendOutcome
from onefold.testing.clock import ManualClock
from onefold.wiring.metrics import scraped
from onefold_server.http.app import create_app
from onefold_server.installation import Installation, build, run_worker
from onefold_server.settings import Settings

WAIT_S = 15.0
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def series(text: bytes | str) -> Series:
    """Every sample of a scrape, by name and labels; fails on a doubled one."""
    found: Series = {}
    plain = text.decode() if isinstance(text, bytes) else text
    for family in text_string_to_metric_families(plain):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, key
            found[key] = sample.value
    return found


def value(found: Series, name: str, **labels: str) -> float:
    """One sample."""
    return found[name, frozenset(labels.items())]


async def _publish(onefold: Installation, number: int) -> None:
    now, random = onefold.clock.now(), surroundings(ManualClock(), seed=number).random
    async with onefold.uow.begin() as tx:
        await tx.publish(Event.new("t", {}, source="s", now=now, random=random), now=now)


async def test_a_server_tells_what_waits(onefold: Installation, clock: ManualClock) -> None:
    """Depth and age of the outbox, and events that were given up."""
    for number in range(3):
        await _publish(onefold, number)
        clock.advance(timedelta(seconds=10))
    async with onefold.uow.begin() as tx:
        dead = update(outbox).where(outbox.c.position == 1).values(dead_at=clock.now())
        await tx.execute(dead)

    async with client_of(create_app(onefold, worker=False)) as client:
        answer = await client.get("/metrics")

    found = series(answer.text)
    assert answer.headers["content-type"].startswith("text/plain")
    assert value(found, "onefold_outbox_unsent") == 2
    assert value(found, "onefold_outbox_dead") == 1
    assert value(found, "onefold_outbox_oldest_age_seconds") == 20


async def test_a_server_tells_what_became_of_essays(onefold: Installation) -> None:
    """One stored with its suggestion, one without any."""
    room = await new_room(onefold, await new_school(onefold))
    await room.take(room.event([essay((room.pupils[0], 0.9)), essay()]))

    async with client_of(create_app(onefold, worker=False)) as client:
        found = series((await client.get("/metrics")).text)

    assert value(found, "onefold_classroom_essays_total", outcome="stored") == 2
    assert value(found, "onefold_classroom_essays_total", outcome="no_match") == 1


async def test_a_server_tells_of_its_deliveries(onefold: Installation) -> None:
    """What waits, is held and dead, as it is when somebody asks; and what it counted itself."""
    at = TraceWorld(onefold, await new_school(onefold))
    for name in ("well", "away", "refusing"):
        await at.destination(name)
        await at.subscribe(name)
    refusing = await at.service.destination(at.school.admin, "refusing")
    at.sinks[str(refusing["id"])] = Scripted([SendOutcome(OutcomeKind.PERMANENT, "http_400", 400)])
    await at.closed()
    await at.service.pause(at.school.admin, "away")
    await at.work_off(timedelta(minutes=5))
    await at.closed(entry_price="1.07")
    onefold.clock.advance(timedelta(minutes=7))  # type: ignore[attr-defined]

    async with client_of(create_app(onefold, worker=False)) as client:
        found = series((await client.get("/metrics")).text)

    told = {
        name: tuple(value(found, f"trust_trace_{what}", adapter=name) for what in _WAITING)
        for name in ("well", "away", "refusing")
    }
    assert told == {"well": (1, 0, 0, 120), "away": (0, 0, 2, 0), "refusing": (1, 1, 0, 120)}
    assert value(found, "trust_trace_fail_total", adapter="refusing", reason="http_400") >= 1


_WAITING = ("pending", "dead", "held", "oldest_age_seconds")


async def test_a_token_is_asked_for_when_one_is_set(database_url: str) -> None:
    """Without it, the numbers are nobody's."""
    token = "a-token-for-prometheus"
    settings = Settings(database_url=SecretStr(database_url), metrics_token=SecretStr(token))
    onefold = build(settings)
    async with client_of(create_app(onefold, worker=False)) as client:
        answers = [
            await client.get("/metrics", headers={b"Authorization": b"Bearer " + sent})
            for sent in (token.encode(), f"{token}x".encode(), b"\xc3\xa9")
        ]
        nothing = await client.get("/metrics")
    await onefold.aclose()

    assert [answer.status_code for answer in (*answers, nothing)] == [200, 401, 401, 401]


async def test_loops_are_counted_while_they_run(onefold: Installation) -> None:
    """The relay's events, each loop's errors; and a domain can add its own."""

    async def mine() -> list[Measure]:
        return [Measure(name="onefold_lessons", help="Lessons now", value=4)]

    async def fails() -> list[Measure]:
        raise StoreUnavailable("away")

    onefold.meters.extend((mine, fails))
    async with run_worker(onefold):
        await _publish(onefold, 1)
        async with asyncio.timeout(WAIT_S):
            while value(series(await scraped(onefold.meters)), _SENT, outcome="sent") < 1:
                pass
        found = series(await scraped(onefold.meters))

    assert value(found, "onefold_loop_errors_total", loop="relay") == 0
    assert value(found, "onefold_lessons") == 4
    assert value(found, "onefold_meter_failing") == 1


_SENT = "onefold_relay_events_total"


async def test_an_application_is_counted_by_consumer(database_url: str) -> None:
    """Applied, repeated and parked, dead letters, lag; nothing of any event in a label."""
    app, done = Onefold(database_url), asyncio.Event()
    seen: list[str] = []

    @app.consumer("orders.placed", name="reserve")
    async def reserve(event: Event, tx: HandlerTransaction) -> None:
        if event.data == "bad":
            raise Park("bad")
        seen.append(event.id)
        if event.data == "last":
            done.set()

    async with app.running() as worker:
        for id_, data in (("a", "bad"), ("b", ""), ("c", "last")):
            await app.publish("orders.placed", data, id=id_, key="k")
        await asyncio.wait_for(done.wait(), WAIT_S)
        await worker.drain()
        found = series(await scraped(app.meters(worker)))

    outcomes = {
        outcome: value(found, _MESSAGES, consumer="reserve", outcome=outcome)
        for outcome in ("applied", "repeated", "parked", "conflicts")
    }
    assert outcomes == {"applied": 2, "repeated": 0, "parked": 1, "conflicts": 0}
    assert value(found, "onefold_dead_letters", consumer="reserve", state="parked") == 1
    assert value(found, _SENT, outcome="sent") == 3
    assert value(found, "onefold_loop_errors_total", loop="relay") == 0
    assert value(found, "onefold_removed_total", kind="inbox") == 0
    lag = value(found, "onefold_consumer_lag_messages", consumer="reserve", topic="orders.placed")
    assert lag == 0
    assert {name for _, labels in found for name, _ in labels} <= {
        "consumer", "kind", "loop", "outcome", "state", "topic", "trouble",
    }  # fmt: skip


_MESSAGES = "onefold_consumer_messages_total"


async def test_a_worker_process_answers_on_its_port(sqlite_url: str, tmp_path: Path) -> None:
    """`onefold worker --metrics-port`, and SIGTERM ends both."""
    script = str(Path(sys.executable).with_name("onefold"))
    with (tmp_path / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(script, "worker", "--metrics-port", "0"),
            env=os.environ | {"ONEFOLD_DATABASE_URL": sqlite_url, "ONEFOLD_LOG_FORMAT": "json"},
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    try:
        assert process.stdout
        line = await asyncio.wait_for(process.stdout.readline(), WAIT_S)
        async with httpx.AsyncClient() as client:
            answer: Any = await client.get(line.decode().split()[-1])
        process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), WAIT_S)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()

    assert value(series(answer.text), "onefold_loop_errors_total", loop="relay") == 0
    assert code == 0, (tmp_path / "log").read_text()


@pytest.mark.parametrize("loop", ["relay", "retention"])
async def test_every_loop_of_events_is_told_of(onefold: Installation, loop: str) -> None:
    """A loop that nobody can see failing is one that fails unseen."""
    async with run_worker(onefold):
        found = series(await scraped(onefold.meters))

    assert value(found, "onefold_loop_errors_total", loop=loop) == 0
