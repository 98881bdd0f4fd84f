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
#
# Rows that are locked are found again by their place (`ctid`), and nothing is joined: a join
# would be planned by statistics, which are late. Of a table of some ten thousand rows it read
# all, once a batch, and of one said to be small it compared every row with every other. NOT IN
# is a look-up in a hash. A row that was changed after the statement began is not at its place
# for it, is not taken, and is claimed the next time.
CLAIM = (
    text("""
WITH ripe AS MATERIALIZED (
    SELECT ctid AS place, key, due_at, payload, greatest(fence + 1, :least) AS fence
    FROM onefold_deadlines
    WHERE kind = :kind AND due_at <= :now
    ORDER BY due_at, key LIMIT :most FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE onefold_deadlines AS d SET due_at = :until, fence = greatest(d.fence + 1, :least)
    WHERE d.ctid = ANY (ARRAY(SELECT place FROM ripe)) RETURNING d.key
)
SELECT key, due_at, payload, fence FROM ripe
WHERE (key NOT IN (SELECT key FROM taken)) IS NOT TRUE
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

# Answers with the numbers, from 1, of those whose claim is lost: as a rule with nothing. The
# LIMIT changes no row, and keeps each look-up one of the index.
_SETTLE = """
WITH wanted AS (
    SELECT * FROM unnest(:kinds, :keys, :fences{arrays})
        WITH ORDINALITY AS w (kind, key, fence{names}, number)
    ORDER BY kind, key
), held AS MATERIALIZED (
    SELECT d.place, w.kind, w.key{values} FROM wanted AS w CROSS JOIN LATERAL (
        SELECT ctid AS place FROM onefold_deadlines
        WHERE kind = w.kind AND key = w.key AND fence = w.fence LIMIT 1 FOR UPDATE
    ) AS d
), settled AS (
    {act}
)
SELECT number FROM wanted
WHERE (kind, key, fence) NOT IN (SELECT kind, key, fence FROM settled)
"""

COMPLETE = text(
    _SETTLE.format(
        arrays="",
        names="",
        values="",
        act="""DELETE FROM onefold_deadlines AS d
    WHERE d.ctid = ANY (ARRAY(SELECT place FROM held)) RETURNING d.kind, d.key, d.fence""",
    )
).bindparams(_KINDS, _KEYS, _FENCES)

# The fence rises, so that the claim given up cannot complete it any more. Each row has an
# instant of its own, so this one is joined: by the key, which reads no more than the table.
POSTPONE = text(
    _SETTLE.format(
        arrays=", :instants",
        names=", due_at",
        values=", w.due_at",
        act="""UPDATE onefold_deadlines AS d SET due_at = held.due_at, fence = d.fence + 1
    FROM held WHERE d.kind = held.kind AND d.key = held.key
    RETURNING d.kind, d.key, d.fence - 1 AS fence""",
    )
).bindparams(_KINDS, _KEYS, _FENCES, _INSTANTS)
