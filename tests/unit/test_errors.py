"""The tree of errors: as drawn, with stable codes, readable and picklable."""

import pickle
import re
from datetime import UTC, datetime

import pytest

from onefold import errors
from onefold.errors import FieldProblem, OnefoldError


def _tree(kind: type[OnefoldError], depth: int = 0) -> list[tuple[int, str]]:
    """Public classes below *kind*, depth first, in the order of their definition."""
    found = [(depth, kind.__name__)]
    for child in vars(errors).values():
        if (
            isinstance(child, type)
            and kind in child.__bases__
            and not child.__name__.startswith("_")
        ):
            found += _tree(child, depth + 1)
    return found


def _drawn() -> list[tuple[int, str]]:
    """What the module's docstring draws."""
    assert errors.__doc__ is not None
    lines = re.findall(r"^    ((?:[│├└─ ]{4})*)(\w+)", errors.__doc__, re.MULTILINE)
    return [(len(branches) // 4, name) for branches, name in lines]


CLASSES = [getattr(errors, name) for _, name in _tree(OnefoldError)]


def test_the_drawing_is_the_tree() -> None:
    """Whoever reads the docstring has read the classes, in their order."""
    assert _drawn() == _tree(OnefoldError)


def test_the_tree_has_two_levels_below_its_root() -> None:
    """A caller decides by kind, then by case, and need not look deeper."""
    assert {depth for depth, _ in _tree(OnefoldError)} == {0, 1, 2}


def test_codes_are_stable() -> None:
    """Logs, metrics and clients know them: an entry may be added, never changed."""
    assert {kind.__name__: (kind.code, kind.retryable) for kind in CLASSES} == {
        "OnefoldError": ("error", False),
        "Refused": ("refused", False),
        "InvalidEvent": ("invalid_event", False),
        "InvalidSetting": ("invalid_setting", False),
        "InvalidInput": ("invalid_input", False),
        "IllegalTransition": ("illegal_transition", False),
        "Conflict": ("conflict", False),
        "Outdated": ("outdated", False),
        "AlreadyDecided": ("already_decided", False),
        "BudgetExhausted": ("budget_exhausted", False),
        "NotFound": ("not_found", False),
        "Unauthenticated": ("unauthenticated", False),
        "Forbidden": ("forbidden", False),
        "TooLarge": ("too_large", False),
        "Unsupported": ("unsupported", False),
        "LeaseLost": ("lease_lost", False),
        "Unavailable": ("unavailable", True),
        "StoreUnavailable": ("store_unavailable", True),
        "StoreContended": ("store_contended", True),
        "ServerUnavailable": ("server_unavailable", True),
        "EventBusy": ("event_busy", True),
        "Broken": ("broken", False),
        "CommitUnknown": ("commit_unknown", False),
        "ConstraintViolated": ("constraint_violated", False),
        "SchemaOutdated": ("schema_outdated", False),
        "StoreFailed": ("store_failed", False),
        "NotConfirmed": ("not_confirmed", False),
    }


def test_codes_are_unique() -> None:
    """A code names one class."""
    codes = [kind.code for kind in CLASSES]

    assert sorted(codes) == sorted(set(codes))


def test_every_class_says_what_it_leaves() -> None:
    """Each has a docstring of its own, for the reference and for whoever catches it."""
    assert [kind for kind in CLASSES if not kind.__dict__.get("__doc__")] == []


PROBLEMS = (FieldProblem("a", "x", "is wrong"), FieldProblem("b[1]", "y", "is missing"))
SAMPLES: list[tuple[OnefoldError, str]] = [
    (
        errors.LeaseLost("mail", "7", 3),
        "mail lost the lease of event 7 (fence 3): another worker has or had it",
    ),
    (
        errors.EventBusy("mail", "7", datetime(2026, 3, 1, tzinfo=UTC)),
        "event 7 is held by another worker of mail",
    ),
    (
        errors.NotConfirmed("mail", "7", "returned without confirm()"),
        "the handler of mail returned without confirm() (event 7)",
    ),
    (errors.InvalidEvent("expected text", "id"), "id: expected text"),
    (errors.InvalidEvent("not JSON"), "not JSON"),
    (errors.InvalidSetting("ONEFOLD_PORT", "not a number"), "ONEFOLD_PORT: not a number"),
    (errors.InvalidInput(PROBLEMS), "a: is wrong; b[1]: is missing"),
    (
        errors.IllegalTransition("ended", "a call on this transaction"),
        "a call on this transaction is not possible in state ended",
    ),
    (errors.Conflict("event", "7"), "event 7 was recorded before with other content"),
    (errors.Outdated("session", "7", 3), "session 7 is at version 3"),
    (
        errors.AlreadyDecided("7", "ada", "today"),
        "essay 7 was decided otherwise by ada at today",
    ),
    (errors.BudgetExhausted("b", "1.50"), "budget b has 1.50 left in this period"),
    (errors.NotFound("session", "7"), "no session 7"),
    (errors.Unauthenticated("no key"), "no key"),
    (errors.Forbidden("write"), "this key does not have the scope write"),
    (errors.TooLarge("the body", 12), "the body is over 12 bytes"),
    (errors.Unsupported("memory", "SQL"), "memory does not support SQL"),
    (errors.StoreUnavailable("gone"), "store_unavailable: gone"),
    (errors.StoreContended("deadlock"), "store_contended: deadlock"),
    (errors.ServerUnavailable("gone"), "server_unavailable: gone"),
    (errors.CommitUnknown("gone"), "commit_unknown: gone"),
    (errors.ConstraintViolated("unique"), "constraint_violated: unique"),
    (errors.SchemaOutdated("at 1"), "schema_outdated: at 1"),
    (errors.StoreFailed("what?"), "store_failed: what?"),
]


def test_every_case_has_a_sample() -> None:
    """A new error comes with its message below."""
    assert {type(error) for error, _ in SAMPLES} == {
        getattr(errors, name) for depth, name in _tree(OnefoldError) if depth == 2
    }


@pytest.mark.parametrize(("error", "message"), SAMPLES, ids=lambda value: type(value).__name__)
def test_an_error_reads_well(error: OnefoldError, message: str) -> None:
    """Its message is one line made from its fields."""
    assert str(error) == message


@pytest.mark.parametrize("error", [error for error, _ in SAMPLES], ids=lambda e: e.code)
def test_an_error_survives_pickling(error: OnefoldError) -> None:
    """A worker process can hand it to its parent, fields and all."""
    copy = pickle.loads(pickle.dumps(error))

    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
