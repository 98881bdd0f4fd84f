"""Settings: secrets stay secret, and a wrong value is told in one line."""

import os
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from onefold.errors import InvalidSetting
from onefold_server.domains.telemetry.rules import Profile
from onefold_server.installation import build
from onefold_server.settings import Settings

SECRET = "hunter2-but-long-enough-for-a-real-secret"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("ONEFOLD_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("command", ["migrate", "up"])
def test_a_home_that_cannot_be_made_is_told_in_one_line(tmp_path: Path, command: str) -> None:
    """A file is in its place: which, and no traceback."""
    (tmp_path / ".onefold").touch()

    ended = subprocess.run(
        [sys.executable, "-c", "from onefold_server.cli.main import main; main()", command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ended.returncode, ended.stdout) == (1, "")
    wanted = f"onefold: home: {tmp_path}/.onefold cannot be made (File exists): name another place"
    assert ended.stderr.strip() == wanted


def test_a_home_elsewhere_leaves_the_default_database_its_folder(tmp_path: Path) -> None:
    """`ONEFOLD_HOME` is where `up` keeps its own; the default database is made all the same."""
    with chdir(tmp_path):
        build(Settings(home=tmp_path / "deep" / "home"))

    assert (tmp_path / ".onefold").is_dir()


def test_the_defaults_serve_one_machine() -> None:
    """Without any setting: SQLite here, this machine's own address."""
    settings = Settings.load()

    assert settings.database_url.get_secret_value() == "sqlite:///.onefold/onefold.db"
    assert (settings.host, settings.port, settings.session_secret) == ("127.0.0.1", 8000, None)


def test_the_environment_sets_and_an_argument_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line is over the environment, which is over the defaults."""
    monkeypatch.setenv("ONEFOLD_PORT", "9000")
    monkeypatch.setenv("ONEFOLD_FEATURES_PROFILE", "compat")

    assert (Settings.load().port, Settings.load(port=9001).port) == (9000, 9001)
    assert Settings.load().features_profile is Profile.COMPAT


def test_secrets_never_print() -> None:
    """Neither as text, nor as a representation, nor in a dump or a log of either."""
    settings = Settings.load(
        database_url=f"postgresql://onefold:{SECRET}@host/name", session_secret=SECRET
    )

    shown = [
        str(settings),
        repr(settings),
        f"{settings.database_url} {settings.session_secret!r}",
        str(settings.model_dump()),
        settings.model_dump_json(),
    ]
    assert [text for text in shown if SECRET in text] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ONEFOLD_PORT", "eighty"),
        ("ONEFOLD_PORT", "65536"),
        ("ONEFOLD_SESSION_SECRET", "hunter2"),
        ("ONEFOLD_STORE_WAIT_S", "-17"),
        ("ONEFOLD_FEATURES_PROFILE", "hunter2"),
        ("ONEFOLD_LOG_LEVEL", "hunter2"),
        ("ONEFOLD_SECURE_COOKIES", "hunter2"),
    ],
)
def test_a_wrong_value_is_one_line_without_the_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """It names the setting and what would be right, and repeats nothing."""
    monkeypatch.setenv(name, value)

    with pytest.raises(InvalidSetting) as refused:
        Settings.load()

    assert refused.value.name == name
    assert "\n" not in str(refused.value)
    assert value not in str(refused.value)


@pytest.mark.parametrize("name", ["ONEFOLD_DATABSE_URL", "ONEFOLD_PORTS", "onefold_log_levle"])
def test_a_slip_in_a_name_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """What is nearly a setting is not silently left unread."""
    monkeypatch.setenv(name, "x")

    with pytest.raises(InvalidSetting, match=r"is ONEFOLD_[A-Z_]+ meant"):
        Settings.load()


@pytest.mark.parametrize("name", ["ONEFOLD_API_KEY", "ONEFOLD_CHROMIUM", "ONEFOLD_SEED"])
def test_a_name_of_something_else_is_left_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Other programs of ours read the environment too."""
    monkeypatch.setenv(name, "x")

    assert Settings.load() == Settings()


def test_an_argument_that_is_no_setting_is_refused() -> None:
    """A slip in code is as bad as one in the environment."""
    with pytest.raises(InvalidSetting, match="ONEFOLD_PROT"):
        Settings.load(prot=8000)


def test_settings_do_not_change() -> None:
    """What was checked at the start stays as it was."""
    settings = Settings.load()

    with pytest.raises(ValidationError):
        settings.port = 1


def test_every_setting_says_what_it_is_and_in_which_unit() -> None:
    """Durations end in `_s`, sizes in `_bytes`, and each has a description."""
    fields = Settings.model_fields

    assert [name for name, field in fields.items() if not field.description] == []
    assert {n for n, f in fields.items() if f.annotation in (int, float)} - {
        "port",
        "trace_celery_batch",
    } == {name for name in fields if name.endswith(("_s", "_bytes"))}


def test_the_command_line_ends_in_one_line() -> None:
    """A wrong value stops the start with exit code 1, and no traceback hides it."""
    ended = subprocess.run(
        [sys.executable, "-c", "from onefold_server.cli.main import main; main()", "serve"],
        env=os.environ | {"ONEFOLD_SESSION_SECRET": "hunter2"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("onefold: ONEFOLD_SESSION_SECRET: ")
    assert "hunter2" not in ended.stderr


def test_a_secret_can_be_read_by_who_needs_it() -> None:
    """Hidden is not lost."""
    settings = Settings.load(session_secret=SECRET)

    assert settings.session_secret == SecretStr(SECRET)


def test_events_go_to_one_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of two was meant is not guessed."""
    monkeypatch.setenv("ONEFOLD_KAFKA", "localhost:9092")
    monkeypatch.setenv("ONEFOLD_VALKEY", f"valkey://:{SECRET}@localhost")

    with pytest.raises(InvalidSetting, match="not both") as refused:
        Settings.load()

    assert SECRET not in str(refused.value)
