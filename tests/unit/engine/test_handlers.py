"""What cannot be a handler is refused where it is registered, not at the first message."""

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from onefold import Onefold
from onefold.adapters.memory.guard import MemoryGuard
from onefold.engine.handlers import is_async
from onefold.engine.idempotent import idempotent_consumer
from onefold.errors import InvalidSetting


def plain(event: Any, tx: Any) -> None:
    """Fits."""


async def fits(event: Any, tx: Any) -> None:
    """Fits."""


async def short(event: Any) -> None:
    """Takes no transaction."""


async def long(event: Any, tx: Any, more: Any) -> None:
    """Wants more than it is given."""


def generator(event: Any, tx: Any) -> Iterator[int]:
    yield 1


async def asynchronous_generator(event: Any, tx: Any) -> AsyncIterator[int]:
    yield 1


class Called:
    async def __call__(self, event: Any, tx: Any) -> None:
        """Fits."""

    async def method(self, event: Any, tx: Any) -> None:
        """Fits."""


REFUSED: dict[str, tuple[Any, str]] = {
    "nothing": (None, "expected a function"),
    "too few": (short, r"called as short\(event, tx\)"),
    "too many": (long, "missing a required argument: 'more'"),
    "generator": (generator, "take out the yield"),
    "async generator": (asynchronous_generator, "take out the yield"),
}
FIT: dict[str, Callable[..., Any]] = {
    "plain": plain,
    "async": fits,
    "bound": partial(long, more=1),
    "object": Called(),
    "method": Called().method,
    "any": lambda *_: None,
}


@pytest.fixture
def app(tmp_path: Path) -> Onefold:
    return Onefold(f"sqlite:///{tmp_path}/none.db")


@pytest.mark.parametrize(("handler", "why"), REFUSED.values(), ids=REFUSED)
def test_what_would_have_no_effect_is_refused(app: Onefold, handler: Any, why: str) -> None:
    """Its messages would be settled, or parked, one and all."""
    with pytest.raises(InvalidSetting, match=why):
        app.consumer("orders", name="c")(handler)

    assert app.specs == {}


@pytest.mark.parametrize("handler", FIT.values(), ids=FIT)
def test_what_can_be_called_is_a_handler(app: Onefold, handler: Any) -> None:
    """Functions, methods, objects and what is bound by `partial`."""
    assert app.consumer("orders", name="c")(handler) is handler
    assert is_async(handler) is (handler not in (plain, FIT["any"]))


def _without(message: Any) -> None:
    """Cannot confirm."""


async def _yields(message: Any, *, confirm: Any) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("handler", "why"),
    [(_without, "add `\\*, confirm`"), (_yields, "take out the yield"), (3, "expected a function")],
)
def test_a_guarded_handler_must_be_able_to_confirm(handler: Any, why: str) -> None:
    """Told by the decorator, and not by the first message."""
    with pytest.raises(InvalidSetting, match=why):
        idempotent_consumer(MemoryGuard(), name="c")(handler)


@pytest.mark.parametrize(
    ("setting", "given"),
    [("when_busy", "later"), ("on_guard_down", "pray"), ("failures", "eat"), ("name", "a\0b")],
)
def test_terms_that_are_not_known_are_refused(setting: str, given: str) -> None:
    """A mistyped one would mean another behaviour than the one that was asked for."""
    terms: dict[str, Any] = {"name": "c", setting: given}

    with pytest.raises(InvalidSetting, match=setting):
        idempotent_consumer(MemoryGuard(), **terms)
