"""Scenarios, reviews, content, budgets and analytics end to end, on both databases."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, datetime, timedelta
from decimal import Decimal
from secrets import token_bytes
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import func, select
from tests.support import School, new_school
from tests.support_learning import (
    change,
    finish_scenario,
    open_session,
    play,
    play_all,
    pupil,
    servers,
)

from onefold.adapters.sql.outbox import SqlOutbox
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.errors import (
    BudgetExhausted,
    Conflict,
    Forbidden,
    IllegalTransition,
    InvalidInput,
    NotFound,
    Unavailable,
)
from onefold.ports.unit_of_work import Transaction
from onefold.testing.clock import ManualClock
from onefold_server.domains.learning.budgets.rules import Enforcement
from onefold_server.domains.learning.budgets.service import Usage
from onefold_server.domains.learning.calendar import Period
from onefold_server.domains.learning.content.rules import ContentKind, Given, Material, MaterialKind
from onefold_server.domains.learning.content.tables import materials, topics
from onefold_server.domains.learning.scenarios.definitions import shipped
from onefold_server.domains.learning.scenarios.judge import LemmaJudge
from onefold_server.domains.learning.scenarios.service import ScenarioService
from onefold_server.installation import Installation

USAGE = Usage(provider="acme", model="small", input_tokens=10, output_tokens=5)


# --- scenarios ---------------------------------------------------------------------------


async def test_a_scenario_is_played_to_its_end(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """History, cards, the session and the event all tell of the same completion."""
    learning, student = onefold.learning, uuid4()

    result = await finish_scenario(onefold, school, student, "restaurant", "es", clock=clock)

    session = await learning.sessions.get(school.service, result["session_id"])
    cards = (await learning.reviews.cards(school.service, student)).rows
    facts = [fact.type for fact in await SqlOutbox(onefold.uow).unsent(limit=100)]
    words = {w for p in shipped()["restaurant"].script("es").phases for w in p.vocabulary}
    assert {card["word"] for card in cards} == words == set(result["vocabulary_mastered"])
    assert (result["phases_completed"], result["success_rate"]) == (3, 1.0)
    assert (session.items_studied, session.items_incorrect) == (result["items_studied"], 0)
    assert session.duration_s == result["duration_s"] == 180
    assert facts == ["learning.session.completed", "learning.scenario.completed"]


async def test_completing_twice_is_once_and_early_is_refused(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """A second completion answers the first result; an unfinished attempt cannot complete."""
    scenarios, student = onefold.learning.scenarios, uuid4()
    begun = await scenarios.start(school.service, student, "doctor", "en")
    with pytest.raises(IllegalTransition, match="last phase"):
        await scenarios.complete(school.service, begun["id"])
    await play_all(onefold, school, begun, clock=clock)
    with pytest.raises(IllegalTransition, match="after the last phase"):
        await play(onefold, school, begun, "hello")

    results = await asyncio.gather(
        *(scenarios.complete(school.service, begun["id"]) for _ in range(4))
    )

    assert all(result == results[0] for result in results)
    with pytest.raises(IllegalTransition):
        await scenarios.abandon(school.service, begun["id"])
    with pytest.raises(IllegalTransition):
        await play(onefold, school, begun, "hola")
    assert len((await scenarios.history(school.service, student_id=student)).rows) == 1


async def test_known_words_are_strengthened_and_not_doubled(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """The second time a scenario is finished there are no new cards, only stronger ones."""
    student = uuid4()
    first = await finish_scenario(onefold, school, student, "airport", "en", clock=clock)
    clock.advance(timedelta(days=3))

    second = await finish_scenario(onefold, school, student, "airport", "en", clock=clock)

    cards = (await onefold.learning.reviews.cards(school.service, student)).rows
    assert second["cards_created"] == []
    assert set(second["cards_strengthened"]) == set(first["cards_created"])
    assert {(card["met"], card["reviews"]) for card in cards} == {(2, 1)}


async def test_a_turn_counts_once_and_only_adds(onefold: Installation, school: School) -> None:
    """A repeated turn is answered as before; a phase remembers what earlier turns achieved."""
    scenarios = onefold.learning.scenarios
    begun = await scenarios.start(school.service, uuid4(), "restaurant", "en")
    turn_id = uuid4()

    first = await scenarios.turn(school.service, begun["id"], turn_id, "Good evening!")
    again = await scenarios.turn(school.service, begun["id"], turn_id, "Good evening!")
    second = await play(onefold, school, begun, "I have a reservation for two people.")

    assert first == again
    assert (first["phase_done"], second["phase_done"], second["phase_id"]) == (False, True, "order")
    assert first["verdict"]["vocabulary"] == ["evening"]
    with pytest.raises(Conflict):
        await scenarios.turn(school.service, begun["id"], turn_id, "Good morning!")
    standing = await scenarios.attempt(school.service, begun["id"])
    assert standing["turns"] == 2


async def test_concurrent_turns_all_count(database_url: str, clock: ManualClock) -> None:
    """Turns of many devices over two servers add up to what they say together."""
    async with servers(database_url, 2, clock) as many:
        school = await new_school(many[0])
        begun = await many[0].learning.scenarios.start(school.service, uuid4(), "restaurant", "en")
        words = ["window", "evening", "people", "table", "Hello"]

        await asyncio.gather(
            *(play(many[n % 2], school, begun, word) for n, word in enumerate(words * 2))
        )

        found = await many[1].learning.scenarios.attempt(school.service, begun["id"])
        assert found["turns"] == 10
        assert list(found["phases"][0]["achieved"].vocabulary) == [
            "table",
            "window",
            "evening",
            "people",
        ]


async def test_an_abandoned_attempt_leaves_history_and_no_cards(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Given up by its learner or by the worker, an attempt is abandoned and counted as such."""
    scenarios, student = onefold.learning.scenarios, uuid4()
    mine = await scenarios.start(school.service, student, "hotel", "es")
    await play(onefold, school, mine, "Tengo una reserva")
    forgotten = await scenarios.start(school.service, student, "hotel", "es")

    ended = await scenarios.abandon(school.service, mine["id"])
    clock.advance(timedelta(hours=7))
    assert not await onefold.learning.sweep()

    assert (ended["outcome"], ended["phases_completed"]) == ("abandoned", 0)
    assert ended == await scenarios.abandon(school.service, mine["id"])
    states = {row["id"]: row["state"] for row in (await scenarios.attempts(school.service)).rows}
    assert states == {mine["id"]: "abandoned", forgotten["id"]: "abandoned"}
    assert not (await onefold.learning.reviews.cards(school.service, student)).rows
    with pytest.raises(IllegalTransition):
        await scenarios.complete(school.service, mine["id"])


async def test_a_school_brings_its_own_scenarios(onefold: Installation, school: School) -> None:
    """A bad definition costs itself alone; a version stands; a newer one takes its place."""
    import msgspec

    scenarios = onefold.learning.scenarios
    own = msgspec.json.decode(msgspec.json.encode(shipped()["airport"]))
    own["id"] = "school-trip"
    newer = own | {"version": 2, "minutes": 30}
    changed = own | {"minutes": 5}

    first = await scenarios.import_definitions(school.teacher, [own, {"id": "?"}])
    second = await scenarios.import_definitions(school.teacher, [own, changed, newer])

    assert (first.added, len(first.refused)) == (["school-trip v1"], 1)
    assert (second.added, second.unchanged) == (["school-trip v2"], ["school-trip v1"])
    assert [r["code"] for r in second.refused] == ["conflict"]
    found = await scenarios.definition(school.service, "school-trip")
    assert (found.version, found.minutes) == (2, 30)
    begun = await scenarios.start(school.service, uuid4(), "school-trip", "es")
    await scenarios.retire(school.admin, "school-trip")
    with pytest.raises(NotFound):
        await scenarios.retire(school.admin, "school-trip")
    with pytest.raises(NotFound):
        await scenarios.start(school.service, uuid4(), "school-trip", "es")
    assert (await play(onefold, school, begun, "Aquí tiene mi pasaporte"))["success_rate"] > 0
    with pytest.raises(Forbidden):
        await scenarios.import_definitions(pupil(school, uuid4()), [own])
    listed = await scenarios.catalogue(
        school.service, language="es", category="travel", difficulty="beginner"
    )
    assert [d.id for d in listed] == ["airport"]


class _Reads:
    """Counts the definitions that a transaction's queries give."""

    def __init__(self, tx: Transaction) -> None:
        self._tx, self.definitions = tx, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)

    async def execute(self, statement: Any, *rows: Any) -> Any:
        if statement.is_select and "definition" in statement.selected_columns:
            asked = select(func.count()).select_from(statement.subquery())
            self.definitions += (await self._tx.execute(asked)).scalar_one()
        return await self._tx.execute(statement, *rows)


async def test_one_scenario_is_read_without_the_others(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """However many a school has, an attempt is begun by reading one; the newest, or the shipped."""
    raw = msgspec.json.decode(msgspec.json.encode(shipped()["restaurant"]))
    mine = [raw | {"id": f"own-{n}", "version": v} for n in range(20) for v in (1, 2)]
    await onefold.learning.scenarios.import_definitions(school.admin, [*mine, raw | {"version": 9}])
    reads: list[_Reads] = []

    class Counted(SqlUnitOfWork):
        @asynccontextmanager
        async def begin(self) -> AsyncIterator[Any]:
            async with super().begin() as tx:
                reads.append(_Reads(tx))
                yield reads[-1]

        @asynccontextmanager
        async def read(self) -> AsyncIterator[Any]:
            async with super().read() as tx:
                reads.append(_Reads(tx))
                yield reads[-1]

    scenarios = ScenarioService(
        Counted(onefold.database), clock=clock, random=token_bytes, judge=LemmaJudge()
    )

    begun = await scenarios.start(school.service, uuid4(), "own-3", "es")
    found = [await scenarios.definition(school.service, i) for i in ("own-4", "restaurant")]
    await scenarios.retire(school.admin, "restaurant")
    found += [await scenarios.definition(school.service, i) for i in ("restaurant", "airport")]

    assert begun["scenario_version"] == 2
    assert [(d.id, d.version) for d in found] == [
        ("own-4", 2), ("restaurant", 9), ("restaurant", 1), ("airport", 1),
    ]  # fmt: skip
    assert [read.definitions for read in reads] == [1, 1, 1, 0, 1, 0]


async def test_attempts_are_found_by_their_own_school_and_pupil(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Starting again is as once; other schools and pupils find nothing; lists have pages."""
    scenarios, student, id_ = onefold.learning.scenarios, uuid4(), uuid4()
    begun = await scenarios.start(school.service, student, "hotel", "es", attempt_id=id_)
    assert begun["id"] == id_
    again = await scenarios.start(school.service, student, "hotel", "es", attempt_id=id_)
    assert again["started_at"] == begun["started_at"]
    with pytest.raises(Conflict):
        await scenarios.start(school.service, student, "hotel", "en", attempt_id=id_)
    with pytest.raises(NotFound):
        await scenarios.start(school.service, student, "hotel", "ja")
    with pytest.raises(NotFound):
        await scenarios.definition(school.service, "nowhere")

    other = (await new_school(onefold, "Other")).service
    for caller in (other, pupil(school, uuid4())):
        for call in (scenarios.attempt, scenarios.complete, scenarios.recommendations):
            with pytest.raises(NotFound):
                await call(caller, id_)
        with pytest.raises(NotFound):
            await scenarios.turn(caller, id_, uuid4(), "hola")
    with pytest.raises(NotFound):
        await scenarios.history(pupil(school, uuid4()), student_id=student)
    await finish_scenario(onefold, school, student, "airport", "es", clock=clock)
    page = await scenarios.attempts(school.service, student_id=student, limit=1)
    rest = await scenarios.attempts(
        school.service, student_id=student, limit=1, cursor=page.next_cursor
    )
    assert {page.rows[0]["id"], rest.rows[0]["id"]} > {id_}
    assert rest.next_cursor is None
    suggested = await scenarios.recommendations(school.service, id_)
    assert "airport" not in suggested
    assert "hotel" not in suggested


# --- reviews -----------------------------------------------------------------------------


async def test_a_review_counts_once_and_moves_the_due_date(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """An answer given twice is one; the history keeps each; other schools find no card."""
    reviews, student = onefold.learning.reviews, uuid4()
    card = await reviews.add(school.service, student, "es", "mesa", back="table")
    review_id = uuid4()

    first = await reviews.review(school.service, card["id"], review_id, 3)
    again = await reviews.review(school.service, card["id"], review_id, 3)
    clock.advance(timedelta(days=1))
    easy = await reviews.review(school.service, card["id"], uuid4(), 4)

    assert first == again
    assert easy["due_at"] > first["due_at"]
    with pytest.raises(Conflict):
        await reviews.review(school.service, card["id"], review_id, 4)
    shown, history = await reviews.card(school.service, card["id"])
    assert (shown["reviews"], [h["answer"] for h in history]) == (2, [4, 3])
    for caller in ((await new_school(onefold, "Other")).service, pupil(school, uuid4())):
        with pytest.raises(NotFound):
            await reviews.card(caller, card["id"])
        with pytest.raises(NotFound):
            await reviews.review(caller, card["id"], uuid4(), 3)
    with pytest.raises(InvalidInput):
        await reviews.review(school.service, card["id"], uuid4(), 5)


async def test_due_lists_retention_and_forecast(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """What is due today, how much is remembered, and what the next days bring."""
    reviews, student = onefold.learning.reviews, uuid4()
    cards = [
        await reviews.add(school.service, student, language, word)
        for language, word in (("es", "uno"), ("es", "dos"), ("fr", "un"))
    ]
    assert await reviews.retention(school.service, student) == {
        "reviews": 0,
        "remembered": 0,
        "retention": None,
        "expected": None,
    }
    for card in cards[:2]:
        await reviews.review(school.service, card["id"], uuid4(), 4)
    clock.advance(timedelta(days=10))
    await reviews.review(school.service, cards[0]["id"], uuid4(), 1)
    await reviews.review(school.service, cards[1]["id"], uuid4(), 3)

    found = await reviews.retention(school.service, student)
    due = await reviews.cards(school.service, student, due_only=True)
    spanish = await reviews.cards(school.service, student, language="es", limit=1)
    rest = await reviews.cards(school.service, student, language="es", cursor=spanish.next_cursor)
    plan = await reviews.forecast(school.service, student, days=200)
    french = await reviews.forecast(school.service, student, language="fr", days=2)

    assert (found["reviews"], found["remembered"], found["retention"]) == (2, 1, 0.5)
    assert 0.5 < found["expected"] < 1
    assert [card["word"] for card in due.rows] == ["un"]
    assert {row["word"] for row in (*spanish.rows, *rest.rows)} == {"uno", "dos"}
    assert sum(day["due"] for day in plan) == 3
    assert [day["due"] for day in french] == [1, 0]
    with pytest.raises(InvalidInput):
        await reviews.cards(school.service, student, language="?")
    with pytest.raises(InvalidInput):
        await reviews.forecast(school.service, student, days=0)


async def test_cards_travel_through_ankis_format(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """What is exported can be imported, once; bad lines are listed and cost themselves alone."""
    reviews, giver, taker = onefold.learning.reviews, uuid4(), uuid4()
    text = (
        "#separator:Semicolon\n#html:false\n#columns:Front;Back;Language;Interval;Ease\n"
        "la mesa;the table;es;30;2.6\n"
        '"el ""sol""";the sun; sunny;es;;\n'
        "sin;without;es;many;2.5\n;blank;es;1;2\n"
    )
    first = await reviews.import_csv(school.service, giver, text)
    again = await reviews.import_csv(school.service, giver, text)
    card = await reviews.add(school.service, giver, "es", "luna", back="moon")
    await reviews.review(school.service, card["id"], uuid4(), 4)

    exported = await reviews.export_csv(school.service, giver)
    report = await reviews.import_csv(school.service, taker, exported)

    assert (first.created, again.created, again.unchanged) == (1, 0, 1)
    assert {r["line"] for r in first.refused} == {5, 6, 7}
    assert (report.created, report.refused) == (2, [])
    ours = {c["word"]: c for c in (await reviews.cards(school.service, giver)).rows}
    theirs = {c["word"]: c for c in (await reviews.cards(school.service, taker)).rows}
    assert {w: c["due_at"] for w, c in ours.items()} == {w: c["due_at"] for w, c in theirs.items()}
    assert theirs["la mesa"]["memory"] == ours["la mesa"]["memory"]
    assert (theirs["luna"]["scheduler"], theirs["luna"]["source_kind"]) == ("sm2", "import")
    only = await reviews.export_csv(school.service, giver, language="fr")
    assert len(only.splitlines()) == 4
    with pytest.raises(InvalidInput):
        await reviews.import_csv(school.service, taker, "#columns:Word\nx\n")


async def test_a_file_of_cards_is_bounded(onefold: Installation, school: School) -> None:
    """One that would hold every other writer up for long is refused whole."""
    reviews, student = onefold.learning.reviews, uuid4()
    lines = "".join(f"palabra {n},word {n}\n" for n in range(20_001))

    with pytest.raises(InvalidInput, match="20000 lines"):
        await reviews.import_csv(school.service, student, lines, language="es")

    report = await reviews.import_csv(school.service, student, lines[:16], language="es")
    assert report.created == 1


# --- content -----------------------------------------------------------------------------


def text(body: str, **how: object) -> Given:
    """Content unless told otherwise."""
    fields = {"kind": ContentKind.NOTE, "title": "A note", "language": "en", "body": body} | how
    return Given(**fields)  # type: ignore[arg-type]


async def test_the_same_text_is_saved_once(onefold: Installation, school: School) -> None:
    """Saved again, its id stays, its fields follow, its materials do not double."""
    content, student = onefold.learning.content, uuid4()
    cards = Material(kind=MaterialKind.FLASHCARDS, title="Words", body={"n": 1})
    quiz = Material(kind=MaterialKind.QUIZ, title="Quiz", body={})

    first = await content.save(
        school.service, student, text("Hello  world", materials=(cards,), topics=("Greetings",))
    )
    second = await content.save(
        school.service,
        student,
        text(
            " Hello\nworld ",
            title="Renamed",
            language="de",
            kind=ContentKind.LINK,
            materials=(Material(kind=cards.kind, title=cards.title, body={"n": 2}), quiz),
            topics=("saludos",),
        ),
    )

    assert (first["created"], second["created"], first["id"]) == (True, False, second["id"])
    assert (second["title"], second["language"], second["kind"]) == ("Renamed", "de", "link")
    assert [(m["title"], m["body"]) for m in second["materials"]] == [
        ("Words", {"n": 2}),
        ("Quiz", {}),
    ]
    assert second["topics"] == ["saludos"]
    assert await content.statistics(school.service, student) == {
        "contents": 1,
        "words": 2,
        "by_kind": {"link": 1},
        "by_language": {"de": 1},
        "materials": 2,
    }


async def test_search_means_the_same_on_both_databases(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """All words, any case, no accents, prefixes by `*`; titles first, then the newest."""
    content, student = onefold.learning.content, uuid4()
    saved = {}
    for name, title, body, topic in (
        ("old", "Grammar", "The subjunctive in Spanish. 100% é naïve", "grammar"),
        ("new", "Reading", "More about GRAMMAR and the subjunctive", "reading"),
        ("other", "Привет", "gram for gram, 1e5 и Москва", "gram"),
    ):
        saved[name] = (
            await content.save(school.service, student, text(body, title=title, topics=(topic,)))
        )["id"]
        clock.advance(timedelta(seconds=1))

    async def found(query: str, **filters: str) -> list[str]:
        names = {id_: name for name, id_ in saved.items()}
        rows = (await content.search(school.service, query, **filters)).rows  # type: ignore[arg-type]
        return [names[row["id"]] for row in rows]

    assert await found("grammar") == ["old", "new"]
    assert await found("SUBJUNCTIVE spanish") == ["old"]
    assert await found("gram") == ["other"]
    assert await found("gram*") == ["old", "other", "new"]
    assert await found("naive e") == ["old"]
    assert await found("1e5") == ["other"]
    assert await found("москва") == ["other"]
    assert await found("приве*") == ["other"]
    assert await found("100%") == ["old"]
    assert await found("nothing") == []
    assert await found("gram*", topic="gram") == ["other"]
    assert await found("gram*", language="de") == []
    first = await content.search(school.service, "gram*", limit=2)
    rest = await content.search(school.service, "gram*", limit=2, cursor=first.next_cursor)
    assert (len(first.rows), len(rest.rows), rest.next_cursor) == (2, 1, None)
    assert "GRAMMAR" in (await content.search(school.service, "reading grammar")).rows[0]["excerpt"]
    for query in ("", "?!", "x" * 201):
        with pytest.raises(InvalidInput):
            await found(query)


async def test_the_longest_text_is_indexed_and_shown_in_short(
    onefold: Installation, school: School
) -> None:
    """256 KiB of different Korean words are found on both databases; excerpts are bounded."""
    content, student = onefold.learning.content, uuid4()
    syllables = [chr(0xAC00 + 7 * n) for n in range(1500)]
    korean = " ".join(f"{a}{b}각" for a in syllables[:160] for b in syllables[:160])
    await content.save(school.service, student, text(korean, title="Long"))
    late = " ".join(["begin", *["filler"] * 2000, "late"])
    await content.save(school.service, student, text(late, title="Late"))

    (found,) = (await content.search(school.service, f"{syllables[159]}{syllables[159]}각")).rows
    (hit,) = (await content.search(school.service, "late begin")).rows
    (deep,) = (await content.search(school.service, "late")).rows

    assert len(korean.encode()) > 249 * 1024
    assert (found["title"], hit["title"]) == ("Long", "Late")
    assert deep["excerpt"].startswith("begin filler")


async def test_content_is_deleted_with_all_that_hangs_on_it(
    onefold: Installation, school: School
) -> None:
    """Materials, topics and the search's memory of it go along; others find nothing at all."""
    content, student = onefold.learning.content, uuid4()
    saved = await content.save(
        school.service,
        student,
        text(
            "peculiar",
            topics=("a", "b"),
            materials=(Material(kind=MaterialKind.NOTES, title="N", body={}),),
        ),
    )
    for caller in ((await new_school(onefold, "Other")).service, pupil(school, uuid4())):
        with pytest.raises(NotFound):
            await content.get(caller, saved["id"])
        with pytest.raises(NotFound):
            await content.delete(caller, saved["id"])
        assert not (await content.search(caller, "peculiar")).rows
        assert not (await content.contents(caller, kind=ContentKind.NOTE)).rows
    assert (await content.contents(school.service, student_id=student, topic="A")).rows

    await content.delete(school.service, saved["id"])

    assert not (await content.search(school.service, "peculiar")).rows
    async with onefold.uow.read() as tx:
        for table in (materials, topics):
            left = await tx.execute(select(func.count()).select_from(table))
            assert left.scalar_one() == 0
    with pytest.raises(NotFound):
        await content.delete(school.service, saved["id"])


# --- budgets -----------------------------------------------------------------------------


async def budgeted(onefold: Installation, school: School, limit: str, **how: object) -> UUID:
    """A learner who may spend so much a day."""
    student = uuid4()
    how = {"student_id": student, "period": Period.DAY, "limit": limit} | how
    await onefold.learning.budgets.set_budget(school.admin, **how)  # type: ignore[arg-type]
    return student


async def test_a_hundred_at_once_never_overspend(database_url: str, clock: ManualClock) -> None:
    """Of 100 concurrent reservations of 1 against a limit of 10, exactly 10 are admitted."""
    async with servers(database_url, 10, clock) as many:
        school = await new_school(many[0])
        student = await budgeted(many[0], school, "10")

        outcomes = await asyncio.gather(
            *(
                many[n % 10].learning.budgets.reserve(school.service, student, uuid4(), "1")
                for n in range(100)
            ),
            return_exceptions=True,
        )

        admitted = [o for o in outcomes if isinstance(o, dict)]
        refused = [o for o in outcomes if isinstance(o, BudgetExhausted)]
        assert (len(admitted), len(refused)) == (10, 90)
        (standing,) = await many[0].learning.budgets.budgets(school.service, student)
        assert (standing["reserved"], standing["left"]) == (Decimal(10), Decimal(0))


async def test_a_reservations_id_belongs_to_one_learner(
    database_url: str, clock: ManualClock
) -> None:
    """Of two learners with budgets of their own who reserve under one id at once, one gets it."""
    async with servers(database_url, 2, clock) as many:
        school = await new_school(many[0])
        students = [await budgeted(many[0], school, "100") for _ in range(2)]
        ids = [uuid4() for _ in range(10)]

        outcomes = [
            await asyncio.gather(
                *(
                    one.learning.budgets.reserve(school.service, student, id_, "1")
                    for one, student in zip(many, students, strict=True)
                ),
                return_exceptions=True,
            )
            for id_ in ids
        ]

        assert [{type(o) for o in pair} for pair in outcomes] == [{dict, Conflict}] * len(ids)
        standing = [await many[0].learning.budgets.budgets(school.service, s) for s in students]
        assert sum(budget["reserved"] for (budget,) in standing) == len(ids)


async def test_reserve_settle_release_count_once(onefold: Installation, school: School) -> None:
    """Each step again is as once; money is exact to the ninth decimal."""
    budgets = onefold.learning.budgets
    student = await budgeted(onefold, school, "1")
    one, two = uuid4(), uuid4()
    for _ in range(2):
        await budgets.reserve(school.service, student, one, "0.300000001")
        await budgets.reserve(school.service, student, two, "0.6")
    for _ in range(2):
        await budgets.settle(school.service, one, "0.100000001", USAGE)
        await budgets.release(school.service, two)

    (standing,) = await budgets.budgets(school.service, student)
    history = await budgets.history(school.service, student_id=student)

    assert standing["spent"] == Decimal("0.100000001")
    assert (standing["reserved"], standing["left"]) == (Decimal(0), Decimal("0.899999999"))
    assert [(h["provider"], h["model"], h["calls"], h["cost"]) for h in history] == [
        ("acme", "small", 1, Decimal("0.100000001"))
    ]
    with pytest.raises(Conflict):
        await budgets.reserve(school.service, student, one, "0.2")
    with pytest.raises(Conflict):
        await budgets.settle(school.service, one, "0.2", USAGE)
    with pytest.raises(IllegalTransition):
        await budgets.release(school.service, one)
    with pytest.raises(IllegalTransition):
        await budgets.settle(school.service, two, "0.2", USAGE)
    with pytest.raises(NotFound):
        await budgets.settle(school.service, uuid4(), "0.2", USAGE)


async def test_a_crashed_callers_reservation_lapses(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """After its time it holds nothing back; settled late, the money is counted all the same."""
    budgets = onefold.learning.budgets
    student = await budgeted(onefold, school, "1")
    crashed = uuid4()
    await budgets.reserve(school.service, student, crashed, "1", lapse=timedelta(minutes=1))
    with pytest.raises(BudgetExhausted):
        await budgets.reserve(school.service, student, uuid4(), "0.5")
    clock.advance(timedelta(minutes=1))

    await budgets.reserve(school.service, student, uuid4(), "0.5")
    again = await budgets.reserve(school.service, student, crashed, "1")
    late = await budgets.settle(school.service, crashed, "0.9", USAGE)

    await budgets.set_budget(school.admin, student_id=student, period=Period.DAY, limit="1")
    (standing,) = await budgets.budgets(school.service, student)
    assert (again["state"], late["state"]) == ("lapsed", "settled")
    assert (standing["spent"], standing["reserved"]) == (Decimal("0.9"), Decimal("0.5"))
    assert standing["over"]


async def test_alerts_leave_once_a_period(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Each threshold is one event a period, though spending passes it again; warn lets pass."""
    budgets = onefold.learning.budgets
    student = await budgeted(
        onefold, school, "1", enforcement=Enforcement.WARN, thresholds=(50, 100)
    )
    for day in range(2):
        for cost in ("0.4", "0.2", "0.9"):
            id_ = uuid4()
            await budgets.reserve(school.service, student, id_, cost)
            await budgets.settle(school.service, id_, cost, USAGE)
        clock.advance(timedelta(days=1))
        (standing,) = await budgets.budgets(school.service, student)
        assert standing["spent"] == 0, day

    facts = await SqlOutbox(onefold.uow).unsent(limit=100)

    assert [(f.type, f.data["threshold"], f.data["spent"]) for f in facts] == [
        ("learning.budget.threshold_reached", threshold, spent)
        for _ in range(2)
        for threshold, spent in ((50, "0.6"), (100, "1.5"))
    ]


async def test_learners_spend_under_their_own_and_the_schools_budget(
    onefold: Installation, school: School
) -> None:
    """The tighter one decides, and both count; what is not budgeted is not spent."""
    budgets = onefold.learning.budgets
    with pytest.raises(NotFound, match="budget"):
        await budgets.reserve(school.service, uuid4(), uuid4(), "1")
    await budgets.set_budget(school.admin, student_id=None, period=Period.MONTH, limit="1.5")
    students = [await budgeted(onefold, school, "1") for _ in range(2)]

    await budgets.reserve(school.service, students[0], uuid4(), "1")
    with pytest.raises(BudgetExhausted):
        await budgets.reserve(school.service, students[1], uuid4(), "1")

    (whole,) = await budgets.budgets(school.service)
    assert whole["reserved"] == 1
    assert len(await budgets.budgets(pupil(school, students[1]), students[1])) == 2
    with pytest.raises(Forbidden):
        await budgets.set_budget(
            pupil(school, students[0]), student_id=students[0], period=Period.DAY, limit="99"
        )
    with pytest.raises(Forbidden):
        await budgets.reserve(pupil(school, students[0]), students[0], uuid4(), "1")
    with pytest.raises(NotFound):
        await budgets.history(pupil(school, students[0]), student_id=students[1])
    with pytest.raises(NotFound):
        await budgets.budgets(pupil(school, students[0]), students[1])


# --- analytics ---------------------------------------------------------------------------


async def test_the_days_are_what_the_facts_say(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """Counted as it happens or counted anew, in one zone and in another, days are the same."""
    learning, student = onefold.learning, uuid4()
    for _ in range(3):
        begun = await open_session(onefold, school, student_id=student)
        await learning.sessions.change(
            school.service, begun.id, change(add={"items_correct": 3, "items_incorrect": 1})
        )
        clock.advance(timedelta(hours=5))
        await learning.sessions.complete(school.service, begun.id)
        await learning.sessions.change(
            school.service, begun.id, change(add={"items_correct": 1}, correction=True)
        )
        await finish_scenario(onefold, school, student, "airport", "es", clock=clock)
        for card in (await learning.reviews.cards(school.service, student, limit=4)).rows:
            await learning.reviews.review(school.service, card["id"], uuid4(), 1 + card["met"] % 4)
        clock.advance(timedelta(hours=20))
    await learning.reviews.import_csv(school.service, student, "hund,dog", language="de")
    await open_session(onefold, school, student_id=student)
    clock.advance(timedelta(hours=9))
    await learning.sweep()

    before = await learning.analytics.days(school.service, student)
    recounted = await learning.analytics.recompute(school.admin, student)
    after = await learning.analytics.days(school.service, student)

    assert before == after
    assert len(recounted) == len(before)
    summary = await learning.analytics.learner(school.service, student)
    await learning.analytics.set_zone(school.service, student, "Pacific/Auckland")
    moved = await learning.analytics.learner(school.service, student)
    assert summary["totals"] == moved["totals"]
    assert summary["totals"]["scenarios"] == 3
    assert summary["totals"]["sessions"] == 7
    assert summary["totals"]["accuracy_rate"] is not None
    assert summary["sessions_by_type"]["conversation"] == {"abandoned": 1, "completed": 3}
    assert moved["zone"] == "Pacific/Auckland"
    assert await learning.analytics.days(school.service, student) != before


async def test_streaks_follow_the_learners_own_midnight(
    onefold: Installation, school: School, clock: ManualClock
) -> None:
    """23:30 and 00:30 in Madrid are two days for a learner there, though one day in UTC."""
    learning, student = onefold.learning, uuid4()
    await learning.analytics.set_zone(school.service, student, "Europe/Madrid")
    card = await learning.reviews.add(school.service, student, "es", "sol")
    for at in ("2026-03-01T22:30+00:00", "2026-03-01T23:30+00:00", "2026-03-02T23:00+00:00"):
        clock.set(date_time(at))
        await learning.reviews.review(school.service, card["id"], uuid4(), 3)

    summary = await learning.analytics.learner(school.service, student)

    assert summary["streak"] == {
        "current": 3,
        "longest": 3,
        "active_days": 3,
        "last_day": date(2026, 3, 3),
    }
    assert summary["words"] == {"learnt": 1, "known": 0, "due": 0}


def date_time(text_: str) -> datetime:
    """An instant."""
    return datetime.fromisoformat(text_)


async def test_a_teacher_sees_a_class(onefold: Installation, school: School) -> None:
    """Each pupil of the class has a line; pupils' keys and other schools see no class."""
    ids = [uuid4(), uuid4()]
    roster = ["student_id,name,class_name", f"{ids[0]},Ada,7b", f"{ids[1]},Bo,7b"]
    await onefold.directory.import_roster(school.id, roster)
    begun = await open_session(onefold, school, student_id=ids[0])
    await onefold.learning.sessions.complete(school.service, begun.id)
    await onefold.learning.reviews.add(school.service, ids[1], "es", "sol")
    analytics = onefold.learning.analytics

    found = await analytics.class_(school.teacher, "7b")

    assert [row["name"] for row in found["learners"]] == ["Ada", "Bo"]
    assert [row["totals"]["sessions"] for row in found["learners"]] == [1, 0]
    assert [row["words"]["due"] for row in found["learners"]] == [0, 1]
    with pytest.raises(Forbidden):
        await analytics.class_(pupil(school, ids[0]), "7b")
    other = await new_school(onefold, "Other")
    with pytest.raises(NotFound):
        await analytics.class_(other.teacher, "7b")
    with pytest.raises(NotFound):
        await analytics.learner(other.teacher, ids[0])
    with pytest.raises(NotFound):
        await analytics.recompute(other.admin, ids[0])
    with pytest.raises(InvalidInput):
        await analytics.days(school.teacher, ids[0], days=0)
    with pytest.raises(InvalidInput):
        await analytics.set_zone(school.service, ids[0], "Mars/Olympus")
    assert not issubclass(NotFound, Unavailable)
