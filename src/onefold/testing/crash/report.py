"""What a failure says: the promise, the death, the difference, and how to see it again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pprint import pformat

from onefold.testing.crash.invariants import Violation

__all__ = ["FailedRun", "difference"]


@dataclass(frozen=True, kw_only=True)
class FailedRun:
    """
    One run that broke a promise; `str` is the report.

    Attributes:
        fates: What its processes died of, or the schedule they ran under: see `how`.
        broken: The promises that did not hold.
        difference: Of the durable state, to that of a run in which nothing dies.
        messages: Of how many messages the scenario was made, if it was told.
        replay: The line that runs it again.
    """

    fates: str
    broken: Sequence[Violation]
    difference: Sequence[str] = ()
    messages: int | None = None
    replay: str = ""
    how: str = "dying at"

    def __str__(self) -> str:
        of = "" if self.messages is None else f", with {self.messages} message(s)"
        lines = [f"{self.how} {self.fates}{of}:", *(f"  {one}" for one in self.broken)]
        if self.difference:
            lines += ["  durable state, whole (-) and after this run (+):"]
            lines += [f"    {line}" for line in self.difference]
        return "\n".join([*lines, f"  replay: {self.replay}"])


def difference(whole: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """What stands otherwise *after* than in the *whole*, name by name."""
    lines = []
    for name in dict.fromkeys([*whole, *after]):
        if whole.get(name) != after.get(name):
            lines += [f"- {name} = {_shown(whole, name)}", f"+ {name} = {_shown(after, name)}"]
    return lines


def _shown(state: Mapping[str, object], name: str) -> str:
    return pformat(state[name], width=100) if name in state else "nothing"
