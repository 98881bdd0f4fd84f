"""
Every death between a process and a real broker: Valkey's streams, librdkafka's mock cluster.

A group of Kafka's misses a dead member after its session's time-out: a death costs 3.7 s of
waiting there (2026-11-28). So the deaths on Kafka are those at the broker's edge, 16 of two
events, all at once, each on a cluster of its own (5.4 s; 17 s when they shared one).
"""

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import pytest
from tests.crash.brokers import Chain, ValkeyPlace, on_kafka, on_valkey
from tests.crash.test_consumer_deaths import SettlesFirst
from tests.crash.test_relay_deaths import MarksFirst
from tests.support_valkey import Valkey

from onefold.adapters.valkey.connection import connect
from onefold.adapters.valkey.guard import ValkeyGuard
from onefold.testing.crash.explorer import Scenario, explore

pytestmark = pytest.mark.timeout(90)

# What dies at the broker's edge: before and after every publish, receive and settle.
EDGES = {
    f"{call}:{moment}"
    for call in (
        "broker.publish#1",
        "subscription.receive#1",
        "subscription.receive#2",
        "subscription.settle#1",
        "subscription.settle#2",
    )
    for moment in ("before", "after")
} | {"broker.ack#1:after", "broker.ack#2:after"}


@pytest.fixture
def chained(valkey: Valkey) -> Callable[..., Any]:
    """Makes chains over the real Valkey."""
    return on_valkey(valkey.url, valkey.prefix)


async def test_no_death_on_valkeys_streams_loses_or_doubles(chained: Callable[..., Any]) -> None:
    """Published, handed out, applied and settled, dying or sleeping past the lease anywhere."""
    found = await explore(chained)

    found.verify()
    assert set(found.deaths) >= EDGES
    assert {f"{death}:stalled" for death in EDGES if "ack" not in death} <= set(found.deaths)
    assert found.marks["redelivered"] > 0
    assert found.marks["refused to settle"] > 0


async def test_settling_before_the_commit_is_caught_on_valkey(chained: Callable[..., Any]) -> None:
    """Twin: the entry is acknowledged, the effect is not durable, nobody gets it again."""
    found = await explore(partial(chained, consumer=SettlesFirst, leases=False))

    assert "lost: 0" in str(found.broken["subscription.settle#1:after"])


async def test_marking_before_publishing_is_caught_on_valkey(chained: Callable[..., Any]) -> None:
    """Twin: what was marked and never reached the stream is lost."""
    found = await explore(partial(chained, relay=MarksFirst, leases=False))

    assert "lost: 0" in str(found.broken["outbox.mark#1:after"])


async def test_no_death_on_valkey_alone_loses_an_event(valkey: Valkey) -> None:
    """Streams and guard in Valkey, effects in a system without transactions: repeated at most."""
    worlds = count()

    async def make() -> Scenario:
        prefix = f"{valkey.prefix}-{next(worlds)}"
        server = connect(valkey.url)
        guard = ValkeyGuard(server, prefix=prefix)
        chain = Chain(ValkeyPlace(valkey.url, prefix), events=2, guard=guard, closing=server.aclose)
        return await chain.scenario()

    found = await explore(make)

    found.verify()
    assert {"guard.claim#1:after", "guard.confirm#1:before"} <= set(found.deaths)


async def test_no_death_on_kafka_loses_or_doubles() -> None:
    """At the broker's edge: the group misses its dead member, and hands its messages on."""
    found = await explore(on_kafka, at_once=16)

    found.verify()
    assert set(found.deaths) >= EDGES
    assert found.marks["redelivered"] > 0


async def test_settling_before_the_commit_is_caught_on_kafka() -> None:
    """Twin: the offset is committed, the effect is not durable, nobody gets it again."""
    death = "subscription.settle#1:after"

    found = await explore(partial(on_kafka, consumer=SettlesFirst), replay=death)

    assert "lost: " in str(found.broken[death])
