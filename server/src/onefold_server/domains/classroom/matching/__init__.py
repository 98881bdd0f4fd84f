"""
Finds the authors of essays among the pupils of a class. Pure: no clock, no storage, no model.

Theory of operation. Guessing what a name is fails on the names it was not built for, so known
names are searched instead: `roster` indexes the class, `places` says where in an essay or its
file name an author may stand and how much a name there weighs, `evidence` aligns the words of
a place with the pupils' names, `authors` weighs the evidence of one essay, and `batch` looks
at all essays together, since a pupil writes one of them. What could be two pupils is ambiguous, and
never sure.
"""

from onefold_server.domains.classroom.matching.batch import match
from onefold_server.domains.classroom.matching.values import SURE, Essay, Match, Pupil, Suggestion

__all__ = ["SURE", "Essay", "Match", "Pupil", "Suggestion", "match"]
