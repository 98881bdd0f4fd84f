"""`onefold school`, `student`, `key`, `user`: who is there, and who may."""

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from onefold_server.cli.output import DatabaseUrl, Json, command, opened, show, show_json
from onefold_server.domains.directory.rules import Role

School = Annotated[str | None, typer.Option(help="Id or name; not needed while there is only one.")]

school_app = typer.Typer(help="Schools.", no_args_is_help=True)
student_app = typer.Typer(help="Pupils and their enrolment.", no_args_is_help=True)
key_app = typer.Typer(help="API keys.", no_args_is_help=True)
user_app = typer.Typer(help="People who log in on the pages.", no_args_is_help=True)


@school_app.command("create")
@command
async def create_school(
    name: str,
    auto_enrol: Annotated[bool, typer.Option(help="Enrol unknown pupils by themselves.")] = False,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Create a school; again is the same as once."""
    async with opened(database) as onefold:
        school_id = await onefold.directory.create_school(name, auto_enrol=auto_enrol)
    show([{"school_id": school_id, "name": name}], ["school_id", "name"], as_json=json)


@school_app.command("list")
@command
async def list_schools(database: DatabaseUrl = None, json: Json = False) -> None:
    """List the schools of this installation."""
    async with opened(database) as onefold:
        rows = await onefold.directory.schools()
    show(rows, ["id", "name", "auto_enrol", "created_at"], as_json=json)


@student_app.command("import")
@command
async def import_students(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    school: School = None,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Bring pupils in line with a CSV file: student_id or external_id, name, class_name."""
    async with opened(database) as onefold:
        school_id = await onefold.directory.find_school(school)
        with file.open(encoding="utf-8-sig", newline="") as lines:
            report = await onefold.directory.import_roster(school_id, lines)
    if json:
        show_json(report)
        return
    print(f"{report.created} new, {report.updated} changed, {report.unchanged} as before")
    for refusal in report.refused:
        print(f"line {refusal['line']}: {refusal['field']} {refusal['reason']}")


@student_app.command("list")
@command
async def list_students(
    school: School = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """List a school's pupils."""
    async with opened(database) as onefold:
        school_id = await onefold.directory.find_school(school)
        rows = await onefold.directory.students(school_id, limit=limit)
    show(rows, ["student_id", "name", "external_id", "class_name", "left_at"], as_json=json)


@key_app.command("create")
@command
async def create_key(
    role: Annotated[Role, typer.Option(help="What kind of caller will hold it.")],
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
    scope: Annotated[list[str] | None, typer.Option(help="Fewer than the role's.")] = None,
    student: Annotated[UUID | None, typer.Option(help="Whose, for the role student.")] = None,
    school: School = None,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Create an API key and print it: it cannot be shown again."""
    async with opened(database) as onefold:
        school_id = await onefold.directory.find_school(school)
        key = await onefold.directory.create_key(
            school_id, role=role, label=label, scopes=scope or (), student_id=student
        )
    if json:
        show_json({"key": str(key), "prefix": key.prefix, "school_id": school_id, "role": role})
    else:
        print(key)


@key_app.command("list")
@command
async def list_keys(
    school: School = None, database: DatabaseUrl = None, json: Json = False
) -> None:
    """List a school's keys; their secrets are kept nowhere."""
    async with opened(database) as onefold:
        rows = await onefold.directory.keys(await onefold.directory.find_school(school))
    show(rows, ["prefix", "role", "scopes", "label", "created_at", "revoked_at"], as_json=json)


@key_app.command("revoke")
@command
async def revoke_key(
    prefix: str, school: School = None, database: DatabaseUrl = None, json: Json = False
) -> None:
    """End a key at once."""
    async with opened(database) as onefold:
        school_id = await onefold.directory.find_school(school)
        await onefold.directory.revoke_key(school_id, prefix)
    if json:
        show_json({"prefix": prefix, "revoked": True})
    else:
        print(f"revoked {prefix}")


@user_app.command("set-password")
@command
async def set_password(
    name: str,
    role: Annotated[Role, typer.Option(help="What the user may see.")] = Role.ADMIN,
    password: Annotated[
        str, typer.Option(prompt=True, hide_input=True, confirmation_prompt=True)
    ] = "",
    school: School = None,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Create a user of the pages, or give one a new password."""
    async with opened(database) as onefold:
        school_id = await onefold.directory.find_school(school)
        await onefold.directory.set_password(school_id, name, password, role=role)
    if json:
        show_json({"name": name, "role": role, "school_id": school_id})
    else:
        print(f"{name} can log in")


def add_to(app: typer.Typer) -> None:
    """Give *app* these command groups."""
    for name, group in (
        ("school", school_app),
        ("student", student_app),
        ("key", key_app),
        ("user", user_app),
    ):
        app.add_typer(group, name=name)
