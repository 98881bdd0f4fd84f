"""Who tests the testers: mistakes that a detector must catch, and correct ones it must pass."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Literal

from onefold.testing.contracts.stores import cases, failures
from onefold.testing.crash.explorer import Make, explore
from onefold.testing.schedule.explorer import Run, explore_schedules

Detector = Literal["crash", "schedule", "contract"]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a detector said of a twin: nothing if it found nothing wrong."""

    complaint: str | None
    runs: int
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Twin:
    """
    One piece of code under a detector.

    Attributes:
        name: Of the mistake; of what is right, for a correct one.
        mistake: In words: what it does.
        detector: Which explorer or suite looks at it.
        look: Runs the detector.
        says: What the complaint must contain: caught for another reason is not caught.
        broken: Whether it must be caught; otherwise it must pass.
    """

    name: str
    mistake: str
    detector: Detector
    look: Callable[[], Awaitable[Found]]
    says: str = ""
    broken: bool = True

    def judged(self) -> tuple[bool, Found]:
        """Whether the detector was right, and what it found."""
        start = perf_counter()
        found = asyncio.run(self._looked())
        found = Found(complaint=found.complaint, runs=found.runs, seconds=perf_counter() - start)
        if not self.broken:
            return found.complaint is None, found
        return found.complaint is not None and self.says in found.complaint, found

    async def _looked(self) -> Found:
        return await self.look()


@dataclass
class Gallery:
    """All twins, in the order of their writing."""

    twins: list[Twin] = field(default_factory=list)

    def dies(
        self, mistake: str, *, says: str = "", deaths: int = 1
    ) -> Callable[[Callable[[], Make]], Callable[[], Make]]:
        """Register a scenario for the crash explorer; without *says* it is a correct one."""

        def register(make: Callable[[], Make]) -> Callable[[], Make]:
            async def look() -> Found:
                runs = 0

                def counted() -> object:
                    nonlocal runs
                    runs += 1
                    return make()()

                try:
                    (await explore(counted, deaths=deaths)).verify()  # type: ignore[arg-type]
                except AssertionError as caught:
                    return Found(complaint=str(caught), runs=runs)
                return Found(complaint=None, runs=runs)

            self._add(make.__name__, mistake, "crash", look, says)
            return make

        return register

    def races(self, mistake: str, *, says: str = "", runs: int = 400) -> Callable[[Run], Run]:
        """Register a scenario for the schedule explorer."""

        def register(run: Run) -> Run:
            async def look() -> Found:
                found = explore_schedules(run, runs=runs, seed="twins")
                return Found(
                    complaint=None if found.failure is None else str(found.failure),
                    runs=found.runs,
                )

            self._add(run.__name__, mistake, "schedule", look, says)
            return run

        return register

    def breaks(
        self, mistake: str, *suites: type[Any], says: str = ""
    ) -> Callable[[Callable[[], object]], Callable[[], object]]:
        """Register an adapter for contract suites; *suites* take it as their `fresh`."""

        def register(fresh: Callable[[], object]) -> Callable[[], object]:
            async def look() -> Found:
                failed: dict[str, Exception] = {}
                runs = 0
                for suite in suites:
                    held = type("Held", (suite,), {"fresh": lambda _: fresh()})
                    runs += len(cases(held))
                    failed |= await failures(held)
                return Found(complaint=", ".join(sorted(failed)) or None, runs=runs)

            self._add(fresh.__name__, mistake, "contract", look, says)
            return fresh

        return register

    def _add(
        self,
        name: str,
        mistake: str,
        detector: Detector,
        look: Callable[[], Awaitable[Found]],
        says: str,
    ) -> None:
        self.twins.append(
            Twin(
                name=name,
                mistake=mistake,
                detector=detector,
                look=look,
                says=says,
                broken=bool(says),
            )
        )


gallery = Gallery()
