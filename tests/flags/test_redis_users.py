"""The users of Redis that the documentation describes: what they can do, and what not."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis

from pend_storage.errors import StoreUnavailable
from pend_storage.flags import RedisFlag
from pend_storage.phases import Phase
from pend_storage.testing.servers import EmbeddedRedis, temporary_redis

from .recorder import Recorder

J, PAR, PG, P = Phase
KEY = "pend:production:phase"
PAGE = Path(__file__).parents[2] / "docs/how-to/phase-flag.md"


def commands() -> list[list[str]]:
    """The lines of the page that set up the users."""
    lines = PAGE.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    found = [shlex.split(line) for line in lines if line.startswith("ACL SETUSER")]
    assert [words[2] for words in found] == ["pend-server", "pend-operator", "default"]
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with temporary_redis() as started:
        with redis.Redis.from_url(started.url) as admin:
            for words in commands():
                admin.execute_command(*words)
        yield started


def flag_of(server: EmbeddedRedis, user: str, password: str) -> RedisFlag:
    path, _, _ = server.url.partition("?")
    query = f"db=0&username={user}&password={quote(password)}"
    return RedisFlag(f"{path}?{query}", KEY, signing_key="s" * 32)


@pytest.fixture
def servers_flag(server: EmbeddedRedis) -> Iterator[RedisFlag]:
    flag = flag_of(server, "pend-server", "SERVER_PASSWORD")
    yield flag
    flag.close()


@pytest.fixture
def operators_flag(server: EmbeddedRedis) -> Iterator[RedisFlag]:
    flag = flag_of(server, "pend-operator", "OPERATOR_PASSWORD")
    yield flag
    flag.close()


def test_an_operator_writes_and_a_server_reads_and_hears_of_it(
    servers_flag: RedisFlag, operators_flag: RedisFlag
) -> None:
    told: Recorder[None] = Recorder()
    stop = servers_flag.subscribe(lambda: told(None))
    told.wait(lambda all_: len(all_) >= 1)

    written = operators_flag.write(PAR, by="ann")
    told.wait(lambda all_: len(all_) >= 2)
    stop()

    assert servers_flag.read() == operators_flag.read() == written


def test_a_server_can_neither_write_nor_broadcast(
    servers_flag: RedisFlag, operators_flag: RedisFlag
) -> None:
    written = operators_flag.write(PAR, by="ann")
    client: Any = servers_flag._client()

    with pytest.raises(StoreUnavailable):
        servers_flag.write(J, by="a server")
    for command in (
        ["SET", KEY, "json-only"],
        ["DEL", KEY],
        ["PUBLISH", servers_flag.channel, "1"],
        ["EVAL", "return redis.call('SET', KEYS[1], 'x')", "1", KEY],
        ["GET", "another:key"],
        ["CONFIG", "GET", "*"],
        ["KEYS", "*"],
    ):
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*command)

    assert servers_flag.read() == written


def test_an_operator_can_do_no_more_than_set_the_flag(
    operators_flag: RedisFlag,
) -> None:
    client: Any = operators_flag._client()

    for command in (["FLUSHALL"], ["SET", "another:key", "x"], ["CONFIG", "GET", "*"]):
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*command)


def test_a_client_without_a_name_does_not_get_in(server: EmbeddedRedis) -> None:
    path, _, _ = server.url.partition("?")
    flag = RedisFlag(f"{path}?db=0", KEY)

    with pytest.raises(StoreUnavailable, match="uthenticat"):
        flag.read()
    flag.close()
