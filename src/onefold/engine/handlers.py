"""What may be a handler: whatever would seem to run and have no effect is refused at once."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from onefold.errors import InvalidSetting

__all__ = ["check_handler", "is_async"]


def is_async(run: Callable[..., Any]) -> bool:
    """Whether calling *run* gives a coroutine: a function, a method, an object that is called."""
    return inspect.iscoroutinefunction(run) or inspect.iscoroutinefunction(_call_of(run))


def check_handler(run: Any, consumer: str, *arguments: str, named: str | None = None) -> None:
    """
    Refuse what cannot handle the messages of *consumer*.

    Args:
        run: What was registered.
        consumer: Its name.
        arguments: What it is given; empty where a caller gives more of its own.
        named: What it is given by name.

    Raises:
        InvalidSetting: it cannot be called so, or calling it would run none of its code.
    """
    for problem in _problems(run, arguments, named):
        raise InvalidSetting("handler", f"consumer {consumer!r}: {problem}")


def _problems(run: Any, arguments: tuple[str, ...], named: str | None) -> Iterator[str]:
    if not callable(run):
        yield f"expected a function, and got {run!r}"
        return
    each = (run, _call_of(run))
    if any(inspect.isgeneratorfunction(f) or inspect.isasyncgenfunction(f) for f in each):
        yield f"{_name_of(run)} is a generator, whose body nobody would run: take out the yield"
    try:
        signature = inspect.signature(run)
    except ValueError:  # one written in C may have none
        return
    if arguments:
        try:
            signature.bind(*arguments)
        except TypeError as error:
            called = f"it is called as {_name_of(run)}({', '.join(arguments)})"
            yield f"{called}, and is {_name_of(run)}{signature}: {error}"
    if named is not None and not _takes(signature, named):
        yield f"{_name_of(run)}{signature} has no parameter {named!r}: add `*, {named}`"


def _takes(signature: inspect.Signature, name: str) -> bool:
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    named = signature.parameters.get(name)
    if named is not None and named.kind is not inspect.Parameter.POSITIONAL_ONLY:
        return True
    return inspect.Parameter.VAR_KEYWORD in kinds


def _call_of(run: Any) -> Any:
    return getattr(type(run), "__call__", None)  # noqa: B004 (its own, to look at, not to call)


def _name_of(run: Any) -> str:
    return str(getattr(run, "__name__", type(run).__name__))
