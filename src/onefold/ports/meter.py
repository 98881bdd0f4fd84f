"""What can be measured, when somebody asks."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Measure:
    """
    One number, now.

    Attributes:
        name: With its unit, in the base one: `onefold_outbox_oldest_age_seconds`; what only
            grows ends in `_total`.
        help: What it counts, the same for all measures of a name.
        value: The number.
        labels: Names to values; of a name always the same ones. Only what the code or the
            configuration names: never ids, keys, or anything that an event brings.
    """

    name: str
    help: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def grows(self) -> bool:
        """Whether it is a counter."""
        return self.name.endswith("_total")


# Asked at every scrape; what fails is left out of it. A domain adds its own to
# `Installation.meters`.
Meter = Callable[[], Awaitable[Sequence[Measure]]]
