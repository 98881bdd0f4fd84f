"""
PostgreSQL: each call of the deadlines is one statement, whatever the number of keys.

Rows are locked in the order of their keys, so that overlapping calls cannot deadlock, and
what decides about a row is looked at again under its lock. What a call is about travels as
one JSON document: asyncpg looks at each element of an array several times, which costs more
than to take the document apart (2.0 against 0.8 µs a deadline to encode, 2026-11-28).
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

from onefold.adapters.sql.json import dump_json, load_json
from onefold.ports.deadlines import Deadline

__all__ = ["ARM", "CLAIM", "COMPLETE", "POSTPONE", "armed", "postponed", "read", "settled"]

# $1: what `armed` makes.
ARM = """
INSERT INTO onefold_deadlines AS d (kind, key, due_at, payload)
SELECT w->>0, w->>1, (w->>2)::timestamptz, w->3 FROM jsonb_array_elements($1::text::jsonb) AS w
ORDER BY (w->>0) COLLATE "C", (w->>1) COLLATE "C"
ON CONFLICT (kind, key) DO UPDATE
SET due_at = excluded.due_at, payload = excluded.payload, fence = d.fence + 1
"""

# $1: the kind; $2: now; $3: the lease's end; $4: how many at the most; $5: the lowest fence.
# The new fence is above the one before, and above those of an earlier life of the key.
#
# Rows that are locked are found again by their place (`ctid`), and nothing is joined: a join
# would be planned by statistics, which are late. Of a table of some ten thousand rows it read
# all, once a batch, and of one said to be small it compared every row with every other. NOT IN
# is a look-up in a hash. A row that was changed after the statement began is not at its place
# for it, is not taken, and is claimed the next time.
CLAIM = """
WITH ripe AS MATERIALIZED (
    SELECT ctid AS place, key, due_at, payload, greatest(fence + 1, $5::bigint) AS fence
    FROM onefold_deadlines
    WHERE kind = $1 AND due_at <= $2
    ORDER BY due_at, key LIMIT $4 FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE onefold_deadlines AS d SET due_at = $3, fence = greatest(d.fence + 1, $5::bigint)
    WHERE d.ctid = ANY (ARRAY(SELECT place FROM ripe)) RETURNING d.key
)
SELECT key, due_at, payload::text, fence FROM ripe
WHERE (key NOT IN (SELECT key FROM taken)) IS NOT TRUE
"""

# $1: what `settled` or `postponed` makes. Answers with those whose claim is lost: as a rule
# with nothing. The LIMIT changes no row, and keeps each look-up one of the index.
_SETTLE = """
WITH wanted AS MATERIALIZED (
    SELECT w->>0 AS kind, w->>1 AS key, (w->2)::bigint AS fence{more}
    FROM jsonb_array_elements($1::text::jsonb) AS w
    ORDER BY (w->>0) COLLATE "C", (w->>1) COLLATE "C"
), held AS MATERIALIZED (
    SELECT d.place, w.kind, w.key{values} FROM wanted AS w CROSS JOIN LATERAL (
        SELECT ctid AS place FROM onefold_deadlines
        WHERE kind = w.kind AND key = w.key AND fence = w.fence LIMIT 1 FOR UPDATE
    ) AS d
), settled AS (
    {act}
)
SELECT kind, key, fence FROM wanted
WHERE (kind, key, fence) NOT IN (SELECT kind, key, fence FROM settled)
"""

COMPLETE = _SETTLE.format(
    more="",
    values="",
    act="""DELETE FROM onefold_deadlines AS d
    WHERE d.ctid = ANY (ARRAY(SELECT place FROM held)) RETURNING d.kind, d.key, d.fence""",
)

# The fence rises, so that the claim given up cannot complete it any more. Each row has an
# instant of its own, so this one is joined: by the key, which reads no more than the table.
POSTPONE = _SETTLE.format(
    more=", (w->>3)::timestamptz AS due_at",
    values=", w.due_at",
    act="""UPDATE onefold_deadlines AS d SET due_at = held.due_at, fence = d.fence + 1
    FROM held WHERE d.kind = held.kind AND d.key = held.key
    RETURNING d.kind, d.key, d.fence - 1 AS fence""",
)

_ORDER = attrgetter("due_at", "key")


def armed(deadlines: Iterable[Deadline]) -> str:
    """What ARM is told: all of other keys."""
    return dump_json([(d.kind, d.key, _utc(d.due_at), dict(d.payload)) for d in deadlines])


def settled(claimed: Iterable[Deadline]) -> str:
    """What COMPLETE is told."""
    return dump_json([(d.kind, d.key, d.fence) for d in claimed])


def postponed(claimed: Iterable[tuple[Deadline, datetime]]) -> str:
    """What POSTPONE is told."""
    return dump_json([(d.kind, d.key, d.fence, _utc(at)) for d, at in claimed])


def read(kind: str, rows: Iterable[Any]) -> Sequence[Deadline]:
    """What CLAIM answered, the longest due first."""
    claimed = [
        Deadline(kind=kind, key=key, due_at=due_at, payload=load_json(payload), fence=fence)
        for key, due_at, payload, fence in rows
    ]
    claimed.sort(key=_ORDER)
    return claimed


def _utc(instant: datetime) -> datetime:
    # Their JSON rounds an offset to minutes, and the offsets of some zones have seconds.
    return instant if instant.tzinfo is UTC else instant.astimezone(UTC)
