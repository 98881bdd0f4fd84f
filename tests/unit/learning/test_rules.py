"""The pure rules of learning: values, calendars, judges, plans, money."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support_learning import change

from onefold.errors import InvalidInput
from onefold_server.domains.learning.analytics import rules as analytics
from onefold_server.domains.learning.budgets import rules as budgets
from onefold_server.domains.learning.calendar import (
    Period,
    TimeSpan,
    day_start,
    longest_streak,
    period_at,
    streak,
    zone_of,
)
from onefold_server.domains.learning.content import rules as content
from onefold_server.domains.learning.language_model import Completion, LanguageModel
from onefold_server.domains.learning.reviews import anki
from onefold_server.domains.learning.reviews import rules as reviews
from onefold_server.domains.learning.reviews.scheduling import (
    ReviewAnswer,
    Scheduler,
    imported_memory,
    new_memory,
    plan,
    recall,
)
from onefold_server.domains.learning.scenarios import rules as scenarios
from onefold_server.domains.learning.scenarios.definitions import (
    Criterion,
    Objective,
    ScriptPhase,
    read_definition,
    shipped,
)
from onefold_server.domains.learning.scenarios.judge import LemmaJudge, LlmJudge, look, prompt
from onefold_server.domains.learning.scenarios.lemma import found_in, is_telling, stem
from onefold_server.domains.learning.sessions.rules import SessionTypes, check_change
from onefold_server.domains.learning.turn_judge import Task, Turn, TurnResult
from onefold_server.domains.learning.values import (
    check_language,
    check_object,
    check_text,
    merge_patch,
    word_key,
)
from onefold_server.testing.language_model import RecordedModel, recording_key

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # RFC 7386, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_metadata_merges_as_rfc_7386_says(target: Any, patch: Any, result: Any) -> None:
    """Every example of the RFC's appendix."""
    assert merge_patch(target, patch) == result


@pytest.mark.parametrize(
    "value",
    ["x", [], {"a": float("nan")}, {"a": "\0"}, {"\0": 1}, {"a": ["\0"]}, {"a": "\ud800"},
     {"a": "x" * 100}],
)  # fmt: skip
def test_what_no_database_can_store_is_refused(value: Any) -> None:
    """Not an object, NaN, NUL anywhere, half a surrogate pair, too large."""
    with pytest.raises(InvalidInput):
        check_object(value, "metadata", limit_bytes=64)


def test_text_and_language_are_checked() -> None:
    """Each refusal is for a reason; what is right passes unchanged."""
    assert check_text("é", "f", longest=1) == "é"
    assert check_language("pt-BR") == "pt-BR"
    for wrong in ("", "xx", "\0", "\ud800", 7):
        with pytest.raises(InvalidInput):
            check_text(wrong, "f", longest=1)
    for wrong in ("E", "spanish!", 7):
        with pytest.raises(InvalidInput):
            check_language(wrong)
    assert word_key("  El  SOL ") == "el sol"


def test_types_are_registered_by_name() -> None:
    """A school's own type is accepted once it is registered, and never before."""
    types = SessionTypes("pair_work")
    assert types.check("pair_work") == "pair_work"
    assert list(types) == sorted(types)
    with pytest.raises(InvalidInput):
        types.register("Pair work")


def test_a_change_makes_sense_by_itself() -> None:
    """Setting needs a version; a counter is added to or set, not both."""
    for wrong in (
        {"set": {"items_correct": 1}},
        {"set": {"items_correct": 1}, "add": {"items_correct": 1}, "expected_version": 1},
        {"set": {"items_correct": -1}, "expected_version": 1},
        {"add": {"stars": 5}},
    ):
        with pytest.raises(InvalidInput):
            check_change(change(**wrong))


def test_days_begin_at_the_learners_own_midnight() -> None:
    """Also where a clock change skips it; spans of one zone touch and never overlap."""
    beirut = zone_of("Asia/Beirut")
    assert day_start(date(2026, 3, 29), beirut) == datetime(2026, 3, 28, 22, tzinfo=UTC)
    for period in Period:
        at = datetime(2026, 3, 1, tzinfo=UTC)
        for _ in range(60):
            span = period_at(period, at, beirut)
            assert span.start <= at < span.end
            assert period_at(period, span.end, beirut).start == span.end
            at += timedelta(hours=17)
    with pytest.raises(InvalidInput):
        zone_of("Mars/Olympus")


@given(st.sets(st.dates(date(2026, 1, 1), date(2026, 2, 1))), st.dates(date(2026, 1, 1)))
def test_the_current_streak_is_never_longer_than_the_longest(days: set[date], today: date) -> None:
    """And none is longer than there are days."""
    assert streak(days, today) <= longest_streak(days) <= len(days)


def test_stems_are_light() -> None:
    """Endings of the language go, three letters stay; other languages stay as they are."""
    assert stem("reservations", "en") == stem("reservation", "en")
    assert stem("stopped", "en") == stem("stop", "en")
    assert stem("mesas", "es-MX") == stem("mesa", "es")
    assert stem("balls", "xx") == "balls"
    assert stem("bill", "en") == stem("bills", "en")
    assert found_in("¡Dos RESERVAS, por favor!", ["reserva", "mesa"], "es") == ("reserva",)
    assert found_in("anything", ["?"], "es") == ()
    assert is_telling("for the table", "en")
    assert not is_telling("for the", "en")
    assert is_telling("for the", "xx")


PHASE = ScriptPhase(
    id="one",
    title="One",
    objectives=(
        Objective(id="greet", text="Greet", evidence=("hello",)),
        Objective(id="ask", text="Ask", evidence=("how are you today",)),
    ),
    vocabulary=("table", "chair"),
    phrases=("by the window",),
)


def test_scores_follow_the_note() -> None:
    """0.3 vocabulary + 0.3 phrases + 0.4 objectives, or criteria that count a half."""
    all_words = scenarios.Achieved(vocabulary=("table", "chair"), phrases=("by the window",))
    assert scenarios.is_done(PHASE, all_words)
    assert scenarios.phase_score(PHASE, scenarios.Achieved(objectives=("greet",))) == 0.2
    bare = msgspec.structs.replace(PHASE, phrases=())
    assert scenarios.phase_score(bare, scenarios.Achieved(objectives=("greet", "ask"))) == 0.4 / 0.7
    both = msgspec.structs.replace(
        PHASE, criteria=(Criterion(needs=("greet", "ask")), Criterion(needs=("ask",)))
    )
    assert scenarios.phase_score(both, scenarios.Achieved(objectives=("greet",))) == 0.25
    assert scenarios.phase_score(both, scenarios.Achieved()) == 0.0
    assert scenarios.is_done(both, scenarios.Achieved(objectives=("greet", "ask")))


@given(st.lists(st.sets(st.sampled_from(["table", "chair"]))))
def test_progress_only_grows(turns: list[set[str]]) -> None:
    """Whatever is said in whatever order, a phase's score never falls."""
    achieved, last = scenarios.Achieved(), 0.0
    for words in turns:
        verdict = TurnResult(vocabulary=(*words, "not of this phase"))
        achieved = scenarios.grown(PHASE, achieved, verdict)
        score = scenarios.phase_score(PHASE, achieved)
        assert score >= last
        last = score


def test_recommendations_leave_out_what_does_not_fit() -> None:
    """Finished ones, other languages, easier ones."""
    script = shipped()["restaurant"].script("en")
    found = scenarios.recommended(
        shipped().values(), script, language="en", finished={"restaurant", "airport"}
    )
    assert found == ["clothes-shopping", "meeting-people"]
    assert scenarios.recommended(shipped().values(), script, language="ja", finished=set()) == []


def broken(**how: Any) -> dict[str, Any]:
    """The airport scenario with something wrong."""
    good: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(shipped()["airport"]))
    return good | how


def test_definitions_hold_together() -> None:
    """Each way in which a scenario can contradict itself is named."""
    base = broken()
    english = base["languages"]["en"]
    first = english["phases"][0]
    cases: dict[str, Any] = {
        "shape": broken(minutes=0),
        "twice": broken(phases=[*base["phases"], base["phases"][0]]),
        "language": broken(languages={"E!": english}),
        "phases": broken(languages={"en": english | {"phases": english["phases"][1:]}}),
        "unreachable": broken(
            phases=[base["phases"][0] | {"criteria": [{"needs": ["fly"]}]}, *base["phases"][1:]]
        ),
        "evidence": broken(
            languages={
                "en": english
                | {
                    "phases": [
                        first
                        | {
                            "objectives": [
                                o | {"evidence": ["for the"]} for o in first["objectives"]
                            ]
                        },
                        *english["phases"][1:],
                    ]
                }
            }
        ),
        "objectives": broken(
            languages=base["languages"]
            | {
                "de": english
                | {
                    "phases": [
                        first | {"objectives": [first["objectives"][0] | {"id": "other"}]},
                        *english["phases"][1:],
                    ]
                }
            }
        ),
    }
    for code, raw in cases.items():
        with pytest.raises(InvalidInput) as refused:
            read_definition(raw)
        assert code in {problem.code for problem in refused.value.problems}, code


TASK = Task(
    language="en",
    vocabulary=("table",),
    phrases=(),
    objectives={"greet": "Greet the waiter", "ask": "Ask for a table"},
    evidence={"greet": ("hello",), "ask": ("table for",)},
)


class Purse:
    """Counts what it pays; may refuse."""

    def __init__(self, *, pays: bool = True) -> None:
        self.pays, self.log = pays, list[str]()

    async def reserve(self, turn: Turn, amount: Decimal) -> bool:
        assert amount > 0
        self.log.append("reserve")
        return self.pays

    async def settle(
        self, turn: Turn, cost: Decimal, model: LanguageModel, used: Completion
    ) -> None:
        self.log.append(f"settle {cost}")

    async def release(self, turn: Turn) -> None:
        self.log.append("release")


def said(text: str) -> Turn:
    """A turn."""
    return Turn(school_id=uuid4(), student_id=uuid4(), turn_id=uuid4(), said=text)


def recorded(tmp_path: Path, text: str, answer: str) -> RecordedModel:
    """A model that has one answer."""
    file = tmp_path / "recording.json"
    key = recording_key(prompt(TASK, text))
    recording = {key: {"text": answer, "input_tokens": 100, "output_tokens": 10}}
    file.write_text(json.dumps(recording))  # half of a surrogate pair too
    return RecordedModel(file)


async def test_a_language_model_adds_to_what_is_seen_and_is_paid(tmp_path: Path) -> None:
    """It may grant objectives of the task and no others; what it cost is settled."""
    answer = 'Sure! {"objectives": ["ask", "fly"], "feedback": "Nice."}'
    purse, text = Purse(), "Hello, somewhere to sit please"
    model = recorded(tmp_path, text, answer)
    judge = LlmJudge(model, purse=purse, look_first=LemmaJudge())

    verdict = await judge.judge(TASK, said(text))

    assert (verdict.objectives, verdict.feedback, verdict.judge) == (
        ("greet", "ask"),
        ("Nice.",),
        "recorded-1",
    )
    assert purse.log == ["reserve", "settle 0.000120"]


PAID = ["reserve", "settle 0.000120"]


@pytest.mark.parametrize(
    ("text", "answer", "pays", "log"),
    [
        ("Hello", "nonsense", True, PAID),
        ("Hello", '{"objectives": []}', True, PAID),
        ("Hello", '{"objectives": ["ask"], "feedback": "\\u0000"}', True, PAID),
        ("Hello", '{"objectives": ["ask"], "feedback": "\ud800"}', True, PAID),
        ("Hello", "{}", False, ["reserve"]),
        ("not recorded", "", True, ["reserve", "release"]),
        ("Hello, a table for two", "", True, []),
    ],
)
async def test_without_a_usable_answer_the_look_counts(
    tmp_path: Path, text: str, answer: str, pays: bool, log: list[str]
) -> None:
    """Nonsense, a blocked budget, no answer, or nothing left to ask."""
    purse = Purse(pays=pays)
    model = recorded(tmp_path, "Hello", answer)
    judge = LlmJudge(model, purse=purse, look_first=LemmaJudge())

    verdict = await judge.judge(TASK, said(text))

    assert verdict.objectives == look(TASK, text).objectives
    assert purse.log == log


def test_fsrs_plans_grow_and_forget() -> None:
    """Better answers wait longer; recall falls with time; a clock set back does no harm."""
    memory = new_memory(Scheduler.FSRS)
    assert recall(Scheduler.FSRS, memory, now=NOW) is None
    plans = [plan(Scheduler.FSRS, memory, answer, now=NOW) for answer in ReviewAnswer]
    assert plans == sorted(plans, key=lambda p: p.due_at)
    easy = plans[-1]
    later = recall(Scheduler.FSRS, easy.memory, now=NOW + timedelta(days=60))
    sooner = recall(Scheduler.FSRS, easy.memory, now=NOW + timedelta(days=5))
    assert later is not None
    assert sooner is not None
    assert later < sooner
    back = plan(Scheduler.FSRS, easy.memory, ReviewAnswer.GOOD, now=NOW - timedelta(days=1))
    assert back.due_at > NOW


def test_sm2_keeps_its_bounds() -> None:
    """Ease stays within 1.3 and 3, intervals within a year; recall is taken from them."""
    assert new_memory(Scheduler.SM2) == {"ease": 2.5, "repetition": 0, "interval_days": 0}
    memory = imported_memory(99, 5, 9999)
    assert (memory["ease"], memory["interval_days"]) == (3.0, 365)
    for answer in (ReviewAnswer.AGAIN,) * 20:
        memory = plan(Scheduler.SM2, memory, answer, now=NOW).memory
    assert memory["ease"] == 1.3
    for _ in range(40):
        memory = plan(Scheduler.SM2, memory, ReviewAnswer.EASY, now=NOW).memory
    assert (memory["ease"], memory["interval_days"]) == (3.0, 365)
    found = recall(Scheduler.SM2, memory, now=NOW + timedelta(days=365))
    assert found == pytest.approx(0.9, abs=0.001)
    hard = plan(Scheduler.SM2, memory, ReviewAnswer.HARD, now=NOW)
    assert hard.strength_days == 365


def test_anki_files_are_read_with_care() -> None:
    """Separators by header or by sight, quotes, blank lines, bounds; else the field is named."""
    assert [c for _, c in anki.read("uno\tone\n\n  \ndos\ttwo\n")] == [
        {"front": "uno", "back": "one"},
        {"front": "dos", "back": "two"},
    ]
    assert [c for _, c in anki.read("#separator:|\n#columns:Front|Back\na|b")] == [
        {"front": "a", "back": "b"}
    ]
    assert anki.read_due("") is None
    assert anki.read_due("2026-01-01T00:00:00") == datetime(2026, 1, 1, tzinfo=UTC)
    for wrong in ("tomorrow", "9999-12-31T23:59:59-12:00"):
        with pytest.raises(InvalidInput):
            anki.read_due(wrong)
    for wrong in ("x", "-1", "nan", "101"):
        with pytest.raises(InvalidInput):
            anki.read_number(wrong, "Ease", 1, most=100)
    for text in ("#columns:Word\nx", 'a,"b" c\n', '"open'):
        with pytest.raises(InvalidInput):
            list(anki.read(text))


def test_anki_headers_may_come_twice() -> None:
    """The last one holds; a reader that waited for another name would never end."""
    twice = "#html:true\n#html:false\n#separator:Tab\n#separator:Pipe\nuno|one\n"

    assert list(anki.read(twice)) == [(5, {"front": "uno", "back": "one"})]
    with pytest.raises(InvalidInput):
        list(anki.read('#separator:"\nuno"one\n'))


def test_what_is_written_for_anki_is_read_back() -> None:
    """Words that look like a header, and texts with any line's end, stay one card each."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    school, student = uuid4(), uuid4()
    texts = [("#hash", "a\u2028b"), ("ff\x0cff", "x\x85y"), ('"q"', "1\n2")]
    cards = [reviews.new_card(school, student, "es", w, back=back, now=now) for w, back in texts]

    read = [(c["front"], c["back"]) for _, c in anki.read(anki.write(cards))]

    assert read == [(card["word"], card["back"]) for card in cards]


def test_a_blank_word_is_no_card() -> None:
    """White space alone names nothing."""
    with pytest.raises(InvalidInput):
        reviews.new_card(uuid4(), uuid4(), "es", "  ", now=NOW)


def test_a_forecast_leaves_out_what_is_later() -> None:
    """Overdue cards are today's; those after the last day are not shown."""
    due = [NOW - timedelta(days=3), NOW + timedelta(days=1), NOW + timedelta(days=9)]
    found = reviews.forecast(due, now=NOW, zone=ZoneInfo("UTC"), days=2)
    assert [day["due"] for day in found] == [1, 1]


@pytest.mark.parametrize(
    "value", [0.1, 1, "x", "NaN", "Infinity", "-1", "0", "1e10", "0.0000000001", None]
)
def test_amounts_are_exact_or_refused(value: Any) -> None:
    """A float is refused because it is not exact; so is what the ninth decimal cannot hold."""
    with pytest.raises(InvalidInput):
        budgets.read_amount(value, "amount")


def test_money_is_told_plainly() -> None:
    """Without needless zeros and without an exponent."""
    told = [budgets.money_text(Decimal(t)) for t in ("0.500", "1E+3", "0.000000015", "0")]
    assert told == ["0.5", "1000", "0.000000015", "0"]
    assert budgets.read_amount("0", "limit", zero=True) == 0


def test_budget_settings_have_bounds() -> None:
    """Thresholds are percentages; a lapse is more than nothing and at most a day."""
    assert budgets.check_thresholds([80, 50, 80]) == [50, 80]
    for wrong in ([0], [1001], ["5"], list(range(1, 12))):
        with pytest.raises(InvalidInput):
            budgets.check_thresholds(wrong)
    for seconds in (0, 86_401):
        with pytest.raises(InvalidInput):
            budgets.check_lapse(timedelta(seconds=seconds))


def test_a_new_zone_holds_from_the_next_period_on() -> None:
    """A period that began ends as planned; the next begins where it ended, without a gap."""
    last = TimeSpan(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
    inside, after = NOW, datetime(2026, 1, 2, 3, tzinfo=UTC)

    assert budgets.current_period(Period.DAY, "Asia/Tokyo", last, inside) == last
    next_ = budgets.current_period(Period.DAY, "America/New_York", last, after)

    assert next_ == TimeSpan(last.end, datetime(2026, 1, 2, 5, tzinfo=UTC))
    fresh = budgets.current_period(Period.DAY, "UTC", None, NOW)
    assert fresh == TimeSpan(last.start, last.end)


def test_content_is_bounded() -> None:
    """Too large a text, too many topics or materials, a blank topic, a long URL."""
    fine: dict[str, Any] = {
        "kind": content.ContentKind.NOTE,
        "title": "T",
        "language": "en",
        "body": "x",
    }
    material = content.Material(kind=content.MaterialKind.QUIZ, title="Q", body={})
    wrong: tuple[dict[str, Any], ...] = (
        {"body": "é" * content.MAX_BODY_BYTES},
        {"topics": tuple(map(str, range(21)))},
        {"topics": (" ",)},
        {"materials": (material,) * 51},
        {"source_url": "u" * 1001},
    )
    for how in wrong:
        with pytest.raises(InvalidInput):
            content.check_content(content.Given(**fine | how))
    linked = content.check_content(content.Given(**fine | {"source_url": "https://x.example"}))
    assert linked.source_url == "https://x.example"


def test_excerpts_show_the_hit() -> None:
    """Around it in a long text; the beginning where only the title has the words."""
    long = "word " * 100 + "needle " + "word " * 100
    shown = content.excerpt(long, content.check_query("needle"))
    assert "needle" in shown
    assert shown.startswith("…")
    assert shown.endswith("…")
    assert content.excerpt("only a title has it", content.check_query("elsewhere")).startswith(
        "only"
    )
    assert content.check_query("naïve*") == [["wnaive*", f"u{b'naive'.hex()}*"]]
    assert content.check_query("при*") == [[f"u{'при'.encode().hex()}*"]]


def test_a_learner_without_cards_has_no_words() -> None:
    """Zeros, not nothing."""
    assert analytics.words([]) == {"learnt": 0, "known": 0, "due": 0}
