"""The key in Redis: what may be in it, who may write it, and what a lost one means."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.flags import DesiredPhase, RedisFlag
from pend_storage.phases import Phase
from pend_storage.testing.servers import temporary_redis

from .recorder import Recorder

J, PAR, PG, P = Phase
KEY = "pend:production:phase"
RIGHTS = (
    "resetchannels ~pend:* &pend:* -@all "
    "+get +set +time +eval +publish +subscribe +unsubscribe +ping +select +client"
)
UNREACHABLE = "redis://127.0.0.1:1/0"


@pytest.fixture
def flag(redis_url: str) -> Iterator[RedisFlag]:
    made = RedisFlag(redis_url, KEY)
    yield made
    made.close()


@pytest.fixture
def hand(redis_url: str) -> Iterator[redis.Redis]:
    """Commands of an operator with redis-cli."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def test_what_is_written_is_read_and_has_a_version(
    flag: RedisFlag, hand: redis.Redis
) -> None:
    unset = flag.read()
    first = flag.write(PAR, by="ada")
    second = flag.write(PG, by='a "quoted" né \udc80')

    value = json.loads(str(hand.get(KEY)))
    assert unset is None
    assert (first.version, second.version) == (1, 2)
    assert flag.read() == second == DesiredPhase(PG, flag.place, 2)
    assert (value["phase"], value["version"]) == ("postgres-primary", 2)
    assert value["by"] == 'a "quoted" né ?'
    assert value["at"].startswith("20")


def test_the_place_names_key_and_server_and_no_password() -> None:
    tcp = RedisFlag("redis://u:secret@cache.example:6380/3", KEY).place
    unix = RedisFlag("unix:///run/r.sock?db=2&password=secret", KEY).place

    assert tcp == f"the Redis key '{KEY}' at cache.example:6380, database 3"
    assert unix == f"the Redis key '{KEY}' at /run/r.sock, database 2"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("parallel", 0),
        (" parallel\n", 0),
        ('{"phase": "parallel"}', 0),
        ('{"phase": "parallel", "version": 7, "why": "later members"}', 7),
    ],
)
def test_a_word_set_by_hand_counts_and_the_next_write_goes_on_from_it(
    flag: RedisFlag, hand: redis.Redis, text: str, version: int
) -> None:
    hand.set(KEY, text)

    read = flag.read()

    assert read == DesiredPhase(PAR, flag.place, version)
    assert flag.write(PG, by="me").version == version + 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("paralel", "unknown phase 'paralel'; did you mean 'parallel'"),
        ("", "unknown phase ''"),
        ('{"phase": "off"}', "unknown phase 'off'"),
        ('{"version": 1}', "holds no phase: .*`phase`"),
        ('{"phase": 1}', "holds no phase"),
        ('{"phase": "parallel", "version": "x"}', "holds no phase"),
        ('{"phase"', "holds no phase"),
        ('["parallel"]', "unknown phase"),
        (b"\xff", "holds no phase"),
    ],
)
def test_what_is_no_phase_is_refused_and_can_be_written_over(
    flag: RedisFlag, hand: redis.Redis, text: str | bytes, message: str
) -> None:
    hand.set(KEY, text)

    with pytest.raises(ConfigError, match=message) as caught:
        flag.read()
    written = flag.write(PAR, by="me")

    assert KEY in str(caught.value)
    assert flag.read() == written


def test_a_key_of_another_type_is_refused_and_can_be_written_over(
    flag: RedisFlag, hand: redis.Redis
) -> None:
    hand.rpush(KEY, "parallel")

    with pytest.raises(ConfigError, match="is not a text"):
        flag.read()

    assert flag.write(PAR, by="me").version == 1
    assert flag.read() == DesiredPhase(PAR, flag.place, 1)


def test_many_writers_give_every_version_once(redis_url: str) -> None:
    flags = [RedisFlag(redis_url, KEY) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        written = pool.map(lambda at: flags[at % 8].write(PAR, by="me"), range(80))
        versions = sorted(wanted.version for wanted in written)
    for flag in flags:
        flag.close()

    assert versions == [*range(1, 81)]


def test_long_version_numbers_stay_whole(flag: RedisFlag, hand: redis.Redis) -> None:
    hand.set(KEY, json.dumps({"phase": "parallel", "version": 2**52}))

    assert flag.write(PG, by="me").version == 2**52 + 1
    assert flag.read() == DesiredPhase(PG, flag.place, 2**52 + 1)


# -- a Redis that has forgotten -----------------------------------------------------------


def test_a_key_that_was_there_and_is_gone_is_no_wish(
    flag: RedisFlag, hand: redis.Redis
) -> None:
    flag.write(PG, by="me")
    hand.flushdb()

    with pytest.raises(ConfigError, match="is gone; it was 'postgres-primary'"):
        flag.read()

    assert flag.write(PG, by="me") == flag.read()


def test_a_version_that_went_back_is_no_wish(
    flag: RedisFlag, hand: redis.Redis
) -> None:
    flag.write(PAR, by="me")
    backup = str(hand.get(KEY))
    flag.write(PG, by="me")
    hand.set(KEY, backup)

    with pytest.raises(ConfigError, match=r"went back from version 2 .* to 1"):
        flag.read()
    again = flag.write(PG, by="me")

    assert flag.read() == again


def test_a_key_that_was_removed_and_set_again_counts(
    flag: RedisFlag, hand: redis.Redis, redis_url: str
) -> None:
    flag.write(PAR, by="me")
    flag.write(PG, by="me")
    hand.delete(KEY)
    other = RedisFlag(redis_url, KEY)

    written = other.write(J, by="another operator")
    other.close()

    assert written.version == 1
    assert flag.read() == written


def test_a_bare_word_counts_whatever_was_there(
    flag: RedisFlag, hand: redis.Redis
) -> None:
    flag.write(PAR, by="me")
    hand.set(KEY, "json-only")

    assert flag.read() == DesiredPhase(J, flag.place)


# -- a Redis that cannot be reached -------------------------------------------------------


def test_nobody_there_is_said_at_once() -> None:
    flag = RedisFlag(UNREACHABLE, KEY)

    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1") as read:
        flag.read()
    with pytest.raises(StoreUnavailable) as written:
        flag.write(PAR, by="me")

    assert read.value.outcome_known
    assert written.value.outcome_known  # the clock was asked first


def test_a_server_that_does_not_answer_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        flag = RedisFlag(
            f"redis://127.0.0.1:{silent.getsockname()[1]}/0", KEY, timeout=0.2
        )
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable):
            flag.read()
        flag.close()

    assert time.monotonic() - begun < 10  # redis-py alone would take a minute


def test_a_write_without_an_answer_may_have_happened() -> None:
    with temporary_redis() as server:
        flag = RedisFlag(server.url, KEY, timeout=0.2)
        with redis.Redis.from_url(server.url) as admin:
            admin.client_pause(30_000, all=False)  # writes only: the clock answers
            with pytest.raises(StoreUnavailable) as caught:
                flag.write(PAR, by="me")
            admin.client_unpause()
        flag.close()

    assert not caught.value.outcome_known


def test_a_server_that_refuses_the_user_is_not_there_for_him(redis_url: str) -> None:
    address, _, _ = redis_url.partition("?")
    flag = RedisFlag(f"{address}?username=unknown&password=secret", KEY)

    with pytest.raises(StoreUnavailable) as caught:
        flag.read()

    assert "secret" not in str(caught.value)


def test_a_user_needs_no_more_than_the_documentation_says(
    redis_url: str, hand: redis.Redis
) -> None:
    client: Any = hand
    client.execute_command("ACL", "SETUSER", "pend", "on", ">word", *RIGHTS.split())
    flag = RedisFlag(f"{redis_url}&username=pend&password=word", KEY)
    told: Recorder[None] = Recorder()
    try:
        stop = flag.subscribe(lambda: told(None))
        told.wait(lambda all_: len(all_) >= 1)
        flag.write(PAR, by="me")
        told.wait(lambda all_: len(all_) >= 2)
        stop()

        assert flag.read() == DesiredPhase(PAR, flag.place, 1)
    finally:
        flag.close()
        client.execute_command("ACL", "DELUSER", "pend")


def test_a_server_that_only_reads_says_so(redis_url: str, hand: redis.Redis) -> None:
    with temporary_redis() as server, redis.Redis.from_url(server.url) as admin:
        admin.replicaof("127.0.0.1", "1")
        flag = RedisFlag(server.url, KEY)
        with pytest.raises(StoreUnavailable, match="replica") as caught:
            flag.write(PAR, by="me")
        flag.close()

    assert caught.value.outcome_known


@pytest.mark.parametrize(
    "url",
    [
        "cache.example",
        "redis://h:port/0",
        "redis://u:se#cret@h:6379/0",
        "redis://h/0?no_such_option=1",
    ],
)
def test_a_url_that_makes_no_sense_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(ConfigError, match="cannot be used") as caught:
        RedisFlag(url, KEY)

    assert url not in str(caught.value)
    assert "cret" not in str(caught.value)


# -- broadcasts ---------------------------------------------------------------------------


def test_a_listener_is_told_when_it_is_ready_and_of_every_write(
    flag: RedisFlag, redis_url: str
) -> None:
    told: Recorder[None] = Recorder()
    stop = flag.subscribe(lambda: told(None))
    told.wait(lambda all_: len(all_) >= 1)
    other = RedisFlag(redis_url, KEY)

    other.write(PAR, by="me")
    told.wait(lambda all_: len(all_) >= 2)
    other.write(PAR, by="me")
    told.wait(lambda all_: len(all_) >= 3)
    stop()
    other.write(PAR, by="me")
    other.close()

    assert len(told.all) == 3
    assert not [t for t in threading.enumerate() if t.name == "pend-flag-redis"]


def test_a_listener_lives_through_the_death_of_the_server() -> None:
    with temporary_redis() as server:
        flag = RedisFlag(server.url, KEY)
        told: Recorder[None] = Recorder()
        stop = flag.subscribe(lambda: told(None))
        told.wait(lambda all_: len(all_) >= 1)

        server.kill()
        told.wait(lambda all_: len(all_) >= 2)  # the end of the connection
        server.start()
        told.wait(lambda all_: len(all_) >= 3)  # subscribed again
        flag.write(PAR, by="me")
        told.wait(lambda all_: len(all_) >= 4)

        stop()
        flag.close()


def test_listening_ends_while_the_server_is_away() -> None:
    flag = RedisFlag(UNREACHABLE, KEY)
    told: Recorder[None] = Recorder()

    flag.subscribe(lambda: told(None))()

    assert told.all == []
    assert not [t for t in threading.enumerate() if t.name == "pend-flag-redis"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_has_a_connection_of_its_own(flag: RedisFlag) -> None:
    flag.write(PAR, by="parent")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for _ in range(100):
                flag.write(PG, by="child")
            code = 0
        finally:
            os._exit(code)
    for _ in range(100):
        flag.write(PG, by="parent")
    _, status = os.waitpid(child, 0)

    wanted = flag.read()
    assert status == 0
    assert wanted is not None
    assert wanted.version == 201
