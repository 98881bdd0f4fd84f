"""
Proof that a handler survives dying anywhere: explorers, contracts, fakes, time, servers.

    from onefold.testing import Scenario, explore      # every death
    from onefold.testing import explore_schedules      # every interleaving
    from onefold.testing.contracts import GuardContract  # your own adapter

Imported when first asked for; nothing here needs a test runner but the plugin.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onefold.testing.clock import ManualClock
    from onefold.testing.confirm import ControlledConfirm
    from onefold.testing.crash.explorer import Explored, Scenario, explore
    from onefold.testing.crash.invariants import Effect
    from onefold.testing.crash.points import Crash, Reaper, deadly_statements
    from onefold.testing.faults import Faults
    from onefold.testing.marks import sometimes
    from onefold.testing.schedule.explorer import Schedule, explore_schedules, racing
    from onefold.testing.sql import rolled_back, rolled_back_async

_HOME = {
    "ControlledConfirm": "confirm",
    "Crash": "crash.points",
    "Effect": "crash.invariants",
    "Explored": "crash.explorer",
    "Faults": "faults",
    "ManualClock": "clock",
    "Reaper": "crash.points",
    "Scenario": "crash.explorer",
    "Schedule": "schedule.explorer",
    "deadly_statements": "crash.points",
    "explore": "crash.explorer",
    "explore_schedules": "schedule.explorer",
    "racing": "schedule.explorer",
    "rolled_back": "sql",
    "rolled_back_async": "sql",
    "sometimes": "marks",
}

__all__ = [
    "ControlledConfirm",
    "Crash",
    "Effect",
    "Explored",
    "Faults",
    "ManualClock",
    "Reaper",
    "Scenario",
    "Schedule",
    "deadly_statements",
    "explore",
    "explore_schedules",
    "racing",
    "rolled_back",
    "rolled_back_async",
    "sometimes",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"onefold.testing.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
