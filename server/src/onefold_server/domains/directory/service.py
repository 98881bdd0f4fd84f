"""The use cases of the directory: one call, one transaction."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from onefold.core.clock import Clock
from onefold.core.fields import text_flaw
from onefold.core.ids import new_event_id
from onefold.errors import (
    Conflict,
    FieldProblem,
    InvalidInput,
    NotFound,
    StoreContended,
    Unauthenticated,
)
from onefold.ports.tables import Row
from onefold.ports.unit_of_work import Transaction, UnitOfWork, in_transaction, look_and_write
from onefold_server.domains.directory import store
from onefold_server.domains.directory.roster import read_roster
from onefold_server.domains.directory.rules import (
    ROSTER_COLUMNS,
    ApiKey,
    Principal,
    Role,
    RosterLine,
    Scope,
    require_text,
    scopes_for,
)
from onefold_server.domains.directory.tables import api_keys, schools


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
            Conflict: another school has that name or that id. Nothing was recorded.
            InvalidInput: the name is not 1 to 255 characters.
        """
        require_text("name", name, longest=255)
        now = self._clock.now()
        wanted = school_id or new_event_id(now, self._random)
        row = {"id": wanted, "name": name, "auto_enrol": auto_enrol, "created_at": now}

        async def work(tx: Transaction) -> UUID:
            named = {found["name"]: found["id"] for found in await store.all_schools(tx)}
            found: UUID = named.get(name, wanted)
            if school_id not in {None, found}:
                raise Conflict("school", name)
            if name not in named and not await tx.insert_new(schools, [row]):
                raise Conflict("school", str(wanted))
            return found

        return await look_and_write(self._uow, work)

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
            text: The file's lines with their ends. A header names the columns, of which
                `student_id` (UUID), `external_id` or `email` must be there; `name`,
                `first_name`, `last_name` and `class_name` may be. Of several lines of one
                pupil the last counts.

        Raises:
            NotFound: no such school.
            InvalidInput: the header is not usable, or it is no CSV. Nothing was recorded.
        """
        read = read_roster(school_id, text)

        async def work(tx: Transaction) -> RosterReport:
            if await store.school(tx, school_id) is None:
                raise NotFound("school", str(school_id))
            rows = await store.roster(tx, school_id)
            known = {row["student_id"]: _line_of(row) for row in rows}
            owners = {row["external_id"]: row["student_id"] for row in rows if row["external_id"]}
            emails = {row["email"]: row["student_id"] for row in rows if row["email"]}
            meant = read.of_known(school_id, emails)
            good = meant.without_taken(owners).without_taken(emails, unique="email")
            lines = good.lines.values()
            changed = [line for line in lines if known.get(line.student_id, line) != line]
            new = [line for line in lines if line.student_id not in known]
            if len(await store.enrol(tx, school_id, new, now=self._clock.now())) < len(new):
                raise StoreContended("a pupil of this roster was enrolled at the same moment")
            await store.amend_roster(tx, school_id, changed)
            return RosterReport(
                created=len(new),
                updated=len(changed),
                unchanged=len(lines) - len(new) - len(changed),
                refused=good.refused,
            )

        return await look_and_write(self._uow, work)

    async def students(
        self, school_id: UUID, *, after: UUID | None = None, limit: int = 100
    ) -> Sequence[Row]:
        """A page of the school's pupils, in the order of their ids."""
        async with self._uow.read() as tx:
            return await store.roster_page(tx, school_id, after=after, limit=limit)

    async def school(self, caller: Principal) -> Row:
        """The caller's own school: `id`, `name`, `auto_enrol`."""
        async with self._uow.read() as tx:
            found = await store.school(tx, caller.school_id)
        if found is None:
            raise NotFound("school", str(caller.school_id))
        return found

    async def names(self, caller: Principal, ids: Collection[UUID]) -> dict[UUID, str]:
        """
        The names, where known, of those pupils of *ids* whom the caller may see.

        Who may not read the directory gets none, but a pupil gets their own.
        """
        seen = [id_ for id_ in ids if caller.may_see(id_)]
        if Scope.DIRECTORY_READ not in caller.scopes and caller.student_id is None:
            return {}
        async with self._uow.read() as tx:
            return await store.names(tx, caller.school_id, seen)

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
            NotFound: no such school, or no such pupil enrolled in it.
            Conflict: the new key's prefix is taken; calling again makes another.
        """
        granted = scopes_for(role, scopes)
        if label:
            require_text("label", label, longest=100)
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
            if student_id and not await store.enrolled(tx, school_id, [student_id]):
                raise NotFound("student", str(student_id))
            if not await tx.insert_new(api_keys, [row]):
                raise Conflict("key", key.prefix)

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
        """
        Create a user who logs in on the pages, or give an existing one a new password.

        Raises:
            InvalidInput: the name is not 1 to 100 characters; or the role is `student`: a
                user names no pupil, and a pupil's login that named none would see every
                pupil. Nothing was recorded.
            NotFound: no such school.
            Conflict: a user of another school has that name. Nothing was recorded.
        """
        require_text("name", name, longest=100)
        if role is Role.STUDENT:
            reason = "a user names no pupil yet; give the pupil an API key instead"
            raise InvalidInput([FieldProblem("role", "student_bound", reason)])
        row = {
            "school_id": school_id,
            "name": name,
            "role": role,
            "password_hash": await self._passwords.hash(password),
            "created_at": self._clock.now(),
        }

        async def work(tx: Transaction) -> None:
            if await store.school(tx, school_id) is None:
                raise NotFound("school", str(school_id))
            found = await store.user(tx, name)
            if found and found["school_id"] != school_id:
                raise Conflict("user", name)
            await store.set_password(tx, row)

        await look_and_write(self._uow, work)

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
        if text_flaw(name):
            return None
        async with self._uow.read() as tx:
            return await store.user(tx, name)


def _principal(row: Row) -> Principal:
    role = Role(row["role"])
    return Principal(
        school_id=row["school_id"], role=role, scopes=scopes_for(role, ()), name=row["name"]
    )


def _line_of(row: Row) -> RosterLine | None:
    """The roster line as it stands; None for a pupil who has left and would come back."""
    if row["left_at"]:
        return None
    return RosterLine(**{name: row[name] for name in ROSTER_COLUMNS})
