"""A language model that judges turns out of a learner's budget, from a recording."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
from pydantic import SecretStr
from tests.support import new_school
from tests.support_learning import play

from onefold.errors import IllegalTransition, InvalidSetting, StoreContended
from onefold.testing.clock import ManualClock
from onefold_server.cli.learning import learner as learner_command
from onefold_server.domains.learning.budgets.purse import BudgetPurse
from onefold_server.domains.learning.calendar import Period
from onefold_server.domains.learning.scenarios import rules
from onefold_server.domains.learning.scenarios.definitions import shipped
from onefold_server.domains.learning.scenarios.judge import LemmaJudge, LlmJudge, prompt
from onefold_server.domains.learning.scenarios.service import ScenarioService
from onefold_server.domains.learning.turn_judge import Task, Turn, TurnResult
from onefold_server.installation import build
from onefold_server.settings import Settings
from onefold_server.testing.language_model import RecordedModel, recording_key
from onefold_server.wiring.learning import learning_over

SAID = "Muy buenas; somos dos y querríamos sentarnos."


def recording(tmp_path: Path) -> RecordedModel:
    """One answer for one turn."""
    phase = shipped()["restaurant"].script("es").phases[0]
    key = recording_key(prompt(rules.task_of(phase, "es"), SAID))
    answer = {
        "text": '{"objectives": ["greet", "table"], "feedback": "Bien."}',
        "input_tokens": 200,
        "output_tokens": 20,
    }
    file = tmp_path / "answers.json"
    file.write_text(msgspec.json.encode({key: answer}).decode())
    return RecordedModel(file)


async def test_a_turn_is_paid_once_and_blocked_without_money(
    sqlite_url: str, clock: ManualClock, tmp_path: Path
) -> None:
    """The model's verdict counts while the budget lasts; after that the look alone does."""
    settings = Settings(database_url=SecretStr(sqlite_url))
    onefold = build(settings, clock=clock)
    school = await new_school(onefold)
    model = recording(tmp_path)
    learning = learning_over(onefold.uow, settings=settings, clock=clock, random=bytes, model=model)
    rich, poor = uuid4(), uuid4()
    await learning.budgets.set_budget(
        school.admin, student_id=rich, period=Period.DAY, limit="0.01"
    )
    turn_id = uuid4()
    attempts = {
        student: await learning.scenarios.start(
            school.service, student, "restaurant", "es", attempt_id=uuid4()
        )
        for student in (rich, poor)
    }

    paid = await learning.scenarios.turn(school.service, attempts[rich]["id"], turn_id, SAID)
    again = await learning.scenarios.turn(school.service, attempts[rich]["id"], turn_id, SAID)
    free = await learning.scenarios.turn(school.service, attempts[poor]["id"], uuid4(), SAID)

    assert paid == again
    assert (paid["phase_done"], paid["verdict"]["judge"]) == (True, "recorded-1")
    assert (free["phase_done"], free["verdict"]["judge"]) == (False, "lemma")
    (standing,) = await learning.budgets.budgets(school.service, rich)
    assert (standing["spent"], standing["reserved"]) == (Decimal("0.00024"), 0)
    lost = await learning.scenarios.turn(school.service, attempts[rich]["id"], uuid4(), "Agua")
    assert lost["verdict"]["judge"] == "lemma"  # the call was not recorded: given back
    (standing,) = await learning.budgets.budgets(school.service, rich)
    assert standing["reserved"] == 0
    purse = BudgetPurse(learning.budgets)
    turn = Turn(school_id=school.id, student_id=rich, turn_id=turn_id, said=SAID)
    assert not await purse.reserve(turn, Decimal("0.001"))  # paid before, at another price
    assert isinstance(LlmJudge(model, purse=purse, look_first=LemmaJudge()), LlmJudge)
    await onefold.aclose()


class ModelServer:
    """A chat-completions service on the loopback: what it was asked, always one answer."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        self.asked.append(head + await reader.readexactly(length))
        said = '{"objectives": ["greet", "table"], "feedback": "Bien."}'
        body = msgspec.json.encode(
            {
                "choices": [{"message": {"content": said}}],
                "usage": {"prompt_tokens": 200, "completion_tokens": 20},
            }
        )
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()


async def test_a_model_that_is_set_judges_for_the_server(
    sqlite_url: str, clock: ManualClock
) -> None:
    """`ONEFOLD_JUDGE_URL` is enough; a turn that is sent twice at once is asked and paid once."""
    double = ModelServer()
    async with await asyncio.start_server(double.answer, "127.0.0.1", 0) as server:
        settings = Settings(
            database_url=SecretStr(sqlite_url),
            judge_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1",
            judge_key=SecretStr("k3y"),
            judge_model="small",
            judge_input_price=Decimal(1),
            judge_output_price=Decimal(2),
        )
        onefold = build(settings, clock=clock)
        school, student = await new_school(onefold), uuid4()
        learning, turn_id = onefold.learning, uuid4()
        await learning.budgets.set_budget(
            school.admin, student_id=student, period=Period.DAY, limit="1"
        )
        begun = await learning.scenarios.start(school.service, student, "restaurant", "es")
        twice = [
            learning.scenarios.turn(school.service, begun["id"], turn_id, SAID) for _ in range(2)
        ]
        first, second = await asyncio.gather(*twice)
        judged = await learning.scenarios.turn(school.service, begun["id"], uuid4(), SAID)
        (line,) = await learning.budgets.history(school.service, student_id=student)
        (standing,) = await learning.budgets.budgets(school.service, student)
        await onefold.aclose()

    assert first == second
    assert (judged["verdict"]["judge"], judged["verdict"]["feedback"]) == ("small", ["Bien."])
    assert (line["provider"], line["calls"], len(double.asked)) == ("127.0.0.1", 2, 2)
    assert (standing["spent"], standing["reserved"]) == (Decimal("0.00048"), 0)
    assert double.asked[0].startswith(b"POST /v1/chat/completions ")
    assert b"Bearer k3y" in double.asked[0]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"judge_url": "http://127.0.0.1/v1"}, "ONEFOLD_JUDGE_MODEL"),
        ({"judge_url": "http://host:port", "judge_model": "m"}, "ONEFOLD_JUDGE_URL"),
    ],
)
def test_half_a_model_is_refused_at_the_start(
    sqlite_url: str, wrong: dict[str, str], named: str
) -> None:
    """The setting that is missing or wrong is named; no lesson finds out."""
    with pytest.raises(InvalidSetting, match=named):
        build(Settings.load(database_url=sqlite_url, **wrong))


class SlowJudge:
    """Lets another turn end the phase while it thinks, so many times."""

    def __init__(self, interruptions: int) -> None:
        self.left = interruptions
        self.interrupt = None

    async def judge(self, task: Task, turn: Turn) -> TurnResult:
        if self.left and self.interrupt is not None:
            self.left -= 1
            await self.interrupt()
        return TurnResult(vocabulary=task.vocabulary[:1])


async def test_a_turn_is_judged_for_the_phase_it_counts_in(
    sqlite_url: str, clock: ManualClock
) -> None:
    """When the phase ends meanwhile it is judged again; when all end, it is refused."""
    onefold = build(Settings(database_url=SecretStr(sqlite_url)), clock=clock)
    school = await new_school(onefold)
    begun = await onefold.learning.scenarios.start(school.service, uuid4(), "airport", "en")
    phases = begun["script"]["phases"]

    async def end_phase() -> None:
        standing = await onefold.learning.scenarios.attempt(school.service, begun["id"])
        phase = phases[standing["phase"]]
        shown = [o["evidence"][0] for o in phase["objectives"]]
        await play(
            onefold, school, begun, ". ".join([*phase["vocabulary"], *phase["phrases"], *shown])
        )

    judge = SlowJudge(1)
    judge.interrupt = end_phase  # type: ignore[assignment]
    slow = ScenarioService(onefold.uow, clock=clock, random=bytes, judge=judge)

    late = await slow.turn(school.service, begun["id"], uuid4(), "anything")

    assert late["judged_phase"] == "security"
    judge.left, twin = 1, uuid4()

    async def say_it_elsewhere() -> None:
        await onefold.learning.scenarios.turn(school.service, begun["id"], twin, "anything")

    judge.interrupt = say_it_elsewhere  # type: ignore[assignment]
    assert (await slow.turn(school.service, begun["id"], twin, "anything"))["turn_id"] == str(twin)
    judge.left, judge.interrupt = 99, end_phase  # type: ignore[assignment]
    with pytest.raises(IllegalTransition):
        await slow.turn(school.service, begun["id"], uuid4(), "anything")
    await onefold.aclose()


async def test_a_turn_that_is_always_late_says_so(sqlite_url: str, clock: ManualClock) -> None:
    """After five phases that ended under its judge, a turn may be sent again; it is not lost."""
    onefold = build(Settings(database_url=SecretStr(sqlite_url)), clock=clock)
    school = await new_school(onefold)
    trip = msgspec.json.decode(msgspec.json.encode(shipped()["airport"]))
    long_ = trip | {
        "id": "long",
        "phases": [p | {"id": f"{p['id']}{n}"} for n in range(2) for p in trip["phases"]],
        "languages": {
            "en": trip["languages"]["en"]
            | {
                "phases": [
                    p | {"id": f"{p['id']}{n}"}
                    for n in range(2)
                    for p in trip["languages"]["en"]["phases"]
                ]
            }
        },
    }
    report = await onefold.learning.scenarios.import_definitions(school.admin, [long_])
    assert report.added == ["long v1"]
    begun = await onefold.learning.scenarios.start(school.service, uuid4(), "long", "en")

    async def end_phase() -> None:
        standing = await onefold.learning.scenarios.attempt(school.service, begun["id"])
        phase = begun["script"]["phases"][standing["phase"]]
        shown = [o["evidence"][0] for o in phase["objectives"]]
        await play(
            onefold, school, begun, ". ".join([*phase["vocabulary"], *phase["phrases"], *shown])
        )

    judge = SlowJudge(99)
    judge.interrupt = end_phase  # type: ignore[assignment]
    slow = ScenarioService(onefold.uow, clock=clock, random=bytes, judge=judge)

    with pytest.raises(StoreContended):
        await slow.turn(school.service, begun["id"], uuid4(), "anything")

    clock.advance(timedelta(seconds=1))
    await onefold.aclose()


def test_a_learner_is_shown_on_the_command_line(
    sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`onefold learner` prints a table, and with --json all there is."""

    async def set_up() -> str:
        onefold = build(Settings(database_url=SecretStr(sqlite_url)))
        school = await new_school(onefold)
        card = await onefold.learning.reviews.add(school.service, uuid4(), "es", "sol")
        await onefold.learning.reviews.review(school.service, card["id"], uuid4(), 3)
        await onefold.aclose()
        return str(card["student_id"])

    student = asyncio.run(set_up())
    from uuid import UUID

    learner_command(UUID(student), days=3, database=sqlite_url)
    table = capsys.readouterr().out
    learner_command(UUID(student), days=3, database=sqlite_url, json=True)
    shown = msgspec.json.decode(capsys.readouterr().out)

    assert "streak" in table
    assert (shown["words"]["learnt"], shown["days"][0]["reviews"]) == (1, 1)
