"""Which messages are begun together after somebody began them and did not end."""

from itertools import groupby
from random import Random

import pytest

from onefold.engine.delivery import Delivery
from onefold.engine.suspects import ALONE_AT_MOST, turns_of
from onefold.ports.ledger import Begun, PositionSpan
from onefold.ports.transport import Message, Partition

HERE, THERE = Partition("t", 0), Partition("t", 1)


def received(*runs: tuple[Partition, range]) -> list[Delivery]:
    return [
        Delivery(Message(partition=partition, position=position, key=None, value=b""))
        for partition, positions in runs
        for position in positions
    ]


def told(turns: list[list[Delivery]]) -> list[list[tuple[int, int, int]]]:
    """Each turn as runs of a partition: its number, the first and the last position."""
    return [
        [
            (number, positions[0], positions[-1])
            for number, run in groupby(turn, key=lambda d: d.message.partition.number)
            if (positions := [d.message.position for d in run])
        ]
        for turn in turns
    ]


def alone(turns: list[list[Delivery]]) -> list[bool]:
    """Of each turn, whether all of it is begun one by one."""
    assert all(len({d.alone for d in turn}) == 1 for turn in turns)
    return [turn[0].alone for turn in turns]


def test_what_nobody_began_is_begun_together() -> None:
    """One turn, nothing alone; without any message there is nothing in it."""
    turns = turns_of(received((HERE, range(99))), [])

    assert (told(turns), alone(turns)) == ([[(0, 0, 98)]], [False])
    assert turns_of([], []) == [[]]


def test_a_few_suspects_are_begun_one_by_one() -> None:
    """In their place: after what comes before them, and before what follows."""
    begun = [Begun(PositionSpan(HERE, 4, 7), "a")]

    turns = turns_of(received((THERE, range(3)), (HERE, range(2, 60))), begun)

    assert told(turns) == [[(1, 0, 2), (0, 2, 3)], [(0, 4, 7)], [(0, 8, 59)]]
    assert alone(turns) == [False, True, False]


def test_many_suspects_are_begun_in_pieces() -> None:
    """Of several partitions too, when one call began them: none is alone yet."""
    begun = [Begun(PositionSpan(HERE, 0, 99), "a"), Begun(PositionSpan(THERE, 5, 44), "a")]

    turns = turns_of(received((HERE, range(50)), (THERE, range(5, 45))), begun)

    assert told(turns) == [[(0, 0, 31)], [(0, 32, 49), (1, 5, 18)], [(1, 19, 44)]]
    assert alone(turns) == [False, False, False]


def test_what_two_calls_began_is_cut_by_itself() -> None:
    """A piece that somebody died in is not hidden in the rest of its poll."""
    begun = [Begun(PositionSpan(HERE, 0, 31), "piece"), Begun(PositionSpan(THERE, 0, 99), "poll")]

    turns = turns_of(received((HERE, range(32)), (THERE, range(64))), begun)

    assert told(turns) == [[(0, 0, 31)], [(1, 0, 31)], [(1, 32, 63)]]
    assert alone(turns) == [True, False, False]


def test_pieces_of_a_large_poll_are_few() -> None:
    """As many as each has messages; so a second cut finds what it needs."""
    begun = [Begun(PositionSpan(HERE, 0, 9999), "a")]

    turns = turns_of(received((HERE, range(10_000))), begun)

    assert [len(turn) for turn in turns] == [100] * 100


def test_positions_with_gaps_count_messages() -> None:
    """A compacted log: the span is wide, and few messages are left of it."""
    begun = [Begun(PositionSpan(HERE, 0, 9999), "a")]

    turns = turns_of(received((HERE, range(0, 10_000, 1000))), begun)

    assert (told(turns), alone(turns)) == ([[(0, 0, 9000)]], [True])


@pytest.mark.parametrize("seed", range(50))
def test_every_message_has_one_turn_and_its_order(seed: int) -> None:
    """Whatever was begun before, and in whatever order messages come again."""
    chance = Random(seed)
    fresh = received(*((Partition("t", n), range(chance.randrange(90))) for n in range(5)))
    chance.shuffle(fresh)
    begun = [
        Begun(
            PositionSpan(Partition("t", n), *sorted(chance.choices(range(90), k=2))),
            chance.choice("ab"),
        )
        for n in range(5)
        if chance.random() < 0.7
    ]

    turns = turns_of(fresh, begun)

    handled = [d for turn in turns for d in turn]
    for n in range(5):
        wanted, found = (
            [d for d in some if d.message.partition.number == n] for some in (fresh, handled)
        )
        assert found == wanted, f"seed {seed}"
    assert len(handled) == len(fresh)
    suspected = {each.span.partition: each.span for each in begun}
    for turn in turns:
        if any(_in(suspected.get(d.message.partition), d) for d in turn):
            assert len(turn) <= ALONE_AT_MOST, f"seed {seed}"


def _in(span: PositionSpan | None, delivery: Delivery) -> bool:
    return span is not None and span.first <= delivery.message.position <= span.last
