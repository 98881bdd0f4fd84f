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

from onefold.core.fields import Flaw, text_flaw
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
    TRACE_WRITE = "trace:write"
    TRACE_READ = "trace:read"
    TRACE_MANAGE = "trace:manage"
    DIRECTORY_READ = "directory:read"
    DIRECTORY_WRITE = "directory:write"
    CLASSROOM_TEACH = "classroom:teach"
    CLASSROOM_SUGGEST = "classroom:suggest"
    CLASSROOM_LOOKUP = "classroom:lookup"


# What a role may do unless a key was made with fewer. A teacher writes no play data: it
# would be forged (research note telemetry, B4).
SCOPES_OF: Final[Mapping[Role, frozenset[Scope]]] = {
    Role.ADMIN: frozenset(Scope),
    Role.TEACHER: frozenset(
        {
            Scope.TELEMETRY_READ,
            Scope.LEARNING_READ,
            Scope.LEARNING_MANAGE,
            Scope.DIRECTORY_READ,
            Scope.CLASSROOM_TEACH,
        }
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
            Scope.TRACE_WRITE,
            Scope.TRACE_READ,
            Scope.DIRECTORY_READ,
            Scope.CLASSROOM_SUGGEST,
            Scope.CLASSROOM_LOOKUP,
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

    def __post_init__(self) -> None:
        if (self.role is Role.STUDENT) != (self.student_id is not None):
            raise ValueError("a student acts for one pupil, and no other role does")

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
        if self.role is Role.STUDENT:
            return self.student_id == student_id
        return True


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
    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None


def require_text(field: str, text: str, *, longest: int) -> None:
    """Raise `InvalidInput` unless *text* is 1 to *longest* characters that can be stored."""
    flaw = text_flaw(text)
    if not flaw and not 1 <= len(text) <= longest:
        flaw = "length", f"expected 1 to {longest} characters"
    if flaw:
        raise InvalidInput([FieldProblem(field, *flaw)])


_LONGEST = {
    "name": 200,
    "external_id": 100,
    "class_name": 100,
    "first_name": 100,
    "last_name": 100,
    "email": 255,
}
ROSTER_IDS: Final = ("student_id", "external_id", "email")  # one of them says who it is
ROSTER_COLUMNS: Final = ("student_id", *_LONGEST)


def read_email(text: str) -> str:
    """
    *text* as an address is kept: case folded, so that it is unique whatever its case.

    Raises:
        InvalidInput: it is not of the form name@host.
    """
    email = text.strip().casefold()
    flaw = _email_flaw(email)
    if flaw:
        raise InvalidInput([FieldProblem("email", *flaw)])
    return email


_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


def _email_flaw(email: str) -> Flaw | None:
    if len(email) > _LONGEST["email"]:
        return "too_long", f"at most {_LONGEST['email']} characters"
    if not _EMAIL.fullmatch(email):
        return "not_an_email", "expected name@host"
    return text_flaw(email)


def read_roster_line(school_id: UUID, line: Mapping[str, str | None]) -> RosterLine:
    """
    The pupil that one CSV line (column name to text) describes.

    A line without `student_id` gets the id that its `external_id`, or else its `email`,
    always gets in its school, so that importing a file again finds the same pupils.

    Raises:
        InvalidInput: naming each wrong field.
    """
    cells = {name: (line.get(name) or "").strip() or None for name in ROSTER_COLUMNS}
    if cells["email"]:
        cells["email"] = cells["email"].casefold()
    flaws = {name: _cell_flaw(name, cell) for name, cell in cells.items()}
    problems = [FieldProblem(name, *flaw) for name, flaw in flaws.items() if flaw]
    if not any(cells[name] for name in ROSTER_IDS):
        wanted = ", ".join(ROSTER_IDS[:-1])
        problems.append(FieldProblem("student_id", "missing", f"give {wanted} or email"))
    if problems:
        raise InvalidInput(problems)
    names = (cells["first_name"], cells["last_name"])
    return RosterLine(
        student_id=_student_id(school_id, cells),
        name=cells["name"] or " ".join(filter(None, names)) or None,
        external_id=cells["external_id"],
        class_name=cells["class_name"],
        first_name=cells["first_name"],
        last_name=cells["last_name"],
        email=cells["email"],
    )


def _student_id(school_id: UUID, cells: Mapping[str, str | None]) -> UUID:
    if cells["student_id"]:
        return UUID(cells["student_id"])
    if cells["external_id"]:
        return derived_id("student", str(school_id), cells["external_id"])
    return id_by_email(school_id, str(cells["email"]))


def id_by_email(school_id: UUID, email: str) -> UUID:
    """The id that a line gets which says nothing but an address of who it is."""
    return derived_id("student by email", str(school_id), email)


def _cell_flaw(name: str, cell: str | None) -> Flaw | None:
    if cell is None:
        return None
    if name == "student_id":
        return None if _is_uuid(cell) else ("not_a_uuid", "expected a UUID")
    if name == "email":
        return _email_flaw(cell)
    if len(cell) > _LONGEST[name]:
        return "too_long", f"at most {_LONGEST[name]} characters"
    return text_flaw(cell)


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
