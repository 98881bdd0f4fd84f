"""The state table of a claim: what may follow what, and nothing else."""

from itertools import product

import pytest

from onefold.core.claim import NEXT, Fact, State, advance
from onefold.errors import IllegalTransition

LEGAL = {
    (State.ABSENT, Fact.CLAIMED): State.LEASED,
    (State.LEASED, Fact.RENEWED): State.LEASED,
    (State.LEASED, Fact.CONFIRMED): State.COMPLETED,
    (State.LEASED, Fact.RELEASED): State.ABSENT,
    (State.LEASED, Fact.LEASE_ENDED): State.EXPIRED,
    (State.EXPIRED, Fact.CLAIMED): State.LEASED,
    (State.EXPIRED, Fact.RENEWED): State.LEASED,
    (State.EXPIRED, Fact.CONFIRMED): State.COMPLETED,
    (State.EXPIRED, Fact.RELEASED): State.ABSENT,
    (State.COMPLETED, Fact.FORGOTTEN): State.ABSENT,
}


@pytest.mark.parametrize(("state", "fact"), list(product(State, Fact)))
def test_every_pair_is_legal_or_refused(state: State, fact: Fact) -> None:
    """The table is the only way: a pair that is not in it changes nothing and says so."""
    if (state, fact) in LEGAL:
        assert advance(state, fact) is LEGAL[state, fact]
    else:
        with pytest.raises(IllegalTransition) as refused:
            advance(state, fact)
        assert (refused.value.state, refused.value.fact) == (state.name, fact.name)


def test_the_table_cannot_be_changed() -> None:
    """Nobody adds a transition at run time."""
    with pytest.raises(TypeError):
        NEXT[State.COMPLETED, Fact.CLAIMED] = State.LEASED  # type: ignore[index]


def test_nothing_but_forgetting_leads_out_of_completed() -> None:
    """Neither a late failure nor a zombie makes a completed event run again."""
    ways_out = {fact for state, fact in NEXT if state is State.COMPLETED}

    assert ways_out == {Fact.FORGOTTEN}


def test_only_a_live_lease_keeps_others_out() -> None:
    """A claim that nobody holds, or whose lease has ended, can be claimed at once."""
    claimable = {state for state, fact in NEXT if fact is Fact.CLAIMED}

    assert claimable == {State.ABSENT, State.EXPIRED}


def test_the_holder_of_an_ended_lease_may_do_what_a_holder_may() -> None:
    """As long as nobody took it: no other worker has begun."""
    after_lease = {fact: state for (at, fact), state in NEXT.items() if at is State.LEASED}
    after_expiry = {fact: state for (at, fact), state in NEXT.items() if at is State.EXPIRED}

    for fact in (Fact.RENEWED, Fact.CONFIRMED, Fact.RELEASED):
        assert after_expiry[fact] is after_lease[fact]


def test_every_state_can_be_reached_and_left() -> None:
    """No state is written that nothing leads to, or that a claim is stuck in."""
    assert {state for state, _ in NEXT} == set(State)
    assert set(NEXT.values()) | {State.ABSENT} == set(State)
