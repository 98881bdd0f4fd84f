"""Who may do what, what a key looks like, what a roster line must hold. Pure."""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from onefold.core.ids import derived_id
from onefold.errors import FieldProblem, Forbidden, InvalidInput


class Role(StrEnum):
    """What kind of caller a key or a user is."""

    ADMIN = "admin"
    TEACHER = "teacher"
    STUDENT = "student"
    SERVICE = "service"


class Scope(StrEnum):
    """What a caller may do; every route names the one it asks for."""

    TELEMETRY_WRITE = "telemetry:write"
    TELEMETRY_READ = "telemetry:read"
    LEARNING_WRITE = "learning:write"
    LEARNING_READ = "learning:read"
    LEARNING_MANAGE = "learning:manage"
    DIRECTORY_READ = "directory:read"
    DIRECTORY_WRITE = "directory:write"


# What a role may do unless a key was made with fewer. A teacher writes no play data: it
# would be forged (research note telemetry, B4).
SCOPES_OF: Final[Mapping[Role, frozenset[Scope]]] = {
    Role.ADMIN: frozenset(Scope),
    Role.TEACHER: frozenset(
        {Scope.TELEMETRY_READ, Scope.LEARNING_READ, Scope.LEARNING_MANAGE, Scope.DIRECTORY_READ}
    ),
    Role.STUDENT: frozenset(
        {Scope.TELEMETRY_WRITE, Scope.TELEMETRY_READ, Scope.LEARNING_WRITE, Scope.LEARNING_READ}
    ),
    Role.SERVICE: frozenset(
        {
            Scope.TELEMETRY_WRITE,
            Scope.TELEMETRY_READ,
            Scope.LEARNING_WRITE,
            Scope.LEARNING_READ,
            Scope.DIRECTORY_READ,
        }
    ),
}


@dataclass(frozen=True, kw_only=True)
class Principal:
    """
    Who is calling, however they proved it.

    Attributes:
        school_id: The only school whose data exists for this caller.
        role: What kind of caller it is.
        scopes: What it may do.
        name: For logs: a key's prefix or a user's name.
        student_id: The one pupil a `student` acts for; None for every other role.
    """

    school_id: UUID
    role: Role
    scopes: frozenset[Scope]
    name: str
    student_id: UUID | None = None

    @classmethod
    def local(cls, school_id: UUID) -> "Principal":
        """Whoever runs a command beside the database: may do all in the school it names."""
        return cls(
            school_id=school_id, role=Role.ADMIN, scopes=frozenset(Scope), name="command line"
        )

    def require(self, scope: Scope) -> None:
        """Raise `Forbidden` unless this caller has *scope*."""
        if scope not in self.scopes:
            raise Forbidden(scope)

    def may_see(self, student_id: UUID) -> bool:
        """Whether data of *student_id* exists for this caller, within its school."""
        return self.student_id is None or self.student_id == student_id


_KEY = re.compile(r"of_([a-z2-7]{8})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class ApiKey:
    """An API key as its holder sees it: `of_<prefix>_<secret>`, 256 random bits of secret."""

    prefix: str
    secret: bytes

    @classmethod
    def new(cls, random: Callable[[int], bytes]) -> "ApiKey":
        """A fresh key; *random* gives that many unpredictable bytes."""
        return cls(base64.b32encode(random(5)).decode().lower(), random(32))

    @classmethod
    def parse(cls, token: str) -> "ApiKey | None":
        """The key that *token* spells, or None."""
        match = _KEY.fullmatch(token)
        if not match:
            return None
        return cls(match[1], base64.urlsafe_b64decode(match[2] + "="))

    def __str__(self) -> str:
        secret = base64.urlsafe_b64encode(self.secret).decode().rstrip("=")
        return f"of_{self.prefix}_{secret}"

    def __repr__(self) -> str:
        return f"ApiKey(prefix={self.prefix!r})"

    def digest(self) -> bytes:
        """SHA-256 of the secret; enough for 256 random bits, which no one can guess."""
        return hashlib.sha256(self.secret).digest()

    def matches(self, digest: bytes) -> bool:
        """Whether *digest* is this key's, in constant time."""
        return hmac.compare_digest(self.digest(), digest)


def scopes_for(role: Role, wanted: Sequence[str]) -> frozenset[Scope]:
    """
    The scopes a key of *role* gets: all of the role's, or the *wanted* among them.

    Raises:
        InvalidInput: a wanted scope is unknown, or more than the role may have.
    """
    allowed = SCOPES_OF[role]
    beyond = [scope for scope in wanted if scope not in allowed]
    if beyond:
        may = ", ".join(sorted(allowed))
        reason = f"{', '.join(beyond)}: not a scope of a {role} key, which may have {may}"
        raise InvalidInput([FieldProblem("scopes", "scope", reason)])
    return frozenset(Scope(scope) for scope in wanted) or allowed


@dataclass(frozen=True, kw_only=True)
class RosterLine:
    """One pupil of a roster."""

    student_id: UUID
    name: str | None = None
    external_id: str | None = None
    class_name: str | None = None


_LONGEST = {"name": 200, "external_id": 100, "class_name": 100}
ROSTER_COLUMNS: Final = ("student_id", "external_id", "name", "class_name")


def read_roster_line(school_id: UUID, line: Mapping[str, str | None]) -> RosterLine:
    """
    The pupil that one CSV line (column name to text) describes.

    A line without `student_id` gets the id that its `external_id` always gets in its
    school, so that importing a file again finds the same pupils.

    Raises:
        InvalidInput: naming each wrong field.
    """
    cells = {name: (line.get(name) or "").strip() or None for name in ROSTER_COLUMNS}
    problems = [
        FieldProblem(name, "too_long", f"at most {longest} characters")
        for name, longest in _LONGEST.items()
        if len(cells[name] or "") > longest
    ]
    if not cells["student_id"] and not cells["external_id"]:
        problems.append(FieldProblem("student_id", "missing", "give student_id or external_id"))
    student_id = _student_id(school_id, cells, problems)
    if problems or student_id is None:
        raise InvalidInput(problems)
    return RosterLine(
        student_id=student_id,
        name=cells["name"],
        external_id=cells["external_id"],
        class_name=cells["class_name"],
    )


def _student_id(
    school_id: UUID, cells: Mapping[str, str | None], problems: list[FieldProblem]
) -> UUID | None:
    if not cells["student_id"]:
        return derived_id("student", str(school_id), cells["external_id"] or "")
    try:
        return UUID(cells["student_id"])
    except ValueError:
        problems.append(FieldProblem("student_id", "not_a_uuid", "expected a UUID"))
        return None
