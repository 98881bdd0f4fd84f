"""
What the ports promise, as suites: subclass one, give it fresh stores, pytest does the rest.

    class TestMyUnitOfWork(UnitOfWorkContract):
        __test__ = True

        def fresh(self) -> AbstractAsyncContextManager[Stores]:
            return my_stores()

Every case is a plain async function without arguments: `failures(suite)` runs them without
pytest too. A store that another process shares should be empty, and used by one case alone.
"""

from onefold.testing.contracts.claims import ClaimsContract
from onefold.testing.contracts.deadlines import DeadlinesContract
from onefold.testing.contracts.guard import GuardContract
from onefold.testing.contracts.inbox import InboxContract
from onefold.testing.contracts.ledger import LedgerContract
from onefold.testing.contracts.outbox import OutboxContract
from onefold.testing.contracts.sinks import Receiver, SinkContract, SinkFeatures
from onefold.testing.contracts.stores import (
    Contract,
    Effects,
    RecordEffects,
    Stores,
    TableEffects,
    cases,
    failures,
)
from onefold.testing.contracts.tables import InsertNewContract, SqlReadContract
from onefold.testing.contracts.transport import TransportContract
from onefold.testing.contracts.unit_of_work import UnitOfWorkContract
from onefold.testing.contracts.watermarks import WatermarksContract

__all__ = [
    "ClaimsContract",
    "Contract",
    "DeadlinesContract",
    "Effects",
    "GuardContract",
    "InboxContract",
    "InsertNewContract",
    "LedgerContract",
    "OutboxContract",
    "Receiver",
    "RecordEffects",
    "SinkContract",
    "SinkFeatures",
    "SqlReadContract",
    "Stores",
    "TableEffects",
    "TransportContract",
    "UnitOfWorkContract",
    "WatermarksContract",
    "cases",
    "failures",
]
