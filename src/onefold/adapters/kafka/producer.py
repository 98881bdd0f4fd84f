"""
Sends messages so that no later one of a key stands in the log without an earlier one.

librdkafka's idempotent producer numbers its messages: a broker takes none before the one
ahead of it. What is left to us: a message that never enters the queue (too large), a batch
that a broker refuses (`enable.gapless.guarantee` stops the producer), and time. Whatever
ends a producer, the next call gets a new one.
"""

from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock
from time import monotonic
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from onefold.adapters.kafka.errors import at_the_border, translate
from onefold.errors import OnefoldError, StoreUnavailable
from onefold.ports.transport import Outgoing

_POLL_S = 0.05
_GONE_S = 2.0  # for the reports of a producer that was given up
_EARLIER = "an earlier message of its key was not sent"

Outcome = OnefoldError | None


class KafkaSender:
    """
    A producer that is made when it is needed, and made anew after it failed for good.

    Args:
        options: librdkafka's.
        timeout_s: After which a call gives up what has not been answered.
    """

    def __init__(self, options: dict[str, Any], *, timeout_s: float) -> None:
        self._options, self._timeout_s = options, timeout_s
        self._limit_bytes = int(options.get("message.max.bytes", 1_000_000))
        self._making = Lock()
        self._producer: Producer | None = None

    def send(self, messages: Sequence[Outgoing]) -> list[Outcome]:
        """Send and wait for the broker's answers. Blocks: for a thread; several may call."""
        call = _Call(messages, self._limit_bytes)
        deadline = monotonic() + self._timeout_s
        producer = self._current()
        call.enqueue(producer, deadline)
        call.await_reports(producer, until=deadline)
        if call.unanswered or call.ended:
            self._give_up(producer, call)
        return call.outcomes()

    def close(self) -> None:
        """Let go; calls in flight have been waited for by their callers."""
        with self._making:
            producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()

    def _current(self) -> Producer:
        with self._making, at_the_border():
            if self._producer is None:
                self._producer = Producer(self._options)
            return self._producer

    def _give_up(self, producer: Producer, call: "_Call") -> None:
        with self._making:
            if self._producer is producer:
                self._producer = None
        producer.purge()  # also what other calls have in it: they are told so
        until = monotonic() + _GONE_S
        while call.unanswered and monotonic() < until:
            call.serve(producer)


class _Call:
    """The messages of one call and what became of each."""

    def __init__(self, messages: Sequence[Outgoing], limit_bytes: int) -> None:
        self._messages, self._limit_bytes = messages, limit_bytes
        self._reports: dict[int, Outcome] = {}
        self.ended = False  # the producer will not serve again

    @property
    def unanswered(self) -> bool:
        return len(self._reports) < len(self._messages)

    def enqueue(self, producer: Producer, deadline: float) -> None:
        """Hand all to the producer, except what follows a refused one of its key."""
        refused: set[tuple[str, bytes]] = set()
        for index, message in enumerate(self._messages):
            if message.key is not None and (message.topic, message.key) in refused:
                self._reports[index] = StoreUnavailable(_EARLIER)
                continue
            error = self._produce(producer, message, partial(self._report, index), deadline)
            if error is not None:
                self._reports[index] = error
                if message.key is not None:
                    refused.add((message.topic, message.key))

    def await_reports(self, producer: Producer, *, until: float) -> None:
        """Serve the producer until all is answered, it has ended, or time is over."""
        while self.unanswered and not self.ended and monotonic() < until:
            self.serve(producer)

    def serve(self, producer: Producer) -> None:
        """Let the producer report what it has to."""
        try:
            producer.poll(_POLL_S)
        except KafkaException:  # it is at its end; the messages' own reports say why
            self.ended = True

    def outcomes(self) -> list[Outcome]:
        """For each message None or an error; after a key's first error, all of the key's."""
        failed: set[tuple[str, bytes]] = set()
        outcomes = []
        for index, message in enumerate(self._messages):
            outcome = self._reports.get(index, StoreUnavailable("the broker did not answer"))
            if message.key is not None:
                if outcome is None and (message.topic, message.key) in failed:
                    outcome = StoreUnavailable(_EARLIER)
                elif outcome is not None:
                    failed.add((message.topic, message.key))
            outcomes.append(outcome)
        return outcomes

    def _produce(
        self,
        producer: Producer,
        message: Outgoing,
        report: Callable[[KafkaError | None, Any], None],
        deadline: float,
    ) -> Outcome:
        while True:
            try:
                producer.produce(
                    message.topic,
                    message.value,
                    message.key,
                    on_delivery=report,
                    headers=list(message.headers),
                )
            except BufferError:  # full; room comes with the reports of what is ahead
                self.serve(producer)
                if self.ended or monotonic() > deadline:
                    return StoreUnavailable("the producer's queue stayed full")
            except KafkaException as error:
                return self._judge(error.args[0])
            else:
                return None

    def _report(self, index: int, error: KafkaError | None, _: Any) -> None:
        self._reports[index] = None if error is None else self._judge(error)

    def _judge(self, error: KafkaError) -> OnefoldError:
        if error.fatal() or error.code() in {KafkaError._FATAL, KafkaError._GAPLESS_GUARANTEE}:
            self.ended = True
        return translate(error, limit_bytes=self._limit_bytes)
