"""What goes in and what comes out."""

from typing import Final, NamedTuple

SURE: Final = 0.7  # at this score, and unambiguous, a match may be confirmed without a teacher
UNSURE: Final = 0.69  # the most that an ambiguous match gets
MARGIN: Final = 0.1  # two pupils closer than this are a tie


class Pupil(NamedTuple):
    """One pupil of the class."""

    id: str
    first_name: str
    last_name: str
    email: str | None = None


class Essay(NamedTuple):
    """One essay as it was handed in."""

    id: str
    text: str
    file_name: str = ""


class Suggestion(NamedTuple):
    """A pupil who may have written an essay, how likely (0..1), and what speaks for it."""

    student_id: str
    score: float
    reasons: tuple[str, ...]


class Match(NamedTuple):
    """
    Who may have written one essay.

    Attributes:
        essay_id: Which essay.
        suggestions: The likeliest first: three, and whoever ties with one of them. Empty
            when nobody is named.
        ambiguous: Another pupil is as likely, or the pupil has another essay in the batch.
    """

    essay_id: str
    suggestions: tuple[Suggestion, ...]
    ambiguous: bool

    @property
    def sure(self) -> bool:
        """Whether the first suggestion may be confirmed without a teacher."""
        return not self.ambiguous and bool(self.suggestions) and self.suggestions[0].score >= SURE
