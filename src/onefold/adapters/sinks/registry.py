"""Which kinds of sink there are: entry points of the group `onefold.sinks`. None is named here."""

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, cast

from onefold.errors import FieldProblem, InvalidInput
from onefold.ports.sink import Sink, SinkFactory

GROUP = "onefold.sinks"


def kinds() -> list[str]:
    """The names of the installed kinds."""
    return sorted(entry_points(group=GROUP).names)


def make(kind: str, config: Mapping[str, Any], secrets: Mapping[str, Any]) -> Sink:
    """
    The sink of that kind, as *config* and *secrets* describe it.

    Raises:
        InvalidInput: there is no such kind here, or they make none.
    """
    found = entry_points(group=GROUP, name=kind)
    for one in found:
        try:
            factory = cast("SinkFactory", one.load())
        except ImportError as error:
            reason = f"needs a package that is not installed: {error.name}"
            raise InvalidInput([FieldProblem("sink", "missing", reason)]) from None
        return factory(config, secrets)
    raise InvalidInput([FieldProblem("sink", "choice", f"expected one of {', '.join(kinds())}")])
