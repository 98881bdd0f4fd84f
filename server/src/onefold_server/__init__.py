"""The Onefold server: telemetry, learning, classroom and trades over the library `onefold`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onefold_server.installation import Installation, build
    from onefold_server.settings import Settings

# Imported on first use: a command that needs no server part stays fast.
_HOME = {
    "Installation": "onefold_server.installation",
    "Settings": "onefold_server.settings",
    "build": "onefold_server.installation",
}

__all__ = ["Installation", "Settings", "build"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
