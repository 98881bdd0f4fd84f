"""A consumer whose options cannot hold together is refused, and told what to do."""

from datetime import timedelta
from typing import Any

import pytest

from onefold.adapters.memory.guard import MemoryGuard
from onefold.adapters.memory.transport import FEATURES
from onefold.adapters.valkey.transport import FEATURES as VALKEY
from onefold.engine.spec import ConsumerSpec
from onefold.errors import InvalidSetting
from onefold.ports.transport import TransportFeatures

GUARD = MemoryGuard()
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown mode": ({"record": "sometimes"}, "transaction, optimistic, lease, watermark"),
    "unknown when_busy": ({"record": "lease", "guard": GUARD, "when_busy": "x"}, "wait, skip"),
    "replay": ({"record": "lease", "guard": GUARD, "when_busy": "replay"}, "idempotent_consumer"),
    "unknown on_guard_down": (
        {"record": "lease", "guard": GUARD, "on_guard_down": "x"},
        "wait, fail, process",
    ),
    "lease without guard": ({"record": "lease"}, "give one"),
    "lease of a batch": ({"record": "lease", "guard": GUARD, "batch": True}, "handler of one"),
    "lease with front": ({"record": "lease", "guard": GUARD, "front": GUARD}, "LayeredGuard"),
    "process unwritten": (
        {"record": "lease", "guard": GUARD, "on_guard_down": "process"},
        "where to write it down",
    ),
    "no time": ({"record": "lease", "guard": GUARD, "lease": timedelta(0)}, "longer than nothing"),
    "guard unasked": ({"guard": GUARD}, "give it as front, or record='lease'"),
    "transaction skips": ({"when_busy": "skip"}, "use record='lease'"),
    "watermark rejects": ({"record": "watermark", "when_busy": "reject"}, "use record='lease'"),
    "guard down without guard": ({"on_guard_down": "fail"}, "asks no guard"),
    "optimistic isolated": ({"record": "optimistic", "isolated": True}, "use record='transaction'"),
    "no workers": ({"concurrency": 0}, "at least 1"),
    "no attempts": ({"max_attempts": 0}, "at least 1"),
    "a number for a time": ({"keep": 5}, "a timedelta"),
    "topic too long": ({"topics": ("t" * 250,)}, "1 to 249"),
    "a list for a topic": ({"topics": (["a"],)}, "1 to 249"),
    "topic twice": ({"topics": ("t", "t")}, "named once"),
    "no marker": ({"marker": "effects"}, "table.column"),
    "watermark with front": ({"record": "watermark", "front": GUARD}, "leave front out"),
}
NO_ORDER = TransportFeatures(
    name="a queue", order="none", settles_singly=False, survives_process=True, replays=False
)


async def handler(*_: object) -> None:
    """Does nothing."""


def spec(**options: Any) -> ConsumerSpec:
    """A consumer with these options."""
    named: dict[str, Any] = {"name": "c", "topics": ("t",), "handler": handler}
    return ConsumerSpec(**named | options)


@pytest.mark.parametrize("name", ["", "x" * 65, "a\0b", None])
def test_a_name_that_no_store_can_keep_is_refused(name: Any) -> None:
    """PostgreSQL would refuse it at every step of a worker that begins again and again."""
    with pytest.raises(InvalidSetting, match="1 to 64 printable"):
        spec(name=name)


@pytest.mark.parametrize(("options", "advice"), REFUSED.values(), ids=REFUSED)
def test_contradictions_are_refused_with_what_to_do(options: dict[str, Any], advice: str) -> None:
    """At registration, not at the first message; the consumer is named."""
    with pytest.raises(InvalidSetting, match="consumer 'c'") as refusal:
        spec(**options)

    assert advice in str(refusal.value)


@pytest.mark.parametrize("features", [VALKEY, NO_ORDER], ids=lambda each: each.name)
def test_a_watermark_needs_ordered_partitions(features: TransportFeatures) -> None:
    """Where what is delivered again comes after later messages, a mark would lose it."""
    with pytest.raises(InvalidSetting, match="use record='transaction'"):
        spec(record="watermark").check_transport(features)


def test_every_mode_is_there_where_it_can_be() -> None:
    """What does not contradict itself is taken."""
    for options in (
        {"front": GUARD},
        {"record": "optimistic", "front": GUARD, "batch": True},
        {"record": "lease", "guard": GUARD, "when_busy": "reject", "on_guard_down": "fail"},
        {"record": "watermark", "isolated": True},
    ):
        spec(**options).check_transport(FEATURES)
