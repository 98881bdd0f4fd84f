"""A bad network around any port, the same for the same seed."""

from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import timedelta

import pytest

from onefold.adapters.memory.transport import MemoryTransport
from onefold.adapters.memory.unit_of_work import MemoryUnitOfWork
from onefold.errors import CommitUnknown, StoreUnavailable
from onefold.ports.transport import Outgoing
from onefold.testing.clock import ManualClock
from onefold.testing.crash.points import Mortal, Reaper
from onefold.testing.faults import Faults


@dataclass(frozen=True)
class Letter:
    """A message with a key."""

    key: str
    number: int


class Post:
    """Counts what arrives, and has letters to be received."""

    name = "post"

    def __init__(self) -> None:
        self.arrived = 0

    async def send(self) -> int:
        self.arrived += 1
        return self.arrived

    async def receive(self) -> list[Letter]:
        return [Letter("ab"[n % 2], n) for n in range(6)]


async def test_a_lost_request_never_arrives_and_a_cut_answer_was_done() -> None:
    """Both look the same to the caller."""
    lost, cut = Post(), Post()

    with pytest.raises(StoreUnavailable):
        await Faults(lose=1).around(lost, "post").send()
    with pytest.raises(StoreUnavailable):
        await Faults(cut=1).around(cut, "post").send()

    assert (lost.arrived, cut.arrived) == (0, 1)


async def test_a_repeated_request_arrives_twice() -> None:
    """And the caller hears the second answer."""
    post, faults = Post(), Faults(repeat=1)

    assert await faults.around(post, "post").send() == 2

    assert faults.done == ["post.send#1:repeated"]
    assert faults.around(post, "post").name == "post"


async def test_what_is_received_comes_again_and_in_another_order() -> None:
    """Within a key the order stays, as brokers promise."""
    faulty = Faults(seed=4, repeat=1, reorder=1).around(Post(), "post")

    received = await faulty.receive()

    assert len(received) == 7
    assert [letter.number for letter in received] != sorted(letter.number for letter in received)
    firsts = list(dict.fromkeys(received))
    for key in "ab":
        numbers = [letter.number for letter in firsts if letter.key == key]
        assert numbers == sorted(numbers)


async def test_the_same_seed_does_the_same_again() -> None:
    """So that what was found can be looked at."""

    async def story(seed: int) -> list[str]:
        clock = ManualClock()
        faults = Faults(seed=seed, lose=0.3, cut=0.2, delay=0.5, delay_s=9, sleep=clock.sleep)
        post = faults.around(Post(), "post")
        for _ in range(20):
            try:
                await post.send()
            except StoreUnavailable:
                clock.advance(timedelta(seconds=1))
        return [*faults.done, str(clock.now())]

    assert await story(1) == await story(1)
    assert await story(1) != await story(2)


async def test_faults_end() -> None:
    """After `most` of them the network is good, so that a patient caller gets through."""
    faults, post = Faults(lose=1, most=2), Post()
    faulty = faults.around(post, "post")

    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await faulty.send()

    assert await faulty.send() == 1


async def test_a_port_whose_calls_are_plain_functions_is_faulty_too() -> None:
    """As those of redis-py; and what the crash explorer wraps is no other than what it wraps."""

    class Plain:
        def __init__(self, post: Post) -> None:
            self._post, self.mortal = post, Mortal(post, Reaper(), "post").send

        def send(self) -> Awaitable[int]:
            return self._post.send()

    lost, twice = Post(), Post()
    for name in ("send", "mortal"):
        with pytest.raises(StoreUnavailable):
            await getattr(Faults(lose=1).around(Plain(lost), "post"), name)()
        await getattr(Faults(repeat=1).around(Plain(twice), "post"), name)()

    assert (lost.arrived, twice.arrived) == (0, 4)


async def test_a_transaction_may_never_begin_or_its_commit_be_in_doubt() -> None:
    """Nothing was written in the one case; in the other it was, and nobody heard."""
    uow = MemoryUnitOfWork()

    async def write(faults: Faults, name: str) -> None:
        async with faults.around(uow, "uow").begin() as tx:
            tx.records[name] = 1

    with pytest.raises(StoreUnavailable):
        await write(Faults(lose=1), "lost")
    with pytest.raises(CommitUnknown):
        await write(Faults(cut=1), "cut")

    assert set(uow.committed.records) == {"cut"}


async def test_a_subscription_is_behind_the_same_network() -> None:
    """Whoever wraps a transport need not think of it."""
    faults = Faults(repeat=1)
    transport = MemoryTransport()
    await transport.publish([Outgoing(topic="t", key=b"k", value=b"v")])

    subscription = await faults.around(transport, "broker").subscribe("g", ["t"])
    received = await subscription.receive(max_messages=9, wait_s=1)

    assert [message.value for message in received] == [b"v", b"v"]
    assert "broker.receive#2:repeated" in faults.done, faults.done
