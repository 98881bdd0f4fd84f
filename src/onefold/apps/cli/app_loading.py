"""Finds the application that a command is told of."""

import sys
from importlib import import_module
from pathlib import Path

from onefold.application import Onefold
from onefold.errors import InvalidSetting


def load_app(spec: str) -> Onefold:
    """
    The `Onefold` that `module:attribute` names; the current folder is looked in first.

    Raises:
        InvalidSetting: there is no such module, attribute, or it is something else. An
            error of the module itself goes up as it is.
    """
    name, _, attribute = spec.partition(":")
    if not name or not attribute:
        raise InvalidSetting("app", f"expected module:attribute, not {spec!r}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise InvalidSetting("app", f"there is no module {name!r}") from None
    for part in attribute.split("."):
        found = getattr(found, part, None)  # type: ignore[assignment]
    if not isinstance(found, Onefold):
        raise InvalidSetting("app", f"{spec!r} is no Onefold application")
    return found
