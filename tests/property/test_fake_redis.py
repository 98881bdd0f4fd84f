"""fakeredis beside a real Valkey: the same commands, the same replies."""

from itertools import count
from typing import Any

import redis
from fakeredis import FakeRedis, FakeServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support_valkey import Valkey

Command = tuple[str | int, ...]

# What is known to differ, and left out of the comparison: a client's code must not rely on it.
DIFFERENCES = {
    "time": "a real server's keys expire by its own clock; the fake's by the test's",
    "errors of streams": "XREADGROUP of a group that is not there, or of another type, is an "
    "error of either, but the fake's has another text, or is an AttributeError of its own",
    "error texts": "of all others the first word is the same, such as WRONGTYPE",
}

KEYS, FIELDS, VALUES = ("k1", "k2"), ("f", "g"), ("", "1", "x")
_key, _field, _value = map(st.sampled_from, (KEYS, FIELDS, VALUES))
_score = st.integers(-2, 2)
_entry = st.integers(1, 4).map(lambda n: f"{n}-0")
_CLAIM = """
    if redis.call('SET', KEYS[1], ARGV[1], 'NX') then return 1 end
    return redis.call('GET', KEYS[1])
"""
_RELEASE = """
    if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
    return 0
"""


def _command(*parts: Any) -> st.SearchStrategy[Command]:
    return st.tuples(*(p if isinstance(p, st.SearchStrategy) else st.just(p) for p in parts))


_strings = st.one_of(
    _command("SET", _key, _value),
    _command("SET", _key, _value, st.sampled_from(["NX", "XX", "GET", "KEEPTTL"])),
    _command("SET", _key, _value, "PX", 100_000),
    _command("SET", _key, _value, "NX", "EX", 100),
    _command("GET", _key),
    _command("GETDEL", _key),
    _command("DEL", _key, _key),
    _command("EXISTS", _key, _key),
    _command("INCRBY", _key, _score),
    _command("EXPIRE", _key, st.sampled_from([200, -1]), st.sampled_from(["NX", "XX", "GT", "LT"])),
    _command("PERSIST", _key),
    _command("TTL", _key),
    _command("TYPE", _key),
)
_hashes = st.one_of(
    _command("HSET", _key, _field, _value, _field, _value),
    _command("HSETNX", _key, _field, _value),
    _command("HGET", _key, _field),
    _command("HMGET", _key, "f", "g"),
    _command("HGETALL", _key),
    _command("HDEL", _key, _field),
    _command("HINCRBY", _key, _field, _score),
    _command("HLEN", _key),
)
_sorted_sets = st.one_of(
    _command("ZADD", _key, _score, _field),
    _command("ZADD", _key, st.sampled_from(["NX", "XX", "GT", "LT"]), "CH", _score, _field),
    _command("ZSCORE", _key, _field),
    _command("ZCARD", _key),
    _command("ZRANGE", _key, 0, -1, "WITHSCORES"),
    _command("ZRANGEBYSCORE", _key, "-inf", _score, "LIMIT", 0, 1),
    _command("ZREM", _key, _field, _field),
    _command("ZPOPMIN", _key),
    _command("ZREMRANGEBYSCORE", _key, "-inf", _score),
)
_streams = st.one_of(
    _command("XADD", _key, _entry, _field, _value),
    _command("XLEN", _key),
    _command("XRANGE", _key, "-", "+"),
    _command("XGROUP", "CREATE", _key, "g", st.sampled_from(["0", "$"]), "MKSTREAM"),
    _command("XREADGROUP", "GROUP", "g", "me", "COUNT", 1, "STREAMS", _key, ">"),
    _command("XREADGROUP", "GROUP", "g", "me", "STREAMS", _key, "0"),
    _command("XACK", _key, "g", _entry, _entry),
    _command("XDEL", _key, _entry),
    _command("XPENDING", _key, "g"),
    _command("XAUTOCLAIM", _key, "g", "other", 0, "0-0", "COUNT", 1),
)
_scripts = st.one_of(
    _command("EVAL", _CLAIM, 1, _key, _value),
    _command("EVAL", _RELEASE, 1, _key, _value),
)
_programs = st.lists(st.one_of(_strings, _hashes, _sorted_sets, _streams, _scripts), max_size=12)

_numbers = count()


def _said(client: Any, command: Command, prefix: str) -> Any:
    """The reply; of an error its first word, of a hash its pairs in one order."""
    named = [f"{prefix}{part}" if part in KEYS else part for part in command]
    try:
        reply = client.execute_command(*named)
    except (redis.ResponseError, AttributeError) as error:
        stream = str(command[0]).startswith("X")
        return "error" if stream else f"error {str(error).split()[0]}"
    return sorted(reply.items()) if isinstance(reply, dict) else reply


def _without_prefix(reply: Any, prefix: str) -> str:
    return repr(reply).replace(prefix, "")


@given(program=_programs)
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_the_fake_replies_as_a_real_valkey(valkey: Valkey, program: list[Command]) -> None:
    """Strings with expiry, hashes, sorted sets, streams with groups, scripts."""
    prefix = f"{{{valkey.prefix}-{next(_numbers)}}}:"
    fake = FakeRedis(server=FakeServer(server_type="valkey"))
    with redis.Redis.from_url(valkey.url.replace("valkey://", "redis://")) as real:
        for command in program:
            replies = [_without_prefix(_said(c, command, prefix), prefix) for c in (real, fake)]
            assert replies[0] == replies[1], command


def test_what_differs_is_listed() -> None:
    """Whoever uses the fake can read what it does not promise."""
    assert all(DIFFERENCES.values())
