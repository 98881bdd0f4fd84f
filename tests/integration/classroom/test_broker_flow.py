"""Suggested authors from a broker, by the server's own consumer: Kafka (mock, real), Valkey."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import pytest
from asgi_lifespan import LifespanManager
from httpx import AsyncClient
from pydantic import SecretStr
from tests.integration.kafka.test_on_broker import _create
from tests.support import client_of, new_school
from tests.support_classroom import Room, essay, new_room

from onefold.adapters.kafka.mock import MockCluster
from onefold.core.envelope import Event
from onefold.core.wire import encode_native, encode_structured
from onefold.ports.transport import Outgoing
from onefold.testing.clock import ManualClock
from onefold_server.http.app import create_app
from onefold_server.installation import Installation, build
from onefold_server.settings import Settings

pytestmark = [pytest.mark.xdist_group("kafka"), pytest.mark.timeout(120)]
CLOUD = [("content-type", b"application/cloudevents+json")]


@pytest.fixture(params=["mock", "real", "valkey"])
def broker(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """The settings of a broker with a topic on it."""
    topic = f"matches-{uuid4()}"
    if request.param == "valkey":
        url = request.getfixturevalue("valkey").url
        yield {"valkey": SecretStr(url), "classroom_topic": topic}
    elif request.param == "real":
        bootstrap = request.getfixturevalue("kafka")
        yield {"kafka": bootstrap, "classroom_topic": _create(bootstrap)}
    else:
        with MockCluster() as cluster:
            cluster.create(topic, 1)
            yield {"kafka": cluster.bootstrap, "classroom_topic": topic}


@pytest.fixture
async def onefold(
    sqlite_url: str, broker: dict[str, Any], clock: ManualClock
) -> AsyncIterator[Installation]:
    """A server's parts with a broker set."""
    built = build(Settings(database_url=SecretStr(sqlite_url), **broker), clock=clock)
    yield built
    await built.aclose()


@pytest.fixture
async def room(onefold: Installation) -> Room:
    """A class of five pupils."""
    return await new_room(onefold, await new_school(onefold))


@pytest.fixture
async def client(onefold: Installation) -> AsyncIterator[AsyncClient]:
    """The running server: HTTP and the consumer in one process."""
    app = create_app(onefold)
    async with LifespanManager(app, shutdown_timeout=30), client_of(app) as anyone:
        yield anyone


async def send(onefold: Installation, *values: bytes | tuple[bytes, Any]) -> None:
    """Write to the topic, as the language service does."""
    transport = onefold.broker()
    messages = [
        Outgoing(topic=onefold.settings.classroom_topic, key=b"one", value=value, headers=headers)
        for value, headers in (v if isinstance(v, tuple) else (v, ()) for v in values)
    ]
    assert await transport.publish(messages) == [None] * len(messages)
    await transport.aclose()


async def until(client: AsyncClient, **counts: int) -> Any:
    """The consumer's state once it has counted so much, and has nothing left."""
    async with asyncio.timeout(60):
        while True:
            answer = await client.get("/healthz")
            (state,) = answer.json()["consumers"]
            done = all(state["counts"][name] >= count for name, count in counts.items())
            if done and state["partitions"] and not state["lag"]:
                return state


async def test_suggestions_come_through_a_broker_once(
    onefold: Installation, room: Room, client: AsyncClient
) -> None:
    """Either form; the same event again is repeated, also when it came over HTTP first."""
    one, two, three = (room.event([essay((room.pupils[0], 0.9))]) for _ in range(3))
    await room.take(three)

    cloud = encode_structured(two), CLOUD
    await send(onefold, encode_native(one), cloud, encode_native(one), encode_native(three))
    state = await until(client, applied=2, repeated=2)

    assert len(await room.essays()) == 3
    assert (state["running"], state["last_error"], state["lag"]) == (True, None, 0)
    assert state["partitions"][0]["topic"] == onefold.settings.classroom_topic
    assert (await client.get("/livez")).status_code == 200


async def test_what_can_never_succeed_is_parked_with_its_reason(
    onefold: Installation, room: Room, client: AsyncClient
) -> None:
    """Bad bytes, an unknown class, data that is none: all behind them are applied."""
    good = room.event([essay((room.pupils[0], 0.9))])
    unknown = room.event([essay()], class_id=str(uuid4()))
    empty = Event(id=str(uuid4()), type=good.type, source="nlp", occurred_at=good.occurred_at)

    await send(onefold, b"\xff{", *(encode_native(e) for e in (unknown, empty, good)))
    await until(client, applied=1, parked=3)

    letters = await onefold.ledger.letters(consumer="classroom.matches", state="parked", limit=9)
    assert sorted(letter["reason"] for letter in letters) == [
        "invalid_event",
        "not_found",
        "undecodable",
    ]
    assert len(await room.essays()) == 1


async def test_readiness_fails_when_the_consumer_is_dead(
    onefold: Installation, room: Room, client: AsyncClient, clock: ManualClock
) -> None:
    """Its task has ended: 503 and why; the process still lives."""
    await until(client)
    (worker,) = onefold.workers
    await worker.consumers[0].stop()

    ready, live = await client.get("/readyz"), await client.get("/livez")

    assert (ready.status_code, ready.json()["status"]) == (503, "consumer_dead")
    assert ready.json()["consumers"][0]["running"] is False
    assert live.status_code == 200
