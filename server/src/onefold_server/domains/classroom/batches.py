"""
The use cases of batches: suggestions come in, people decide, deadlines decide the rest.

Every call is one transaction that holds its batch's row: what comes in, a decision and the
deadline of one batch follow each other. The number of statements does not grow with a batch.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from onefold.core.backoff import Backoff
from onefold.core.clock import Clock
from onefold.core.cursor import decode_cursor, encode_cursor
from onefold.core.envelope import Event
from onefold.core.fields import text_flaw
from onefold.core.ids import Random, derived_id, new_event_id
from onefold.errors import (
    AlreadyDecided,
    Conflict,
    FieldProblem,
    InvalidEvent,
    InvalidInput,
    NotFound,
    OnefoldError,
)
from onefold.ports.tables import Row
from onefold.ports.unit_of_work import (
    Claimed,
    InboxClaim,
    Transaction,
    UnitOfWork,
    in_transaction,
)
from onefold_server.domains.classroom import batches_store, classes_store, events, matching
from onefold_server.domains.classroom.rules import (
    BatchEssay,
    Candidate,
    Choice,
    Decision,
    Dropped,
    EssayDecision,
    Suggested,
    Taken,
    choose,
    is_same,
    is_sure,
    problems,
    read_batch_id,
    read_suggested,
    require_mine,
    require_teacher,
    settle,
    split_name,
)
from onefold_server.domains.directory import store as directory
from onefold_server.domains.directory.rules import Principal, Role, Scope

log = logging.getLogger("onefold.classroom")

SOURCE: Final = "onefold.matching"  # of suggestions by our own matcher
CONSUMER: Final = "classroom.matches"  # whose inbox it is, over HTTP and from a broker alike
BY_DEADLINE: Final = "onefold.deadline"
MAX_PAGE: Final = 1000
# How long a started batch is left to its worker, and then to time.
_AGAIN: Final = Backoff(first_s=60.0, most_s=3600.0)


class HandedIn(NamedTuple):
    """One essay as it was handed in; `id` None for one made of batch and place."""

    text: str
    file_name: str = ""
    id: UUID | None = None


Matcher = Callable[
    [Sequence[matching.Essay], Sequence[matching.Pupil]], Awaitable[Sequence[matching.Match]]
]


async def match_here(
    essays: Sequence[matching.Essay], pupils: Sequence[matching.Pupil]
) -> Sequence[matching.Match]:
    """Find the authors in the calling task: 2,000 essays take it about a second."""
    return matching.match(essays, pupils)


class BatchService:
    """
    Batches of essays: who is suggested, who is confirmed.

    Args:
        uow: Where they are kept.
        clock: What time it is.
        random: For ids of events.
        deadline: How long a teacher has for a batch.
        match: Finds authors; a server gives one that leaves its event loop free.
    """

    def __init__(
        self,
        uow: UnitOfWork,
        *,
        clock: Clock,
        random: Random,
        deadline: timedelta,
        match: Matcher = match_here,
    ) -> None:
        self._uow, self._clock, self._random = uow, clock, random
        self._deadline, self._match = deadline, match
        self.seen: Counter[str] = Counter()  # what became of essays and suggestions, for metrics

    # -- suggestions come in ---------------------------------------------------------------

    async def take(
        self, tx: Transaction, event: Event, *, now: datetime, school_id: UUID | None = None
    ) -> Taken:
        """
        Store what *event* suggests, in a transaction whose inbox has claimed it.

        At most 7 statements, whatever the number of essays.

        Args:
            tx: Commits or rolls back all of it.
            event: `batch.author.matches.suggested`, version 1.
            now: When it arrived: the deadline counts from here.
            school_id: The only school whose classes exist for the sender; None: any.

        Raises:
            InvalidEvent: it is no such event, or cannot be read.
            NotFound: no such class.
            Conflict: the batch is another class's.
        """
        if not events.is_suggested(event):
            raise InvalidEvent(f"expected {events.SUGGESTED}, version 1", "event_type")
        suggested = read_suggested(event.data)
        return await self._take(
            tx,
            suggested,
            source=event.source[:100],
            cause=event.identity,
            suggested_at=event.occurred_at,
            now=now,
            school_id=school_id,
        )

    async def post(self, caller: Principal, batch_id: UUID, event: Event) -> Taken:
        """
        Store what *event* suggests; the same event counts once, whichever way it came.

        Args:
            caller: Needs `classroom:suggest`.
            batch_id: Of the batch that the event must be about.
            event: As for `take`.

        Raises:
            As `take`; InvalidInput: the event is about another batch.
            Conflict: the event's id was used for other content.
        """
        caller.require(Scope.CLASSROOM_SUGGEST)
        if read_batch_id(event.data) != batch_id:
            raise InvalidInput([FieldProblem("batch_id", "other", "the event is of another batch")])

        async def work(tx: Transaction) -> Taken:
            now = self._clock.now()
            claim = InboxClaim(event.identity, event.fingerprint())
            (claimed,) = await tx.claim_many(CONSUMER, [claim], now=now)
            if claimed is Claimed.CONFLICT:
                raise Conflict("event", event.id)
            if claimed is Claimed.REPEATED:
                return Taken(batch_id=batch_id, repeated=True)
            return await self.take(tx, event, now=now, school_id=caller.school_id)

        return await in_transaction(self._uow, work)

    async def hand_in(
        self,
        caller: Principal,
        class_id: UUID,
        essays: Sequence[HandedIn],
        *,
        batch_id: UUID | None = None,
    ) -> Taken:
        """
        Find the authors of *essays* among the pupils of a class, and store who is suggested.

        Args:
            caller: The class's owner, or an admin of the school.
            class_id: Whose essays they are.
            essays: At most 5000; their texts are not kept.
            batch_id: By which a retry is recognised; a fresh one if None.

        Raises:
            NotFound: no such class for this caller.
            InvalidInput: two essays have one id, or a text cannot be stored.
            Conflict: the batch is another class's.
        """
        require_teacher(caller)
        now = self._clock.now()
        batch = batch_id or new_event_id(now, self._random)
        async with self._uow.read() as tx:
            class_ = await classes_store.get(tx, caller.school_id, class_id)
            require_mine(caller, class_, "class", class_id)
            pupils = await classes_store.roster(tx, caller.school_id, class_id)
        given = [
            matching.Essay(
                str(one.id or derived_id("essay", str(batch), str(place))), one.text, one.file_name
            )
            for place, one in enumerate(essays)
        ]
        if len({one.id for one in given}) < len(given):
            raise InvalidInput([FieldProblem("essay_id", "twice", "two essays have one id")])
        found = await self._match(given, [_pupil(row) for row in pupils])
        suggested = Suggested(
            batch_id=batch,
            class_id=class_id,
            total=len(given),
            essays=tuple(map(_matched, given, found)),
            students=frozenset(row["student_id"] for row in pupils),
        )

        async def work(tx: Transaction) -> Taken:
            return await self._take(
                tx,
                suggested,
                source=SOURCE,
                cause=str(batch),
                suggested_at=now,
                now=now,
                school_id=caller.school_id,
            )

        return await in_transaction(self._uow, work)

    async def _take(
        self,
        tx: Transaction,
        suggested: Suggested,
        *,
        source: str,
        cause: str,
        suggested_at: datetime,
        now: datetime,
        school_id: UUID | None,
    ) -> Taken:
        room = await batches_store.room(tx, suggested.class_id, suggested.students)
        if room is None or school_id not in {None, room.row["school_id"]}:
            raise NotFound("class", str(suggested.class_id))
        batch = await self._open(tx, room.row, suggested, now=now)
        choices = [choose(essay, enrolled=room.enrolled) for essay in suggested.essays]
        rows = {
            choice.essay.id: batches_store.association(
                batch, choice, source=source, at=suggested_at
            )
            for choice in choices
        }
        stored = await batches_store.insert(tx, list(rows.values())) if rows else set()
        kept = [row for essay_id, row in rows.items() if essay_id not in stored]
        improved = await batches_store.improve(tx, kept) if kept else set()
        taken = _counted(suggested, choices, room, stored, len(improved))
        facts = [events.notification(batch, taken, cause=cause, at=now)]
        if stored and batch["closed_at"]:
            await batches_store.reopen(tx, batch, deadline=now + self._deadline)
        elif not stored and not batch["closed_at"]:
            facts += await self._close_if_done(tx, batch, now=now)
        await tx.publish(*facts, now=now)
        told = _told(taken)
        self.seen.update(told)
        log.info("batch %s: %s", batch["id"], told)
        return taken

    async def _open(
        self, tx: Transaction, class_: Row, suggested: Suggested, *, now: datetime
    ) -> Row:
        row = {
            "school_id": class_["school_id"],
            "id": suggested.batch_id,
            "class_id": class_["id"],
            "total": suggested.total,
            "received_at": now,
            "deadline": now + self._deadline,
            "due_at": now + self._deadline,
            "failures": 0,
            "closed_at": None,
            "revision": 1,
        }
        batch = await batches_store.open_batch(tx, row)
        if batch is None:
            raise Conflict("batch", str(suggested.batch_id))
        return batch | {"owner": class_["owner"], "course_code": class_["course_code"]}

    async def _close_if_done(self, tx: Transaction, batch: Row, *, now: datetime) -> list[Event]:
        """Close a batch that has nothing open: the fact of it, to be published."""
        rows = await batches_store.essays(tx, batch)
        if any(row["validated_at"] is None for row in rows):
            return []
        await batches_store.close(tx, batch, at=now)
        return [events.confirmed(batch, rows, at=now, timeout=False)]

    # -- people decide ---------------------------------------------------------------------

    async def decide(self, caller: Principal, batch_id: UUID, decisions: Sequence[Decision]) -> Row:
        """
        Confirm or reject suggestions; the last one closes the batch and publishes it.

        Repeating a decision changes nothing. What the deadline decided may be corrected;
        what a person decided may not.

        Args:
            caller: The class's owner, or an admin of the school.
            batch_id: Which batch.
            decisions: One an essay, of some or all of the batch.

        Returns:
            `decided`, `repeated`, `undecided` (still open), `closed`.

        Raises:
            NotFound: no such batch for this caller.
            InvalidInput: unknown essays or pupils; each is named. Nothing was decided.
            AlreadyDecided: a person decided otherwise before. Nothing was decided.
        """
        require_teacher(caller)
        wanted = {decision.essay_id: decision for decision in decisions}
        if len(wanted) < len(decisions):
            raise InvalidInput([FieldProblem("essay_id", "twice", "decide each essay once")])

        async def work(tx: Transaction) -> Row:
            now = self._clock.now()
            batch = await batches_store.lock_batch(tx, caller.school_id, batch_id)
            require_mine(caller, batch, "batch", batch_id)
            assert batch is not None  # noqa: S101 (required the line before)
            rows = {
                row["essay_id"]: row for row in await batches_store.essays(tx, batch, set(wanted))
            }
            settled = await self._settled(tx, batch, wanted, rows)
            new = [one for one in settled if not _by_hand(rows[one.essay_id])]
            if new:
                await self._write(tx, caller, batch, new, now=now)
            undecided = await batches_store.open_essays(tx, batch)
            return {
                "batch_id": batch_id,
                "decided": len(new),
                "repeated": len(settled) - len(new),
                "undecided": undecided,
                "closed": batch["closed_at"] is not None or not undecided,
            }

        return await in_transaction(self._uow, work)

    async def _settled(
        self,
        tx: Transaction,
        batch: Row,
        wanted: Mapping[UUID, Decision],
        rows: Mapping[UUID, Row],
    ) -> list[EssayDecision]:
        unknown = sorted(wanted.keys() - rows.keys())
        problems([FieldProblem("essay_id", "unknown", f"no essay {id_} here") for id_ in unknown])
        outcomes = [settle(decision, rows[id_]) for id_, decision in wanted.items()]
        problems([one for one in outcomes if isinstance(one, FieldProblem)])
        settled = [one for one in outcomes if isinstance(one, EssayDecision)]
        for one in settled:
            row = rows[one.essay_id]
            if _by_hand(row) and not is_same(one, row):
                raise AlreadyDecided(
                    str(one.essay_id), row["validated_by"], row["validated_at"].isoformat()
                )
        await self._require_pupils(tx, batch, settled, rows)
        return settled

    async def _require_pupils(
        self,
        tx: Transaction,
        batch: Row,
        settled: Sequence[EssayDecision],
        rows: Mapping[UUID, Row],
    ) -> None:
        # Of what was decided before, the pupil may have left since: that is still the same.
        asked = {
            one.student_id for one in settled if one.student_id and not _by_hand(rows[one.essay_id])
        }
        if asked:
            here = await batches_store.pupils_of(tx, batch["school_id"], batch["class_id"], asked)
            problems(
                [
                    FieldProblem("student_id", "unknown", f"no pupil {id_} in this class")
                    for id_ in sorted(asked - here)
                ]
            )

    async def _write(
        self,
        tx: Transaction,
        caller: Principal,
        batch: Row,
        new: Sequence[EssayDecision],
        *,
        now: datetime,
    ) -> None:
        await batches_store.decide(tx, batch, new, by=caller.name, at=now)
        id_ = new_event_id(now, self._random)
        facts = [events.decided(batch, new, by=caller.name, at=now, event_id=id_)]
        if batch["closed_at"] is None and not await batches_store.open_essays(tx, batch):
            await batches_store.close(tx, batch, at=now)
            rows = await batches_store.essays(tx, batch)
            facts.append(events.confirmed(batch, rows, at=now, timeout=False))
        await tx.publish(*facts, now=now)

    # -- deadlines decide the rest ---------------------------------------------------------

    async def close_due(self) -> bool:
        """
        Close the batch longest due, if any: what is sure is confirmed, the rest has no match.

        Any number of workers may call this at once. The start is counted and the batch put
        off before it is touched, so that one which cannot be closed holds up no other: it is
        tried again later and later.

        Returns:
            Whether a batch was taken up: there may be more.
        """
        claimed = await in_transaction(self._uow, self._claim_due)
        if claimed is None:
            return False
        try:
            await in_transaction(self._uow, lambda tx: self._time_out(tx, claimed))
        except OnefoldError as error:
            log.warning("batch %s cannot be closed yet: %s", claimed["id"], error)
        return True

    async def _claim_due(self, tx: Transaction) -> Row | None:
        now = self._clock.now()
        batch = await batches_store.due(tx, now=now)
        if batch is not None:
            pause = timedelta(seconds=_AGAIN.bound_s(batch["failures"] + 1))
            await batches_store.postpone(tx, batch, due_at=now + pause)
        return batch

    async def _time_out(self, tx: Transaction, claimed: Row) -> None:
        now = self._clock.now()
        batch = await batches_store.lock_batch(tx, claimed["school_id"], claimed["id"])
        if batch is None or batch["closed_at"] is not None or batch["deadline"] > now:
            return  # a person, or a worker that was slow, was first
        await batches_store.time_out(tx, batch, by=BY_DEADLINE, at=now)
        await batches_store.close(tx, batch, at=now)
        rows = await batches_store.essays(tx, batch)
        await tx.publish(events.confirmed(batch, rows, at=now, timeout=True), now=now)

    # -- looking ---------------------------------------------------------------------------

    async def batches(
        self,
        caller: Principal,
        *,
        class_id: UUID | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Row:
        """A page of the caller's batches, the newest first; an admin sees the school's."""
        require_teacher(caller)
        after = decode_cursor(cursor, tuple[datetime, UUID]) if cursor else None
        async with self._uow.read() as tx:
            rows = await batches_store.page(
                tx,
                caller.school_id,
                class_id=class_id,
                owner=None if caller.role is Role.ADMIN else caller.name,
                after=after,
                limit=limit + 1,
            )
        last = rows[limit - 1] if len(rows) > limit else None
        return {
            "batches": [
                _shown_batch(row) | {"undecided": row["undecided"]} for row in rows[:limit]
            ],
            "next_cursor": encode_cursor((last["received_at"], last["id"])) if last else None,
        }

    async def batch(
        self, caller: Principal, batch_id: UUID, *, cursor: str | None = None, limit: int = 100
    ) -> Row:
        """
        A batch and a page of its essays: names, scores, reasons, alternatives, decisions.

        Raises:
            NotFound: no such batch for this caller.
        """
        require_teacher(caller)
        after = decode_cursor(cursor, tuple[UUID])[0] if cursor else None
        async with self._uow.read() as tx:
            found = await batches_store.batch(tx, caller.school_id, batch_id)
            require_mine(caller, found, "batch", batch_id)
            assert found is not None  # noqa: S101 (required the line before)
            rows = await batches_store.essay_page(tx, found, after=after, limit=limit + 1)
            names = await directory.names(tx, caller.school_id, _named(rows))
            undecided = await batches_store.open_essays(tx, found)
        more = len(rows) > limit
        return _shown_batch(found) | {
            "undecided": undecided,
            "essays": [_shown_essay(row, names) for row in rows[:limit]],
            "next_cursor": encode_cursor((rows[limit - 1]["essay_id"],)) if more else None,
        }

    async def names_of(
        self, caller: Principal, batch_id: UUID, *, cursor: str | None = None, limit: int = 100
    ) -> Row:
        """
        For services: who wrote the essays of a batch, as far as it is decided.

        Raises:
            NotFound: no such batch in the caller's school.
        """
        caller.require(Scope.CLASSROOM_LOOKUP)
        after = decode_cursor(cursor, tuple[UUID])[0] if cursor else None
        async with self._uow.read() as tx:
            found = await batches_store.batch(tx, caller.school_id, batch_id)
            if found is None:
                raise NotFound("batch", str(batch_id))
            rows = await batches_store.essay_page(tx, found, after=after, limit=limit + 1)
            names = await directory.names(tx, caller.school_id, _named(rows))
        more = len(rows) > limit
        return {
            "batch_id": batch_id,
            "class_id": found["class_id"],
            "class_name": found["class_name"],
            "essays": [_author(row, names) for row in rows[:limit]],
            "next_cursor": encode_cursor((rows[limit - 1]["essay_id"],)) if more else None,
        }

    async def author_of(self, caller: Principal, essay_id: UUID) -> Row:
        """
        For services: who wrote an essay, as far as it is decided.

        Raises:
            NotFound: no such essay in the caller's school.
        """
        caller.require(Scope.CLASSROOM_LOOKUP)
        async with self._uow.read() as tx:
            row = await batches_store.essay(tx, caller.school_id, essay_id)
            if row is None:
                raise NotFound("essay", str(essay_id))
            names = await directory.names(tx, caller.school_id, _named([row]))
        return _author(row, names) | {"batch_id": row["batch_id"], "class_id": row["class_id"]}


def _pupil(row: Row) -> matching.Pupil:
    """A row of the roster, for the matcher."""
    first, last = split_name(row["name"] or "")
    return matching.Pupil(
        str(row["student_id"]), row["first_name"] or first, row["last_name"] or last, row["email"]
    )


def _matched(given: matching.Essay, found: matching.Match) -> BatchEssay:
    """What the matcher found, as an event would tell it."""
    flaw = text_flaw(given.file_name)
    return BatchEssay(
        id=UUID(given.id),
        file_name=given.file_name[:255] if given.file_name and not flaw else None,
        candidates=tuple(
            Candidate(UUID(one.student_id), one.score, one.reasons) for one in found.suggestions
        ),
        ambiguous=found.ambiguous,
        note=None if found.suggestions else "nobody of the class is named",
    )


def _by_hand(row: Mapping[str, Any]) -> bool:
    return bool(row["method"] == "human")


def _counted(
    suggested: Suggested,
    choices: Sequence[Choice],
    room: batches_store.Room,
    stored: set[UUID],
    improved: int,
) -> Taken:
    """What became of each suggestion, once the database has said which essays are new."""
    taken = Taken(batch_id=suggested.batch_id, invalid=list(suggested.invalid))
    strangers = suggested.students - room.enrolled
    for choice in choices:
        essay = choice.essay
        for candidate in essay.candidates if strangers else ():
            who = candidate.student_id
            if who not in room.known:
                unknown = Dropped(str(essay.id), str(who), "unknown_student")
                taken.unknown_students.append(unknown)
            elif who not in room.enrolled:
                taken.not_enrolled.append(Dropped(str(essay.id), str(who), "not_in_the_class"))
        if essay.id in stored:
            taken.no_match += choice.best is None
            taken.ambiguous += choice.ambiguous
    already = len(choices) - len(stored) - improved
    return replace(taken, stored=len(stored), improved=improved, already_associated=already)


def _told(taken: Taken) -> dict[str, int]:
    """Numbers for log and metrics: ids of pupils stay out of them."""
    return {
        "stored": taken.stored,
        "improved": taken.improved,
        "already_associated": taken.already_associated,
        "no_match": taken.no_match,
        "ambiguous": taken.ambiguous,
        "invalid": len(taken.invalid),
        "unknown_students": len(taken.unknown_students),
        "not_enrolled": len(taken.not_enrolled),
    }


def _named(rows: Sequence[Row]) -> set[UUID]:
    """Every pupil whom these essays name."""
    ids = {row[name] for row in rows for name in ("suggested_student_id", "student_id")}
    others = {UUID(other["student_id"]) for row in rows for other in row["alternatives"]}
    return (ids | others) - {None}


def _shown_batch(row: Row) -> Row:
    shown = ("class_id", "class_name", "course_code", "total", "received_at", "deadline")
    return {"batch_id": row["id"]} | {name: row[name] for name in (*shown, "closed_at")}


def _shown_essay(row: Row, names: Mapping[UUID, str]) -> Row:
    suggested = row["suggested_student_id"]
    return {
        "essay_id": row["essay_id"],
        "file_name": row["file_name"],
        "status": row["status"],
        "suggested": None
        if suggested is None
        else {
            "student_id": suggested,
            "name": names.get(suggested),
            "score": row["score"],
            "reasons": row["reasons"],
        },
        "ambiguous": row["ambiguous"],
        "sure": is_sure(row["status"], row["score"], ambiguous=row["ambiguous"]),
        "alternatives": [
            other | {"name": names.get(UUID(other["student_id"]))} for other in row["alternatives"]
        ],
        "note": row["note"],
        "student_id": row["student_id"],
        "name": names.get(row["student_id"]),
        "method": row["method"],
        "validated_by": row["validated_by"],
        "validated_at": row["validated_at"],
    }


def _author(row: Row, names: Mapping[UUID, str]) -> Row:
    return {
        "essay_id": row["essay_id"],
        "status": row["status"],
        "student_id": row["student_id"],
        "name": names.get(row["student_id"]),
    }
