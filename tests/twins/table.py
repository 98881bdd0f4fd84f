"""`make twins`: every twin under its detector, as a table; fails unless each is judged right."""

import sys
from collections.abc import Sequence

from tests.twins import died, promised, raced, sent
from tests.twins.gallery import Found, Twin, gallery

TWINS: Sequence[Twin] = gallery.twins
SOURCES = (died, raced, promised, sent)  # importing them fills the gallery


def line(twin: Twin, found: Found, *, right: bool) -> str:
    """One twin as a row."""
    verdict = ("caught" if twin.broken else "passed") if right else "WRONG"
    return (
        f"{twin.name:<40} {twin.detector:<9} {verdict:<7} "
        f"{found.runs:>5} {found.seconds:>7.2f}  {twin.mistake}"
    )


def main() -> int:
    """Print the table and the tally."""
    print(f"{'name':<40} {'detector':<9} {'verdict':<7} {'runs':>5} {'seconds':>7}  what it does")  # noqa: T201 (a program)
    tally = {True: [0, 0], False: [0, 0]}
    for twin in sorted(TWINS, key=lambda twin: not twin.broken):
        right, found = twin.judged()
        print(line(twin, found, right=right), flush=True)  # noqa: T201
        tally[twin.broken][0] += right
        tally[twin.broken][1] += 1
    (caught, broken), (passed, correct) = tally[True], tally[False]
    print(f"twins: {caught} of {broken} caught, {passed} of {correct} correct ones passed")  # noqa: T201
    return 0 if (caught, passed) == (broken, correct) else 1


if __name__ == "__main__":
    sys.exit(main())
