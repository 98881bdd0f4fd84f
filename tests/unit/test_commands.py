"""What every command of `onefold` has in common."""

from collections.abc import Iterator

import pytest
from typer.main import get_command

from onefold_server.cli.main import app

# Processes that run until they are stopped have no result to print.
WITHOUT_RESULT = {"onefold up", "onefold serve", "onefold worker"}


def _leaves(command: object, path: tuple[str, ...]) -> Iterator[tuple[str, object]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield " ".join(path), command
    for name, one in (below or {}).items():
        yield from _leaves(one, (*path, name))


COMMANDS = dict(_leaves(get_command(app), ("onefold",)))


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - WITHOUT_RESULT))
def test_every_command_with_a_result_prints_json_on_request(name: str) -> None:
    """A script never has to parse a table."""
    options = {option for one in COMMANDS[name].params for option in one.opts}  # type: ignore[attr-defined]

    assert "--json" in options


def test_the_commands_without_a_result_exist() -> None:
    """The list of exceptions names no command that is gone."""
    assert COMMANDS.keys() >= WITHOUT_RESULT
