"""The use cases of the directory: one call, one transaction."""

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from onefold.core.clock import Clock
from onefold.core.ids import new_event_id
from onefold.domains.directory import store
from onefold.domains.directory.rules import (
    ROSTER_COLUMNS,
    ApiKey,
    Principal,
    Role,
    RosterLine,
    Scope,
    read_roster_line,
    scopes_for,
)
from onefold.domains.directory.tables import api_keys, schools
from onefold.errors import (
    Conflict,
    FieldProblem,
    InvalidInput,
    NotFound,
    Unauthenticated,
)
from onefold.ports.tables import Row
from onefold.ports.unit_of_work import Transaction, UnitOfWork, in_transaction


class Passwords(Protocol):
    """Hashes passwords slowly, off the event loop, and checks them."""

    async def hash(self, password: str) -> str:
        """A salted hash that names its own algorithm and cost."""
        ...

    async def verify(self, password: str, hashed: str) -> bool:
        """Whether *hashed* was made from *password*."""
        ...


@dataclass(kw_only=True)
class RosterReport:
    """What became of each line of a roster; `refused` names line, column and reason."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: list[dict[str, Any]] = field(default_factory=list)


class DirectoryService:
    """
    Schools, rosters, keys and users.

    Args:
        uow: Where they are kept.
        clock: What time it is.
        random: That many unpredictable bytes, for ids and keys.
        passwords: How passwords are hashed.
    """

    def __init__(
        self,
        uow: UnitOfWork,
        *,
        clock: Clock,
        random: Callable[[int], bytes],
        passwords: Passwords,
    ) -> None:
        self._uow, self._clock, self._random = uow, clock, random
        self._passwords = passwords
        self._decoy: str | None = None

    async def create_school(
        self, name: str, *, auto_enrol: bool = False, school_id: UUID | None = None
    ) -> UUID:
        """
        Create a school; creating the same one again gives the same id.

        Raises:
            Conflict: another school has that name. Nothing was recorded.
        """
        now = self._clock.now()
        wanted = school_id or new_event_id(now, self._random)
        row = {"id": wanted, "name": name, "auto_enrol": auto_enrol, "created_at": now}

        async def work(tx: Transaction) -> UUID:
            named = {found["name"]: found["id"] for found in await store.all_schools(tx)}
            if name in named and school_id not in {None, named[name]}:
                raise Conflict("school", name)
            if name not in named:
                await tx.insert_new(schools, [row])
            found: UUID = named.get(name, wanted)
            return found

        return await in_transaction(self._uow, work)

    async def schools(self) -> Sequence[Row]:
        """Every school of this installation, the oldest first."""
        async with self._uow.read() as tx:
            return await store.all_schools(tx)

    async def find_school(self, named: str | None) -> UUID:
        """
        The school of that id or name, or the only one there is.

        Raises:
            NotFound: there is none.
            InvalidInput: none was named and there are several.
        """
        found = await self.schools()
        if named is not None:
            found = [row for row in found if named in {row["name"], str(row["id"])}]
        if not found:
            raise NotFound("school", named or "(create one: onefold school create NAME)")
        if len(found) > 1:
            names = ", ".join(row["name"] for row in found)
            raise InvalidInput([FieldProblem("school", "missing", f"say which of {names}")])
        only: UUID = found[0]["id"]
        return only

    async def import_roster(self, school_id: UUID, text: Iterable[str]) -> RosterReport:
        """
        Bring the school's pupils in line with a CSV file; importing it again changes nothing.

        Pupils are added or changed, never removed. Good lines count although others are
        refused.

        Args:
            school_id: Whose roster it is.
            text: The file's lines. A header names the columns, of which `student_id` (UUID)
                or `external_id` must be there; `name` and `class_name` may be.

        Raises:
            NotFound: no such school.
            InvalidInput: the header is not usable. Nothing was recorded.
        """
        report = RosterReport()
        lines = _read_roster(school_id, text, report)

        async def work(tx: Transaction) -> None:
            if await store.school(tx, school_id) is None:
                raise NotFound("school", str(school_id))
            known = await _roster_of(tx, school_id, list(lines))
            changed = [line for line in lines.values() if known.get(line.student_id, line) != line]
            new = [line for line in lines.values() if line.student_id not in known]
            await store.enrol(tx, school_id, new, now=self._clock.now())
            await store.amend_roster(tx, school_id, changed)
            report.created, report.updated = len(new), len(changed)
            report.unchanged = len(lines) - len(new) - len(changed)

        await in_transaction(self._uow, work)
        return report

    async def students(
        self, school_id: UUID, *, after: UUID | None = None, limit: int = 100
    ) -> Sequence[Row]:
        """A page of the school's pupils, in the order of their ids."""
        async with self._uow.read() as tx:
            return await store.roster_page(tx, school_id, after=after, limit=limit)

    async def create_key(
        self,
        school_id: UUID,
        *,
        role: Role,
        label: str,
        scopes: Sequence[str] = (),
        student_id: UUID | None = None,
    ) -> ApiKey:
        """
        Create an API key. This is the only time its secret can be seen.

        Raises:
            InvalidInput: scopes beyond the role's; a student key without its pupil, or
                another key with one. Nothing was recorded.
            NotFound: no such school, or no such pupil in it.
        """
        granted = scopes_for(role, scopes)
        if (role is Role.STUDENT) != (student_id is not None):
            reason = "a student key names its pupil, no other key does"
            raise InvalidInput([FieldProblem("student_id", "student_bound", reason)])
        key = ApiKey.new(self._random)
        row = {
            "prefix": key.prefix,
            "school_id": school_id,
            "role": role,
            "scopes": sorted(granted),
            "student_id": student_id,
            "secret_sha256": key.digest(),
            "label": label,
            "created_at": self._clock.now(),
            "revoked_at": None,
        }

        async def work(tx: Transaction) -> None:
            if await store.school(tx, school_id) is None:
                raise NotFound("school", str(school_id))
            if student_id and not await store.roster(tx, school_id, [student_id]):
                raise NotFound("student", str(student_id))
            await tx.insert_new(api_keys, [row])

        await in_transaction(self._uow, work)
        return key

    async def keys(self, school_id: UUID) -> Sequence[Row]:
        """The school's keys, revoked ones too; their secrets are not kept anywhere."""
        async with self._uow.read() as tx:
            return await store.keys(tx, school_id)

    async def revoke_key(self, school_id: UUID, prefix: str) -> None:
        """
        End a key at once, for every server over this database.

        Raises:
            NotFound: the school has no live key of that prefix.
        """
        now = self._clock.now()

        async def work(tx: Transaction) -> bool:
            return await store.revoke_key(tx, school_id, prefix, now=now)

        if not await in_transaction(self._uow, work):
            raise NotFound("key", prefix)

    async def authenticate(self, token: str) -> Principal:
        """
        Who holds *token*. One read.

        Raises:
            Unauthenticated: it is not a key, or not a live one.
        """
        key = ApiKey.parse(token)
        row = None
        if key:
            async with self._uow.read() as tx:
                row = await store.key(tx, key.prefix)
        if key is None or row is None or not key.matches(row["secret_sha256"]):
            raise Unauthenticated("this API key is not known or was revoked")
        return Principal(
            school_id=row["school_id"],
            role=Role(row["role"]),
            scopes=frozenset(Scope(scope) for scope in row["scopes"]),
            name=row["prefix"],
            student_id=row["student_id"],
        )

    async def set_password(self, school_id: UUID, name: str, password: str, *, role: Role) -> None:
        """Create a user who logs in on the pages, or give an existing one a new password."""
        row = {
            "school_id": school_id,
            "name": name,
            "role": role,
            "password_hash": await self._passwords.hash(password),
            "created_at": self._clock.now(),
        }

        async def work(tx: Transaction) -> None:
            await store.set_password(tx, row)

        await in_transaction(self._uow, work)

    async def log_in(self, name: str, password: str) -> Principal:
        """
        Who *name* is, if the password is right.

        Raises:
            Unauthenticated: the name is not known or the password is wrong; which, is
                neither said nor to be told from how long the answer took.
        """
        row = await self._user(name)
        self._decoy = self._decoy or await self._passwords.hash("nobody's")
        hashed = row["password_hash"] if row else self._decoy
        if not await self._passwords.verify(password, hashed) or row is None:
            raise Unauthenticated("user name or password is wrong")
        return _principal(row)

    async def user(self, name: str) -> Principal:
        """
        The user *name*, who logged in before.

        Raises:
            Unauthenticated: there is no such user any more.
        """
        row = await self._user(name)
        if row is None:
            raise Unauthenticated("this user is gone")
        return _principal(row)

    async def _user(self, name: str) -> Row | None:
        async with self._uow.read() as tx:
            return await store.user(tx, name)


def _principal(row: Row) -> Principal:
    role = Role(row["role"])
    return Principal(
        school_id=row["school_id"], role=role, scopes=scopes_for(role, ()), name=row["name"]
    )


async def _roster_of(
    tx: Transaction, school_id: UUID, ids: Sequence[UUID]
) -> dict[UUID, RosterLine | None]:
    """The lines as they stand; None for a pupil who has left and would come back."""
    return {
        row["student_id"]: None
        if row["left_at"]
        else RosterLine(**{name: row[name] for name in ROSTER_COLUMNS})
        for row in await store.roster(tx, school_id, ids)
    }


def _read_roster(
    school_id: UUID, text: Iterable[str], report: RosterReport
) -> dict[UUID, RosterLine]:
    """The usable lines by pupil, the last one of each counting; refusals go to *report*."""
    reader = csv.DictReader(text)
    header = set(reader.fieldnames or ())
    if not header & {"student_id", "external_id"} or header - set(ROSTER_COLUMNS):
        reason = f"expected a header with columns among {', '.join(ROSTER_COLUMNS)}"
        raise InvalidInput([FieldProblem("header", "columns", reason)])
    lines: dict[UUID, RosterLine] = {}
    for line in reader:
        try:
            read = read_roster_line(school_id, line)
        except InvalidInput as error:
            report.refused += [{"line": reader.line_num, **p._asdict()} for p in error.problems]
        else:
            lines[read.student_id] = read
    return lines
