"""Who may do what, what a key looks like, what a roster says."""

from typing import Any
from uuid import UUID

import pytest

from onefold.errors import Forbidden, InvalidInput
from onefold_server.domains.directory.roster import read_roster
from onefold_server.domains.directory.rules import (
    SCOPES_OF,
    ApiKey,
    Principal,
    Role,
    RosterLine,
    Scope,
    read_roster_line,
    require_text,
    scopes_for,
)

SCHOOL = UUID(int=1)
PUPIL = UUID(int=2)
OTHER = UUID(int=3)


def counting(size_bytes: int) -> bytes:
    return bytes(range(size_bytes))


def refused(call: Any, *args: Any, **kwargs: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as error:
        call(*args, **kwargs)
    return [(p.field, p.code) for p in error.value.problems]


# --- callers --------------------------------------------------------------------------------


def caller(role: Role, student_id: UUID | None = None) -> Principal:
    return Principal(
        school_id=SCHOOL, role=role, scopes=SCOPES_OF[role], name="x", student_id=student_id
    )


def test_every_role_has_scopes_and_only_the_admin_has_all() -> None:
    """Deny by default: what is not listed is not allowed."""
    assert set(SCOPES_OF) == set(Role)
    assert [role for role in Role if SCOPES_OF[role] == frozenset(Scope)] == [Role.ADMIN]


def test_a_teacher_writes_no_play_data() -> None:
    """It would be forged."""
    with pytest.raises(Forbidden, match="telemetry:write"):
        caller(Role.TEACHER).require(Scope.TELEMETRY_WRITE)


def test_a_scope_that_one_has_is_no_error() -> None:
    """Nothing happens then."""
    caller(Role.TEACHER).require(Scope.TELEMETRY_READ)


def test_a_student_sees_itself_alone_and_everyone_else_the_whole_school() -> None:
    """Within the school; of other schools nothing exists."""
    assert caller(Role.STUDENT, PUPIL).may_see(PUPIL)
    assert not caller(Role.STUDENT, PUPIL).may_see(OTHER)
    assert caller(Role.TEACHER).may_see(OTHER)


@pytest.mark.parametrize(
    ("role", "student_id"), [(Role.STUDENT, None), (Role.TEACHER, PUPIL), (Role.ADMIN, PUPIL)]
)
def test_a_student_without_its_pupil_cannot_be_made(role: Role, student_id: UUID | None) -> None:
    """It would see every pupil; and nobody else is bound to one."""
    with pytest.raises(ValueError, match="one pupil"):
        caller(role, student_id)


def test_the_command_line_may_do_all_in_the_school_it_names() -> None:
    """Whoever runs it has the database anyway."""
    local = Principal.local(SCHOOL)

    assert (local.school_id, local.scopes) == (SCHOOL, frozenset(Scope))


# --- keys -----------------------------------------------------------------------------------


def test_a_key_is_read_back_from_its_text() -> None:
    """Prefix, 256 bits of secret, and nothing else."""
    key = ApiKey.new(counting)

    assert ApiKey.parse(str(key)) == key
    assert (str(key)[:3], len(str(key)), len(key.secret)) == ("of_", 55, 32)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "of_",
        "of_aaaaaaaa_short",
        "of_aaaaaaaa_" + "a" * 44,
        "of_AAAAAAAA_" + "a" * 43,
        "of_aaaaaaaa_" + "a" * 43 + "\n",
        "of_aaaaaaaa_" + "ü" * 43,
        "xof_aaaaaaaa_" + "a" * 43,
    ],
)
def test_other_texts_are_no_keys(token: str) -> None:
    """They cost no look at the database."""
    assert ApiKey.parse(token) is None


def test_a_key_matches_its_own_digest_alone() -> None:
    """One bit of the secret makes another key."""
    key, other = ApiKey("aaaaaaaa", b"a" * 32), ApiKey("aaaaaaaa", b"a" * 31 + b"b")

    assert key.matches(key.digest())
    assert not other.matches(key.digest())


def test_a_key_does_not_print_its_secret_by_accident() -> None:
    """A log line that holds it shows the prefix."""
    assert repr(ApiKey("aaaaaaaa", b"a" * 32)) == "ApiKey(prefix='aaaaaaaa')"


def test_a_key_gets_all_scopes_of_its_role_unless_told_fewer() -> None:
    """Fewer is possible."""
    assert scopes_for(Role.SERVICE, ()) == SCOPES_OF[Role.SERVICE]
    assert scopes_for(Role.SERVICE, ["telemetry:read"]) == {Scope.TELEMETRY_READ}


@pytest.mark.parametrize("wanted", ["directory:write", "everything"])
def test_a_key_gets_no_scope_beyond_its_role(wanted: str) -> None:
    """Neither one that others have, nor one that nobody has."""
    assert refused(scopes_for, Role.TEACHER, [wanted]) == [("scopes", "scope")]


# --- texts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code"),
    [("", "length"), ("abcd", "length"), ("\0", "nul_character"), ("\ud800", "not_unicode")],
)
def test_a_text_that_cannot_be_kept_is_refused(text: str, code: str) -> None:
    """Before a database sees it."""
    assert refused(require_text, "name", text, longest=3) == [("name", code)]


def test_a_text_of_the_longest_length_is_kept() -> None:
    """The bound is inclusive."""
    require_text("name", "äöü", longest=3)


# --- rosters --------------------------------------------------------------------------------


def test_a_roster_line_names_a_pupil() -> None:
    """Spaces around a cell are not part of it."""
    line = {"student_id": str(PUPIL), "name": " Ada ", "external_id": "7", "class_name": "7b"}

    assert read_roster_line(SCHOOL, line) == RosterLine(
        student_id=PUPIL, name="Ada", external_id="7", class_name="7b"
    )


def test_a_pupil_without_id_gets_the_same_one_at_every_import() -> None:
    """It follows from school and external id."""
    one = read_roster_line(SCHOOL, {"external_id": "7"})
    again = read_roster_line(SCHOOL, {"external_id": "7", "name": "Ada"})
    elsewhere = read_roster_line(OTHER, {"external_id": "7"})

    assert one.student_id == again.student_id != elsewhere.student_id


@pytest.mark.parametrize("name", ["name", "class_name", "external_id"])
def test_blank_cells_are_empty(name: str) -> None:
    """A space is no name."""
    line = read_roster_line(SCHOOL, {"student_id": str(PUPIL), name: "  "})

    assert getattr(line, name) is None


@pytest.mark.parametrize(
    ("cells", "problems"),
    [
        ({}, [("student_id", "missing")]),
        ({"student_id": "7"}, [("student_id", "not_a_uuid")]),
        ({"external_id": "x" * 101}, [("external_id", "too_long")]),
        ({"external_id": "7", "name": "x" * 201}, [("name", "too_long")]),
        ({"external_id": "7", "class_name": "x" * 101}, [("class_name", "too_long")]),
        ({"external_id": "a\0b"}, [("external_id", "nul_character")]),
        ({"external_id": "\ud800"}, [("external_id", "not_unicode")]),
        (
            {"student_id": "7", "name": "\0"},
            [("student_id", "not_a_uuid"), ("name", "nul_character")],
        ),
    ],
)
def test_a_line_that_cannot_be_kept_is_refused_with_every_reason(
    cells: dict[str, str], problems: list[tuple[str, str]]
) -> None:
    """What only a database would refuse is refused here, and costs one line."""
    assert refused(read_roster_line, SCHOOL, cells) == problems


@pytest.mark.parametrize("longest", [{"name": "x" * 200}, {"class_name": "x" * 100}])
def test_a_cell_of_the_longest_length_is_kept(longest: dict[str, str]) -> None:
    """The bound is inclusive."""
    read_roster_line(SCHOOL, {"external_id": "x" * 100} | longest)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_commas_semicolons_and_tabs_are_told_by_the_header(delimiter: str, mark: str) -> None:
    """Spreadsheets write each of them, and some a byte order mark."""
    lines = ["external_id,name\r\n", '7,"Ada, the first"\r\n', "8,Bo\r\n"]
    if delimiter != ",":
        lines = [
            lines[0].replace(",", delimiter),
            f"7{delimiter}Ada, the first\r\n",
            f"8{delimiter}Bo",
        ]

    roster = read_roster(SCHOOL, [mark + lines[0], *lines[1:]])

    assert [line.name for line in roster.lines.values()] == ["Ada, the first", "Bo"]
    assert roster.refused == []


@pytest.mark.parametrize(
    "header",
    [
        "",
        "\n",
        "name",
        "name,class_name",
        "external_id,nickname",
        "external_id,external_id",
        "7,Ada",
    ],
)
def test_a_header_that_says_not_who_is_meant_is_refused(header: str) -> None:
    """As one with a column nobody knows: it may be a misspelt one."""
    assert refused(read_roster, SCHOOL, [header, "7,Ada"]) == [("header", "columns")]


def test_bad_lines_are_told_by_their_number_and_good_ones_kept() -> None:
    """A cell too many shifts the others: such a line is not guessed at."""
    text = ["external_id,name\n", "7,Ada\n", ",Bo\n", "9,Cy,Dahl\n", "10\n"]

    roster = read_roster(SCHOOL, text)

    assert [line.external_id for line in roster.lines.values()] == ["7", "10"]
    assert [(r["line"], r["field"], r["code"]) for r in roster.refused] == [
        (3, "student_id", "missing"),
        (4, "line", "columns"),
    ]


def test_a_file_that_is_no_csv_is_refused_as_a_whole() -> None:
    """A quote that never ends swallows the rest; nobody can tell the lines then."""
    text = ["external_id,name\n", '7,"' + "x" * 200_000]

    assert refused(read_roster, SCHOOL, text) == [("body", "malformed")]


def test_the_last_line_of_a_pupil_counts() -> None:
    """A pupil stands once in what is imported."""
    roster = read_roster(SCHOOL, ["external_id,name\n", "7,Ada\n", "7,Ada Alm\n"])

    assert [line.name for line in roster.lines.values()] == ["Ada Alm"]


def test_an_external_id_is_one_pupils() -> None:
    """Of two lines the first keeps it; what a pupil of the school has, stays that pupil's."""
    text = [
        "student_id,external_id\n",
        f"{UUID(int=11)},7\n",
        f"{UUID(int=12)},7\n",
        f"{UUID(int=13)},8\n",
        f"{UUID(int=14)},9\n",
    ]

    roster = read_roster(SCHOOL, text).without_taken({"8": OTHER, "9": UUID(int=14)})

    assert list(roster.lines) == [UUID(int=11), UUID(int=14)]
    assert [(r["line"], r["code"]) for r in roster.refused] == [(3, "taken"), (4, "taken")]
