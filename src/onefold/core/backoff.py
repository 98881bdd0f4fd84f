"""How long to wait before the next attempt. Pure: jitter is passed in."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """
    Exponential delays with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter").

    Attributes:
        first_s: The bound of the first delay.
        factor: By how much the bound grows each time.
        most_s: The bound that is never exceeded.
    """

    first_s: float = 0.1
    factor: float = 2.0
    most_s: float = 60.0

    def bound_s(self, attempt: int) -> float:
        """The longest delay after failed *attempt*, counted from 1."""
        exponent = min(attempt - 1, 64)  # beyond that any factor has long reached the most
        return min(self.most_s, self.first_s * self.factor**exponent)

    def delay_s(self, attempt: int, jitter: float) -> float:
        """The delay after failed *attempt*; *jitter* is uniform in [0, 1)."""
        return self.bound_s(attempt) * jitter
