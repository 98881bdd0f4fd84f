"""`onefold worker --app`: what it says when the application that is named is not one."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from onefold.errors import InvalidSetting
from onefold_server.cli.main import app

SHOP = """
from onefold import Onefold

shop = Onefold("sqlite:///shop.db")

@shop.consumer("orders.placed", name="reserve-stock")
async def reserve(event, tx): ...

idle = Onefold("sqlite:///idle.db")
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of its own with a user's modules in it; they are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    known = set(sys.modules)
    (tmp_path / "shop_of_test.py").write_text(SHOP)
    (tmp_path / "broken_of_test.py").write_text("import no_such_library")
    (tmp_path / "wrong_of_test.py").write_text("app = 1 / 0")
    yield tmp_path
    for name in sys.modules.keys() - known:
        if name.endswith("_of_test"):
            del sys.modules[name]


def worker(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["worker", *arguments])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("shop_of_test", "expected module:attribute, as in shop.main:app, and got 'shop_of_test'"),
        (":app", "expected module:attribute, as in shop.main:app, and got ':app'"),
        ("no_shop:app", "there is no module 'no_shop'"),
        ("no_shop.main:app", "there is no module 'no_shop'"),
        ("shop_of_test.main:app", "there is no module 'shop_of_test.main'"),
        ("shop_of_test:app", "no 'app'; did you mean shop_of_test:idle or shop_of_test:shop"),
        ("shop_of_test:reserve", "is of type function, not Onefold; did you mean shop_of_test:"),
        ("json:dumps", "is of type function, not Onefold; no Onefold application is in there"),
        ("shop_of_test:idle", "shop_of_test:idle has no consumers; its module must import"),
    ],
)
def test_a_name_that_is_no_application_is_explained(name: str, reason: str) -> None:
    """Whoever mistypes it reads what is wrong and what would be right."""
    failed = worker("--app", name)

    assert isinstance(failed.exception, InvalidSetting)
    assert reason in str(failed.exception)


@pytest.mark.parametrize(
    ("name", "error"),
    [("broken_of_test:app", ModuleNotFoundError), ("wrong_of_test:app", ZeroDivisionError)],
)
def test_an_error_in_the_users_module_is_shown_as_it_is(name: str, error: type[Exception]) -> None:
    """A fault of the module's own is not taken for a mistyped name."""
    assert isinstance(worker("--app", name).exception, error)


def test_an_application_names_its_own_database() -> None:
    """Two answers to one question are refused, not chosen from."""
    failed = worker("--app", "shop_of_test:shop", "--database", "sqlite:///other.db")

    assert failed.exit_code == 2
    assert "the application names its own" in failed.output
