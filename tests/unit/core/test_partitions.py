"""Which partition a key belongs to, and how members share."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from onefold.core.partitions import partition_of, quota

_members = st.sets(st.text("abcdef", min_size=1, max_size=3), min_size=1, max_size=9)


def test_a_key_stays_where_it_is() -> None:
    """The numbers are part of what is stored: no version may deal keys out anew."""
    assert [partition_of(b"key-%d" % n, 8) for n in range(6)] == [4, 2, 0, 6, 5, 3]


def test_keys_spread() -> None:
    """A thousand keys fill eight partitions about evenly."""
    filled = Counter(partition_of(b"%d" % n, 8) for n in range(1000))

    assert min(filled.values()) > 100


@given(_members, st.text(max_size=5), st.integers(1, 40))
def test_quotas_add_up(members: set[str], topic: str, partitions: int) -> None:
    """All partitions are wanted, none by two, and no member wants two more than another."""
    quotas = [quota(member, members, topic, partitions) for member in members]

    assert sum(quotas) == partitions
    assert max(quotas) - min(quotas) <= 1


def test_a_stranger_gets_nothing() -> None:
    """Who is not among the members has no quota."""
    assert quota("z", {"a", "b"}, "orders", 8) == 0


def test_topics_of_one_partition_spread() -> None:
    """The first member does not get them all."""
    first = sum(quota("a", {"a", "b"}, f"topic-{n}", 1) for n in range(100))

    assert 30 < first < 70
