"""Who watches the flag hears of every change, and of nothing else."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.events import Event
from pend_storage.flags import (
    FileFlag,
    FirstSet,
    FixedFlag,
    FlagSource,
    FlagWatcher,
    RedisFlag,
    Wanted,
)
from pend_storage.phases import Phase
from pend_storage.testing.servers import EmbeddedRedis, temporary_redis

from .recorder import PATIENCE, Recorder, ScriptedFlag, named, named_last, words

J, PAR, PG, P = Phase
KEY = "pend:production:phase"
SELDOM = 3600.0
OFTEN = 0.01

Watch = Callable[..., FlagWatcher]


@pytest.fixture
def watch(events: Recorder[Event], changes: Recorder[Wanted]) -> Iterator[Watch]:
    """Watch a source until the end of the test."""
    with ExitStack() as stack:

        def begin(source: FlagSource, interval: float = SELDOM) -> FlagWatcher:
            watcher = FlagWatcher(source, changes, events, interval=interval)
            stack.callback(watcher.close)
            return watcher

        yield begin


def until(changes: Recorder[Wanted], *expected: str) -> None:
    changes.wait(lambda seen: len(seen) >= len(expected))
    assert words(changes) == [*expected]


def reads(flag: ScriptedFlag, more: int = 3) -> None:
    """Wait until it was read a few times more."""
    enough, deadline = flag.reads + more, time.monotonic() + PATIENCE
    while flag.reads < enough:
        assert time.monotonic() < deadline, "nobody reads the flag"
        time.sleep(0.001)


# -- any source ---------------------------------------------------------------------------


def test_the_first_reading_counts_and_so_does_every_change(
    watch: Watch, changes: Recorder[Wanted]
) -> None:
    flag = FixedFlag(J)
    watch(flag)
    until(changes, "json-only")

    flag.write(PAR, by="me")

    until(changes, "json-only", "parallel")


def test_the_same_word_again_is_no_change_but_another_version_is(
    watch: Watch, changes: Recorder[Wanted]
) -> None:
    flag = ScriptedFlag(Wanted(PAR, "here", 1))
    watch(flag, OFTEN)
    reads(flag)
    until(changes, "parallel")

    flag.say(Wanted(PAR, "here", 2))

    until(changes, "parallel", "parallel")


def test_a_missed_broadcast_is_made_up_for_by_reading(
    watch: Watch, changes: Recorder[Wanted]
) -> None:
    flag = ScriptedFlag(Wanted(J, "here"))
    watch(flag, OFTEN)
    until(changes, "json-only")

    flag.says = Wanted(PAR, "here")  # tells nobody

    until(changes, "json-only", "parallel")


def test_a_flag_that_is_set_nowhere_wants_nothing(
    watch: Watch, changes: Recorder[Wanted], events: Recorder[Event]
) -> None:
    flag = ScriptedFlag()
    watch(flag, OFTEN)
    reads(flag)
    flag.say(Wanted(PAR, "here"))
    until(changes, "parallel")
    flag.say(None)
    reads(flag)

    assert words(changes) == ["parallel"]
    assert events.all == []


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        (
            StoreUnavailable("refused", store="Redis"),
            ("flag-unreachable", "Redis: refused"),
        ),
        (
            ConfigError("here: unknown phase 'off'"),
            ("flag-unknown", "here: unknown phase 'off'"),
        ),
        (
            RuntimeError("a provider of somebody else's"),
            ("flag-unreachable", "the script: RuntimeError"),
        ),
    ],
)
def test_trouble_is_reported_once_an_episode_and_so_is_its_end(
    watch: Watch,
    changes: Recorder[Wanted],
    events: Recorder[Event],
    trouble: Exception,
    expected: tuple[str, str],
) -> None:
    name, told = expected
    flag = ScriptedFlag(Wanted(PAR, "here"))
    watch(flag, OFTEN)
    until(changes, "parallel")
    for episode in (1, 2):
        flag.say(trouble)
        reads(flag)
        assert named(events) == [name, "flag-back"] * (episode - 1) + [name]
        flag.say(Wanted(PAR, "here"))
        reads(flag)
        assert named(events) == [name, "flag-back"] * episode

    assert words(changes) == ["parallel"]  # nothing changed by that
    first, back = events.all[:2]
    assert (first.level, back.level) == (logging.WARNING, logging.INFO)
    assert told in first.message
    assert back.message == "the phase flag can be read again: here is 'parallel'"


def test_another_wrong_word_is_another_report(
    watch: Watch, events: Recorder[Event]
) -> None:
    flag = ScriptedFlag(ConfigError("unknown phase 'a'"))
    watch(flag, OFTEN)
    reads(flag)
    flag.say(ConfigError("unknown phase 'b'"))
    reads(flag)
    flag.say(StoreUnavailable("one reason", store="Redis"))
    reads(flag)
    flag.say(StoreUnavailable("other words for it", store="Redis"))
    reads(flag)
    flag.say(None)
    reads(flag)

    assert named(events) == [
        "flag-unknown",
        "flag-unknown",
        "flag-unreachable",
        "flag-back",
    ]
    assert events.all[-1].message.endswith("it is not set")


def test_a_change_while_the_flag_was_away_is_noticed_afterwards(
    watch: Watch, changes: Recorder[Wanted]
) -> None:
    flag = ScriptedFlag(Wanted(J, "here"))
    watch(flag)
    until(changes, "json-only")
    flag.say(StoreUnavailable("down", store="Redis"))

    flag.say(Wanted(PAR, "here"))

    until(changes, "json-only", "parallel")


def test_a_listener_that_fails_is_reported_and_called_again_at_the_next_change(
    events: Recorder[Event],
) -> None:
    flag = FixedFlag(J)
    seen: Recorder[Wanted] = Recorder()

    def fail(wanted: Wanted) -> None:
        seen(wanted)
        raise RuntimeError("cannot") if wanted.phase is J else ConfigError("must not")

    watcher = FlagWatcher(flag, fail, events, interval=SELDOM)
    seen.wait(lambda all_: len(all_) >= 1)
    flag.write(PAR, by="me")
    events.wait(lambda all_: len(all_) >= 2)
    watcher.close()

    assert named(events) == ["flag-listener-failed"] * 2
    assert "RuntimeError('cannot')" in events.all[0].message
    assert events.all[1].message.endswith("failed: must not")


def test_a_listener_may_ask_to_be_called_again(events: Recorder[Event]) -> None:
    seen: Recorder[Wanted] = Recorder()

    def again(wanted: Wanted) -> float | None:
        seen(wanted)
        return 0.01 if len(seen.all) < 3 else None

    watcher = FlagWatcher(FixedFlag(J), again, events, interval=SELDOM)
    seen.wait(lambda all_: len(all_) >= 3)
    watcher.check()
    watcher.close()

    assert words(seen) == ["json-only"] * 3


def test_nothing_is_done_again_while_the_flag_is_away(events: Recorder[Event]) -> None:
    flag = ScriptedFlag(Wanted(J, "here"))
    seen: Recorder[Wanted] = Recorder()

    def again(wanted: Wanted) -> float:
        flag.says = StoreUnavailable("down", store="Redis")
        seen(wanted)
        return 0.0

    watcher = FlagWatcher(flag, again, events, interval=OFTEN)
    seen.wait(lambda all_: len(all_) >= 1)
    reads(flag)
    assert len(seen.all) == 1
    flag.says = Wanted(J, "here")
    seen.wait(lambda all_: len(all_) >= 2)
    watcher.close()


def test_closing_ends_the_thread_and_stops_listening(
    watch: Watch, changes: Recorder[Wanted]
) -> None:
    flag = ScriptedFlag(Wanted(J, "here"))
    watcher = watch(flag)
    until(changes, "json-only")

    watcher.close()
    watcher.close()
    flag.say(Wanted(PAR, "here"))

    assert words(changes) == ["json-only"]
    assert flag.listeners == []
    assert not flag.is_closed
    assert not watcher._thread.is_alive()


def test_a_listener_may_close_the_watcher(events: Recorder[Event]) -> None:
    holder: list[FlagWatcher] = []
    is_ready, is_done = threading.Event(), threading.Event()

    def close(_: Wanted) -> None:
        assert is_ready.wait(PATIENCE)
        holder[0].close()
        is_done.set()

    holder.append(FlagWatcher(FixedFlag(J), close, events, interval=OFTEN))
    is_ready.set()

    assert is_done.wait(PATIENCE)
    holder[0]._thread.join(PATIENCE)
    assert not holder[0]._thread.is_alive()
    assert events.all == []


@pytest.mark.parametrize("interval", [0.0, -1.0, float("nan")])
def test_an_interval_that_makes_no_sense_is_refused(interval: float) -> None:
    with pytest.raises(ConfigError, match="interval must be more than 0"):
        FlagWatcher(FixedFlag(J), lambda _: None, interval=interval)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_watches_too(watch: Watch, changes: Recorder[Wanted]) -> None:
    flag = FixedFlag(J)
    watcher = watch(flag)
    until(changes, "json-only")
    closed = watch(ScriptedFlag())
    closed.close()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            until(changes, "json-only", "json-only")  # the child's first reading
            flag.write(PAR, by="child")
            until(changes, "json-only", "json-only", "parallel")
            watcher.close()
            code = int(watcher._thread.is_alive() or closed._thread.is_alive())
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)

    assert status == 0
    flag.write(PG, by="parent")
    until(changes, "json-only", "postgres-primary")


# -- a file -------------------------------------------------------------------------------


def test_an_edit_of_the_file_is_noticed(
    watch: Watch, changes: Recorder[Wanted], events: Recorder[Event], tmp_path: Path
) -> None:
    file = tmp_path / "pend.toml"
    file.write_text('[environments.x]\nphase = "json-only"\n')
    watch(FileFlag(file, "x"), OFTEN)
    until(changes, "json-only")

    file.write_text('[environments.x]\nphase = "off"\n')
    events.wait(lambda all_: len(all_) >= 1)
    FileFlag(file, "x").write(PAR, by="me")
    until(changes, "json-only", "parallel")
    file.unlink()
    events.wait(lambda all_: len(all_) >= 3)

    assert named(events) == ["flag-unknown", "flag-back", "flag-unreachable"]


# -- Redis --------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    """One of the test's own, which remembers what it was told."""
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
    redis_url: str, events: Recorder[Event], changes: Recorder[Wanted]
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


@pytest.mark.slow
def test_twenty_processes_hear_a_broadcast(redis_url: str) -> None:
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
            for _ in range(20)
        ]
        for process in processes:
            stack.callback(process.kill)
        first = [answer(process) for process in processes]
        with redis.Redis.from_url(redis_url) as admin:
            until_subscribed(admin, 20)
        write(redis_url, PAR)
        begun = time.monotonic()
        second = [answer(process) for process in processes]
        seconds = time.monotonic() - begun
        rest = [process.communicate(timeout=PATIENCE)[0] for process in processes]

    assert first == ["json-only"] * 20
    assert second == ["parallel"] * 20
    assert seconds < 60  # as a rule some milliseconds; without the broadcast an hour
    assert rest == [""] * 20
    assert [process.returncode for process in processes] == [0] * 20


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_word_set_by_hand_is_noticed_without_a_broadcast(
    redis_url: str, watch: Watch, changes: Recorder[Wanted]
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
    changes: Recorder[Wanted],
    events: Recorder[Event],
    tmp_path: Path,
) -> None:
    file = tmp_path / "pend.toml"
    file.write_text('[environments.x]\nphase = "json-only"\n')
    write(server.url, PG)
    watch(FirstSet([RedisFlag(server.url, KEY), FileFlag(file, "x")]), 0.05)
    until(changes, "postgres-primary")

    server.kill()
    events.wait(lambda all_: len(all_) >= 1)
    server.start()
    events.wait(lambda all_: len(all_) >= 2)
    write(server.url, P)
    until(changes, "postgres-primary", "postgres-only")

    assert named(events) == ["flag-unreachable", "flag-back"]


def test_broadcasts_are_heard_after_a_restart(
    server: EmbeddedRedis, watch: Watch, changes: Recorder[Wanted]
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
    server: EmbeddedRedis, watch: Watch, changes: Recorder[Wanted]
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
    changes: Recorder[Wanted],
    events: Recorder[Event],
    tmp_path: Path,
) -> None:
    file = tmp_path / "pend.toml"
    file.write_text('[environments.x]\nphase = "json-only"\n')
    write(forgetful.url, PG)
    both = FirstSet([RedisFlag(forgetful.url, KEY), FileFlag(file, "x")])
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
    changes: Recorder[Wanted],
    events: Recorder[Event],
    tmp_path: Path,
) -> None:
    file = tmp_path / "pend.toml"
    file.write_text('[environments.x]\nphase = "json-only"\n')
    write(redis_url, PG)
    watch(FirstSet([RedisFlag(redis_url, KEY), FileFlag(file, "x")]), OFTEN)
    until(changes, "postgres-primary")
    with redis.Redis.from_url(redis_url) as hand:
        hand.set(KEY, "posgres-only")
        events.wait(lambda all_: len(all_) >= 1)
        hand.set(KEY, "postgres-only")
        until(changes, "postgres-primary", "postgres-only")

    assert named(events) == ["flag-unknown", "flag-back"]
    assert "did you mean 'postgres-only'" in events.all[0].message
