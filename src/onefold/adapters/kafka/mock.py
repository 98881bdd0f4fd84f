"""
librdkafka's built-in mock cluster: a Kafka broker that needs nothing but the wheel.

For development and fast tests. Messages are kept in this process's memory and end with it;
aborted transactions are visible, and settings of topics are not kept. `python -m
onefold.adapters.kafka.mock` runs one, says where, and waits to be interrupted.
"""

import ctypes
from collections.abc import Sequence
from signal import SIGINT, SIGTERM, sigwait
from types import TracebackType
from typing import Any, Self

from confluent_kafka import cimpl

from onefold.errors import Unsupported

_POINTER, _INT, _STRING = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
_PRODUCER = 0

# The wheel's Python side offers the mock cluster with fixed numbers of partitions and a
# fixed three seconds before a group's first assignment; its C side offers all of it.
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "rd_kafka_conf_new": (_POINTER, []),
    "rd_kafka_conf_set": (_INT, [_POINTER, _STRING, _STRING, _STRING, ctypes.c_size_t]),
    "rd_kafka_new": (_POINTER, [_INT, _POINTER, _STRING, ctypes.c_size_t]),
    "rd_kafka_destroy": (None, [_POINTER]),
    "rd_kafka_mock_cluster_new": (_POINTER, [_POINTER, _INT]),
    "rd_kafka_mock_cluster_destroy": (None, [_POINTER]),
    "rd_kafka_mock_cluster_bootstraps": (_STRING, [_POINTER]),
    "rd_kafka_mock_topic_create": (_INT, [_POINTER, _STRING, _INT, _INT]),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [_POINTER, ctypes.c_int32]),
    "rd_kafka_mock_push_request_errors_array": (
        None,
        [_POINTER, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(_INT)],
    ),
    "rd_kafka_mock_broker_set_down": (_INT, [_POINTER, ctypes.c_int32]),
    "rd_kafka_mock_broker_set_up": (_INT, [_POINTER, ctypes.c_int32]),
}


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(cimpl.__file__)  # finds what the extension was linked with
    for name, (result, arguments) in _FUNCTIONS.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise Unsupported("this librdkafka", "the mock cluster") from None
        function.restype, function.argtypes = result, arguments
    return library


class MockCluster:
    """
    A running mock cluster; also a context manager that stops it.

    Args:
        brokers: How many.
        partitions: Of topics that are made by being named.

    Raises:
        Unsupported: this build of librdkafka has none.
    """

    def __init__(self, brokers: int = 1) -> None:
        self._library = _library()
        self._brokers = brokers
        options = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set(options, b"log_level", b"3", None, 0)
        self._client = self._library.rd_kafka_new(_PRODUCER, options, None, 0)
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, brokers)
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        self.bootstrap: str = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def create(self, topic: str, partitions: int) -> None:
        """Make *topic*."""
        self._library.rd_kafka_mock_topic_create(
            self._cluster, topic.encode(), partitions, self._brokers
        )

    def refuse(self, api_key: int, codes: Sequence[int]) -> None:
        """Answer the next requests of that kind (0 is Produce) with these error codes."""
        array = (_INT * len(codes))(*codes)
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, api_key, len(codes), array
        )

    def down(self) -> None:
        """Let every broker be unreachable."""
        for broker in range(1, self._brokers + 1):
            self._library.rd_kafka_mock_broker_set_down(self._cluster, broker)

    def up(self) -> None:
        """Let every broker be reachable again."""
        for broker in range(1, self._brokers + 1):
            self._library.rd_kafka_mock_broker_set_up(self._cluster, broker)

    def close(self) -> None:
        """Stop it; what it held is gone. Safe twice."""
        if self._cluster:
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
            self._library.rd_kafka_destroy(self._client)
            self._cluster = self._client = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.close()


def main() -> None:
    """Run a mock cluster until interrupted."""
    with MockCluster() as cluster:
        print(cluster.bootstrap, flush=True)  # noqa: T201 (what it is for)
        sigwait({SIGINT, SIGTERM})


if __name__ == "__main__":
    main()
