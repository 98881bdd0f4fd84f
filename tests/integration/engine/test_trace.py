"""Correlation, causation and trace context: from headers to handler, outbox, broker and logs."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from tests.integration.engine.test_consumer import World, event
from tests.integration.engine.test_dead_letters import _unsent

from onefold.core.envelope import Event
from onefold.core.trace_context import ids_of, trace_of, traced
from onefold.core.wire import decode, encode_native
from onefold.engine.context import handled
from onefold.engine.delivery import HandlerTransaction
from onefold.engine.failure_policy import Park
from onefold.engine.relay import Routes
from onefold.ports.transport import Outgoing
from onefold_server.logs import log_as
from onefold_server.settings import Settings

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
HEADERS = [("traceparent", PARENT.encode()), ("TraceState", b"shop=1")]


async def _send(world: World, sent: Event) -> None:
    body = encode_native(sent)
    message = Outgoing(topic="orders.placed", key=None, value=body, headers=HEADERS)
    assert list(await world.transport.publish([message])) == [None]


async def test_a_handler_sees_the_trace_and_hands_it_on(world: World) -> None:
    """What it publishes has the same trace, its cause's id, and leaves with W3C headers."""
    seen: list[Any] = []

    async def handler(event: Event, tx: HandlerTransaction) -> None:
        seen.append((dict(tx.trace), dict(handled())))
        await tx.publish("stock.reserved", {})

    consumer = await world.consumer(handler)
    first = event(world.clock, 1)
    await _send(world, first)
    await consumer.drain()

    ((trace, told),) = seen
    (published,) = await _unsent(world)
    headers = dict(Routes().outgoing(published).headers)
    assert trace == {"traceparent": PARENT, "tracestate": "shop=1"}
    assert (published.correlation_id, published.causation_id) == (first.id, first.id)
    assert (headers["traceparent"], headers["ce_traceparent"]) == (PARENT.encode(),) * 2
    assert told["consumer"] == "c"
    assert (told["trace_id"], told["span_id"]) == (TRACE, SPAN)
    assert (told["event_id"], told["correlation_id"]) == (first.id, first.id)
    assert handled() == {}


async def test_what_a_handler_published_is_received_with_its_trace() -> None:
    """The next consumer finds it in the event, whether or not the broker kept the headers."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    plain = Event.new("t", {}, source="s", now=now, random=Random(1).randbytes)
    sent = Routes().outgoing(traced(plain, {"traceparent": PARENT}))

    received = decode(sent.value or b"", sent.headers)

    assert trace_of(received) == {"traceparent": PARENT}
    assert received.fingerprint() == plain.fingerprint()


@pytest.mark.parametrize(
    "parent",
    ["", "00", PARENT.upper(), "ff" + PARENT[2:], PARENT.replace(TRACE, "0" * 32),
     PARENT.replace(SPAN, "0" * 16), PARENT + "x"],
)  # fmt: skip
def test_what_is_no_trace_is_none(parent: str) -> None:
    """A mangled header is not handed on."""
    headers = [("traceparent", parent.encode()), ("tracestate", b"x=1")]

    assert trace_of(None, headers) == {}
    assert ids_of({"traceparent": parent}) == {}


@contextmanager
def logging_as(log_format: str) -> Iterator[io.StringIO]:
    """What the root logger writes; it is put back as it was."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    log_as(Settings(log_format=log_format))
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    stream = io.StringIO()
    handler.setStream(stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture
def logged() -> Iterator[Any]:
    """Collects JSON lines."""
    with logging_as("json") as stream:
        yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_traceback_shows_no_values(log_format: str) -> None:
    """A password in a local variable stays there."""
    password = "hunter2"
    with logging_as(log_format) as stream:
        try:
            raise ValueError("wrong") from None
        except ValueError:
            logging.getLogger("shop").exception("failed for %d letters", len(password))

    assert "ValueError: wrong" in stream.getvalue()
    assert password not in stream.getvalue()
    assert "failed for 7 letters" in stream.getvalue()


async def test_a_log_line_says_what_was_being_handled(world: World, logged: Any) -> None:
    """A handler's own record, and ours of its failure, carry event, chain and trace."""

    async def handler(event: Event, tx: HandlerTransaction) -> None:
        logging.getLogger("shop").info("reserving")
        raise Park("never")

    consumer = await world.consumer(handler)
    first = event(world.clock, 1)
    await _send(world, first)
    await consumer.drain()
    logging.getLogger("shop").info("idle")

    lines = {line["event"]: line for line in logged()}
    failed = next(line for text, line in lines.items() if "failed on" in text)
    for line in (lines["reserving"], failed):
        assert (line["event_id"], line["consumer"], line["trace_id"]) == (first.id, "c", TRACE)
    assert (lines["reserving"]["level"], lines["reserving"]["logger"]) == ("info", "shop")
    assert "Park: never" in failed["exception"]
    assert "event_id" not in lines["idle"]
