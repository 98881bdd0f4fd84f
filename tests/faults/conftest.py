"""Counts the numbered faults that a run closed (`--count-faults`, as `make faults` runs it)."""

import pytest
from tests.faults.catalogue import Fault, Tally, faults_of

_TALLY = pytest.StashKey[Tally]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Counting is for runs of everything: a part of the faults leaves the others open."""
    parser.addoption("--count-faults", action="store_true", help="fail unless all are closed")


def pytest_configure(config: pytest.Config) -> None:
    """Only the controlling process counts; workers send it their reports."""
    if config.getoption("--count-faults", default=False) and not hasattr(config, "workerinput"):
        config.stash[_TALLY] = Tally()
        config.pluginmanager.register(_Counting(config.stash[_TALLY]))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each test of a note carries its number to wherever it is counted."""
    for item in items:
        note = getattr(getattr(item, "module", None), "NOTE", None)
        for fault in faults_of(note, item.name) if note else ():
            item.user_properties.append(("fault", list(fault)))


class _Counting:
    """Listens to the reports of the run."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test that failed before or after its call, or was skipped, closes nothing."""
        if report.when != "call" and report.passed:
            return
        for name, fault in report.user_properties:
            if name == "fault" and isinstance(fault, list):
                self._tally.note(Fault(*fault), passed=report.passed)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A number without a test fails the run."""
        if self._tally.missing() and not session.exitstatus:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """The last line of all."""
        out = config.get_terminal_writer()
        for name in self._tally.missing():
            out.line(f"open: {name}")
        out.line(self._tally.verdict())
