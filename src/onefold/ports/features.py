"""What an adapter can do, declared and never detected."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Features:
    """
    The promises of one adapter; a contract suite reads them, nobody asks `isinstance`.

    Attributes:
        name: How the adapter is called in messages: `memory`, `sqlite`, `postgresql`.
        sql: `Transaction.execute` and `insert_new` take SQLAlchemy statements and tables.
        parallel_writers: Two transactions can write at the same time; otherwise the
            second waits for the first to end.
        survives_process: What was committed is there after the process ended.
    """

    name: str
    sql: bool
    parallel_writers: bool
    survives_process: bool
