"""Onefold makes every event count exactly once, and proves it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onefold.application import Onefold
    from onefold.core.envelope import Event
    from onefold.engine.failure_policy import Park
    from onefold.engine.idempotent import idempotent_consumer
    from onefold.engine.outcome import Outcome
    from onefold.errors import OnefoldError
    from onefold.ports.unit_of_work import Transaction, UnitOfWork
    from onefold.wiring.guards import open_guard

__version__ = "0.1.0"

# Imported when first asked for: `import onefold` alone loads no third party.
_HOME = {
    "Event": "onefold.core.envelope",
    "Onefold": "onefold.application",
    "OnefoldError": "onefold.errors",
    "Outcome": "onefold.engine.outcome",
    "Park": "onefold.engine.failure_policy",
    "Transaction": "onefold.ports.unit_of_work",
    "UnitOfWork": "onefold.ports.unit_of_work",
    "idempotent_consumer": "onefold.engine.idempotent",
    "open_guard": "onefold.wiring.guards",
}

__all__ = [
    "Event",
    "Onefold",
    "OnefoldError",
    "Outcome",
    "Park",
    "Transaction",
    "UnitOfWork",
    "idempotent_consumer",
    "open_guard",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
