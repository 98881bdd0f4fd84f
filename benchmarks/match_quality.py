"""
How good the matcher is on essays whose authors are known; `make match-quality`.

Precision: of the matches that would be confirmed without a teacher, how many are right.
Recall: of the essays that say who wrote them, how many are so matched. Essays that do not (no
name, a first name alone, one of two pupils of one name, a second essay of one pupil) are
handed in too: matching one of them for sure costs precision when it is wrong.
"""

import argparse
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from time import perf_counter

from benchmarks.essays import Written, classes

from onefold_server.domains.classroom.matching import Match, Pupil, match


@dataclass
class Quality:
    """What became of essays, by case."""

    essays: Counter[str] = field(default_factory=Counter)
    sure: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[Written, Match, list[Pupil]]] = field(default_factory=list)
    missed: list[tuple[Written, Match, list[Pupil]]] = field(default_factory=list)
    decidable: int = 0
    found: int = 0
    seconds: float = 0.0

    def count(self, written: Written, found: Match, pupils: list[Pupil]) -> None:
        """Judge one match."""
        self.essays[written.case] += 1
        right = found.sure and found.suggestions[0].student_id == written.author
        self.sure[written.case] += found.sure
        if found.sure and not right:
            self.wrong.append((written, found, pupils))
        self.decidable += written.decidable
        self.found += written.decidable and right
        if written.decidable and not right:
            self.missed.append((written, found, pupils))

    @property
    def precision(self) -> float:
        sure = sum(self.sure.values())
        return 1 - len(self.wrong) / sure if sure else 1.0

    @property
    def recall(self) -> float:
        return self.found / self.decidable if self.decidable else 1.0


def measure(essays: int, *, seed: int) -> Quality:
    """Hand in *essays* essays, class by class, and judge each match."""
    quality = Quality()
    for pupils, written in classes(Random(seed), essays=essays):
        started = perf_counter()
        matches = match([one.essay for one in written], pupils)
        quality.seconds += perf_counter() - started
        for one, found in zip(written, matches, strict=True):
            quality.count(one, found, pupils)
    return quality


def tell(quality: Quality, *, misses: int) -> None:
    """Print the table of cases, some misses, and the figures."""
    print(f"{'case':36}{'essays':>8}{'sure':>8}")
    for case, number in quality.essays.most_common():
        print(f"{case:36}{number:>8}{quality.sure[case]:>8}")
    for kind, those in (("wrong", quality.wrong), ("missed", quality.missed)):
        for written, found, pupils in those[:misses]:
            names = {pupil.id: f"{pupil.first_name} {pupil.last_name}" for pupil in pupils}
            names[""] = "somebody else"
            said = [(names[s.student_id], s.score, s.reasons[:2]) for s in found.suggestions]
            head = " / ".join(line for line in written.essay.text.splitlines()[:3] if line)
            print(f"{kind}: {names[written.author]!r} as {head!r} {written.essay.file_name!r}")
            print(f"    {written.case}; suggested {said}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--essays", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--misses", type=int, default=10, help="how many of each kind to show")
    given = parser.parse_args()
    quality = measure(given.essays, seed=given.seed)
    tell(quality, misses=given.misses)
    total = sum(quality.essays.values())
    print(f"{total / quality.seconds:.0f} essays/s; {quality.decidable} say who wrote them")
    print(f"match: {total} essays, precision {quality.precision:.4f}, recall {quality.recall:.4f}")


if __name__ == "__main__":
    main()
