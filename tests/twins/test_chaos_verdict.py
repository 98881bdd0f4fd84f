"""The verdict on a chaos run finds each kind of harm in what is left, and none in order."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from tests.acceptance.chaos.plan import Feed
from tests.acceptance.chaos.verdict import CONSUMERS, Effect, Left, judge

FEED = Feed(Random(1))
SENT = FEED.these(("a", "plain"), ("a", "flaky"), ("a", "poisoned"), ("a", "plain"), ("b", "plain"))
POISONED = SENT[2]


def _effects(consumer: str) -> list[Effect]:
    places = [("a", 1, None), ("a", 2, 1), ("a", 4, 2), ("b", 1, None)]
    return [Effect(consumer, f"{key}-{n}", key, n, last) for key, n, last in places]


GOOD = Left(
    effects=[effect for consumer in CONSUMERS for effect in _effects(consumer)],
    parked=[("apply", POISONED.identity)],
    published={"f1", "f2"},
    arrived={"f1", "f2"},
)


def _with(effects: Sequence[Effect] = GOOD.effects, **changes: Any) -> Left:
    return replace(GOOD, effects=effects, **changes)


def test_a_run_without_harm_is_told_so() -> None:
    """Every event one effect at each consumer, in order; the poisoned one parked."""
    verdict = judge(SENT, GOOD)

    assert verdict.harm == []
    assert verdict.line(kills=7, pauses=2) == (
        "chaos: 5 events, 7 kills, 2 pauses, 0 lost, 0 doubled, 0 out of order"
    )


A1, A2, A4, B1 = _effects("apply")


@pytest.mark.parametrize(
    ("kind", "left", "told"),
    [
        pytest.param(
            "lost", _with(GOOD.effects[1:]), "no effect of a-1 at apply", id="effect-lost"
        ),
        pytest.param("lost", _with(GOOD.effects[:-1]), "no effect of b-1 at tell", id="told-lost"),
        pytest.param(
            "lost", _with(arrived={"f1"}), "published and not in the topic: f2", id="publish-lost"
        ),
        pytest.param(
            "doubled", _with([*GOOD.effects, B1]), "2 effects of b-1 at apply", id="doubled"
        ),
        pytest.param(
            "doubled",
            _with([*GOOD.effects, Effect("apply", "a-3", "a", 3, 4)]),
            "an effect of a-3 at apply that must have none",
            id="effect-of-a-failure",
        ),
        pytest.param(
            "doubled",
            _with(arrived={"f1", "f2", "f3"}),
            "in the topic and never published: f3",
            id="phantom",
        ),
        pytest.param(
            "out_of_order",
            # a-2 was written first and committed last: the numbers of rows do not tell.
            _with([A1, A2, A4._replace(last=1), B1, *GOOD.effects[4:]]),
            "a-4 at apply came after 1, not 2",
            id="committed-in-another-order",
        ),
        pytest.param(
            "out_of_order",
            _with([A1._replace(last=2), A2._replace(last=None), A4, B1, *GOOD.effects[4:]]),
            "a-1 at apply came after 2, not None",
            id="overtaken",
        ),
        pytest.param(
            "parked", _with(parked=[]), "a-3 not parked by apply", id="poisoned-one-not-parked"
        ),
        pytest.param(
            "parked",
            _with(parked=[*GOOD.parked, ("apply", "other")]),
            "other parked by apply",
            id="parked-though-it-could-succeed",
        ),
        pytest.param(
            "parked",
            _with(parked=[*GOOD.parked, ("tell", POISONED.identity)]),
            "a-3 parked by tell",
            id="parked-elsewhere",
        ),
    ],
)
def test_each_kind_of_harm_is_told(kind: str, left: Left, told: str) -> None:
    """Whatever goes wrong is told in its own words, and fails the run."""
    verdict = judge(SENT, left)

    assert told in getattr(verdict, kind)
    assert told in verdict.harm
