"""What may be a destination: its name, its configuration, and how that is changed."""

import asyncio
from datetime import datetime
from typing import Any

import pytest
from tests.support import another_server
from tests.support_trace import World

from onefold.engine.courier import sent_once
from onefold.errors import InvalidInput, NotFound
from onefold.ports.sink import Parcel, SendOutcome
from onefold_server.domains.trades import store
from onefold_server.domains.trades.service import TraceService


@pytest.mark.parametrize(
    "name",
    [
        "a\nERROR forged",
        "\x1b[2J",
        "a\u202eb",
        "0123456789abcdef0123456789abcdef",
        "01a22178-245e-7e07-a6d7-e7de63cf46c0",
        "",
        "x" * 101,
    ],
    ids=["newline", "escape", "direction", "digits", "uuid", "empty", "long"],
)
async def test_a_name_that_cannot_be_told_is_refused(world: World, name: str) -> None:
    """It stands in logs, tables and metrics; one like an id could never be asked for."""
    with pytest.raises(InvalidInput, match=r"^name: "):
        await world.service.create_destination(world.school.admin, name, "nowhere")

    assert await world.service.destinations(world.school.admin) == []


@pytest.mark.parametrize("name", ["a\0b", "half \ud800"])
async def test_a_name_that_no_store_can_hold_is_not_found(world: World, name: str) -> None:
    """A request may ask for it; it was a fault of the server's on PostgreSQL."""
    admin, service = world.school.admin, world.service

    with pytest.raises(NotFound):
        await service.pause(admin, name)
    with pytest.raises(NotFound):
        await service.deliveries(admin, states=["dead"], destination=name)
    with pytest.raises(InvalidInput):
        await service.subscriptions(admin, name)


@pytest.mark.parametrize(
    "value",
    ["x" * 20_000, "a\0b", "half \ud800", [float("inf")] * 9000, object()],
    ids=["long", "NUL", "surrogate", "many", "an object"],
)
@pytest.mark.parametrize("field", ["config", "secrets"])
async def test_a_configuration_has_its_bounds(world: World, field: str, value: Any) -> None:
    """Couriers read it at each step, and every database must take it; what stood stays."""
    admin, wrong = world.school.admin, {"any": value}
    given: dict[str, Any] = {field: wrong}
    await world.service.create_destination(admin, "there", "nowhere", config={"any": "1"})

    with pytest.raises(InvalidInput, match=rf"^{field}: "):
        await world.service.create_destination(admin, "other", "nowhere", **given)
    change, rotate = world.service.change, world.service.rotate
    again = change(admin, "there", {"config": wrong}) if field == "config" else None
    with pytest.raises(InvalidInput, match=rf"^{field}: "):
        await (again or rotate(admin, "there", wrong))

    (found,) = await world.service.destinations(admin)
    assert (found["config"], found["secrets"]) == ({"any": "1"}, [])


class _Broken:
    """A plug-in's sink with bugs, whose errors hold what it knows."""

    async def send(self, parcel: Parcel, *, now: datetime) -> SendOutcome:
        raise KeyError("token=hunter2")

    async def aclose(self) -> None:
        raise RuntimeError("token=hunter2")


async def test_a_test_of_a_broken_plug_in_is_an_outcome(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """As an attempt is: its error, which may hold a secret, ends neither in a log nor a request."""
    await world.destination()
    onefold = world.onefold
    service = TraceService(
        onefold.uow,
        clock=onefold.clock,
        random=onefold.trace.random,
        make=lambda *_, **__: _Broken(),
        send=sent_once,
    )

    told = await service.send_test(world.school.admin, "tracker")

    assert (told["outcome"], told["reason"]) == ("retry", "sink_error")
    assert ("KeyError" in caplog.text, "hunter2" in caplog.text) == (True, False)


async def test_a_configuration_is_merged_to_its_depth(world: World) -> None:
    """As RFC 7396 says, whose example this is: null takes out, what is not named stays."""
    admin = world.school.admin
    config = {"title": "Goodbye!", "author": {"givenName": "John", "familyName": "Doe"}}
    await world.service.create_destination(
        admin, "there", "nowhere", config=config | {"tags": ["example", "sample"]}
    )

    patch = {"author": {"familyName": None}, "tags": ["example"], "phone": {"at": "9", "no": None}}
    await world.service.change(admin, "there", {"config": patch})

    (found,) = await world.service.destinations(admin)
    assert found["config"] == {
        "title": "Goodbye!",
        "author": {"givenName": "John"},
        "tags": ["example"],
        "phone": {"at": "9"},
    }


async def test_a_close_does_not_wait_for_the_couriers_of_its_destination(world: World) -> None:
    """They hold it while they record; what is closed meanwhile only refers to it."""
    await world.destination()
    await world.subscribe()
    (found,) = await world.service.destinations(world.school.admin)
    if not world.onefold.uow.features.parallel_writers:
        return  # declared: one transaction at a time

    async with another_server(world.onefold) as other, other.uow.begin() as tx:
        await store.lock_destinations(tx, [found["id"]])
        async with asyncio.timeout(5):
            await world.closed()

    assert (await world.only())["state"] == "pending"


async def test_a_removed_destination_is_no_series_of_the_metrics(world: World) -> None:
    """Who makes and removes destinations would leave four of each, for ever."""
    for n in range(3):
        await world.destination(f"d{n}")
        await world.subscribe(f"d{n}")
    await world.closed()
    for n in range(2):
        await world.service.remove(world.school.admin, f"d{n}")

    assert [row["name"] for row in await world.service.gauges()] == ["d2"]
    assert len(await world.deliveries("held")) == 2
