"""Sinks with one fault each: the contract catches every one, and each case catches one."""

import pytest
from tests.twins.sent import SINKS, Sink, TwinContract, box

from onefold.testing.contracts import cases, failures


def _name(one: object) -> str:
    return one.__name__ if isinstance(one, type) else "caught"


@pytest.mark.parametrize(("kind", "caught_by"), SINKS.items(), ids=_name)
async def test_a_faulty_sink_is_caught_by_the_cases_about_its_fault(
    kind: type[Sink], caught_by: set[str]
) -> None:
    """By those, and by no other: a case that fails says what is wrong."""
    held = type("Held", (TwinContract,), {"fresh": lambda _: box(kind)})

    found = await failures(held)

    assert found.keys() == caught_by


def test_each_case_has_a_fault_that_it_catches() -> None:
    """A case that nothing fails tests nothing."""
    about_one = [caught_by for caught_by in SINKS.values() if len(caught_by) <= 3]

    assert set(cases(TwinContract)) == {
        *(case for caught_by in about_one for case in caught_by),
        "test_an_attempt_sends_the_same_id_and_bytes",
    }
