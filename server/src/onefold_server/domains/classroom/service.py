"""All of the classroom in one place: classes and their pupils, batches and their authors."""

from dataclasses import dataclass

from onefold_server.domains.classroom.batches import BatchService
from onefold_server.domains.classroom.classes import ClassService


@dataclass(frozen=True, kw_only=True)
class ClassroomService:
    """The areas of the classroom; each is a service of its own and knows what it needs."""

    classes: ClassService
    batches: BatchService
