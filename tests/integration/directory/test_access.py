"""Schools, keys and users: who is there, and who may, on SQLite and PostgreSQL."""

import asyncio
import os
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from tests.support import School, another_server, leave, new_school, rows

from onefold.errors import Conflict, InvalidInput, NotFound, Unauthenticated
from onefold.testing.clock import ManualClock
from onefold_server.domains.directory.rules import ApiKey, Role, Scope
from onefold_server.domains.directory.service import DirectoryService
from onefold_server.domains.directory.tables import api_keys, schools, users
from onefold_server.installation import Installation


class CountedPasswords:
    """Hashes by turning round, and remembers how often it was asked to check."""

    def __init__(self) -> None:
        self.checked: list[str] = []

    async def hash(self, password: str) -> str:
        return password[::-1]

    async def verify(self, password: str, hashed: str) -> bool:
        self.checked.append(hashed)
        return hashed == password[::-1]


@pytest.fixture
def passwords() -> CountedPasswords:
    """Quick, unlike the real ones."""
    return CountedPasswords()


@pytest.fixture
def directory(
    onefold: Installation, clock: ManualClock, passwords: CountedPasswords
) -> DirectoryService:
    """The directory with quick passwords."""
    return make(onefold, clock, passwords, os.urandom)


def make(
    onefold: Installation,
    clock: ManualClock,
    passwords: CountedPasswords,
    random: Callable[[int], bytes],
) -> DirectoryService:
    return DirectoryService(onefold.uow, clock=clock, random=random, passwords=passwords)


# --- schools --------------------------------------------------------------------------------


async def test_creating_a_school_again_gives_the_same_one(onefold: Installation) -> None:
    """By its name."""
    first = await onefold.directory.create_school("Hill School")
    again = await onefold.directory.create_school("Hill School", school_id=first)

    assert again == first
    assert len(await onefold.directory.schools()) == 1


@pytest.mark.parametrize("what", ["name", "id"])
async def test_a_name_or_an_id_of_another_school_is_a_conflict(
    onefold: Installation, what: str
) -> None:
    """Neither is quietly taken for the other."""
    first = await onefold.directory.create_school("Hill School")
    name, id_ = ("Hill School", uuid4()) if what == "name" else ("Dale School", first)

    with pytest.raises(Conflict):
        await onefold.directory.create_school(name, school_id=id_)


async def test_one_school_created_by_many_at_once_is_one(onefold: Installation) -> None:
    """All get the same id."""
    async with another_server(onefold) as other:
        ids = await asyncio.gather(
            *(server.directory.create_school("Hill School") for server in (onefold, other) * 3)
        )

    assert len(set(ids)) == len(await rows(onefold, schools)) == 1


@pytest.mark.parametrize("name", ["", "x" * 256, "a\0"])
async def test_a_school_has_a_name_that_can_be_kept(onefold: Installation, name: str) -> None:
    """1 to 255 characters."""
    with pytest.raises(InvalidInput):
        await onefold.directory.create_school(name)


async def test_a_school_is_found_by_name_by_id_or_because_it_is_the_only_one(
    onefold: Installation, clock: ManualClock
) -> None:
    """Among several one must say which."""
    with pytest.raises(NotFound):
        await onefold.directory.find_school(None)
    hill = await onefold.directory.create_school("Hill School")
    only = await onefold.directory.find_school(None)
    clock.advance(timedelta(seconds=1))
    dale = await onefold.directory.create_school("Dale School")

    assert only == hill
    assert await onefold.directory.find_school("Dale School") == dale
    assert await onefold.directory.find_school(str(hill)) == hill
    with pytest.raises(InvalidInput, match="Hill School, Dale School"):
        await onefold.directory.find_school(None)
    with pytest.raises(NotFound):
        await onefold.directory.find_school("Nowhere")


# --- keys -----------------------------------------------------------------------------------


async def test_a_key_is_shown_once_and_kept_as_a_digest(
    directory: DirectoryService, onefold: Installation, school: School
) -> None:
    """Neither the table nor the list holds anything to log in with."""
    key = await directory.create_key(school.id, role=Role.SERVICE, label="the game")

    (row,) = await rows(onefold, api_keys)
    (listed,) = await directory.keys(school.id)
    assert row["secret_sha256"] == key.digest()
    assert key.secret not in row.values()
    assert "secret_sha256" not in listed
    assert (listed["prefix"], listed["label"], listed["revoked_at"]) == (
        key.prefix,
        "the game",
        None,
    )


async def test_a_key_says_who_calls(directory: DirectoryService, school: School) -> None:
    """School, role and scopes."""
    key = await directory.create_key(
        school.id, role=Role.SERVICE, label="", scopes=["telemetry:read"]
    )

    caller = await directory.authenticate(str(key))

    assert (caller.school_id, caller.role, caller.name) == (school.id, Role.SERVICE, key.prefix)
    assert caller.scopes == {Scope.TELEMETRY_READ}


async def test_a_revoked_key_is_nobodys(
    directory: DirectoryService, school: School, clock: ManualClock
) -> None:
    """It stays in the list, with when it ended."""
    key = await directory.create_key(school.id, role=Role.ADMIN, label="")
    await directory.revoke_key(school.id, key.prefix)

    with pytest.raises(Unauthenticated):
        await directory.authenticate(str(key))

    (listed,) = await directory.keys(school.id)
    assert listed["revoked_at"] == clock.now()


async def test_only_a_live_key_of_ones_own_school_can_be_revoked(
    directory: DirectoryService, onefold: Installation, school: School
) -> None:
    """Twice is told, and another school's key does not exist."""
    other = await new_school(onefold, "Other School")
    key = await directory.create_key(school.id, role=Role.ADMIN, label="")

    assert await directory.keys(other.id) == []
    with pytest.raises(NotFound):
        await directory.revoke_key(other.id, key.prefix)
    await directory.revoke_key(school.id, key.prefix)
    with pytest.raises(NotFound):
        await directory.revoke_key(school.id, key.prefix)


async def test_a_pupils_key_is_bound_to_a_pupil_who_is_enrolled(
    directory: DirectoryService, onefold: Installation, school: School
) -> None:
    """Not to one who is unknown or has left, and no other role's key is bound to any."""
    here, gone = uuid4(), uuid4()
    await directory.import_roster(school.id, ["student_id\n", f"{here}\n", f"{gone}\n"])
    await leave(onefold, school.id, gone)

    async def create(role: Role, student_id: UUID | None) -> ApiKey:
        return await directory.create_key(school.id, role=role, label="", student_id=student_id)

    caller = await directory.authenticate(str(await create(Role.STUDENT, here)))

    assert caller.student_id == here
    for unknown in (uuid4(), gone):
        with pytest.raises(NotFound):
            await create(Role.STUDENT, unknown)
    for role, student_id in ((Role.STUDENT, None), (Role.TEACHER, here)):
        with pytest.raises(InvalidInput, match="student_id"):
            await create(role, student_id)


async def test_a_key_of_an_unknown_school_is_not_made(directory: DirectoryService) -> None:
    """Not found."""
    with pytest.raises(NotFound):
        await directory.create_key(uuid4(), role=Role.ADMIN, label="")


async def test_a_label_that_cannot_be_kept_is_refused(
    directory: DirectoryService, school: School
) -> None:
    """At most 100 characters."""
    with pytest.raises(InvalidInput, match="label"):
        await directory.create_key(school.id, role=Role.ADMIN, label="x" * 101)


async def test_a_key_that_was_not_recorded_is_not_shown(
    onefold: Installation, clock: ManualClock, passwords: CountedPasswords, school: School
) -> None:
    """Of two keys with one prefix the second would never work."""
    stuck = make(onefold, clock, passwords, lambda n: b"\1" * n)
    await stuck.create_key(school.id, role=Role.ADMIN, label="")

    with pytest.raises(Conflict):
        await stuck.create_key(school.id, role=Role.ADMIN, label="")


# --- users ----------------------------------------------------------------------------------


async def test_the_right_password_logs_in(directory: DirectoryService, school: School) -> None:
    """As the role it was given, with that role's scopes."""
    await directory.set_password(school.id, "ada", "open sesame", role=Role.TEACHER)

    caller = await directory.log_in("ada", "open sesame")

    assert (caller.school_id, caller.role, caller.name) == (school.id, Role.TEACHER, "ada")
    assert Scope.TELEMETRY_WRITE not in caller.scopes
    assert await directory.user("ada") == caller


async def test_a_wrong_password_and_an_unknown_name_are_answered_alike(
    directory: DirectoryService, school: School, passwords: CountedPasswords
) -> None:
    """In the same words and after the same work: one check of one hash."""
    await directory.set_password(school.id, "ada", "open sesame", role=Role.ADMIN)
    said = []

    for name in ("ada", "nobody", "no\0body"):
        with pytest.raises(Unauthenticated) as refused:
            await directory.log_in(name, "wrong")
        said.append(str(refused.value))

    assert len(set(said)) == 1
    assert len(passwords.checked) == 3


async def test_the_decoys_password_logs_nobody_in(
    directory: DirectoryService, school: School
) -> None:
    """The hash that unknown names are checked against opens nothing."""
    with pytest.raises(Unauthenticated):
        await directory.log_in("nobody", "nobody's")


async def test_a_new_password_ends_the_old_one(directory: DirectoryService, school: School) -> None:
    """And may change the role."""
    await directory.set_password(school.id, "ada", "old", role=Role.TEACHER)
    await directory.set_password(school.id, "ada", "new", role=Role.ADMIN)

    with pytest.raises(Unauthenticated):
        await directory.log_in("ada", "old")

    assert (await directory.log_in("ada", "new")).role is Role.ADMIN


async def test_a_users_name_is_one_schools(
    directory: DirectoryService, onefold: Installation, school: School
) -> None:
    """Nobody takes it over from another, and a user who is gone is nobody."""
    other = await new_school(onefold, "Other School")
    await directory.set_password(school.id, "ada", "mine", role=Role.ADMIN)

    with pytest.raises(Conflict):
        await directory.set_password(other.id, "ada", "theirs", role=Role.ADMIN)

    assert (await directory.log_in("ada", "mine")).school_id == school.id
    assert len(await rows(onefold, users)) == 1
    with pytest.raises(Unauthenticated):
        await directory.user("bo")


@pytest.mark.parametrize(
    ("name", "role"), [("", Role.ADMIN), ("x" * 101, Role.ADMIN), ("ada", Role.STUDENT)]
)
async def test_a_user_has_a_name_and_is_no_pupil(
    directory: DirectoryService, school: School, name: str, role: Role
) -> None:
    """A pupil's login that named no pupil would see all of them."""
    with pytest.raises(InvalidInput):
        await directory.set_password(school.id, name, "x", role=role)


async def test_a_user_of_an_unknown_school_is_not_made(directory: DirectoryService) -> None:
    """Not found."""
    with pytest.raises(NotFound):
        await directory.set_password(uuid4(), "ada", "x", role=Role.ADMIN)


async def test_the_real_passwords_are_hashed_with_argon2(
    onefold: Installation, school: School
) -> None:
    """What the table holds is no password."""
    await onefold.directory.set_password(school.id, "ada", "open sesame", role=Role.ADMIN)

    (row,) = await rows(onefold, users)
    assert row["password_hash"].startswith("$argon2id$")
    assert (await onefold.directory.log_in("ada", "open sesame")).name == "ada"
