"""Which kinds of sink there are: entry points of the group `onefold.sinks`. None is named here."""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoints, entry_points
from inspect import signature
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from onefold.errors import FieldProblem, InvalidInput
from onefold.ports.sink import Sink, SinkFactory

GROUP = "onefold.sinks"


def kinds() -> list[str]:
    """The names of the installed kinds."""
    return sorted(_installed().names)


@cache
def _installed() -> EntryPoints:
    return entry_points(group=GROUP)  # reads the metadata of every package there is


def make(
    kind: str,
    config: Mapping[str, Any],
    secrets: Mapping[str, Any],
    *,
    folder: Path | None = None,
    school: UUID | None = None,
) -> Sink:
    """
    The sink of that kind, as *config* and *secrets* describe it.

    Args:
        kind: The entry point's name.
        config: What anybody in the school may see.
        secrets: What nobody is told again.
        folder: Below which files may be written; the kinds that ask for it are given it.
        school: Whose sink it is; below *folder* it has a folder of its own, so that no path
            that another school names leads into it.

    Raises:
        InvalidInput: there is no such kind here, or they make none.
    """
    for one in _installed().select(name=kind):
        try:
            factory = cast("SinkFactory", one.load())
        except ImportError as error:
            reason = f"needs a package that is not installed: {error.name}"
            raise InvalidInput([FieldProblem("sink", "missing", reason)]) from None
        own = folder if folder is None or school is None else folder / str(school)
        bounds = {"folder": own} if "folder" in signature(factory).parameters else {}
        return factory(config, secrets, **bounds)
    raise InvalidInput([FieldProblem("sink", "choice", f"expected one of {', '.join(kinds())}")])
