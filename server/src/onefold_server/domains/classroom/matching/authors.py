"""One essay's evidence, weighed: who may have written it."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from rapidfuzz.distance import OSA

from onefold_server.domains.classroom.matching.evidence import Evidence, evidence
from onefold_server.domains.classroom.matching.places import (
    Address,
    NameSpan,
    NameWeight,
    addresses,
    in_address,
    in_file_name,
    in_line,
    margins,
)
from onefold_server.domains.classroom.matching.roster import ClassRoster, Likeness, plain_email
from onefold_server.domains.classroom.matching.values import SURE, Essay
from onefold_server.domains.classroom.matching.words import cleaned, words

# The earlier service's scores for an exact address and for one that agrees with the name.
_EMAIL: Final = 0.98
_EMAIL_AND_NAME: Final = 0.99
_EMAIL_SLIP: Final = 0.75
_EMAIL_IN_TEXT: Final = 0.65
_EMAIL_OTHER_DIGITS: Final = 0.6  # hg17003@ and hg17001@ are two pupils
_CONFLICT: Final = 0.65  # the address says one pupil, the name another
_NOT_THE_EMAILS: Final = 0.6
_AGREEING: Final = 0.02  # for each further place that says the same
_AT_MOST: Final = 0.97
_IN_TWO_PLACES: Final = 0.75  # the first name here, the last name there
_LEAST: Final = 0.3
_PROSE: Final = 80  # letters; a longer line is searched for whole and exact names


@dataclass
class ScoredPupil:
    """A pupil, by number, who may have written the essay."""

    pupil: int
    score: float = 0.0
    reasons: list[str] = field(default_factory=list)
    email: float = 0.0


def candidates(essay: Essay, roster: ClassRoster) -> list[ScoredPupil]:
    """Who may have written *essay*, the likeliest first; scores not yet judged for ties."""
    text = cleaned(essay.text)
    lines = margins(text)
    written = addresses(text, "\n".join(lines))
    found: dict[int, ScoredPupil] = {}
    unknown = [address for address in written if not _of_pupils(address, roster, found)]
    places = _places(essay, lines, unknown, roster)
    said: dict[int, list[Evidence]] = defaultdict(list)
    for place in places:
        for one in evidence(place, roster):
            said[one.pupil].append(one)
    for pupil, told in said.items():
        _add_names(found.setdefault(pupil, ScoredPupil(pupil)), told)
    _settle_addresses(found)
    likely = [one for one in found.values() if one.score >= _LEAST]
    return sorted(likely, key=lambda one: (-one.score, one.pupil))


def _places(
    essay: Essay, lines: Sequence[str], unknown: Iterable[Address], roster: ClassRoster
) -> Iterable[NameSpan]:
    yield from in_file_name(essay.file_name)
    for address in unknown:
        yield from in_address(address)
    for line in lines:
        if roster.may_name(words(line), in_full=len(line) > _PROSE):
            yield from in_line(line)


def _of_pupils(address: Address, roster: ClassRoster, found: dict[int, ScoredPupil]) -> bool:
    """Count an address that is, or nearly is, a pupil's; False when it is nobody's."""
    written = plain_email(address.text)
    owners = [(pupil, _EMAIL, "e-mail address") for pupil in roster.emails.get(written, ())]
    if not owners and address.in_margin:
        owners = _near_owners(written, roster)
    for pupil, score, reason in owners:
        one = found.setdefault(pupil, ScoredPupil(pupil))
        one.email = max(one.email, score if address.in_margin else _EMAIL_IN_TEXT)
        one.reasons.append(reason if address.in_margin else f"{reason} in the text")
    return bool(owners)


def _near_owners(written: str, roster: ClassRoster) -> list[tuple[int, float, str]]:
    near = [known for known in roster.emails if OSA.distance(known, written, score_cutoff=1) <= 1]
    owners = [(pupil, known) for known in near for pupil in roster.emails[known]]
    unique = len(owners) == 1
    return [
        (pupil, _EMAIL_SLIP, "e-mail address, misspelt")
        if unique and _digits(known) == _digits(written)
        else (pupil, _EMAIL_OTHER_DIGITS, "a similar e-mail address")
        for pupil, known in owners
    ]


def _digits(text: str) -> str:
    return "".join(letter for letter in text if letter.isdigit())


def _add_names(one: ScoredPupil, told: Sequence[Evidence]) -> None:
    ranked = sorted(told, key=lambda said: -said.score)
    best = ranked[0].score
    support = {said.weight for said in ranked if said.score >= SURE} - {ranked[0].weight}
    score = min(max(best, _AT_MOST), best + _AGREEING * len(support)) if support else best
    if best < SURE and _in_two_places(ranked):
        score = _IN_TWO_PLACES
    one.score = score
    one.reasons += list(dict.fromkeys(said.reason for said in ranked))


def _in_two_places(told: Sequence[Evidence]) -> bool:
    """Whether file name and text together name the pupil in full."""
    firsts = {_region(said) for said in told if said.first >= Likeness.ADORNED}
    lasts = {_region(said) for said in told if said.last >= Likeness.ADORNED}
    return bool(firsts and lasts and len(firsts | lasts) > 1)


def _region(said: Evidence) -> str:
    return said.weight.name if said.weight in {NameWeight.FILE, NameWeight.ADDRESS} else "text"


def _settle_addresses(found: dict[int, ScoredPupil]) -> None:
    """Let an address decide between equal names, and stand against another's name."""
    owners = [one for one in found.values() if one.email >= _EMAIL]
    if len(owners) == 1:
        owner = owners[0]
        others = [one for one in found.values() if one is not owner and one.score >= SURE]
        if others and owner.score >= SURE:
            for one in others:
                one.score = min(one.score, _NOT_THE_EMAILS)
        elif others:
            owner.email = _CONFLICT
            for one in others:
                one.score = min(one.score, _CONFLICT)
    for one in found.values():
        agree = one.email >= _EMAIL and one.score >= SURE
        one.score = _EMAIL_AND_NAME if agree else max(one.score, one.email)
