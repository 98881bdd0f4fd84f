"""
PostgreSQL: each call of the deadlines is one statement, whatever the number of keys.

Rows are locked in the order of their keys, so that overlapping calls cannot deadlock, and
what decides about a row is looked at again under its lock.
"""

from sqlalchemy import ARRAY, BigInteger, String, Text, bindparam, text

from onefold.ports.tables import Instant, Json

__all__ = ["ARM", "CLAIM", "COMPLETE", "POSTPONE"]

_KINDS, _KEYS = (bindparam(name, type_=ARRAY(Text)) for name in ("kinds", "keys"))
_FENCES = bindparam("fences", type_=ARRAY(BigInteger))
_INSTANTS = bindparam("instants", type_=ARRAY(Instant))

ARM = text("""
INSERT INTO onefold_deadlines AS d (kind, key, due_at, payload)
SELECT kind, key, due_at, payload::jsonb
FROM unnest(:kinds, :keys, :instants, :payloads) AS w (kind, key, due_at, payload)
ORDER BY kind, key
ON CONFLICT (kind, key) DO UPDATE
SET due_at = excluded.due_at, payload = excluded.payload, fence = d.fence + 1
""").bindparams(_KINDS, _KEYS, _INSTANTS, bindparam("payloads", type_=ARRAY(Text)))

# The new fence is above the one before, and above those of an earlier life of the key.
CLAIM = (
    text("""
WITH ripe AS (
    SELECT key, due_at FROM onefold_deadlines
    WHERE kind = :kind AND due_at <= :now
    ORDER BY due_at, key LIMIT :most FOR UPDATE SKIP LOCKED
)
UPDATE onefold_deadlines AS d SET due_at = :until, fence = greatest(d.fence + 1, :least)
FROM ripe WHERE d.kind = :kind AND d.key = ripe.key
RETURNING d.key, ripe.due_at, d.payload, d.fence
""")
    .bindparams(
        bindparam("kind", type_=String),
        bindparam("now", type_=Instant),
        bindparam("until", type_=Instant),
        bindparam("most", type_=BigInteger),
        bindparam("least", type_=BigInteger),
    )
    .columns(key=String, due_at=Instant, payload=Json, fence=BigInteger)
)

_HELD = """
WITH held AS (
    SELECT d.kind, d.key, d.fence{more}
    FROM onefold_deadlines AS d
    JOIN unnest(:kinds, :keys, :fences{given}) AS w (kind, key, fence{named})
        ON d.kind = w.kind AND d.key = w.key AND d.fence = w.fence
    ORDER BY d.kind, d.key FOR UPDATE OF d
)
"""

_SAME = """
WHERE d.kind = held.kind AND d.key = held.key RETURNING held.kind, held.key, held.fence
"""

COMPLETE = text(
    _HELD.format(more="", given="", named="")  # noqa: S608 (our own names)
    + "DELETE FROM onefold_deadlines AS d USING held"
    + _SAME
).bindparams(_KINDS, _KEYS, _FENCES)

# The fence rises, so that the claim given up cannot complete it any more.
POSTPONE = text(
    _HELD.format(more=", w.due_at", given=", :instants", named=", due_at")  # noqa: S608 (as above)
    + "UPDATE onefold_deadlines AS d SET due_at = held.due_at, fence = d.fence + 1 FROM held"
    + _SAME
).bindparams(_KINDS, _KEYS, _FENCES, _INSTANTS)
