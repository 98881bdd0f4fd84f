"""Builds a worker, for an application and for the server alike."""

from collections.abc import Sequence
from datetime import timedelta

from onefold.engine.consumer import ConsumerSpec
from onefold.engine.consumer_loop import POLL_S
from onefold.engine.delivery import Environment
from onefold.engine.loop import Loop
from onefold.engine.meters import lag_meter, relay_meter, worker_meter
from onefold.engine.relay import LEASE, Relay, Routes
from onefold.engine.retention import Keeps
from onefold.engine.worker import Parts, Worker
from onefold.ports.meter import Meter
from onefold.wiring.brokers import Broker, listener_of, worker_name
from onefold.wiring.store import Store


def worker_of(
    store: Store,
    broker: Broker,
    specs: Sequence[ConsumerSpec],
    *,
    env: Environment,
    keeps: Keeps,
    routes: Routes | None = None,
    relay_lease: timedelta = LEASE,
    relay_every_s: float = POLL_S,
    loops: Sequence[Loop] = (),
) -> Worker:
    """
    A worker over *store* and *broker*; the caller starts and drains it.

    From now on, a commit of this process that publishes wakes the worker's relay.

    Args:
        store: Where effects, inbox, outbox and dead letters are.
        broker: Where messages come from and go to; the caller closes it after the drain.
        specs: The consumers.
        env: Time and chance.
        keeps: How long rows are kept.
        routes: Where published events go, and in which form.
        relay_lease: After which a silent relay's share of the outbox goes to others.
        relay_every_s: How often the relay looks for events without a notification.
        loops: Periodic work of the application, run beside the others.
    """
    parts = Parts(
        uow=store.uow,
        ledger=store.ledger,
        transport=broker,
        relay=Relay(
            store.outbox,
            broker,
            owner=worker_name(),
            env=env,
            routes=routes or Routes(),
            lease=relay_lease,
        ),
        env=env,
        watermarks=store.watermarks,
        retention=store.retention,
        broker_retention=broker,
        keeps=keeps,
        listen=listener_of(store.database),
        relay_every_s=relay_every_s,
        loops=loops,
    )
    worker = Worker(specs, parts)
    store.uow.on_published = worker.wake
    return worker


def worker_meters(
    worker: Worker, broker: Broker, specs: Sequence[ConsumerSpec], env: Environment
) -> list[Meter]:
    """What can be measured of *worker* and of the broker it works with."""
    return [worker_meter(worker), relay_meter(worker.relay), lag_meter(specs, broker, env.clock)]
