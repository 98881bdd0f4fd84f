"""
The 46 faults of an earlier system (research note "learning", section 9), one test each.

Each docstring says what that system did, and what ours does. Where a fault needs a database,
the test runs on SQLite and PostgreSQL.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise, product
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import func, insert, select, text
from tests.integration.learning.test_crashes import ALL, NOTHING, completion
from tests.support import School, new_school, turn_of_the_loop
from tests.support_learning import (
    change,
    finish_scenario,
    http_client,
    key_of,
    one_turn,
    open_session,
    play,
    play_all,
    pupil,
    servers,
)

import onefold as onefold_package
import onefold_server as server_package
from onefold.adapters.sql.outbox import SqlOutbox
from onefold.errors import (
    BudgetExhausted,
    ConstraintViolated,
    IllegalTransition,
    InvalidInput,
    NotFound,
    OnefoldError,
)
from onefold.testing.clock import ManualClock
from onefold_server.domains.directory.rules import Role
from onefold_server.domains.learning.budgets.rules import Enforcement
from onefold_server.domains.learning.budgets.service import Usage
from onefold_server.domains.learning.calendar import Period, streak
from onefold_server.domains.learning.content.rules import ContentKind, Given, Material, MaterialKind
from onefold_server.domains.learning.content.tables import content as content_table
from onefold_server.domains.learning.content.tables import materials, topics
from onefold_server.domains.learning.reviews import store as review_store
from onefold_server.domains.learning.reviews.scheduling import (
    ReviewAnswer,
    Scheduler,
    new_memory,
    plan,
    sm2_interval,
)
from onefold_server.domains.learning.scenarios import rules as scenario_rules
from onefold_server.domains.learning.scenarios.definitions import (
    RANK,
    Difficulty,
    read_definition,
    shipped,
)
from onefold_server.domains.learning.scenarios.judge import look
from onefold_server.domains.learning.sessions.rules import SessionState
from onefold_server.domains.learning.sessions.tables import sessions as sessions_table
from onefold_server.installation import Installation

NOTE = "learning"

pytestmark = pytest.mark.timeout(120)
USAGE = Usage(provider="acme", model="small")


def note(body: str, **how: Any) -> Given:
    """A note unless told otherwise."""
    return Given(
        **{"kind": ContentKind.NOTE, "title": "Note", "language": "en", "body": body} | how
    )


async def count(onefold: Installation, table: Any) -> int:
    """How many rows a table has."""
    async with onefold.uow.read() as tx:
        return int((await tx.execute(select(func.count()).select_from(table))).scalar_one())


async def test_l01_rollback_takes_back_every_statement(
    onefold: Installation, school: School
) -> None:
    """It committed each flushed statement by itself; ours takes back all of a transaction."""
    begun = await open_session(onefold, school)
    row: dict[str, Any]
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 (the commit is part of it)
        async with onefold.uow.begin() as tx:
            found = await tx.execute(select(sessions_table))
            row = dict(found.mappings().one()) | {"id": uuid4()}
            await tx.execute(insert(sessions_table).values(row))
            _ = 1 / 0

    assert await count(onefold, sessions_table) == 1
    assert begun.version == 1


async def test_l02_a_completion_is_one_commit(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """It made three commits, and three runs made 3 histories; ours has one, however often."""
    student = uuid4()
    begun = await onefold.learning.scenarios.start(school.service, student, "hotel", "es")
    await play_all(onefold, school, begun, clock=clock)

    for _ in range(3):
        await onefold.learning.scenarios.complete(school.service, begun["id"])

    assert len((await onefold.learning.scenarios.history(school.service)).rows) == 1
    assert len((await onefold.learning.sessions.sessions(school.service)).rows) == 1


async def test_l03_a_batch_that_fails_leaves_nothing(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """It kept half of a failed batch of words; ours keeps nothing or all, at every death."""
    assert NOTHING != ALL
    assert await completion(onefold, school, clock).explore() >= 30


async def test_l04_a_repeated_word_is_one_card(onefold: Installation, school: School) -> None:
    """It lost a completion over a repeated word; ours takes spellings of a word for one."""
    reviews, student = onefold.learning.reviews, uuid4()

    cards = await asyncio.gather(
        *(
            reviews.add(school.service, student, "es", word)
            for word in ("café", " CAFÉ", "cafe\u0301", "Café ")
        )
    )

    assert len({card["id"] for card in cards}) == 1


async def test_l05_progress_outlives_a_failed_completion(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """It swallowed the error and deleted the only copy; ours fails aloud and keeps the attempt."""
    scenarios = onefold.learning.scenarios
    begun = await scenarios.start(school.service, uuid4(), "hotel", "es")
    await play(onefold, school, begun, "Tengo una reserva para dos noches")

    with pytest.raises(IllegalTransition):
        await scenarios.complete(school.service, begun["id"])

    assert (await scenarios.attempt(school.service, begun["id"]))["turns"] == 1


async def test_l06_a_retried_start_makes_no_second_session(
    onefold: Installation, school: School
) -> None:
    """Its retry after a lost answer made a duplicate; ours is recognised by its id."""
    id_, student = uuid4(), uuid4()

    for _ in range(3):
        await open_session(onefold, school, session_id=id_, student_id=student)

    assert len((await onefold.learning.sessions.sessions(school.service)).rows) == 1


async def test_l07_saving_content_again_does_not_double_materials(
    onefold: Installation, school: School
) -> None:
    """It committed each material by itself and doubled them; ours are one a kind and title."""
    given = note(
        "text",
        materials=tuple(
            Material(kind=kind, title="T", body={})
            for kind in (MaterialKind.QUIZ, MaterialKind.NOTES)
        ),
    )
    student = uuid4()

    for _ in range(2):
        saved = await onefold.learning.content.save(school.service, student, given)

        assert len(saved["materials"]) == 2


async def test_l08_uploads_without_a_url_stay_apart(onefold: Installation, school: School) -> None:
    """It overwrote the first upload that had no URL; ours tells contents by their text."""
    student = uuid4()

    one = await onefold.learning.content.save(school.service, student, note("one"))
    two = await onefold.learning.content.save(school.service, student, note("two"))

    assert one["id"] != two["id"]
    assert (await onefold.learning.content.get(school.service, one["id"]))["body"] == "one"


async def test_l09_saving_again_changes_language_and_kind(
    onefold: Installation, school: School
) -> None:
    """It kept the old language and type, so filters found it there; ours changes all of it."""
    content, student = onefold.learning.content, uuid4()
    await content.save(school.service, student, note("same"))

    await content.save(school.service, student, note("same", language="de", kind=ContentKind.LINK))

    assert (await content.contents(school.service, language="en")).rows == []
    assert (
        len((await content.contents(school.service, language="de", kind=ContentKind.LINK)).rows)
        == 1
    )


async def test_l10_search_takes_words_for_words(onefold: Installation, school: School) -> None:
    """Its % was a wildcard, `gram` matched `grammar`, bodies were not searched; ours do not."""
    content, student = onefold.learning.content, uuid4()
    await content.save(school.service, student, note("about grammar", topics=("Gramática",)))

    async def hits(query: str) -> int:
        return len((await content.search(school.service, query)).rows)

    assert [await hits(q) for q in ("about%", "gram", "gram*", "grammar")] == [1, 0, 1, 1]
    with pytest.raises(InvalidInput):
        await hits("%")
    assert len((await content.contents(school.service, topic="gramática")).rows) == 1


async def test_l11_deleting_leaves_nothing_behind(onefold: Installation, school: School) -> None:
    """It left tags behind and took materials of nothing; ours cascades and holds keys."""
    content = onefold.learning.content
    quiz = Material(kind=MaterialKind.QUIZ, title="Q", body={})
    saved = await content.save(school.service, uuid4(), note("x", topics=("t",), materials=(quiz,)))
    await content.delete(school.service, saved["id"])

    assert [await count(onefold, t) for t in (content_table, topics, materials)] == [0, 0, 0]
    with pytest.raises(ConstraintViolated):  # noqa: PT012 (the commit is part of it)
        async with onefold.uow.begin() as tx:
            row = {"school_id": school.id, "content_id": uuid4(), "topic": "t"}
            await tx.execute(insert(topics).values(row))


async def test_l12_waiting_for_a_lock_does_not_stop_the_loop(
    onefold: Installation, school: School
) -> None:
    """It froze the whole event loop behind another writer; ours waits beside it."""
    begun = await open_session(onefold, school)
    turns = 0
    async with onefold.uow.begin() as tx:
        await tx.execute(select(sessions_table).with_for_update())
        waiting = asyncio.create_task(
            onefold.learning.sessions.change(
                school.service, begun.id, change(add={"items_studied": 1})
            )
        )
        for _ in range(200):
            await one_turn()
            turns += 1
        assert not waiting.done()

    assert (await waiting).items_studied == 1
    assert turns == 200


async def test_l13_concurrent_updates_are_all_there(database_url: str, clock: ManualClock) -> None:
    """Four writers of 25 left 43 of 100 counts and keys; ours leave 100 of each."""
    async with servers(database_url, 4, clock) as many:
        school = await new_school(many[0])
        begun = await open_session(many[0], school)

        await asyncio.gather(
            *(
                many[n % 4].learning.sessions.change(
                    school.service,
                    begun.id,
                    change(add={"items_studied": 1}, metadata={f"k{n}": n}),
                )
                for n in range(100)
            )
        )

        found = await many[0].learning.sessions.get(school.service, begun.id)
        assert (found.items_studied, len(found.metadata)) == (100, 100)


async def test_l14_two_servers_see_one_session(database_url: str, clock: ManualClock) -> None:
    """Its managers kept stale copies that undid each other; ours keep none."""
    async with servers(database_url, 2, clock) as (one, two):
        school = await new_school(one)
        begun = await open_session(one, school)
        await one.learning.sessions.change(school.service, begun.id, change(metadata={"a": 1}))
        await two.learning.sessions.change(school.service, begun.id, change(metadata={"b": 2}))
        await two.learning.sessions.complete(school.service, begun.id)

        found = await one.learning.sessions.get(school.service, begun.id)

        assert (found.metadata, found.state) == ({"a": 1, "b": 2}, SessionState.COMPLETED)


async def test_l15_a_deleted_session_is_not_found(onefold: Installation, school: School) -> None:
    """It still returned deleted rows and then failed on them for ever; ours says not found."""
    begun = await open_session(onefold, school)
    async with onefold.uow.begin() as tx:
        await tx.execute(sessions_table.delete())

    for call in (
        onefold.learning.sessions.get,
        onefold.learning.sessions.complete,
    ):
        with pytest.raises(NotFound):
            await call(school.service, begun.id)


async def test_l16_abandoned_sessions_end(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Its map of open sessions grew without bound; ours end as abandoned, by a worker."""
    begun = await open_session(onefold, school)
    clock.advance(timedelta(hours=6))

    assert await onefold.learning.sessions.abandon_idle() == 1

    found = await onefold.learning.sessions.get(school.service, begun.id)
    assert found.state is SessionState.ABANDONED


async def test_l17_concurrent_calls_share_no_transaction(
    onefold: Installation, school: School
) -> None:
    """Six threads on its one shared session all failed; ours each have their own."""
    sessions = await asyncio.gather(*(open_session(onefold, school) for _ in range(20)))

    done = await asyncio.gather(
        *(onefold.learning.sessions.complete(school.service, s.id) for s in sessions)
    )

    assert {s.state for s in done} == {SessionState.COMPLETED}


async def test_l18_what_is_returned_is_a_value(onefold: Installation, school: School) -> None:
    """Changing its returned objects changed rows, or silently did not; ours are values."""
    begun = await open_session(onefold, school, metadata={"a": {"b": 1}})

    with pytest.raises(AttributeError):
        begun.items_studied = 99  # type: ignore[misc]
    begun.metadata["a"]["b"] = 99
    await open_session(onefold, school)

    found = await onefold.learning.sessions.get(school.service, begun.id)
    assert found.metadata == {"a": {"b": 1}}


async def test_l19_requests_give_their_connections_back(
    onefold: Installation, school: School
) -> None:
    """Sixty of its requests left nine connections checked out; ours leave none."""
    begun = await open_session(onefold, school)
    key = await key_of(onefold, school.id, Role.SERVICE)
    async with http_client(onefold) as client:
        for _ in range(30):
            path = f"/sessions/{begun.id}"
            assert (await client.get(path, headers={"authorization": key})).status_code == 200

        await turn_of_the_loop()
        for engine in (onefold.database.reader, onefold.database.writer):
            assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_l20_an_outage_does_not_look_like_no_data(
    onefold: Installation, school: School
) -> None:
    """It answered None and [] when the database failed; ours raises."""
    begun = await open_session(onefold, school)
    async with onefold.uow.begin() as tx:
        await tx.execute(text("ALTER TABLE learning_sessions RENAME TO gone"))

    for call in (
        onefold.learning.sessions.get(school.service, begun.id),
        onefold.learning.sessions.sessions(school.service),
    ):
        with pytest.raises(OnefoldError) as failed:
            await call
        assert not isinstance(failed.value, NotFound)
    async with onefold.uow.begin() as tx:
        await tx.execute(text("ALTER TABLE gone RENAME TO learning_sessions"))


async def test_l21_a_session_ends_once(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """A second completion moved its end, and updates went on after it; ours do neither."""
    begun = await open_session(onefold, school)
    first = await onefold.learning.sessions.complete(school.service, begun.id)
    clock.advance(timedelta(hours=1))

    assert await onefold.learning.sessions.complete(school.service, begun.id) == first
    with pytest.raises(IllegalTransition):
        await onefold.learning.sessions.change(
            school.service, begun.id, change(add={"items_studied": 1})
        )


async def test_l22_nothing_answered_is_no_accuracy(onefold: Installation, school: School) -> None:
    """A null accuracy made it fail after the commit; ours completes and says null."""
    begun = await open_session(onefold, school)

    done = await onefold.learning.sessions.complete(school.service, begun.id)

    assert (done.accuracy_rate, done.duration_s) == (None, 0)


async def test_l23_impossible_values_are_refused(onefold: Installation, school: School) -> None:
    """It stored -4 incorrect, unknown types, 25-character languages; ours refuses each."""
    begun = await open_session(onefold, school)
    for wrong in ({"items_incorrect": -4}, {"items_correct": 2**31}, {"stars": 5}):
        with pytest.raises(InvalidInput):
            await onefold.learning.sessions.change(school.service, begun.id, change(add=wrong))
    starts: tuple[Mapping[str, Any], ...] = (
        {"session_type": "nap"}, {"language": "x" * 25}, {"source_id": "s" * 101},
    )  # fmt: skip
    for wrong_start in starts:
        with pytest.raises(InvalidInput):
            await open_session(onefold, school, **wrong_start)
    for limit in (-1, 0, 1001):
        with pytest.raises(InvalidInput):
            await onefold.learning.sessions.sessions(school.service, limit=limit)
    with pytest.raises(ConstraintViolated):
        async with onefold.uow.begin() as tx:
            await tx.execute(sessions_table.update().values(items_correct=-1))


def test_l24_a_lapse_begins_again_and_better_answers_wait_longer() -> None:
    """After a lapse it went on with 1, 2, 4, and HARD waited longer than GOOD; ours do not."""
    now, memory, intervals = datetime(2026, 1, 1, tzinfo=UTC), new_memory(Scheduler.SM2), []
    for answer in (3, 3, 3, 1, 3, 3):
        next_ = plan(Scheduler.SM2, memory, ReviewAnswer(answer), now=now)
        memory, now = next_.memory, next_.due_at
        intervals.append(int(next_.strength_days))

    assert intervals == [1, 4, 10, 1, 1, 4]
    for repetition, interval, ease in product(range(5), (0, 1, 4, 30, 365), (1.3, 2.5, 3.0)):
        waits = [sm2_interval(repetition, interval, ease, answer) for answer in ReviewAnswer]
        assert all(a <= b for a, b in pairwise(waits))


async def test_l25_items_are_counted_and_not_estimated(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """12 items at 0.9 became 10 right and 1 wrong; ours are counted and add up."""
    scenarios = onefold.learning.scenarios
    begun = await scenarios.start(school.service, uuid4(), "restaurant", "en")
    for said in (
        "Good evening, a table for two",
        "I would like the soup and to drink",
        "menu chicken salad wine water, what do you recommend",
        "the bill, thank you",
    ):
        await play(onefold, school, begun, said)

    ended = await scenarios.complete(school.service, begun["id"])
    session = await onefold.learning.sessions.get(school.service, ended["session_id"])

    assert session.items_correct + session.items_incorrect == session.items_studied == 23
    assert 0 < session.items_incorrect < 23


async def test_l26_time_is_aware_and_never_negative(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """It mixed naive local and UTC times; ours are UTC, and a clock set back costs nothing."""
    begun = await open_session(onefold, school)
    clock.advance(timedelta(hours=-3))

    done = await onefold.learning.sessions.complete(school.service, begun.id)

    assert begun.started_at.utcoffset() == timedelta(0)
    assert done.duration_s == 0
    with pytest.raises(ConstraintViolated):  # noqa: PT012 (the commit is part of it)
        async with onefold.uow.begin() as tx:
            naive = datetime(2026, 1, 1)  # noqa: DTZ001 (the fault itself)
            await tx.execute(sessions_table.update().values(started_at=naive))


async def test_l27_an_id_has_one_spelling(onefold: Installation, school: School) -> None:
    """` 5`, `+5` and `05` were row 5; ours takes a UUID or refuses."""
    key = await key_of(onefold, school.id, Role.SERVICE)
    async with http_client(onefold) as client:
        for alias in ("%205", "+5", "05", "5"):
            answer = await client.get(f"/sessions/{alias}", headers={"authorization": key})
            assert answer.status_code == 422


async def test_l28_sessions_have_owners(onefold: Installation, school: School) -> None:
    """Any caller could read and finish any session; ours belong to a school and a learner."""
    begun = await open_session(onefold, school)

    for stranger in ((await new_school(onefold, "Other")).admin, pupil(school, uuid4())):
        with pytest.raises(NotFound):
            await onefold.learning.sessions.complete(stranger, begun.id)


async def test_l29_pages_of_equal_instants_miss_nothing(
    onefold: Installation, school: School
) -> None:
    """It had no second sort key and no cursor; ours pages by instant and id."""
    made = {(await open_session(onefold, school)).id for _ in range(7)}
    seen: list[UUID] = []
    cursor = None
    for _ in range(3):
        found = await onefold.learning.sessions.sessions(school.service, cursor=cursor, limit=3)
        seen += [s.id for s in found.rows]
        cursor = found.next_cursor

    assert cursor is None
    assert (len(seen), set(seen)) == (7, made)


async def test_l30_turns_leave_progress(onefold: Installation, school: School) -> None:
    """Its turns wrote no progress, so completions stored nothing; ours add up per phase."""
    scenarios = onefold.learning.scenarios
    begun = await scenarios.start(school.service, uuid4(), "restaurant", "en")

    await play(onefold, school, begun, "Hello! Is there a table by the window?")

    found = await scenarios.attempt(school.service, begun["id"])
    assert found["phases"][0]["achieved"].vocabulary == ("table", "window")
    assert found["success_rate"] > 0


async def test_l31_a_learner_has_one_key(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """It stored `alice` in an integer column and `en` for every language; ours are typed."""
    student = uuid4()

    ended = await finish_scenario(onefold, school, student, "airport", "es", clock=clock)

    session = await onefold.learning.sessions.get(school.service, ended["session_id"])
    assert (session.student_id, session.language) == (student, "es")
    strict = await new_school(onefold, "Strict", auto_enrol=False)
    with pytest.raises(NotFound):
        await open_session(onefold, strict)


async def test_l32_a_double_click_starts_one_attempt(onefold: Installation, school: School) -> None:
    """A second start in the same second overwrote the first; ours are two, or one by its id."""
    scenarios, student, id_ = onefold.learning.scenarios, uuid4(), uuid4()

    apart = [await scenarios.start(school.service, student, "hotel", "es") for _ in range(2)]
    same = await asyncio.gather(
        *(scenarios.start(school.service, student, "hotel", "es", attempt_id=id_) for _ in range(2))
    )

    assert apart[0]["id"] != apart[1]["id"]
    assert {row["id"] for row in same} == {id_}


async def test_l33_an_early_end_is_no_completion(onefold: Installation, school: School) -> None:
    """Ended at once, it reported 33 % and wrote history; ours says abandoned, nothing done."""
    scenarios = onefold.learning.scenarios
    begun = await scenarios.start(school.service, uuid4(), "hotel", "es")
    with pytest.raises(IllegalTransition):
        await scenarios.complete(school.service, begun["id"])

    ended = await scenarios.abandon(school.service, begun["id"])

    assert (ended["outcome"], ended["phases_completed"], ended["success_rate"]) == (
        "abandoned",
        0,
        0.0,
    )


def test_l34_every_phase_can_be_done_and_for_shows_nothing() -> None:
    """`for` addressed an objective and some phases no message could do; ours all can be."""
    for definition in shipped().values():
        for language in definition.languages:
            for phase in definition.script(language).phases:
                task = scenario_rules.task_of(phase, language)
                shown = [o.evidence[0] for o in phase.objectives]
                said = ". ".join([*phase.vocabulary, *phase.phrases, *shown]).upper() + "!"
                all_ = scenario_rules.grown(phase, scenario_rules.Achieved(), look(task, said))
                assert all_.vocabulary == phase.vocabulary
                assert scenario_rules.is_done(phase, all_), (definition.id, language, phase.id)
                for stop in ("for the a of to", "para con la de"):
                    assert look(task, stop).objectives == ()


def test_l35_difficulty_is_ranked() -> None:
    """It compared difficulties as text, so advanced came before beginner; ours ranks them."""
    assert sorted(Difficulty, key=RANK.__getitem__) == list(Difficulty)
    done = shipped()["job-interview"].script("en")

    found = scenario_rules.recommended(
        shipped().values(), done, language="en", finished={"job-interview"}
    )

    assert found[0] == "business-negotiation"
    assert shipped()[found[0]].difficulty is Difficulty.NATIVE


async def test_l36_an_attempt_is_known_to_every_server(
    database_url: str, clock: ManualClock
) -> None:
    """Progress lived in one process; ours goes on at another server after a restart."""
    async with servers(database_url, 1, clock) as (one,):
        school = await new_school(one)
        begun = await one.learning.scenarios.start(school.service, uuid4(), "hotel", "es")
        await play(one, school, begun, "Tengo una reserva")
    async with servers(database_url, 1, clock) as (two,):
        await play(two, school, begun, "Dos noches, por favor")

        found = await two.learning.scenarios.attempt(school.service, begun["id"])

        assert (found["turns"], found["phases_completed"]) == (2, 1)


async def test_l37_a_bad_scenario_costs_itself_alone(onefold: Installation, school: School) -> None:
    """Loading stopped at the first bad one of 31 and lost 22; ours lists it and goes on."""
    good = msgspec.json.decode(msgspec.json.encode(shipped()["hotel"]))
    bad = good | {"category": "space"}
    last = good | {"id": "another"}

    report = await onefold.learning.scenarios.import_definitions(school.admin, [good, bad, last])

    assert report.added == ["hotel v1", "another v1"]
    assert [r["index"] for r in report.refused] == [1]
    assert len(shipped()) == 12
    found = await onefold.learning.scenarios.definition(school.service, "another")
    assert found.languages["es"].goals == shipped()["hotel"].languages["es"].goals
    with pytest.raises(InvalidInput):
        read_definition(bad)


async def test_l38_literal_routes_and_errors_are_told_apart(
    onefold: Installation, school: School
) -> None:
    """/templates was shadowed and errors were 500 or 200 with null; ours are 404 and 409."""
    key = {"authorization": await key_of(onefold, school.id, Role.ADMIN)}
    async with http_client(onefold) as client:
        assert (await client.get("/scenarios/history", headers=key)).json()["history"] == []
        assert (await client.get("/scenarios/nowhere", headers=key)).status_code == 404
        unknown = {"student_id": str(uuid4()), "scenario_id": "nowhere", "language": "es"}
        started = await client.post("/scenarios/attempts", json=unknown, headers=key)
        assert started.status_code == 404
        begun = await client.post(
            "/scenarios/attempts", json=unknown | {"scenario_id": "hotel"}, headers=key
        )
        path = f"/scenarios/attempts/{begun.json()['attempt_id']}/complete"
        assert (await client.post(path, headers=key)).status_code == 409


def test_l39_every_table_has_one_owner() -> None:
    """Two schemas fought over a table's name; ours is defined once, by one migration."""
    library, server = Path(onefold_package.__file__).parent, Path(server_package.__file__).parent
    migration = (library / "adapters/sql/migrations/versions/0002_learning.py").read_text()
    defined = [
        line.split('"')[1]
        for file in server.glob("domains/learning/*/tables.py")
        for line in file.read_text().splitlines()
        if line.startswith('    "learning_')
    ]

    assert len(defined) == len(set(defined)) == 18
    for table in defined:
        assert migration.count(f'op.create_table(\n        "{table}"') == 1


async def test_l40_words_of_scenarios_are_due_for_review(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Words learnt in scenarios never reached the queue; ours are cards, due at once."""
    student = uuid4()
    ended = await finish_scenario(onefold, school, student, "airport", "es", clock=clock)

    due = await onefold.learning.reviews.cards(school.service, student, due_only=True)

    assert {card["word"] for card in due.rows} == set(ended["vocabulary_mastered"])
    assert {card["source_id"] for card in due.rows} == {"airport"}


async def test_l41_a_review_works_through_the_real_stack(
    onefold: Installation, school: School
) -> None:
    """Its review route always failed behind mocks; ours is called over HTTP and counts."""
    card = await onefold.learning.reviews.add(school.service, uuid4(), "es", "sol")
    key = {"authorization": await key_of(onefold, school.id, Role.SERVICE)}
    async with http_client(onefold) as client:
        body = {"review_id": str(uuid4()), "answer": 4}
        answer = await client.post(f"/cards/{card['id']}/reviews", json=body, headers=key)

    assert (answer.status_code, answer.json()["reviews"]) == (200, 1)


async def test_l42_a_streak_is_what_the_days_say(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """A spent token did not move its date and the streak broke; ours has nothing to disagree."""
    card = await onefold.learning.reviews.add(school.service, student := uuid4(), "es", "sol")
    for gap in (1, 1, 2, 1, 1):
        await onefold.learning.reviews.review(school.service, card["id"], uuid4(), 3)
        clock.advance(timedelta(days=gap))

    found = (await onefold.learning.analytics.learner(school.service, student))["streak"]

    assert (found["current"], found["longest"]) == (2, 3)
    assert streak(set(), clock.now().date()) == 0


async def test_l43_spending_counts_for_who_spent(onefold: Installation, school: School) -> None:
    """A user who spent 5 of 1 showed 0, for ids of two types; ours shows what was spent."""
    budgets, student, id_ = onefold.learning.budgets, uuid4(), uuid4()
    await budgets.set_budget(
        school.admin,
        student_id=student,
        period=Period.MONTH,
        limit="1",
        enforcement=Enforcement.WARN,
    )
    await budgets.reserve(school.service, student, id_, "5")
    await budgets.settle(school.service, id_, "5", USAGE)

    (standing,) = await budgets.budgets(school.service, student)

    assert (standing["spent"], standing["left"], standing["over"]) == (5, 0, True)


async def test_l44_history_is_right_on_both_databases(
    onefold: Installation, school: School
) -> None:
    """Its breakdown failed on SQLite and reported zeros; ours sums exactly on both."""
    budgets, student = onefold.learning.budgets, uuid4()
    await budgets.set_budget(school.admin, student_id=student, period=Period.DAY, limit="9")
    for provider, cost in (("a", "0.1"), ("a", "0.2"), ("b", "0.05")):
        id_ = uuid4()
        await budgets.reserve(school.service, student, id_, "1")
        await budgets.settle(school.service, id_, cost, Usage(provider=provider, model="m"))

    found = await budgets.history(school.service)

    assert [(h["provider"], h["cost"]) for h in found] == [
        ("a", Decimal("0.3")),
        ("b", Decimal("0.05")),
    ]


async def test_l45_periods_roll_over_and_a_zero_limit_blocks(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Periods never ended, zero was green, errors let pass; ours end, block and raise."""
    budgets, student, id_ = onefold.learning.budgets, uuid4(), uuid4()
    await budgets.set_budget(school.admin, student_id=student, period=Period.DAY, limit="1")
    await budgets.reserve(school.service, student, id_, "1")
    await budgets.settle(school.service, id_, "1", USAGE)
    with pytest.raises(BudgetExhausted):
        await budgets.reserve(school.service, student, uuid4(), "0.1")
    clock.advance(timedelta(days=1))

    await budgets.reserve(school.service, student, uuid4(), "0.1")
    await budgets.set_budget(school.admin, student_id=student, period=Period.DAY, limit="0")

    with pytest.raises(BudgetExhausted):
        await budgets.reserve(school.service, student, uuid4(), "0.000000001")
    with pytest.raises(NotFound):
        await budgets.reserve(school.service, uuid4(), uuid4(), "1")


async def test_l46_time_is_the_servers_and_mastery_the_cards(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Clients told their own durations and mastery was a second commit; ours are neither."""
    student = uuid4()
    begun = await open_session(
        onefold,
        school,
        student_id=student,
        session_type="content_study",
        metadata={"duration": 9e9},
    )
    clock.advance(timedelta(minutes=5))
    done = await onefold.learning.sessions.complete(school.service, begun.id)

    async with onefold.uow.read() as tx:
        known = await review_store.word_counts(tx, school.id, [student], now=clock.now())
    facts = await SqlOutbox(onefold.uow).unsent(limit=10)

    assert (done.duration_s, known) == (300, [])
    assert [f.data["duration_s"] for f in facts] == [None, 300]
