"""The state table of a claim: what may follow what, and nothing else."""

from itertools import product

import pytest

from onefold.core.claim import NEXT, ClaimFact, ClaimState, advance
from onefold.errors import IllegalTransition

LEGAL = {
    (ClaimState.ABSENT, ClaimFact.CLAIMED): ClaimState.LEASED,
    (ClaimState.LEASED, ClaimFact.RENEWED): ClaimState.LEASED,
    (ClaimState.LEASED, ClaimFact.CONFIRMED): ClaimState.COMPLETED,
    (ClaimState.LEASED, ClaimFact.RELEASED): ClaimState.ABSENT,
    (ClaimState.LEASED, ClaimFact.LEASE_ENDED): ClaimState.EXPIRED,
    (ClaimState.EXPIRED, ClaimFact.CLAIMED): ClaimState.LEASED,
    (ClaimState.EXPIRED, ClaimFact.RENEWED): ClaimState.LEASED,
    (ClaimState.EXPIRED, ClaimFact.CONFIRMED): ClaimState.COMPLETED,
    (ClaimState.EXPIRED, ClaimFact.RELEASED): ClaimState.ABSENT,
    (ClaimState.COMPLETED, ClaimFact.FORGOTTEN): ClaimState.ABSENT,
}


@pytest.mark.parametrize(("state", "fact"), list(product(ClaimState, ClaimFact)))
def test_every_pair_is_legal_or_refused(state: ClaimState, fact: ClaimFact) -> None:
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
        NEXT[ClaimState.COMPLETED, ClaimFact.CLAIMED] = ClaimState.LEASED  # type: ignore[index]


def test_nothing_but_forgetting_leads_out_of_completed() -> None:
    """Neither a late failure nor a zombie makes a completed event run again."""
    ways_out = {fact for state, fact in NEXT if state is ClaimState.COMPLETED}

    assert ways_out == {ClaimFact.FORGOTTEN}


def test_only_a_live_lease_keeps_others_out() -> None:
    """A claim that nobody holds, or whose lease has ended, can be claimed at once."""
    claimable = {state for state, fact in NEXT if fact is ClaimFact.CLAIMED}

    assert claimable == {ClaimState.ABSENT, ClaimState.EXPIRED}


def test_the_holder_of_an_ended_lease_may_do_what_a_holder_may() -> None:
    """As long as nobody took it: no other worker has begun."""
    after_lease = {fact: state for (at, fact), state in NEXT.items() if at is ClaimState.LEASED}
    after_expiry = {fact: state for (at, fact), state in NEXT.items() if at is ClaimState.EXPIRED}

    for fact in (ClaimFact.RENEWED, ClaimFact.CONFIRMED, ClaimFact.RELEASED):
        assert after_expiry[fact] is after_lease[fact]


def test_every_state_can_be_reached_and_left() -> None:
    """No state is written that nothing leads to, or that a claim is stuck in."""
    assert {state for state, _ in NEXT} == set(ClaimState)
    assert set(NEXT.values()) | {ClaimState.ABSENT} == set(ClaimState)
