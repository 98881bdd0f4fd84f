"""
Every error Onefold raises on purpose, split by what the caller can do about it.

    OnefoldError
    ├── Refused             fix the call; the same call will fail again
    │   ├── InvalidEvent        the bytes or fields are not an event
    │   ├── InvalidSetting      a setting has a wrong value
    │   ├── InvalidInput        fields of a request are wrong; each is named
    │   ├── IllegalTransition   the state does not allow what was asked
    │   ├── Conflict            the same id was used for other content
    │   ├── Outdated            another version than the caller saw stands there
    │   ├── AlreadyDecided      a person decided otherwise before
    │   ├── BudgetExhausted     the period's money is spent or reserved
    │   ├── NotFound            no such thing, or not yours
    │   ├── Unauthenticated     who is calling is not known
    │   ├── Forbidden           the caller is known and may not
    │   ├── TooLarge            a bounded thing was over its bound
    │   ├── Unsupported         this adapter cannot do that
    │   └── LeaseLost           another worker took the claim over; roll the effect back
    ├── Unavailable         retry later, unchanged
    │   ├── StoreUnavailable    the database did not answer; nothing was recorded
    │   ├── StoreContended      the database chose another transaction; nothing was recorded
    │   ├── ServerUnavailable   a server of ours did not answer; the call may have happened
    │   └── EventBusy           another worker holds the event; ask again
    └── Broken              wake someone
        ├── CommitUnknown       COMMIT was sent and its answer lost: may have been recorded
        ├── ConstraintViolated  a write broke a rule of the schema; nothing was recorded
        ├── SchemaOutdated      the database was not migrated to this version
        ├── StoreFailed         the database refused for a reason we did not foresee
        └── NotConfirmed        a handler returned, and its confirmation is not on record

`code` is stable: logs, metrics and HTTP bodies carry it. Fields come first and the
message is made from them, so that errors survive pickling between processes.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, NamedTuple


class OnefoldError(Exception):
    """Root of every error raised on purpose here; a bug raises something else."""

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False  # may the same call succeed later, unchanged?


class Refused(OnefoldError):
    """The call itself is wrong. Nothing was recorded."""

    code = "refused"


class Unavailable(OnefoldError):
    """Something we depend on did not serve us; the same call may succeed later."""

    code = "unavailable"
    retryable = True


class Broken(OnefoldError):
    """Neither the caller nor time will mend this; a person must look."""

    code = "broken"


class FieldProblem(NamedTuple):
    """One wrong field: where it stands, a stable code, and what would be right."""

    field: str
    code: str
    reason: str


class InvalidEvent(Refused):
    """The bytes or fields do not make an event. Nothing was recorded."""

    code = "invalid_event"

    def __init__(self, reason: str, field: str | None = None) -> None:
        super().__init__(reason, field)
        self.reason, self.field = reason, field

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}" if self.field else self.reason


class InvalidSetting(Refused):
    """A setting has a wrong value. Nothing was started."""

    code = "invalid_setting"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class InvalidInput(Refused):
    """Fields of a request are wrong. Nothing was recorded."""

    code = "invalid_input"

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        super().__init__(tuple(problems))
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "; ".join(f"{p.field}: {p.reason}" for p in self.problems)


class IllegalTransition(Refused):
    """Something was asked to do what its state does not allow. Nothing changed."""

    code = "illegal_transition"

    def __init__(self, state: str, fact: str) -> None:
        super().__init__(state, fact)
        self.state, self.fact = state, fact

    def __str__(self) -> str:
        return f"{self.fact} is not possible in state {self.state}"


class Conflict(Refused):
    """The same id was used before for other content. The earlier content stands."""

    code = "conflict"

    def __init__(
        self,
        thing: str,
        id: str,  # noqa: A002 (the field's name)
        why: str = "was recorded before with other content",
    ) -> None:
        super().__init__(thing, id, why)
        self.thing, self.id, self.why = thing, id, why

    def __str__(self) -> str:
        return f"{self.thing} {self.id} {self.why}"


class Outdated(Refused):
    """Somebody changed it since the caller read it. Nothing changed: read it and try again."""

    code = "outdated"

    def __init__(self, thing: str, id: str, version: int) -> None:  # noqa: A002 (the field's name)
        super().__init__(thing, id, version)
        self.thing, self.id, self.version = thing, id, version

    def __str__(self) -> str:
        return f"{self.thing} {self.id} is at version {self.version}"


class AlreadyDecided(Refused):
    """A person decided this otherwise before. The first decision stands."""

    code = "already_decided"

    def __init__(self, essay: str, by: str, at: str) -> None:
        super().__init__(essay, by, at)
        self.essay, self.by, self.at = essay, by, at

    def __str__(self) -> str:
        return f"essay {self.essay} was decided otherwise by {self.by} at {self.at}"


class BudgetExhausted(Refused):
    """The budget blocks what would go over its limit. Nothing was reserved."""

    code = "budget_exhausted"

    def __init__(self, budget: str, left: str) -> None:
        super().__init__(budget, left)
        self.budget, self.left = budget, left

    def __str__(self) -> str:
        return f"budget {self.budget} has {self.left} left in this period"


class NotFound(Refused):
    """There is no such thing for this caller; whether it exists elsewhere is not told."""

    code = "not_found"

    def __init__(self, thing: str, id: str) -> None:  # noqa: A002 (the field's name)
        super().__init__(thing, id)
        self.thing, self.id = thing, id

    def __str__(self) -> str:
        return f"no {self.thing} {self.id}"


class Unauthenticated(Refused):
    """The caller is not known. Nothing was done."""

    code = "unauthenticated"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class Forbidden(Refused):
    """The caller is known and lacks the scope. Nothing was done."""

    code = "forbidden"

    def __init__(self, scope: str) -> None:
        super().__init__(scope)
        self.scope = scope

    def __str__(self) -> str:
        return f"this key does not have the scope {self.scope}"


class TooLarge(Refused):
    """A bounded thing was over its bound. Nothing was recorded."""

    code = "too_large"

    def __init__(self, thing: str, limit_bytes: int) -> None:
        super().__init__(thing, limit_bytes)
        self.thing, self.limit_bytes = thing, limit_bytes

    def __str__(self) -> str:
        return f"{self.thing} is over {self.limit_bytes} bytes"


class Unsupported(Refused):
    """This adapter cannot do that; its `Features` say so. Nothing was done."""

    code = "unsupported"

    def __init__(self, adapter: str, what: str) -> None:
        super().__init__(adapter, what)
        self.adapter, self.what = adapter, what

    def __str__(self) -> str:
        return f"{self.adapter} does not support {self.what}"


class LeaseLost(Refused):
    """Another worker took the claim over. Nothing was recorded: roll the effect back."""

    code = "lease_lost"

    def __init__(self, consumer: str, event_id: str, fence: int) -> None:
        super().__init__(consumer, event_id, fence)
        self.consumer, self.event_id, self.fence = consumer, event_id, fence

    def __str__(self) -> str:
        return (
            f"{self.consumer} lost the lease of event {self.event_id} (fence {self.fence}): "
            "another worker has or had it"
        )


class _StoreError(OnefoldError):
    """
    What an adapter makes of a driver's error; the driver's own is its `__cause__`.

    Args:
        reason: What was wrong; may be told to anybody.
        advice: Where, and what to do: for who runs it. It may name files.
    """

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(reason, *filter(None, [advice]))
        self.reason, self.advice = reason, advice

    def __str__(self) -> str:
        told = f"{self.code}: {self.reason}"
        return f"{told}; {self.advice}" if self.advice else told


class StoreUnavailable(_StoreError, Unavailable):
    """The database did not answer. Nothing was recorded; calling again is safe."""

    code = "store_unavailable"


class StoreContended(_StoreError, Unavailable):
    """Deadlock, serialisation failure or a lock waited for too long. Nothing was recorded."""

    code = "store_contended"


class ServerUnavailable(_StoreError, Unavailable):
    """A server of ours did not answer. The call may have happened; repeating it is safe."""

    code = "server_unavailable"


class CommitUnknown(_StoreError, Broken):
    """COMMIT was sent and its answer lost. May have been recorded: read back by id."""

    code = "commit_unknown"


class ConstraintViolated(_StoreError, Broken):
    """A write broke a rule of the schema. Nothing was recorded."""

    code = "constraint_violated"


class SchemaOutdated(_StoreError, Broken):
    """The database's schema is not this version's. Run `onefold migrate`; nothing was done."""

    code = "schema_outdated"


class StoreFailed(_StoreError, Broken):
    """The database refused for a reason nobody foresaw. Nothing was recorded."""

    code = "store_failed"


class EventBusy(Unavailable):
    """Another worker holds the event, and this handler rejects it meanwhile. Ask again."""

    code = "event_busy"

    def __init__(self, consumer: str, event_id: str, until: datetime) -> None:
        super().__init__(consumer, event_id, until)
        self.consumer, self.event_id, self.until = consumer, event_id, until

    def __str__(self) -> str:
        return f"event {self.event_id} is held by another worker of {self.consumer}"


class NotConfirmed(Broken):
    """A handler returned and its confirmation is not on record. It may have had its effect."""

    code = "not_confirmed"

    def __init__(self, consumer: str, event_id: str, reason: str) -> None:
        super().__init__(consumer, event_id, reason)
        self.consumer, self.event_id, self.reason = consumer, event_id, reason

    def __str__(self) -> str:
        return f"the handler of {self.consumer} {self.reason} (event {self.event_id})"
