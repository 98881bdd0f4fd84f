"""The count of closed faults notices what is missing, failing, or not caught."""

import pytest
from tests.faults.catalogue import Fault, Note, Tally, faults_of

NOTES = {"n": Note(numbers=frozenset({"B1", "B2"}), twins=True)}
ALL = [Fault("n", number, twin) for number in ("B1", "B2") for twin in (False, True)]


def tally(*failing: Fault, without: Fault | None = None) -> Tally:
    """A run of all four tests, or of all but one."""
    made = Tally(NOTES)
    for fault in ALL:
        if fault != without:
            made.note(fault, passed=fault not in failing)
    return made


def test_all_closed_is_said_with_its_numbers() -> None:
    """The last line counts what ran."""
    assert tally().missing() == []
    assert tally().verdict() == "faults: 2 of 2 closed, 2 of 2 twins caught"


def test_a_number_without_a_test_is_open() -> None:
    """What the note lists and nobody tests cannot pass for closed."""
    run = tally(without=Fault("n", "B2", twin=False))

    assert run.missing() == ["n B2"]
    assert run.verdict() == "faults: 1 of 2 closed, 2 of 2 twins caught"


def test_a_fault_is_closed_only_if_all_its_tests_pass() -> None:
    """One failing test among several leaves it open, a twin that shows no fault as well."""
    run = tally(Fault("n", "B1", twin=True))
    run.note(Fault("n", "B2", twin=False), passed=False)

    assert run.missing() == ["n B1 (twin)", "n B2"]


def test_a_misspelt_number_is_refused() -> None:
    """A test about a fault that no note lists would be counted for nothing."""
    with pytest.raises(LookupError, match="no fault B99"):
        faults_of("idempotency", "test_b99_a_typing_error")


def test_names_say_what_they_are_about() -> None:
    """The number stands in the test's name or in its parameter's id; twins say so."""
    caught = faults_of("idempotency", "test_the_twin_is_caught[sqlite-b06_later]")

    assert caught == [Fault("idempotency", "B6", twin=True)]
    assert faults_of("learning", "test_l09_saving") == [Fault("learning", "L9", twin=False)]
    assert [fault.number for fault in faults_of("trace", "test_b2_b3_each")] == ["B2", "B3"]
    assert faults_of("learning", "test_something_else") == []
