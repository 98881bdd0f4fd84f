"""Says of each consumer what it promises, and because of what. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from onefold.engine.consumer import ConsumerSpec
from onefold.engine.failure_policy import retry_then_park
from onefold.engine.retention import ShortKeep
from onefold.ports.features import Features
from onefold.ports.transport import TransportFeatures

EXACTLY = "exactly once"
AT_LEAST = "at least once"


@dataclass(frozen=True, kw_only=True)
class Explained:
    """
    Attributes:
        consumer: Whose promise it is.
        promise: How often its effects happen.
        because: Why that is so, the decisive reasons first.
        but: What is weaker than the promise, and when.
    """

    consumer: str
    promise: str
    because: Sequence[str]
    but: Sequence[str]


def explain(
    spec: ConsumerSpec,
    *,
    store: Features,
    broker: TransportFeatures,
    short: Sequence[ShortKeep] = (),
) -> Explained:
    """
    What *spec* promises over that store and that broker.

    Args:
        spec: The consumer.
        store: Where its effects and its inbox are.
        broker: Where its messages come from.
        short: Where it forgets sooner than the broker, from `short_keeps`.
    """
    forgetful = [str(one) for one in short if one.consumer == spec.name]
    because = [_store(store), _mode(spec), _broker(broker)]
    but = [*forgetful, *_outside(spec), *_giving_up(spec, broker)]
    if not store.survives_process:
        but.insert(0, "nothing in this store survives the process: after it, all comes again")
    exactly = store.survives_process and not forgetful and not spec.isolated
    return Explained(
        consumer=spec.name,
        promise=EXACTLY if exactly else AT_LEAST,
        because=because,
        but=but,
    )


def _store(store: Features) -> str:
    return (
        f"store {store.name}: the inbox record and what the handler writes through `tx` "
        "commit together; an event whose record is there is not applied again"
    )


def _mode(spec: ConsumerSpec) -> str:
    if spec.isolated:
        return "mode isolated: a transaction for each event, because it has effects outside of `tx`"
    if spec.batch:
        return "mode batch: a poll's events in one transaction, applied and recorded together"
    return f"mode shared: up to {spec.max_batch} events in one transaction, split where one fails"


def _broker(broker: TransportFeatures) -> str:
    lost = "" if broker.survives_process else "; unsettled messages end with the process"
    order = "in the order of their key" if broker.order == "key" else "in any order"
    return f"broker {broker.name}: gives again what was not settled, {order}{lost}"


def _outside(spec: ConsumerSpec) -> list[str]:
    if spec.isolated:
        return ["effects outside of `tx` happen again when the commit fails or the worker dies"]
    return ["effects outside of `tx` are not covered: say isolated=True if there are any"]


def _giving_up(spec: ConsumerSpec, broker: TransportFeatures) -> list[str]:
    told = [f"a message that fails {spec.max_attempts} times is parked: not applied until replayed"]
    if spec.policy is not retry_then_park:
        told.append("its own policy may drop messages: those are not applied, and leave no trace")
    if not broker.survives_process:
        told.append("an event that was published and not yet read is lost with the process")
    return told
