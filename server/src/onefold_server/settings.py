"""Every setting: one frozen value, read from `ONEFOLD_*`, checked at the start."""

import os
from datetime import timedelta
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from onefold.errors import InvalidSetting
from onefold_server.domains.telemetry.rules import Profile

_DAY_S = 86_400


HERE: Final = Path(".onefold")  # of the default database


class Settings(BaseSettings):
    """What can be set. Each name is read from the environment as `ONEFOLD_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="ONEFOLD_", frozen=True, extra="forbid")

    database_url: Annotated[
        SecretStr,
        Field(description="`sqlite:///file.db` or `postgresql://user:password@host/name`"),
    ] = SecretStr(f"sqlite:///{HERE}/onefold.db")
    home: Annotated[
        Path, Field(description="Where `onefold up` keeps its database, keys and `demo.json`")
    ] = HERE
    host: Annotated[str, Field(description="Address the server listens on")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="Port the server listens on")] = 8000
    session_secret: Annotated[
        SecretStr | None,
        Field(min_length=32, description="Signs the pages' cookies; without it, none is served"),
    ] = None
    secure_cookies: Annotated[
        bool, Field(description="Send the pages' cookies over HTTPS only")
    ] = False
    store_wait_s: Annotated[
        float, Field(gt=0, le=600, description="How long a request waits for a lock or connection")
    ] = 30.0
    max_body_bytes: Annotated[
        int, Field(gt=0, description="The largest request body that is read")
    ] = 12 * 1024 * 1024
    event_max_age_s: Annotated[
        int, Field(gt=0, description="How old a telemetry event may be when it comes over HTTP")
    ] = 30 * _DAY_S
    session_idle_s: Annotated[
        int, Field(gt=0, description="After how long without events a session is closed")
    ] = 30 * 60
    sweep_every_s: Annotated[
        float, Field(gt=0, description="How often the worker looks for idle sessions")
    ] = 10.0
    features_profile: Annotated[
        Profile, Field(description="`standard`, or `compat` for the earlier system's formulas")
    ] = Profile.STANDARD
    kafka: Annotated[
        str | None, Field(description="Bootstrap servers of the Kafka that events are sent to")
    ] = None
    valkey: Annotated[
        SecretStr | None, Field(description="URL of the Valkey whose streams events are sent to")
    ] = None
    drain_s: Annotated[
        float,
        Field(ge=0, le=3600, description="How long a stop waits for the worker's steps under way"),
    ] = 20.0
    relay_poll_s: Annotated[
        float, Field(gt=0, description="How often the relay looks for events that nobody told of")
    ] = 2.0
    sent_keep_s: Annotated[
        int, Field(gt=0, description="How long a sent event stays in the outbox")
    ] = 7 * _DAY_S
    claims_keep_s: Annotated[
        int, Field(gt=0, description="How long a released or abandoned claim is kept")
    ] = 14 * _DAY_S
    letters_keep_s: Annotated[
        int, Field(gt=0, description="How long a replayed or discarded dead letter is kept")
    ] = 90 * _DAY_S
    messages_keep_s: Annotated[
        int, Field(gt=0, description="How long a message stays that every group has settled")
    ] = 7 * _DAY_S
    unread_keep_s: Annotated[
        int, Field(gt=0, description="How long a message stays in a topic that no group reads")
    ] = 30 * _DAY_S
    purge_every_s: Annotated[
        float, Field(gt=0, description="How often the worker removes what is over")
    ] = 600.0
    learning_abandon_after_s: Annotated[
        int, Field(gt=0, description="After how long without a change a learning session is over")
    ] = 6 * 3600
    learning_session_types: Annotated[
        tuple[str, ...], Field(description="Types of learning session beside the built-in ones")
    ] = ()
    judge_url: Annotated[
        str | None,
        Field(
            pattern="^https?://.",
            description="Base URL of a chat-completions service, such as `https://host/v1`; with "
            "it, a language model helps to judge turns, paid for by the learner's budget",
        ),
    ] = None
    judge_key: Annotated[
        SecretStr | None, Field(description="Sent to that service as a bearer token")
    ] = None
    judge_model: Annotated[str, Field(max_length=100, description="Which model to ask there")] = ""
    judge_input_price: Annotated[
        Decimal,
        Field(
            gt=0,
            le=1_000_000,
            description="Of a million tokens of prompt, in the budgets' currency; a small one for "
            "a model that costs nothing",
        ),
    ] = Decimal(10)
    judge_output_price: Annotated[
        Decimal, Field(gt=0, le=1_000_000, description="Of a million tokens of answer")
    ] = Decimal(30)
    judge_wait_s: Annotated[
        float, Field(gt=0, le=300, description="How long a turn waits for the model's answer")
    ] = 20.0
    metrics_token: Annotated[
        SecretStr | None,
        Field(
            min_length=16, description="Bearer token that `/metrics` asks for; none: open to all"
        ),
    ] = None
    log_format: Annotated[
        str, Field(pattern="^(text|json)$", description="`text`, or `json`: a record a line")
    ] = "text"
    classroom_deadline_s: Annotated[
        int, Field(gt=0, description="How long a teacher has to look at a batch of essays")
    ] = _DAY_S
    classroom_topic: Annotated[
        str, Field(min_length=1, max_length=249, description="Where suggested authors come from")
    ] = "huleedu.batch.author.matches.suggested.v1"
    trace_reconcile_every_s: Annotated[
        float, Field(gt=0, description="How often the worker looks for deliveries nobody planned")
    ] = 60.0
    trace_celery_every_s: Annotated[
        float, Field(gt=0, description="How often Celery's beat delivers what is due")
    ] = 300.0
    trace_celery_batch: Annotated[
        int, Field(gt=0, description="How many deliveries one Celery task takes at the most")
    ] = 10
    trace_celery_metrics_port: Annotated[
        int | None,
        Field(
            ge=0,
            le=65535,
            description="Where a Celery worker answers `/metrics` for its pool, on ONEFOLD_HOST; "
            "0 for any port, none for not at all",
        ),
    ] = None
    trace_valkey_url: Annotated[
        SecretStr | None,
        Field(description="A Valkey that tells couriers what is due; without, the database does"),
    ] = None
    trace_loopback: Annotated[
        bool, Field(description="Let destinations be on this machine: for tests and demos alone")
    ] = False
    trace_folder: Annotated[
        Path | None,
        Field(
            description="Below which file destinations may write, and nowhere else; without, "
            "`traces` in ONEFOLD_HOME"
        ),
    ] = None
    trace_valkey_prefix: Annotated[
        str, Field(pattern="^[^{}]+$", description="Before every key of trace in Valkey")
    ] = "onefold-trace"
    log_level: Annotated[
        str, Field(pattern="^(debug|info|warning|error)$", description="The least that is logged")
    ] = "info"

    @model_validator(mode="after")
    def _one_broker(self) -> Self:
        if self.kafka is not None and self.valkey is not None:
            raise PydanticCustomError(
                "one_broker", "give ONEFOLD_KAFKA or ONEFOLD_VALKEY, not both"
            )
        return self

    @classmethod
    def load(cls, **overrides: object) -> Self:
        """
        The settings of this process: *overrides* over the environment over the defaults.

        Raises:
            InvalidSetting: in one line, without the value: it may be a secret. Also for a
                name in the environment that is nearly one of ours: left unread, a slip in
                `ONEFOLD_DATABASE_URL` would fill another database.
        """
        cls._refuse_slips()
        try:
            return cls(**overrides)  # type: ignore[arg-type]
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]).upper() if first["loc"] else "KAFKA"
            raise InvalidSetting(f"ONEFOLD_{name}", first["msg"]) from None

    @classmethod
    def _refuse_slips(cls) -> None:
        ours = [f"ONEFOLD_{name.upper()}" for name in cls.model_fields]
        for name in sorted(os.environ.keys() - set(ours)):
            if name.upper() in ours or not name.upper().startswith("ONEFOLD_"):
                continue
            for meant in get_close_matches(name.upper(), ours, n=1, cutoff=0.9):
                raise InvalidSetting(name, f"there is no such setting; is {meant} meant?")

    @property
    def files_of_traces(self) -> Path:
        """Below which file destinations may write."""
        return self.trace_folder or self.home / "traces"

    @property
    def event_max_age(self) -> timedelta:
        return timedelta(seconds=self.event_max_age_s)

    @property
    def learning_abandon_after(self) -> timedelta:
        return timedelta(seconds=self.learning_abandon_after_s)

    @property
    def classroom_deadline(self) -> timedelta:
        return timedelta(seconds=self.classroom_deadline_s)

    @property
    def session_idle(self) -> timedelta:
        return timedelta(seconds=self.session_idle_s)


def make_folder(folder: Path) -> None:
    """
    Make *folder* and what it is in, for its owner alone; one that is there stays as it is.

    Raises:
        InvalidSetting: it cannot be made; nothing was started.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{folder.absolute()} cannot be made ({error.strerror}): name another place"
        raise InvalidSetting("home", reason) from error
