"""Flag watcher: reports every change, and nothing else."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

import pytest

from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.events import Event
from pend_storage.flags import DesiredPhase, FileFlag, FixedFlag, FlagWatcher
from pend_storage.phases import Phase

from .recorder import (
    OFTEN,
    PATIENCE,
    SELDOM,
    Recorder,
    ScriptedFlag,
    Watch,
    named,
    until,
    words,
)

J, PAR, PG, P = Phase


def reads(flag: ScriptedFlag, more: int = 3) -> None:
    """Wait until it was read a few times more."""
    enough, deadline = flag.reads + more, time.monotonic() + PATIENCE
    while flag.reads < enough:
        assert time.monotonic() < deadline, "the flag is not read"
        time.sleep(0.001)


# -- any source ---------------------------------------------------------------------------


def test_the_first_reading_counts_and_so_does_every_change(
    watch: Watch, changes: Recorder[DesiredPhase]
) -> None:
    flag = FixedFlag(J)
    watch(flag)
    until(changes, "json-only")

    flag.write(PAR, by="me")

    until(changes, "json-only", "parallel")


def test_the_same_word_again_is_no_change_but_another_version_is(
    watch: Watch, changes: Recorder[DesiredPhase]
) -> None:
    flag = ScriptedFlag(DesiredPhase(PAR, "here", 1))
    watch(flag, OFTEN)
    reads(flag)
    until(changes, "parallel")

    flag.say(DesiredPhase(PAR, "here", 2))

    until(changes, "parallel", "parallel")


def test_a_missed_broadcast_is_made_up_for_by_reading(
    watch: Watch, changes: Recorder[DesiredPhase]
) -> None:
    flag = ScriptedFlag(DesiredPhase(J, "here"))
    watch(flag, OFTEN)
    until(changes, "json-only")

    flag.says = DesiredPhase(PAR, "here")  # without a notification

    until(changes, "json-only", "parallel")


def test_a_flag_that_is_set_nowhere_wants_nothing(
    watch: Watch, changes: Recorder[DesiredPhase], events: Recorder[Event]
) -> None:
    flag = ScriptedFlag()
    watch(flag, OFTEN)
    reads(flag)
    flag.say(DesiredPhase(PAR, "here"))
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
            RuntimeError("a provider of another library"),
            ("flag-unreachable", "the script: RuntimeError"),
        ),
    ],
)
def test_trouble_is_reported_once_an_episode_and_so_is_its_end(
    watch: Watch,
    changes: Recorder[DesiredPhase],
    events: Recorder[Event],
    trouble: Exception,
    expected: tuple[str, str],
) -> None:
    name, told = expected
    flag = ScriptedFlag(DesiredPhase(PAR, "here"))
    watch(flag, OFTEN)
    until(changes, "parallel")
    for episode in (1, 2):
        flag.say(trouble)
        reads(flag)
        assert named(events) == [name, "flag-back"] * (episode - 1) + [name]
        flag.say(DesiredPhase(PAR, "here"))
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
    watch: Watch, changes: Recorder[DesiredPhase]
) -> None:
    flag = ScriptedFlag(DesiredPhase(J, "here"))
    watch(flag)
    until(changes, "json-only")
    flag.say(StoreUnavailable("down", store="Redis"))

    flag.say(DesiredPhase(PAR, "here"))

    until(changes, "json-only", "parallel")


def test_a_listener_that_fails_is_reported_and_called_again_at_the_next_change(
    events: Recorder[Event],
) -> None:
    flag = FixedFlag(J)
    seen: Recorder[DesiredPhase] = Recorder()

    def fail(wanted: DesiredPhase) -> None:
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
    seen: Recorder[DesiredPhase] = Recorder()

    def again(wanted: DesiredPhase) -> float | None:
        seen(wanted)
        return 0.01 if len(seen.all) < 3 else None

    watcher = FlagWatcher(FixedFlag(J), again, events, interval=SELDOM)
    seen.wait(lambda all_: len(all_) >= 3)
    watcher.check()
    watcher.close()

    assert words(seen) == ["json-only"] * 3


def test_nothing_is_done_again_while_the_flag_is_away(events: Recorder[Event]) -> None:
    flag = ScriptedFlag(DesiredPhase(J, "here"))
    seen: Recorder[DesiredPhase] = Recorder()

    def again(wanted: DesiredPhase) -> float:
        flag.says = StoreUnavailable("down", store="Redis")
        seen(wanted)
        return 0.0

    watcher = FlagWatcher(flag, again, events, interval=OFTEN)
    seen.wait(lambda all_: len(all_) >= 1)
    reads(flag)
    assert len(seen.all) == 1
    flag.says = DesiredPhase(J, "here")
    seen.wait(lambda all_: len(all_) >= 2)
    watcher.close()


@pytest.mark.parametrize("away", [None, StoreUnavailable("down", store="Redis")])
def test_a_flag_that_is_away_is_not_read_without_pause(
    events: Recorder[Event], away: Exception | None
) -> None:
    flag = ScriptedFlag(DesiredPhase(J, "here"))

    def again(_: DesiredPhase) -> float:
        flag.says = away
        return 0.0

    watcher = FlagWatcher(flag, again, events, interval=0.1)
    reads(flag)
    before = flag.reads
    time.sleep(0.5)
    after = flag.reads
    watcher.close()

    assert after - before < 100  # some five; thousands without a pause


def test_closing_ends_the_thread_and_stops_listening(
    watch: Watch, changes: Recorder[DesiredPhase]
) -> None:
    flag = ScriptedFlag(DesiredPhase(J, "here"))
    watcher = watch(flag)
    until(changes, "json-only")

    watcher.close()
    watcher.close()
    flag.say(DesiredPhase(PAR, "here"))

    assert words(changes) == ["json-only"]
    assert flag.listeners == []
    assert not flag.is_closed
    assert not watcher._thread.is_alive()


def test_a_listener_may_close_the_watcher(events: Recorder[Event]) -> None:
    holder: list[FlagWatcher] = []
    is_ready, is_done = threading.Event(), threading.Event()

    def close(_: DesiredPhase) -> None:
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
def test_a_forked_child_watches_too(
    watch: Watch, changes: Recorder[DesiredPhase]
) -> None:
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
    watch: Watch,
    changes: Recorder[DesiredPhase],
    events: Recorder[Event],
    tmp_path: Path,
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
