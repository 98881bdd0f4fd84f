"""A bad network around any port, the same for the same seed."""

from dataclasses import dataclass
from datetime import timedelta

import pytest

from onefold.errors import StoreUnavailable
from onefold.testing.clock import ManualClock
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
