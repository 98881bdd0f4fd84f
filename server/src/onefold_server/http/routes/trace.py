"""Trace over HTTP. A route parses, calls one use case, maps the result."""

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from onefold.errors import FieldProblem, InvalidInput
from onefold_server.http.auth import Caller, Served
from onefold_server.http.replies import Reply
from onefold_server.http.routes.learning.shared import Body
from onefold_server.http.schemas import trace as schema

router = APIRouter(prefix="/api/v1/trace", tags=["trace"])

States = Annotated[list[str], Query(alias="state", description="of deliveries; may come again")]
Limit = Annotated[int, Query(ge=1, le=1000)]


@router.post("/trades", status_code=201)
async def record(onefold: Served, caller: Caller, body: Body) -> Reply:
    """Record a trade, open or closed; the same `trade_id` again is the same as once."""
    sent = schema.given(schema.read(body, schema.TradeBody))
    id_ = _uuid(sent.pop("trade_id", None))
    return Reply(await onefold.trace.service.record(caller, sent, trade_id=id_), status_code=201)


@router.get("/trades/{trade_id}")
async def trade(trade_id: UUID, onefold: Served, caller: Caller) -> Reply:
    """A trade, its revisions, and what became of its deliveries."""
    return Reply(await onefold.trace.service.trade(caller, trade_id))


@router.post("/trades/{trade_id}/close")
async def close(trade_id: UUID, onefold: Served, caller: Caller, body: Body) -> Reply:
    """Close an open trade and plan its deliveries, in one transaction."""
    sent = schema.given(schema.read(body, schema.Facts))
    return Reply(await onefold.trace.service.close(caller, trade_id, sent))


@router.post("/trades/{trade_id}/correct")
async def correct(trade_id: UUID, onefold: Served, caller: Caller, body: Body) -> Reply:
    """Add a revision; what was recorded stays."""
    sent = schema.read(body, schema.Correct)
    changed = schema.given(sent.facts)
    return Reply(
        await onefold.trace.service.correct(
            caller, trade_id, changed, expected_revision=sent.expected_revision
        )
    )


@router.put("/instruments/{symbol}")
async def set_instrument(symbol: str, onefold: Served, caller: Caller, body: Body) -> Reply:
    """Say what one unit of an instrument's volume is."""
    sent = schema.read(body, schema.Instrument)
    await onefold.trace.service.set_instrument(caller, symbol, sent.contract_size, sent.currency)
    return Reply({"symbol": symbol} | schema.given(sent))


@router.post("/destinations", status_code=201)
async def create_destination(onefold: Served, caller: Caller, body: Body) -> Reply:
    """Create a destination; its configuration is tried before it is kept."""
    sent = schema.given(schema.read(body, schema.CreateDestination))
    name, sink = sent.pop("name"), sent.pop("sink")
    made = await onefold.trace.service.create_destination(caller, name, sink, **sent)
    return Reply(made, status_code=201)


@router.get("/destinations")
async def destinations(onefold: Served, caller: Caller) -> Reply:
    """The school's destinations, never their secrets."""
    return Reply({"destinations": await onefold.trace.service.destinations(caller)})


@router.patch("/destinations/{name}")
async def change(name: str, onefold: Served, caller: Caller, body: Body) -> Reply:
    """Change how a destination is reached; a key of its configuration set to null is taken out."""
    sent = schema.given(schema.read(body, schema.ChangeDestination))
    return Reply(await onefold.trace.service.change(caller, name, sent))


@router.post("/destinations/{name}/test")
async def send_test(name: str, onefold: Served, caller: Caller) -> Reply:
    """Send one marked test; the exact bytes, and what the destination answered."""
    return Reply(await onefold.trace.service.send_test(caller, name))


@router.post("/destinations/{name}/pause")
async def pause(name: str, onefold: Served, caller: Caller) -> Reply:
    """Hold what waits for a destination."""
    return Reply({"held": await onefold.trace.service.pause(caller, name)})


@router.post("/destinations/{name}/resume")
async def resume(name: str, onefold: Served, caller: Caller) -> Reply:
    """Let what was held go on."""
    return Reply({"released": await onefold.trace.service.resume(caller, name)})


@router.post("/destinations/{name}/rotate")
async def rotate(name: str, onefold: Served, caller: Caller, body: Body) -> Reply:
    """Give a destination other secrets."""
    sent = schema.read(body, schema.Rotate)
    return Reply(await onefold.trace.service.rotate(caller, name, sent.secrets))


@router.delete("/destinations/{name}")
async def remove(name: str, onefold: Served, caller: Caller) -> Reply:
    """Take a destination out of use; its receipts stay."""
    return Reply({"held": await onefold.trace.service.remove(caller, name)})


@router.post("/subscriptions", status_code=201)
async def subscribe(onefold: Served, caller: Caller, body: Body) -> Reply:
    """Record a user's consent."""
    sent = schema.given(schema.read(body, schema.Subscribe))
    user_id, destination = sent.pop("user_id"), sent.pop("destination")
    made = await onefold.trace.service.subscribe(caller, user_id, destination, **sent)
    return Reply(made, status_code=201)


@router.get("/subscriptions")
async def subscriptions(onefold: Served, caller: Caller, user_id: str | None = None) -> Reply:
    """The school's subscriptions, or one user's."""
    return Reply({"subscriptions": await onefold.trace.service.subscriptions(caller, user_id)})


@router.post("/subscriptions/{subscription_id}/withdraw")
async def withdraw(subscription_id: UUID, onefold: Served, caller: Caller) -> Reply:
    """End a consent: what was cancelled, and what cannot be recalled."""
    return Reply(await onefold.trace.service.withdraw(caller, subscription_id))


@router.get("/deliveries")
async def deliveries(
    onefold: Served,
    caller: Caller,
    states: States = ["pending", "leased", "dead", "held"],  # noqa: B006 (FastAPI reads it)
    destination: str | None = None,
    limit: Limit = 100,
) -> Reply:
    """Deliveries in those states, the longest due first."""
    found = await onefold.trace.service.deliveries(
        caller, states=states, destination=destination, limit=limit
    )
    return Reply({"deliveries": found})


@router.get("/deliveries/{delivery_id}")
async def delivery(delivery_id: UUID, onefold: Served, caller: Caller) -> Reply:
    """One delivery with its attempts and its bytes."""
    return Reply(await onefold.trace.service.delivery(caller, delivery_id))


@router.post("/deliveries/{delivery_id}/replay")
async def replay(delivery_id: UUID, onefold: Served, caller: Caller) -> Reply:
    """Try a dead delivery again, with the same id and the same bytes."""
    return Reply(await onefold.trace.service.replay(caller, delivery_id))


@router.post("/deliveries/{delivery_id}/cancel")
async def cancel(delivery_id: UUID, onefold: Served, caller: Caller) -> Reply:
    """Never send what was not sent yet."""
    return Reply(await onefold.trace.service.cancel(caller, delivery_id))


@router.post("/deliveries/{delivery_id}/release")
async def release(delivery_id: UUID, onefold: Served, caller: Caller) -> Reply:
    """Send a waiting or held delivery as soon as its floor allows."""
    return Reply(await onefold.trace.service.release(caller, delivery_id))


@router.get("/coverage")
async def coverage(
    onefold: Served,
    caller: Caller,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Reply:
    """By account and day: closed, delivered, pending, dead, held; the last 30 days by default."""
    end = until or onefold.clock.now() + timedelta(seconds=1)
    begin = since or end.astimezone(UTC) - timedelta(days=30)
    found = await onefold.trace.service.coverage(caller, since=begin, until=end)
    return Reply({"coverage": found})


def _uuid(text: str | None) -> UUID | None:
    try:
        return None if text is None else UUID(text)
    except ValueError:
        raise InvalidInput([FieldProblem("trade_id", "uuid", "expected a UUID")]) from None
