"""What Onefold keeps in one database: the same parts for an application and for the server."""

from onefold.adapters.sql.audit import SqlAudit
from onefold.adapters.sql.backlog import SqlBacklog
from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.dead_letters import SqlDeadLetters
from onefold.adapters.sql.ledger import SqlLedger
from onefold.adapters.sql.meter import sql_meter
from onefold.adapters.sql.migrate import migrate
from onefold.adapters.sql.outbox import SqlOutbox
from onefold.adapters.sql.retention import SqlRetention
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.adapters.sql.unprotected import SqlUnprotectedLog
from onefold.adapters.sql.watermarks import SqlWatermarks
from onefold.core.clock import Clock
from onefold.ports.meter import Meter


class Store:
    """
    The adapters of one database. It connects on first use.

    Args:
        url: `sqlite:///file.db` or `postgresql://user:password@host/name`.
        wait_s: How long a call waits for a connection or a lock, in seconds.

    Raises:
        InvalidSetting: the URL names no supported database; nothing was opened.
    """

    def __init__(self, url: str, *, wait_s: float = 30.0) -> None:
        self.database = Database(url, wait_s=wait_s)
        self.uow = uow = SqlUnitOfWork(self.database)
        self.ledger = SqlLedger(uow)
        self.outbox = SqlOutbox(uow)
        self.backlog = SqlBacklog(uow)
        self.dead_letters = SqlDeadLetters(uow)
        self.audit = SqlAudit(uow)
        self.retention = SqlRetention(uow)
        self.unprotected = SqlUnprotectedLog(uow)
        self.watermarks = SqlWatermarks()

    def meter(self, clock: Clock) -> Meter:
        """Measures of the outbox, the dead letters and the queues in this database."""
        return sql_meter(self.uow, clock)

    async def migrate(self) -> None:
        """Create or update the tables."""
        await migrate(self.database)
