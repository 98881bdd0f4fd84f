"""What `import onefold` gives, and what it costs."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import onefold
import onefold_server

_LOADED = """
import sys
before = set(sys.modules)
import onefold
print(*sorted(name for name in set(sys.modules) - before))
"""
_EVENT = _LOADED.replace("import onefold\n", "import onefold\nonefold.Event\n")
_APPLICATION = _LOADED.replace(
    "import onefold\n", "import onefold\nonefold.Onefold('sqlite:///x.db')\n"
)
_OF_THE_SERVER = {"prometheus_client", "pwdlib", "pydantic", "structlog", "typer"}
_COMMANDS = _LOADED.replace("import onefold\n", "import onefold_server.cli.main\n")
_WORKER = _LOADED.replace("import onefold\n", "import onefold_server.worker\n")
_FOR_SOME_COMMANDS = {"alembic", "boto3", "fastapi", "httpx", "redis", "starlette", "uvicorn"}


def _loaded(program: str) -> list[str]:
    """The modules that a fresh interpreter loads for *program*."""
    run = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
    )
    return run.stdout.split()


def _third_parties(modules: list[str]) -> set[str]:
    roots = {name.partition(".")[0] for name in modules}
    return {r for r in roots if r not in sys.stdlib_module_names and not r.startswith("onefold")}


def test_importing_loads_no_third_party() -> None:
    """No web framework, no driver, not even msgspec, until something is used."""
    modules = _loaded(_LOADED)

    assert "onefold" in modules
    assert _third_parties(modules) == set()


def test_an_event_needs_msgspec_alone() -> None:
    """Who only makes and reads events installs the package without extras."""
    parties = _third_parties(_loaded(_EVENT))

    assert "msgspec" in parties
    assert parties <= {"msgspec", "typing_extensions"}  # which msgspec takes when it is there


def test_an_application_needs_no_dependency_of_the_server() -> None:
    """`pip install "onefold[sql]"` is enough for the consumer of the README."""
    parties = _third_parties(_loaded(_APPLICATION))

    assert "sqlalchemy" in parties
    assert parties & {"alembic", *_OF_THE_SERVER, *_FOR_SOME_COMMANDS} == set()


def test_a_command_that_only_helps_needs_no_database() -> None:
    """`onefold --help` answers at once."""
    parties = _third_parties(_loaded(_COMMANDS))

    assert "typer" in parties
    assert parties & {"sqlalchemy", "pydantic", "rich", *_FOR_SOME_COMMANDS} == set()


def test_a_worker_needs_no_web() -> None:
    """No server and no client of HTTP, and no migrations, until something asks for them."""
    parties = _third_parties(_loaded(_WORKER))

    assert "sqlalchemy" in parties
    assert parties & _FOR_SOME_COMMANDS == set()


def test_the_surface_is_small() -> None:
    """At most 25 names, in order, none of them private."""
    assert len(onefold.__all__) <= 25
    assert list(onefold.__all__) == sorted(onefold.__all__)
    assert [name for name in onefold.__all__ if name.startswith("_")] == []


@pytest.mark.parametrize("name", onefold.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """And it is the very object of its home."""
    found = getattr(onefold, name)

    assert found is getattr(import_module(onefold._HOME[name]), name)


def test_what_is_listed_and_what_is_found_agree() -> None:
    """A name is in both tables or in none."""
    assert set(onefold._HOME) == set(onefold.__all__)


def test_an_unknown_name_is_an_ordinary_mistake() -> None:
    """`hasattr` and typos work as everywhere."""
    with pytest.raises(AttributeError, match="no attribute 'Evnt'"):
        _ = onefold.Evnt


def test_types_are_for_users_too() -> None:
    """The marker of PEP 561 travels with the package."""
    assert (Path(onefold.__file__).parent / "py.typed").exists()


@pytest.mark.parametrize("package", [onefold, onefold_server])
def test_every_module_can_be_imported(package: ModuleType) -> None:
    """No module rots unused."""
    home = Path(str(package.__file__)).parent
    names = [
        ".".join((package.__name__, *file.relative_to(home).with_suffix("").parts))
        for file in home.rglob("*.py")
        if "migrations" not in file.parts and file.name != "__init__.py"
    ]

    for name in names:
        import_module(name)

    assert len(names) > 50


def test_every_dunder_all_is_true() -> None:
    """What a module says it offers, it has."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in {"onefold", "onefold_server"}:
            offered = getattr(module, "__all__", [])
            assert [one for one in offered if not hasattr(module, one)] == [], name
