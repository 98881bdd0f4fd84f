"""The use cases of scenarios: one call, one transaction; a judge is asked outside of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from onefold.core.clock import Clock
from onefold.core.ids import Random, derived_id, new_event_id
from onefold.errors import (
    Conflict,
    IllegalTransition,
    InvalidInput,
    NotFound,
    StoreContended,
)
from onefold.ports.tables import Row
from onefold.ports.unit_of_work import Transaction, UnitOfWork, in_transaction
from onefold_server.domains.directory.rules import Principal, Scope
from onefold_server.domains.learning.calendar import local_day
from onefold_server.domains.learning.days import store as days
from onefold_server.domains.learning.days.rules import SCENARIO, DayShare
from onefold_server.domains.learning.paging import PagePosition, page, read_place
from onefold_server.domains.learning.people import require_learner, require_staff, require_visible
from onefold_server.domains.learning.reviews.service import VocabularyChange, add_vocabulary
from onefold_server.domains.learning.scenarios import events, rules, store
from onefold_server.domains.learning.scenarios.definitions import (
    Definition,
    ScenarioScript,
    read_definition,
    shipped,
)
from onefold_server.domains.learning.scenarios.rules import Achieved, AttemptState, Scores
from onefold_server.domains.learning.scenarios.tables import attempts as attempts_table
from onefold_server.domains.learning.scenarios.tables import definitions as definitions_table
from onefold_server.domains.learning.scenarios.tables import history as history_table
from onefold_server.domains.learning.scenarios.tables import turns as turns_table
from onefold_server.domains.learning.sessions import events as session_events
from onefold_server.domains.learning.sessions import store as session_store
from onefold_server.domains.learning.sessions.rules import Session, SessionState, Start
from onefold_server.domains.learning.sessions.service import share_of
from onefold_server.domains.learning.turn_judge import Turn, TurnJudge, TurnResult
from onefold_server.domains.learning.values import check_language, check_text
from onefold_server.domains.page import Page

_JUDGED_AGAIN: Final = 5  # times, when other turns end the phase meanwhile
_MADE: Final = (  # columns of `history` that `_amount_to` makes
    "phases_completed", "phases_total", "vocabulary_mastered", "objectives_completed",
    "items_studied", "items_correct", "success_rate", "completion_score",
)  # fmt: skip


@dataclass(kw_only=True)
class DefinitionsReport:
    """What became of each scenario of an import; a bad one costs itself alone."""

    added: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)


class ScenarioService:
    """
    Scenarios, attempts at them and what these leave behind, within a caller's school.

    Args:
        uow: Where they are kept.
        clock: What time it is.
        random: For ids of attempts that come without one.
        judge: Who says what a turn achieves.
        abandoned_after: How long an attempt may go without a turn.
    """

    def __init__(
        self,
        uow: UnitOfWork,
        *,
        clock: Clock,
        random: Random,
        judge: TurnJudge,
        abandoned_after: timedelta = timedelta(hours=6),
    ) -> None:
        self._uow, self._clock, self._random, self._judge = uow, clock, random, judge
        self._abandoned_after = abandoned_after

    async def catalogue(
        self,
        caller: Principal,
        *,
        language: str | None = None,
        category: str | None = None,
        difficulty: str | None = None,
    ) -> Sequence[Definition]:
        """The scenarios the caller's school can start, its own before shipped ones, by id."""
        caller.require(Scope.LEARNING_READ)
        async with self._uow.read() as tx:
            found = await _catalogue(tx, caller.school_id)
        return [
            definition
            for definition in found.values()
            if (language is None or language in definition.languages)
            and category in {None, definition.category}
            and difficulty in {None, definition.difficulty}
        ]

    async def definition(self, caller: Principal, scenario_id: str) -> Definition:
        """
        One scenario, whole.

        Raises:
            NotFound: the caller's school has none of that id.
        """
        caller.require(Scope.LEARNING_READ)
        async with self._uow.read() as tx:
            found = await _definition(tx, caller.school_id, scenario_id)
        if found is None:
            raise NotFound("scenario", scenario_id)
        return found

    async def import_definitions(self, caller: Principal, raws: Sequence[Any]) -> DefinitionsReport:
        """
        Add the school's own scenarios; again is the same as once, a bad one is listed.

        A version stands as it was imported; a changed scenario needs a higher number.

        Raises:
            Forbidden: needs `learning:manage`; a pupil's own key has it never.
        """
        require_staff(caller, Scope.LEARNING_MANAGE)
        report = DefinitionsReport()
        read: list[Definition] = []
        for index, raw in enumerate(raws):
            try:
                read.append(read_definition(raw))
            except InvalidInput as error:
                report.refused += [{"index": index, **p._asdict()} for p in error.problems]

        async def work(tx: Transaction) -> DefinitionsReport:
            made = DefinitionsReport(refused=list(report.refused))
            for definition in read:
                await self._import(tx, caller.school_id, definition, made)
            return made

        return await in_transaction(self._uow, work)

    async def _import(
        self, tx: Transaction, school_id: UUID, definition: Definition, report: DefinitionsReport
    ) -> None:
        row = {
            "school_id": school_id,
            "id": definition.id,
            "version": definition.version,
            "definition": msgspec.to_builtins(definition),
            "fingerprint": definition.fingerprint(),
            "imported_at": self._clock.now(),
            "retired_at": None,
        }
        named = f"{definition.id} v{definition.version}"
        if await tx.insert_new(definitions_table, [row]):
            report.added.append(named)
            return
        known = await store.definition(tx, school_id, definition.id, definition.version)
        if known is not None and known["fingerprint"] == row["fingerprint"]:
            report.unchanged.append(named)
            return
        reason = "this version was imported with other content; give it a higher number"
        report.refused.append({"field": named, "code": "conflict", "reason": reason})

    async def retire(self, caller: Principal, scenario_id: str) -> None:
        """
        Take one of the school's own scenarios out of its list; attempts under way go on.

        Raises:
            NotFound: the school has no live scenario of its own of that id.
        """
        require_staff(caller, Scope.LEARNING_MANAGE)
        check_text(scenario_id, "scenario_id", longest=100)

        async def work(tx: Transaction) -> bool:
            return await store.retire(tx, caller.school_id, scenario_id, now=self._clock.now())

        if not await in_transaction(self._uow, work):
            raise NotFound("scenario", scenario_id)

    async def start(
        self,
        caller: Principal,
        student_id: UUID,
        scenario_id: str,
        language: str,
        *,
        attempt_id: UUID | None = None,
    ) -> Row:
        """
        Begin an attempt; with an `attempt_id`, again is the same as once.

        Raises:
            NotFound: no such scenario in that language, or no such learner.
            Conflict: the id belongs to another attempt.
        """
        caller.require(Scope.LEARNING_WRITE)
        check_language(language)
        id_ = attempt_id or new_event_id(self._clock.now(), self._random)

        async def work(tx: Transaction) -> Row:
            now = self._clock.now()
            await require_learner(tx, caller, student_id, now=now)
            definition = await _definition(tx, caller.school_id, scenario_id)
            if definition is not None and language in definition.languages:
                await tx.insert_new(attempts_table, [new_row(definition, now)])
            # What stands there now, from this call or an earlier one, whatever was retired.
            known = await store.lock(tx, caller.school_id, id_)
            if known is None:
                raise NotFound("scenario", f"{scenario_id} in {language}")
            return _same(known, (student_id, scenario_id, language))

        def new_row(definition: Definition, now: datetime) -> Row:
            return {
                "school_id": caller.school_id,
                "id": id_,
                "student_id": student_id,
                "scenario_id": scenario_id,
                "scenario_version": definition.version,
                "language": language,
                "script": msgspec.to_builtins(definition.script(language)),
                "state": AttemptState.ACTIVE.value,
                "phase": 0,
                "progress": {},
                "turns": 0,
                "started_at": now,
                "changed_at": now,
                "ended_at": None,
            }

        return await in_transaction(self._uow, work)

    async def turn(self, caller: Principal, attempt_id: UUID, turn_id: UUID, said: str) -> Row:
        """
        Judge what the learner said and add it up; the same turn again counts once.

        The phase advances by itself when it is done; the attempt ends by `complete`.

        Returns:
            The verdict, and where the attempt then stood; the same for a repeat.

        Raises:
            NotFound: no such attempt for this caller.
            IllegalTransition: it has ended, or all its phases are done.
            Conflict: the turn's id was used for another text.
            StoreContended: other turns kept ending the phase this one was judged for.
        """
        caller.require(Scope.LEARNING_WRITE)
        check_text(said, "said", longest=rules.MAX_SAID)
        for _ in range(_JUDGED_AGAIN):
            async with self._uow.read() as tx:
                attempt = _visible(
                    await store.attempt(tx, caller.school_id, attempt_id), caller, attempt_id
                )
                known = await store.turn(tx, caller.school_id, attempt_id, turn_id)
            if known is not None:
                return _answer_of(known, turn_id, said)
            phase = _current(attempt)
            task = rules.task_of(phase, attempt["language"])
            turn = Turn(
                school_id=caller.school_id,
                student_id=attempt["student_id"],
                turn_id=turn_id,
                said=said,
            )
            verdict = await self._judge.judge(task, turn)
            answer = await self._record(caller, attempt, turn, verdict)
            if answer is not None:
                return answer
        raise StoreContended("other turns kept ending the phase that this one was for")

    async def _record(
        self, caller: Principal, judged: Row, turn: Turn, verdict: TurnResult
    ) -> Row | None:
        """Add a judged turn to its attempt; None when the phase it was judged for is over."""

        async def work(tx: Transaction) -> Row | None:
            now = self._clock.now()
            attempt = _visible(
                await store.lock(tx, caller.school_id, judged["id"]), caller, judged["id"]
            )
            known = await store.turn(tx, caller.school_id, judged["id"], turn.turn_id)
            if known is not None:
                return _answer_of(known, turn.turn_id, turn.said)
            phase = _current(attempt)
            if attempt["phase"] != judged["phase"]:
                return None
            script, progress = _script(attempt), rules.read_progress(attempt["progress"])
            before = progress.get(phase.id, Achieved())
            progress[phase.id] = rules.grown(phase, before, verdict)
            done = rules.phases_done(script, progress)
            row = dict(attempt) | {
                "phase": done,
                "progress": msgspec.to_builtins(progress),
                "turns": attempt["turns"] + 1,
                "changed_at": max(attempt["changed_at"], now),
            }
            answer = _standing(row, script, progress) | {
                "turn_id": str(turn.turn_id),
                "judged_phase": phase.id,
                "phase_score": round(rules.phase_score(phase, progress[phase.id]), 4),
                "phase_done": done > attempt["phase"],
                "verdict": _plain(verdict),
            }
            stored = {
                "school_id": caller.school_id,
                "attempt_id": attempt["id"],
                "id": turn.turn_id,
                "phase": attempt["phase"],
                "said": turn.said,
                "verdict": answer["verdict"],
                "answer": answer,
                "at": now,
            }
            await tx.insert_new(turns_table, [stored])
            await store.save_attempt(tx, row, "phase", "progress", "turns", "changed_at")
            return answer

        return await in_transaction(self._uow, work)

    async def complete(self, caller: Principal, attempt_id: UUID) -> Row:
        """
        End an attempt whose phases are all done; again answers the first result.

        One transaction: the history row, a card for each word that was used (one that is
        there is strengthened), the learning session, the learner's day, and the event
        `learning.scenario.completed`. Dying anywhere in it leaves nothing or all.

        Raises:
            NotFound: no such attempt for this caller.
            IllegalTransition: a phase is not done (`abandon` ends it early), or it was
                abandoned.
        """
        return await self._end(caller, attempt_id, AttemptState.COMPLETED)

    async def abandon(self, caller: Principal, attempt_id: UUID) -> Row:
        """End an attempt early: history and session say so, no cards. Raises as `complete`."""
        return await self._end(caller, attempt_id, AttemptState.ABANDONED)

    async def _end(self, caller: Principal, attempt_id: UUID, outcome: AttemptState) -> Row:
        caller.require(Scope.LEARNING_WRITE)

        async def work(tx: Transaction) -> Row:
            attempt = _visible(
                await store.lock(tx, caller.school_id, attempt_id), caller, attempt_id
            )
            if attempt["state"] == outcome:
                found = await store.finished(tx, caller.school_id, attempt_id)
                return found or {}
            if attempt["state"] != AttemptState.ACTIVE:
                raise IllegalTransition(attempt["state"], f"becoming {outcome}")
            if outcome is AttemptState.COMPLETED and attempt["phase"] < len(
                attempt["script"]["phases"]
            ):
                raise IllegalTransition(
                    attempt["state"], "completing before the last phase is done"
                )
            return await self._finish(tx, attempt, outcome)

        return await in_transaction(self._uow, work)

    async def _finish(self, tx: Transaction, attempt: Row, outcome: AttemptState) -> Row:
        """Write all that the end of an attempt leaves behind."""
        now = self._clock.now()
        at = rules.ended_at(attempt["started_at"], attempt["changed_at"], now, outcome)
        made = _amount_to(attempt)
        met = VocabularyChange(created=(), strengthened=(), counts=())
        if outcome is AttemptState.COMPLETED:
            met = await add_vocabulary(
                tx,
                attempt["school_id"],
                attempt["student_id"],
                attempt["language"],
                made["vocabulary_mastered"],
                scenario_id=attempt["scenario_id"],
                attempt_id=attempt["id"],
                now=now,
            )
        session = _session(attempt, made, outcome, at)
        start = Start(
            student_id=session.student_id,
            session_type=session.session_type,
            language=session.language,
            source_id=session.source_id,
        )
        started_as = start.fingerprint()
        await session_store.insert(tx, [session_store.to_row(session, started_as=started_as)])
        row = {
            "school_id": attempt["school_id"],
            "attempt_id": attempt["id"],
            "student_id": attempt["student_id"],
            "session_id": session.id,
            "scenario_id": attempt["scenario_id"],
            "scenario_version": attempt["scenario_version"],
            "language": attempt["language"],
            "outcome": outcome.value,
            "started_at": attempt["started_at"],
            "ended_at": at,
            "duration_s": session.duration_s,
            **{name: made[name] for name in _MADE},
            "cards_created": list(met.created),
            "cards_strengthened": list(met.strengthened),
        }
        await tx.insert_new(history_table, [row])
        ended = dict(attempt) | {"state": outcome.value, "ended_at": at, "changed_at": at}
        await store.save_attempt(tx, ended, "state", "ended_at", "changed_at")
        await self._count(tx, session, met, outcome)
        type_ = _SESSION_FACTS[outcome]
        facts = [session_events.session_fact(type_, session, at=now), events.ended(row)]
        await tx.publish(*facts, now=now)
        return row

    async def _count(
        self, tx: Transaction, session: Session, met: VocabularyChange, outcome: AttemptState
    ) -> None:
        """Add the end of an attempt to its learner's days."""
        now = self._clock.now()
        whose = session.school_id, session.student_id
        zone = (await days.hold_zones(tx, {whose}, now=now))[whose]
        shares = [share_of(session, zone)]
        shares += [DayShare(*whose, local_day(now, zone), count) for count in met.counts]
        if outcome is AttemptState.COMPLETED:
            shares.append(shares[0]._replace(counts=SCENARIO))
        await days.add(tx, shares)

    async def abandon_idle(self, *, limit: int = 100) -> int:
        """
        End attempts without a turn for `abandoned_after`, of every school.

        Returns:
            How many, at most *limit*; as many as that means there may be more.
        """

        async def work(tx: Transaction) -> int:
            since = self._clock.now() - self._abandoned_after
            idle = await store.lock_idle(tx, quiet_since=since, limit=limit)
            for attempt in idle:
                await self._finish(tx, attempt, AttemptState.ABANDONED)
            return len(idle)

        return await in_transaction(self._uow, work)

    async def attempt(self, caller: Principal, attempt_id: UUID) -> Row:
        """
        Where an attempt stands: its phase, what is achieved, how it ended.

        Raises:
            NotFound: no such attempt for this caller.
        """
        caller.require(Scope.LEARNING_READ)
        async with self._uow.read() as tx:
            found = _visible(
                await store.attempt(tx, caller.school_id, attempt_id), caller, attempt_id
            )
            ended = await store.finished(tx, caller.school_id, attempt_id)
        return shown(found) | {"result": ended}

    async def attempts(
        self,
        caller: Principal,
        *,
        student_id: UUID | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[Row]:
        """A page of attempts, the newest first."""
        rows = await self._page(store.attempts_page, caller, student_id, cursor, limit)
        return page(rows, [PagePosition(row["started_at"], row["id"]) for row in rows], limit)

    async def history(
        self,
        caller: Principal,
        *,
        student_id: UUID | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[Row]:
        """A page of ended attempts, the newest first."""
        rows = await self._page(store.history_page, caller, student_id, cursor, limit)
        return page(rows, [PagePosition(row["ended_at"], row["attempt_id"]) for row in rows], limit)

    async def _page(
        self, query: Any, caller: Principal, student_id: UUID | None, cursor: str | None, limit: int
    ) -> Sequence[Row]:
        caller.require(Scope.LEARNING_READ)
        if student_id is not None:
            require_visible(caller, student_id)
        async with self._uow.read() as tx:
            found: Sequence[Row] = await query(
                tx,
                caller.school_id,
                student_id=student_id or caller.student_id,
                after=read_place(cursor),
                limit=limit,
            )
        return found

    async def recommendations(self, caller: Principal, attempt_id: UUID) -> Sequence[str]:
        """Up to three scenarios to go on with after this attempt; see `rules.recommended`."""
        caller.require(Scope.LEARNING_READ)
        async with self._uow.read() as tx:
            found = _visible(
                await store.attempt(tx, caller.school_id, attempt_id), caller, attempt_id
            )
            all_ = await _catalogue(tx, caller.school_id)
            done = await store.completions(tx, caller.school_id, [found["student_id"]])
        finished = {row["scenario_id"] for row in done} | {found["scenario_id"]}
        return rules.recommended(
            all_.values(), _script(found), language=found["language"], finished=finished
        )


_SESSION_FACTS: Final = {
    AttemptState.COMPLETED: session_events.COMPLETED,
    AttemptState.ABANDONED: session_events.ABANDONED,
}


async def _catalogue(tx: Transaction, school_id: UUID) -> dict[str, Definition]:
    """
    Shipped scenarios, with the school's own added or in their place.

    Limit: reads all of these: 52 ms of CPU for 200 of 3 KB on SQLite, where `_definition` takes
    1 ms (2026-11-28).
    """
    own = [_read(row) for row in await store.own_definitions(tx, school_id)]
    found = dict(shipped()) | {definition.id: definition for definition in own}
    return dict(sorted(found.items()))


async def _definition(tx: Transaction, school_id: UUID, scenario_id: str) -> Definition | None:
    """One scenario of `_catalogue`, without the others."""
    own = await store.own_definition(tx, school_id, scenario_id)
    return shipped().get(scenario_id) if own is None else _read(own)


def _read(row: Row) -> Definition:
    return msgspec.convert(row["definition"], Definition)


def _visible(found: Row | None, caller: Principal, attempt_id: UUID) -> Row:
    if found is None or not caller.may_see(found["student_id"]):
        raise NotFound("attempt", str(attempt_id))
    return found


def _same(known: Row, wanted: tuple[UUID, str, str]) -> Row:
    if (known["student_id"], known["scenario_id"], known["language"]) != wanted:
        raise Conflict("attempt", str(known["id"]))
    return known


def _answer_of(known: Row, turn_id: UUID, said: str) -> Row:
    if known["said"] != said:
        raise Conflict("turn", str(turn_id))
    answer: Row = known["answer"]
    return answer


def _script(attempt: Mapping[str, Any]) -> ScenarioScript:
    return msgspec.convert(attempt["script"], ScenarioScript)


def _plain(verdict: TurnResult) -> Any:
    """As it is read back: a first answer and its repeat are equal."""
    return msgspec.json.decode(msgspec.json.encode(verdict))


def _current(attempt: Row) -> Any:
    """The phase the attempt stands in; IllegalTransition when it has none any more."""
    if attempt["state"] != AttemptState.ACTIVE:
        raise IllegalTransition(attempt["state"], "taking a turn")
    phases = _script(attempt).phases
    if attempt["phase"] >= len(phases):
        raise IllegalTransition(attempt["state"], "taking a turn after the last phase")
    return phases[attempt["phase"]]


def _standing(
    attempt: Mapping[str, Any], script: ScenarioScript, progress: Mapping[str, Achieved]
) -> dict[str, Any]:
    """Where an attempt stands, as its players see it."""
    total, at = len(script.phases), attempt["phase"]
    scores: Scores = rules.scores(script, progress)
    return {
        "attempt_id": str(attempt["id"]),
        "scenario_complete": at == total,
        "phase": at if at < total else None,
        "phase_id": script.phases[at].id if at < total else None,
        "phases_total": total,
        **msgspec.structs.asdict(scores),
    }


def shown(attempt: Mapping[str, Any]) -> dict[str, Any]:
    """An attempt with where it stands and what its current phase asks for."""
    script, progress = _script(attempt), rules.read_progress(attempt["progress"])
    names = (
        "student_id", "scenario_id", "scenario_version", "language", "state", "turns",
        "started_at", "changed_at", "ended_at",
    )  # fmt: skip
    return {
        **_standing(attempt, script, progress),
        **{name: attempt[name] for name in names},
        "title": script.title,
        "opening": script.opening,
        "phases": [
            {
                "id": phase.id,
                "title": phase.title,
                "objectives": {o.id: o.text for o in phase.objectives},
                "vocabulary": phase.vocabulary,
                "phrases": phase.phrases,
                "achieved": progress.get(phase.id, Achieved()),
            }
            for phase in script.phases
        ],
    }


def _amount_to(attempt: Row) -> dict[str, Any]:
    """What an attempt's progress amounts to, as columns of `history`."""
    script, progress = _script(attempt), rules.read_progress(attempt["progress"])
    return {
        **msgspec.structs.asdict(rules.scores(script, progress)),
        "phases_total": len(script.phases),
        "vocabulary_mastered": rules.mastered(script, progress),
        "objectives_completed": rules.objectives_done(script, progress),
    }


def _session(attempt: Row, made: Mapping[str, Any], outcome: AttemptState, at: Any) -> Session:
    """The learning session that an ended attempt was: real counts, nothing rounded away."""
    completed = outcome is AttemptState.COMPLETED
    studied, correct = made["items_studied"], made["items_correct"]
    return Session(
        school_id=attempt["school_id"],
        id=derived_id("learning.scenario.session", str(attempt["school_id"]), str(attempt["id"])),
        student_id=attempt["student_id"],
        session_type="scenario",
        source_id=attempt["scenario_id"],
        language=attempt["language"],
        state=SessionState.COMPLETED if completed else SessionState.ABANDONED,
        started_at=attempt["started_at"],
        changed_at=at,
        ended_at=at,
        items_studied=studied,
        items_correct=correct,
        items_incorrect=studied - correct,
        metadata={"attempt_id": str(attempt["id"]), "success_rate": made["success_rate"]},
        version=1,
        revision=0,
    )
