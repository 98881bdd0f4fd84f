"""The use cases of spaced repetition: one call, one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from onefold.core.clock import Clock
from onefold.core.ids import derived_id
from onefold.errors import Conflict, InvalidInput, NotFound
from onefold.ports.tables import Row
from onefold.ports.unit_of_work import Transaction, UnitOfWork, in_transaction
from onefold_server.domains.directory.rules import Principal, Scope
from onefold_server.domains.learning.calendar import local_day
from onefold_server.domains.learning.days import store as learner_days
from onefold_server.domains.learning.days.rules import NEW_CARD, DayShare, review_counts
from onefold_server.domains.learning.paging import PagePosition, page, read_place
from onefold_server.domains.learning.people import require_learner, require_visible
from onefold_server.domains.learning.reviews import anki, events, rules, store
from onefold_server.domains.learning.reviews.rules import CardSource
from onefold_server.domains.learning.reviews.scheduling import (
    EASE,
    LONGEST_DAYS,
    ReviewAnswer,
    Scheduler,
    imported_memory,
)
from onefold_server.domains.learning.reviews.tables import reviews as reviews_table
from onefold_server.domains.learning.values import MAX_COUNT, check_language, word_key, wrong
from onefold_server.domains.page import Page

_SAID_BY_SCENARIO: Final = ReviewAnswer.GOOD


@dataclass(kw_only=True)
class ImportReport:
    """What became of each line of a file; `refused` names line, field and reason."""

    created: int = 0
    unchanged: int = 0
    refused: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class VocabularyChange:
    """The words of a finished scenario: which became cards, which had been cards."""

    created: Sequence[str]
    strengthened: Sequence[str]
    counts: Sequence[dict[str, int]]  # for the learner's day; the caller adds them last


class ReviewService:
    """Cards and their answers, within a caller's school; a pupil's own key sees its own."""

    def __init__(self, uow: UnitOfWork, *, clock: Clock) -> None:
        self._uow, self._clock = uow, clock

    async def add(
        self, caller: Principal, student_id: UUID, language: str, word: str, *, back: str = ""
    ) -> Row:
        """
        A learner's card for a word: a fresh one, due at once, or the one there is.

        Raises:
            InvalidInput: word, back or language is not usable.
            NotFound: no such learner for this caller.
        """
        caller.require(Scope.LEARNING_WRITE)
        now = self._clock.now()
        row = rules.new_card(caller.school_id, student_id, language, word, back=back, now=now)

        async def work(tx: Transaction) -> Row:
            await require_learner(tx, caller, student_id, now=now)
            await _add_new(tx, [row], now=now)
            (found,) = (await store.lock(tx, caller.school_id, [row["id"]])).values()
            return found

        return await in_transaction(self._uow, work)

    async def review(self, caller: Principal, card_id: UUID, review_id: UUID, answer: int) -> Row:
        """
        Answer a card; the same review again counts once and is answered like the first.

        Args:
            caller: Needs `learning:write`.
            card_id: Which card.
            review_id: The caller's own id of this answer.
            answer: 1 again, 2 hard, 3 good, 4 easy.

        Returns:
            The card as it now stands.

        Raises:
            InvalidInput: the answer is not 1 to 4.
            NotFound: no such card for this caller.
            Conflict: the review's id was used for another card or answer.
        """
        caller.require(Scope.LEARNING_WRITE)
        given = rules.check_answer(answer)

        async def work(tx: Transaction) -> Row:
            now = self._clock.now()
            card = (await store.lock(tx, caller.school_id, [card_id])).get(card_id)
            if card is None or not caller.may_see(card["student_id"]):
                raise NotFound("card", str(card_id))
            after, row = rules.answered(card, given, review_id=review_id, now=now)
            if not await tx.insert_new(reviews_table, [row]):
                known = await store.review(tx, caller.school_id, review_id)
                if known is None or (known["card_id"], known["answer"]) != (card_id, given):
                    raise Conflict("review", str(review_id))
                return card
            await store.save(tx, [after])
            await _count(tx, card, [review_counts(given)], now=now)
            await tx.publish(events.answered(after, row), now=now)
            return after

        return await in_transaction(self._uow, work)

    async def card(self, caller: Principal, card_id: UUID) -> tuple[Row, Sequence[Row]]:
        """
        One card and every answer to it, the newest first.

        Raises:
            NotFound: no such card for this caller.
        """
        caller.require(Scope.LEARNING_READ)
        async with self._uow.read() as tx:
            found = await store.card(tx, caller.school_id, card_id)
            if found is None or not caller.may_see(found["student_id"]):
                raise NotFound("card", str(card_id))
            return found, await store.history(tx, caller.school_id, card_id)

    async def cards(
        self,
        caller: Principal,
        student_id: UUID,
        *,
        language: str | None = None,
        due_only: bool = False,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[Row]:
        """
        A page of a learner's cards, the longest due first.

        Raises:
            NotFound: no such learner for this caller.
            InvalidInput: the language, cursor or limit is wrong.
        """
        caller.require(Scope.LEARNING_READ)
        require_visible(caller, student_id)
        if language is not None:
            check_language(language)
        async with self._uow.read() as tx:
            rows = await store.page(
                tx,
                caller.school_id,
                student_id,
                language=language,
                due_by=self._clock.now() if due_only else None,
                after=read_place(cursor),
                limit=limit,
            )
        return page(rows, [PagePosition(row["due_at"], row["id"]) for row in rows], limit)

    async def retention(
        self, caller: Principal, student_id: UUID, *, days: int = 30
    ) -> dict[str, Any]:
        """How much of what was asked in the last *days* was remembered; see `rules.retention`."""
        caller.require(Scope.LEARNING_READ)
        require_visible(caller, student_id)
        since = self._clock.now() - timedelta(days=days)
        async with self._uow.read() as tx:
            return rules.retention(
                await store.answers(tx, caller.school_id, student_id, since=since)
            )

    async def forecast(
        self, caller: Principal, student_id: UUID, *, language: str | None = None, days: int = 30
    ) -> list[dict[str, Any]]:
        """Cards due on each of the next *days* of the learner's own calendar."""
        caller.require(Scope.LEARNING_READ)
        require_visible(caller, student_id)
        if language is not None:
            check_language(language)
        now = self._clock.now()
        async with self._uow.read() as tx:
            zone = await learner_days.zone(tx, caller.school_id, student_id)
            until = now + timedelta(days=rules.MAX_FORECAST_DAYS + 1)
            due = await store.due_times(
                tx, caller.school_id, student_id, language=language, before=until
            )
        return rules.forecast(due, now=now, zone=zone, days=days)

    async def export_csv(
        self, caller: Principal, student_id: UUID, *, language: str | None = None
    ) -> str:
        """A learner's cards as a file that Anki reads."""
        caller.require(Scope.LEARNING_READ)
        require_visible(caller, student_id)
        if language is not None:
            check_language(language)
        async with self._uow.read() as tx:
            found = await store.all_cards(tx, caller.school_id, student_id, language=language)
        return anki.write(found)

    async def import_csv(
        self, caller: Principal, student_id: UUID, text: str, *, language: str | None = None
    ) -> ImportReport:
        """
        Add the cards of a file such as Anki exports; importing it again changes nothing.

        Good lines count although others are refused; a word that is a card already stays as
        it is. New cards are planned by `sm2`, from the ease and interval they bring.

        Args:
            caller: Needs `learning:write`.
            student_id: Whose cards they will be.
            text: The file.
            language: Of lines that name none.

        Raises:
            InvalidInput: the file has no front column, is no CSV, or has more than 20,000
                lines. Nothing was recorded.
            NotFound: no such learner for this caller.
        """
        caller.require(Scope.LEARNING_WRITE)
        report = ImportReport()
        now = self._clock.now()
        rows: dict[UUID, dict[str, Any]] = {}
        for number, cells in anki.read(text):
            if number > rules.MAX_IMPORTED:
                raise wrong("body", "length", f"is over {rules.MAX_IMPORTED} lines: divide it")
            try:
                row = _imported(caller.school_id, student_id, cells, language, now=now)
            except InvalidInput as error:
                report.refused += [{"line": number, **p._asdict()} for p in error.problems]
            else:
                rows.setdefault(row["id"], row)

        async def work(tx: Transaction) -> None:
            await require_learner(tx, caller, student_id, now=now)
            new = await _add_new(tx, list(rows.values()), now=now)
            report.created, report.unchanged = len(new), len(rows) - len(new)

        await in_transaction(self._uow, work)
        return report


def _imported(
    school_id: UUID,
    student_id: UUID,
    cells: Mapping[str, str],
    language: str | None,
    *,
    now: datetime,
) -> dict[str, Any]:
    interval = anki.read_number(cells.get("interval", ""), "Interval", 0, most=MAX_COUNT)
    repetitions = anki.read_number(cells.get("repetitions", ""), "Repetitions", 0, most=MAX_COUNT)
    ease = anki.read_number(cells.get("ease", ""), "Ease", EASE, most=100)
    due = anki.read_due(cells.get("due", ""))
    return rules.new_card(
        school_id,
        student_id,
        cells.get("language") or language or "",
        cells["front"],
        now=now,
        back=cells.get("back", ""),
        source=CardSource.IMPORT,
        scheduler=Scheduler.SM2,
        memory=imported_memory(ease, int(repetitions), int(interval)),
        due_at=due or now + timedelta(days=min(int(interval), LONGEST_DAYS)),
    )


async def _add_new(
    tx: Transaction, rows: Sequence[Mapping[str, Any]], *, now: datetime
) -> set[UUID]:
    """Insert the cards of one learner that are not there yet, and count them."""
    new = await store.insert(tx, rows)
    if new:
        await _count(tx, rows[0], [NEW_CARD] * len(new), now=now)
    return new


async def _count(
    tx: Transaction, card: Mapping[str, Any], counts: Sequence[dict[str, int]], *, now: datetime
) -> None:
    whose = card["school_id"], card["student_id"]
    zone = (await learner_days.hold_zones(tx, {whose}, now=now))[whose]
    day = local_day(now, zone)
    await learner_days.add(tx, [DayShare(*whose, day, count) for count in counts])


async def add_vocabulary(
    tx: Transaction,
    school_id: UUID,
    student_id: UUID,
    language: str,
    words: Sequence[str],
    *,
    scenario_id: str,
    attempt_id: UUID,
    now: datetime,
) -> VocabularyChange:
    """
    Make cards of the words of a finished scenario, within its transaction.

    Spellings of one word are one card. A word that was a card already is answered GOOD: it
    was just used rightly. Called once for an attempt; the answers' ids follow from it.
    """
    spelled: dict[str, str] = {}
    for word in words:
        spelled.setdefault(word_key(word), word)
    rows = [
        rules.new_card(
            school_id,
            student_id,
            language,
            word,
            now=now,
            source=CardSource.SCENARIO,
            source_id=scenario_id,
        )
        for word in spelled.values()
    ]
    new = await store.insert(tx, rows)
    held = await store.lock(tx, school_id, [row["id"] for row in rows if row["id"] not in new])
    changed, answers = [], []
    for id_ in sorted(held):
        review_id = derived_id("learning.met", str(attempt_id), str(id_))
        after, row = rules.answered(held[id_], _SAID_BY_SCENARIO, review_id=review_id, now=now)
        changed.append(after | {"met": after["met"] + 1})
        answers.append(row)
    await tx.insert_new(reviews_table, answers)
    await store.save(tx, changed)
    await tx.publish(*map(events.answered, changed, answers), now=now)
    return VocabularyChange(
        created=[row["word"] for row in rows if row["id"] in new],
        strengthened=[card["word"] for card in changed],
        counts=[NEW_CARD] * len(new) + [review_counts(_SAID_BY_SCENARIO)] * len(changed),
    )
