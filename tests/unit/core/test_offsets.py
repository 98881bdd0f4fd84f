"""The unbroken done prefix, beside a model too naive to be wrong."""

from hypothesis import given
from hypothesis import strategies as st

from onefold.core.offsets import DonePrefix


def _received(*positions: int) -> DonePrefix:
    prefix = DonePrefix()
    for position in positions:
        prefix.received(position)
    return prefix


def test_a_later_one_does_not_carry_an_earlier_one_along() -> None:
    """B6: what stands behind an unfinished message is not committed."""
    prefix = _received(0, 1, 2)

    prefix.done(1)
    prefix.done(2)

    assert prefix.committable() is None
    assert prefix.unfinished == 3


def test_the_gap_closed_all_behind_it_is_committable() -> None:
    """When the oldest is done, so is everything that only waited for it."""
    prefix = _received(0, 1, 2, 3)
    for position in (2, 1, 0):
        prefix.done(position)

    assert prefix.committable() == 3
    assert prefix.committable() is None
    assert prefix.unfinished == 1


def test_positions_may_have_gaps() -> None:
    """Compaction and transaction markers leave gaps; they are nobody's to be done."""
    prefix = _received(5, 9, 1000)

    prefix.done(5)
    prefix.done(9)

    assert prefix.committable() == 10


def test_what_was_never_received_is_not_committed() -> None:
    """A position from elsewhere moves nothing, also when it is received later."""
    prefix = _received(0)

    prefix.done(1)
    prefix.received(1)
    prefix.done(0)

    assert prefix.committable() == 1


def test_reading_again_after_a_seek_changes_nothing() -> None:
    """Positions received a second time, done or not, are noted once."""
    prefix = _received(0, 1, 2)
    prefix.done(0)
    assert prefix.committable() == 1

    for position in (0, 1, 2):
        prefix.received(position)
    prefix.done(0)
    prefix.done(1)

    assert prefix.committable() == 2
    assert prefix.unfinished == 1


def test_done_twice_leaves_nothing_behind() -> None:
    """A settled position that is settled again costs no memory: a member lives for months."""
    prefix = _received(0)
    for _ in range(3):
        prefix.done(0)
        prefix.committable()

    assert not prefix._open
    assert prefix.unfinished == 0


class _Model:
    """Remembers everything and looks through all of it, each time."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self.done: set[int] = set()
        self.told = 0

    def committable(self) -> int | None:
        prefix = 0
        while prefix < len(self.received) and self.received[prefix] in self.done:
            prefix += 1
        fresh, self.told = prefix > self.told, max(prefix, self.told)
        return self.received[prefix - 1] + 1 if fresh else None


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("receive"), st.integers(1, 4)),  # how far behind the last one
        st.tuples(st.just("seek"), st.integers(0, 10)),  # receive the last so many again
        st.tuples(st.just("done"), st.integers(0, 60)),
        st.tuples(st.just("ask"), st.just(0)),
    ),
    max_size=80,
)


@given(_steps)
def test_as_the_model_says(steps: list[tuple[str, int]]) -> None:
    """Whatever is received, read again and done in whatever order, model and code agree."""
    prefix, model = DonePrefix(), _Model()
    for what, number in steps:
        if what == "receive":
            position = (model.received[-1] if model.received else -1) + number
            model.received.append(position)
            prefix.received(position)
        elif what == "seek":
            for position in model.received[len(model.received) - number :]:
                prefix.received(position)
        elif what == "done":
            if number in model.received:
                model.done.add(number)
            prefix.done(number)
        else:
            assert prefix.committable() == model.committable()
        assert prefix.unfinished == len(model.received) - model.told
    assert prefix.committable() == model.committable()
