"""Trades, destinations and couriers for tests; a sink that plays a script and keeps its bytes."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from threading import Lock
from typing import Any
from uuid import UUID

import boto3
import httpx
from moto.server import ThreadedMotoServer
from tests.support import School

from onefold.engine.courier import Courier
from onefold.ports.deadlines import Deadlines
from onefold.ports.delivery_book import Route
from onefold.ports.sink import OutcomeKind, Parcel, SendOutcome, Sink
from onefold_server.domains.trades.attempts import TradeDeliveries
from onefold_server.domains.trades.service import TraceService
from onefold_server.installation import Installation
from onefold_server.wiring.trades import Trace

OK = SendOutcome(OutcomeKind.DELIVERED, "ok", 200)
BUSY = SendOutcome(OutcomeKind.RETRY, "http_503", 503)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


@dataclass
class Scripted:
    """Answers what its script says, one a call, then the last again; keeps what came."""

    script: list[Any] = field(default_factory=lambda: [OK])
    got: list[tuple[datetime, Parcel]] = field(default_factory=list)
    before: Callable[[Parcel], Any] | None = None

    async def send(self, parcel: Parcel, *, now: datetime) -> SendOutcome:
        self.got.append((now, parcel))
        if self.before is not None:
            await self.before(parcel)
        answer: SendOutcome | Exception = (
            self.script.pop(0) if len(self.script) > 1 else self.script[0]
        )
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def aclose(self) -> None:
        """Nothing is open."""

    @property
    def bodies(self) -> list[bytes]:
        return [parcel.body for _, parcel in self.got]

    @property
    def ids(self) -> list[str]:
        return [parcel.message_id for _, parcel in self.got]


def trade(now: datetime, **changed: Any) -> dict[str, Any]:
    """A live trade that closed at *now*; *changed* overrides."""
    return {
        "user_id": "user-ada",
        "account_id": "account-1",
        "instrument": "EURUSD",
        "side": "buy",
        "mode": "live",
        "status": "closed",
        "entry_time": now - HOUR,
        "entry_price": "1.08",
        "exit_time": now,
        "exit_price": "1.09",
        "volume": "0.5",
        "profit_net": "498.50",
        "currency": "USD",
    } | changed


def opening(now: datetime, **changed: Any) -> dict[str, Any]:
    """The same trade before its exit."""
    gone = {"exit_time": None, "exit_price": None, "profit_net": None, "status": "open"}
    return trade(now) | gone | changed


@dataclass
class World:
    """Trace over one installation, with scripted sinks by destination."""

    onefold: Installation
    school: School
    sinks: dict[str, Sink] = field(default_factory=dict)
    random: Random = field(default_factory=lambda: Random(7))

    @property
    def service(self) -> TraceService:
        return self.onefold.trace.service

    @property
    def now(self) -> datetime:
        return self.onefold.clock.now()

    async def destination(
        self, name: str = "tracker", sink: Sink | None = None, **how: Any
    ) -> Scripted:
        """A destination whose parcels go to *sink*."""
        made = await self.service.create_destination(self.school.admin, name, "nowhere", **how)
        self.sinks[str(made["id"])] = sink or Scripted()
        return self.sinks[str(made["id"])]  # type: ignore[return-value]

    async def subscribe(self, name: str = "tracker", user: str = "user-ada", **how: Any) -> Any:
        """That user's consent."""
        given = {"profile": "full", "consent_version": "1"} | how
        return await self.service.subscribe(self.school.admin, user, name, **given)

    async def closed(self, **changed: Any) -> UUID:
        """A trade that closes now."""
        row = await self.service.record(self.school.service, trade(self.now, **changed))
        id_: UUID = row["trade_id"]
        return id_

    async def deliveries(self, *states: str) -> Sequence[Any]:
        """What became of deliveries."""
        every = states or ("pending", "leased", "delivered", "dead", "held", "cancelled")
        return await self.service.deliveries(self.school.admin, states=every, limit=1000)

    async def only(self) -> Any:
        """The only delivery there is."""
        (found,) = await self.deliveries()
        return found

    @asynccontextmanager
    async def courier(
        self,
        *,
        onefold: Installation | None = None,
        deadlines: Deadlines | None = None,
        jitter: Callable[[], float] = lambda: 0.999,
        uow: Any = None,
    ) -> AsyncIterator[Courier]:
        """A courier over the scripted sinks; others are made as configured."""
        trace: Trace = (onefold or self.onefold).trace
        desk = TradeDeliveries(
            uow or trace.uow, random=self.random.randbytes, jitter=jitter, watch=trace.watch
        )
        made = Courier(deadlines or trace.deadlines, desk, self.make, clock=trace.clock)
        try:
            yield made
        finally:
            await made.aclose()

    def make(self, route: Route) -> Sink:
        """The scripted sink of a destination, or the configured one."""
        return self.sinks.get(route.destination) or self.onefold.trace.make(route)

    async def work_off(self, after: timedelta | None = None) -> dict[str, int]:
        """Let *after* pass, then deliver all that is due."""
        if after is not None:
            self.onefold.clock.advance(after)  # type: ignore[attr-defined]
        async with self.courier() as courier:
            return dict(await courier.work_off())


def files(home: Path) -> list[Path]:
    """Every file below *home*."""
    return sorted(one for one in home.rglob("*") if one.is_file())


def _one_at_a_time(server: ThreadedMotoServer) -> None:
    """S3 decides a condition and the write it guards as one; moto looks, and then writes."""
    served: Any = server._server
    answer, lock = served.app, Lock()

    def alone(environ: Any, start: Any) -> Any:
        with lock:
            return answer(environ, start)

    served.app = alone


@contextmanager
def bucket() -> Iterator[tuple[Any, dict[str, Any], dict[str, Any]]]:
    """A bucket on a real S3 interface: a client for it, and a sink's config and secrets."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _one_at_a_time(server)
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    httpx.post(f"{url}/moto-api/reset")  # what it keeps outlives the server
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="k",
        aws_secret_access_key="s",
    )
    client.create_bucket(Bucket="traces")
    config = {"bucket": "traces", "endpoint": url, "loopback": True}
    try:
        yield client, config, {"access_key_id": "k", "secret_access_key": "s"}
    finally:
        client.close()
        server.stop()
