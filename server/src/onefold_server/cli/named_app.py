"""`module:attribute`: the application a user wrote, found and fit to work."""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from onefold.application import Onefold
from onefold.errors import InvalidSetting


def named_app(name: str) -> Onefold:
    """
    The application that *name* names, its module imported with this folder on the path.

    An error inside the module itself is the user's to see, with its traceback.

    Raises:
        InvalidSetting: there is no such module or attribute, it is something else, or it has
            no consumers; nothing was opened.
    """
    module_name, _, attribute = name.partition(":")
    if not (module_name and attribute):
        raise _wrong(f"expected module:attribute, as in shop.main:app, and got {name!r}")
    module = _module(module_name)
    if not hasattr(module, attribute):
        raise _wrong(f"{module_name} has no {attribute!r}; {_instead(module)}")
    app = getattr(module, attribute)
    if not isinstance(app, Onefold):
        raise _wrong(f"{name} is of type {type(app).__name__}, not Onefold; {_instead(module)}")
    if not app.specs:
        raise _wrong(f"{name} has no consumers; its module must import those that register some")
    return app


def _module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):
            raise  # it is there, and misses something itself
        reason = f"there is no module {error.name!r}, neither in {here} nor installed"
        raise _wrong(f"{reason}; start the worker in the folder that holds it") from None


def _instead(module: ModuleType) -> str:
    found = sorted(name for name, value in vars(module).items() if isinstance(value, Onefold))
    if not found:
        return "no Onefold application is in there"
    return "did you mean " + " or ".join(f"{module.__name__}:{name}" for name in found)


def _wrong(reason: str) -> InvalidSetting:
    return InvalidSetting("app", reason)
