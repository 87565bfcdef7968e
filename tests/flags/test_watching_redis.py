"""Watching a key in Redis: broadcasts, missed ones, and a server that dies."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from pend_storage.events import Event
from pend_storage.flags import (
    ChainedFlag,
    DesiredPhase,
    FileFlag,
    FlagWatcher,
    RedisFlag,
)
from pend_storage.phases import Phase
from pend_storage.testing.servers import EmbeddedRedis, temporary_redis

from .recorder import (
    OFTEN,
    PATIENCE,
    SELDOM,
    Recorder,
    Watch,
    named,
    named_last,
    until,
    words,
)

J, PAR, PG, P = Phase
KEY = "pend:production:phase"


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    """A client of the test's own, which records its messages."""
    kept = {"appendonly": "yes", "appendfsync": "always"}
    with temporary_redis(settings=kept) as started:
        yield started


@pytest.fixture
def forgetful() -> Iterator[EmbeddedRedis]:
    """One that forgets everything when it stops."""
    with temporary_redis() as started:
        yield started


def write(url: str, phase: Phase) -> None:
    flag = RedisFlag(url, KEY)
    flag.write(phase, by="another process")
    flag.close()


def test_twenty_watchers_hear_a_broadcast_long_before_they_would_read_again(
    redis_url: str, events: Recorder[Event], changes: Recorder[DesiredPhase]
) -> None:
    write(redis_url, J)
    with ExitStack() as stack:
        for _ in range(20):
            flag = RedisFlag(redis_url, KEY)
            stack.callback(flag.close)
            watcher = FlagWatcher(flag, changes, events, interval=SELDOM)
            stack.callback(watcher.close)
        changes.wait(lambda all_: len(all_) >= 20)
        with redis.Redis.from_url(redis_url) as admin:
            until_subscribed(admin, 20)

        write(redis_url, PAR)

        changes.wait(lambda all_: len(all_) >= 40)
    assert words(changes) == ["json-only"] * 20 + ["parallel"] * 20
    assert events.all == []


def until_subscribed(admin: redis.Redis, wanted: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while (
        dict(admin.pubsub_numsub(f"{KEY}:changed")).get(f"{KEY}:changed".encode(), 0)
        < wanted
    ):
        assert time.monotonic() < deadline, "they do not subscribe"
        time.sleep(0.01)


PROCESS = """
import sys
from pend_storage.flags import FlagWatcher, RedisFlag
def tell(wanted):
    print(wanted.phase.value, flush=True)
flag = RedisFlag(sys.argv[1], sys.argv[2])
watcher = FlagWatcher(flag, tell, interval=3600)
sys.stdin.read()
watcher.close()
flag.close()
"""


@pytest.mark.parametrize("count", [5, pytest.param(20, marks=pytest.mark.deep)])
def test_many_processes_hear_a_broadcast(redis_url: str, count: int) -> None:
    write(redis_url, J)
    command = [sys.executable, "-c", PROCESS, redis_url, KEY]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(count)
        ]
        for process in processes:
            stack.callback(process.kill)
        first = [answer(process) for process in processes]
        with redis.Redis.from_url(redis_url) as admin:
            until_subscribed(admin, count)
        write(redis_url, PAR)
        begun = time.monotonic()
        second = [answer(process) for process in processes]
        seconds = time.monotonic() - begun
        rest = [process.communicate(timeout=PATIENCE)[0] for process in processes]

    assert first == ["json-only"] * count
    assert second == ["parallel"] * count
    assert seconds < 60  # as a rule some milliseconds; without the broadcast an hour
    assert rest == [""] * count
    assert [process.returncode for process in processes] == [0] * count


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_word_set_by_hand_is_noticed_without_a_broadcast(
    redis_url: str, watch: Watch, changes: Recorder[DesiredPhase]
) -> None:
    flag = RedisFlag(redis_url, KEY)
    watch(flag, OFTEN)
    with redis.Redis.from_url(redis_url) as hand:
        hand.set(KEY, "parallel")
        until(changes, "parallel")
        hand.set(KEY, "postgres-primary")
        until(changes, "parallel", "postgres-primary")


def test_a_redis_that_dies_changes_nothing_and_is_heard_again_afterwards(
    server: EmbeddedRedis,
    watch: Watch,
    changes: Recorder[DesiredPhase],
    events: Recorder[Event],
    tmp_path: Path,
) -> None:
    file = tmp_path / "pend.toml"
    file.write_text('[environments.x]\nphase = "json-only"\n')
    write(server.url, PG)
    watch(ChainedFlag([RedisFlag(server.url, KEY), FileFlag(file, "x")]), 0.05)
    until(changes, "postgres-primary")

    server.kill()
    events.wait(lambda all_: len(all_) >= 1)
    server.start()
    events.wait(lambda all_: len(all_) >= 2)
    write(server.url, P)
    until(changes, "postgres-primary", "postgres-only")

    assert named(events) == ["flag-unreachable", "flag-back"]


def test_broadcasts_are_heard_after_a_restart(
    server: EmbeddedRedis, watch: Watch, changes: Recorder[DesiredPhase]
) -> None:
    write(server.url, J)
    watch(RedisFlag(server.url, KEY), SELDOM)
    until(changes, "json-only")

    for phase in (PAR, PG):
        server.restart()
        with redis.Redis.from_url(server.url) as admin:
            until_subscribed(admin, 1)
        write(server.url, phase)
        until(
            changes, *(p.value for p in Phase if p.value <= phase.value and p is not P)
        )


def test_what_was_broadcast_while_nobody_could_hear_is_read_at_the_return(
    server: EmbeddedRedis, watch: Watch, changes: Recorder[DesiredPhase]
) -> None:
    write(server.url, J)
    watch(RedisFlag(server.url, KEY), SELDOM)
    until(changes, "json-only")
    with redis.Redis.from_url(server.url) as admin:
        until_subscribed(admin, 1)
        with admin.pipeline() as both:  # they cannot subscribe in between
            both.client_kill_filter(_type="pubsub")
            both.set(KEY, "parallel")
            both.execute()

    until(changes, "json-only", "parallel")


def test_a_redis_that_lost_its_data_does_not_let_the_file_decide(
    forgetful: EmbeddedRedis,
    watch: Watch,
    changes: Recorder[DesiredPhase],
    events: Recorder[Event],
    tmp_path: Path,
) -> None:
    file = tmp_path / "pend.toml"
    file.write_text('[environments.x]\nphase = "json-only"\n')
    write(forgetful.url, PG)
    both = ChainedFlag([RedisFlag(forgetful.url, KEY), FileFlag(file, "x")])
    watch(both, 0.05)
    until(changes, "postgres-primary")

    forgetful.restart()
    events.wait(lambda all_: "flag-unknown" in [event.name for event in all_])
    assert words(changes) == ["postgres-primary"]
    both.write(PG, by="the operator")
    events.wait(lambda all_: named_last(all_) == "flag-back")

    assert file.read_text() == '[environments.x]\nphase = "json-only"\n'
    assert {wanted.phase for wanted in changes.all} == {PG}


def test_a_wrong_word_in_redis_does_not_let_the_file_decide(
    redis_url: str,
    watch: Watch,
    changes: Recorder[DesiredPhase],
    events: Recorder[Event],
    tmp_path: Path,
) -> None:
    file = tmp_path / "pend.toml"
    file.write_text('[environments.x]\nphase = "json-only"\n')
    write(redis_url, PG)
    watch(ChainedFlag([RedisFlag(redis_url, KEY), FileFlag(file, "x")]), OFTEN)
    until(changes, "postgres-primary")
    with redis.Redis.from_url(redis_url) as hand:
        hand.set(KEY, "posgres-only")
        events.wait(lambda all_: len(all_) >= 1)
        hand.set(KEY, "postgres-only")
        until(changes, "postgres-primary", "postgres-only")

    assert named(events) == ["flag-unknown", "flag-back"]
    assert "did you mean 'postgres-only'" in events.all[0].message
