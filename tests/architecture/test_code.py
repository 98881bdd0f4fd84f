"""What the layers may use, and what no code here does; the layers themselves: lint-imports."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = (ROOT / "src", ROOT / "server" / "src")
LIBRARY, SERVER = ROOT / "src" / "onefold", ROOT / "server" / "src" / "onefold_server"
TESTS = ROOT / "tests"

# Time, chance and the outside world come in as arguments here.
PURE = (LIBRARY / "core", LIBRARY / "ports", SERVER / "domains")
OUTSIDE = {"asyncio", "os", "random", "socket", "sqlite3", "subprocess", "threading", "time"}

# Where the clock is read at all: the system's clock, and one argument's default.
CLOCK = {"onefold/core/clock.py", "onefold_server/cli/ingest/remote.py"}

# Letting other tasks go first, and moving a manual clock: no time passes.
HARMLESS = {"asyncio.sleep(0)", "self.clock.sleep(seconds)", "bench.sleep(_)"}

# A loop that must outlive its steps, and runners that tell which cases or runs failed.
CATCHES_ALL = {
    "onefold/engine/consumer.py",
    "onefold/engine/courier.py",
    "onefold/engine/idempotent.py",
    "onefold/engine/loop.py",
    "onefold/engine/group_commit.py",
    "onefold/testing/contracts/stores.py",
    "onefold/testing/crash/explorer.py",
    "onefold/testing/schedule/explorer.py",
    "onefold/testing/schedule/loop.py",
}


def _trees(*folders: Path) -> Iterator[tuple[str, ast.Module]]:
    for folder in folders:
        for file in sorted(folder.rglob("*.py")):
            yield file.relative_to(folder).as_posix(), ast.parse(file.read_text())


def _imports(tree: ast.Module) -> set[str]:
    """The top-level names of what a module imports, wherever it does."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def _calls(tree: ast.Module) -> Iterator[str]:
    """What is called, as it is spelled: `datetime.now`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node) not in HARMLESS:
            yield ast.unparse(node.func)


@pytest.mark.parametrize("layer", PURE, ids=lambda layer: layer.name)
def test_the_inner_layers_do_not_reach_outside(layer: Path) -> None:
    """Whoever reads core, ports and domains need not think of clocks, chance or sockets."""
    found = {file: reached for file, tree in _trees(layer) if (reached := _imports(tree) & OUTSIDE)}

    assert found == {}


def test_the_core_needs_msgspec_alone() -> None:
    """The wire and the identities can be used where nothing else is installed."""
    allowed = {"msgspec", "onefold", *sys.stdlib_module_names}

    found = {file: _imports(tree) - allowed for file, tree in _trees(LIBRARY / "core")}

    assert {file: parties for file, parties in found.items() if parties} == {}


def test_ports_and_domains_need_sqlalchemy_and_msgspec_alone() -> None:
    """Of third parties; what speaks to a network or a screen is an adapter's or an app's."""
    # `fsrs` and `rapidfuzz` are as pure as formulas: schedules of a card, distances of words.
    sciences, ours = {"fsrs", "rapidfuzz"}, {"onefold", "onefold_server"}
    allowed = {*sciences, *ours, "msgspec", "sqlalchemy", *sys.stdlib_module_names}

    found = {
        file: _imports(tree) - allowed
        for file, tree in _trees(LIBRARY / "ports", SERVER / "domains")
    }

    assert {file: parties for file, parties in found.items() if parties} == {}


def test_the_clock_is_read_where_it_is_known_to_be() -> None:
    """Everywhere else `now` is an argument, so that a test can say what time it is."""
    ask = ("datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time")

    found = {file for file, tree in _trees(*SOURCES) for call in _calls(tree) if call.endswith(ask)}

    assert found == CLOCK


def _handlers(tree: ast.Module) -> Iterator[tuple[ast.ExceptHandler, set[str]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            yield node, {"" if kind is None else ast.unparse(kind) for kind in kinds}


def test_everything_is_caught_only_where_a_loop_must_outlive_it() -> None:
    """Elsewhere an error that nobody foresaw goes up to where it is seen."""
    found = {
        file
        for file, tree in _trees(*SOURCES)
        for _, kinds in _handlers(tree)
        if kinds & {"", "Exception"}
    }

    assert found == CATCHES_ALL


def test_a_cancellation_is_never_swallowed() -> None:
    """Whoever catches BaseException ends its handler by raising it again."""
    found = [
        f"{file}:{handler.lineno}"
        for file, tree in _trees(*SOURCES)
        for handler, kinds in _handlers(tree)
        if "BaseException" in kinds
        and not (isinstance(handler.body[-1], ast.Raise) and handler.body[-1].exc is None)
    ]

    assert found == []


def test_no_class_shadows_a_public_error() -> None:
    """`except Refused` means one class wherever it is written."""
    tree = ast.parse((LIBRARY / "errors.py").read_text())
    public = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}

    found = {
        f"{file}: {node.name}"
        for file, tree in _trees(*SOURCES)
        if file != "onefold/errors.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name in public
    }

    assert found == set()


def test_every_error_that_a_user_can_meet_is_in_the_tree() -> None:
    """A subclass of `OnefoldError` outside `errors.py` would be missing from its drawing."""
    tree = ast.parse((LIBRARY / "errors.py").read_text())
    errors = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}

    found = {
        f"{file}: {node.name}"
        for file, tree in _trees(*SOURCES)
        if file != "onefold/errors.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and errors & {ast.unparse(base) for base in node.bases}
    }

    assert found == set()


def test_no_test_waits_for_time_to_pass_or_replaces_what_it_tests() -> None:
    """Signals and manual clocks instead of sleeping; real parts and fakes instead of patches."""
    forbidden = {"sleep", "patch", "Mock", "MagicMock", "AsyncMock"}

    found = [
        f"{file}: {call}"
        for file, tree in _trees(TESTS)
        if not file.startswith("acceptance/")
        for call in _calls(tree)
        if forbidden & set(call.split("."))
    ]

    assert found == []


@pytest.mark.parametrize("home", [ROOT, ROOT / "server"], ids=["library", "server"])
def test_the_layers_have_no_exceptions(home: Path) -> None:
    """A contract that ignores an import is no contract, and every module has its layer."""
    config = tomllib.loads((home / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = [one for one in config["contracts"] if one["type"] == "layers"]

    assert [one["name"] for one in config["contracts"] if "ignore_imports" in one] == []
    assert [one["name"] for one in layers if not one.get("exhaustive")] == []
    assert len(config["contracts"]) >= 6


def test_the_checkers_see_what_they_look_for() -> None:
    """Each finds its fault in a line that has it."""
    tree = ast.parse("import time.x\nfrom os.path import join\nawait asyncio.sleep(1)")

    assert _imports(tree) == {"time", "os"}
    assert list(_calls(tree)) == ["asyncio.sleep"]
    (_, kinds), (_, bare) = _handlers(
        ast.parse("try: pass\nexcept (Exception, KeyError): pass\ntry: pass\nexcept: pass")
    )
    assert (kinds, bare) == ({"Exception", "KeyError"}, {""})
