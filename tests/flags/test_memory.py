"""The pair's memory of the flag: no old word moves it after a restart."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from typing_extensions import override

from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.events import Event
from pend_storage.flags import (
    AutoSwitch,
    ChainedFlag,
    DesiredPhase,
    FileFlag,
    FlagMemory,
    FlagSource,
    RedisFlag,
    VersionedFlag,
)
from pend_storage.flags.memory import FLAG_META
from pend_storage.operations.facts import read_flag
from pend_storage.operations.phase import change_flag
from pend_storage.phases import Phase
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA
from pend_storage.testing.faults import FaultyStore
from pend_storage.testing.servers import EmbeddedRedis, temporary_redis

from .recorder import Recorder, named
from .test_auto_switch import Shared, until

J, PAR, PG, P = Phase
KEY = "pend:production:phase"
EARLY, LATE, LATER = (f"2026-01-0{n}T00:00:00.000000+00:00" for n in (1, 2, 3))


def no_backfill(*_: Any, **__: Any) -> Any:
    """Copy nothing."""


class Servers:
    """Servers of one environment: each a pair of its own over the same two stores."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.stores = MemoryStore(SCHEMA), MemoryStore(SCHEMA)
        self._stack = ExitStack()
        self.store = self.pair()

    def pair(self, **settings: Any) -> DualWriteStore:
        json_, postgres = map(Shared, self.stores)
        store = DualWriteStore(
            json=json_,
            postgres=postgres,
            compare=0.0,
            backfill=no_backfill,
            hook=lambda _: None,
            **settings,
        )
        self._stack.callback(store.close)
        return store

    def flag(self, key: str = KEY) -> RedisFlag:
        flag = RedisFlag(self.url, key)
        self._stack.callback(flag.close)
        return flag

    def start(self, source: FlagSource | None = None) -> Server:
        """A server that has just begun, and knows nothing."""
        return Server(self.pair(), source or self.flag(), self._stack)

    def write(self, phase: Phase) -> DesiredPhase:
        """As a command writes it, that has the pair at hand."""
        return self.flag().remembering(self.store).write(phase, by="ann")

    def write_unaware(self, phase: Phase) -> DesiredPhase:
        """As a program writes it, that knows of no pair."""
        return self.flag().write(phase, by="ann")

    def close(self) -> None:
        self._stack.close()


class Server:
    """One that follows the flag."""

    def __init__(
        self, store: DualWriteStore, source: FlagSource, stack: ExitStack
    ) -> None:
        self.store = store
        self.events: Recorder[Event] = Recorder()
        self.auto = AutoSwitch(
            store,
            source,
            self.events,
            accept=CODES,
            interval=0.02,
            first_pause=0.01,
            longest_pause=0.05,
            least_pause=0,
        )
        stack.callback(self.auto.close)

    def stop(self) -> None:
        self.auto.close()

    def comes_to(self, phase: Phase) -> None:
        until(self.store, phase)

    def refuses(self, *texts: str) -> None:
        """Wait for the event, and see that it says what it should."""
        self.events.wait(lambda all_: "flag-unknown" in [event.name for event in all_])
        message = next(e for e in self.events.all if e.name == "flag-unknown").message
        for text in (*texts, "pend-storage phase set"):
            assert text in message


@pytest.fixture
def servers(redis_url: str) -> Iterator[Servers]:
    made = Servers(redis_url)
    yield made
    made.close()


@pytest.fixture
def hand(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def bring_to_postgres(servers: Servers) -> tuple[Server, str]:
    """Two words are followed; gives the server, and what the key held at the first."""
    servers.write_unaware(PAR)
    server = servers.start()
    server.comes_to(PAR)
    with redis.Redis.from_url(servers.url, decode_responses=True) as client:
        old = str(client.get(KEY))
    servers.write_unaware(PG)
    server.comes_to(PG)
    return server, old


# -- a restarted server -------------------------------------------------------------------


def test_an_old_word_is_not_followed_after_a_restart(
    servers: Servers, hand: redis.Redis
) -> None:
    running, old = bring_to_postgres(servers)
    hand.set(KEY, old)
    running.refuses("went back from version 2")
    running.stop()

    restarted = servers.start()

    restarted.refuses(
        "'parallel' with version 1", "version 2 ('postgres-primary') was followed last"
    )
    assert restarted.store.phase is PG
    assert named(restarted.events) == ["flag-unknown"]


def test_one_server_of_two_is_restarted_and_both_stay(
    servers: Servers, hand: redis.Redis
) -> None:
    first, old = bring_to_postgres(servers)
    second = servers.start()
    second.comes_to(PG)
    hand.set(KEY, old)
    first.refuses("went back from version 2")
    second.stop()

    third = servers.start()

    third.refuses("version 2 ('postgres-primary') was followed last")
    servers.write(P)
    first.comes_to(P)
    third.events.wait(lambda all_: "flag-back" in [event.name for event in all_])
    assert third.store.phase is P


def test_a_key_that_is_gone_lets_no_other_place_decide_after_a_restart(
    servers: Servers, hand: redis.Redis, tmp_path: Path
) -> None:
    file = tmp_path / "pend.toml"
    file.write_text('[environments.x]\nphase = "json-only"\n')
    running, _ = bring_to_postgres(servers)
    running.stop()
    hand.flushdb()

    restarted = servers.start(ChainedFlag([servers.flag(), FileFlag(file, "x")]))

    restarted.refuses("is gone", "version 2 ('postgres-primary') was followed last")
    FileFlag(file, "x").write(PAR, by="an editor")
    restarted.auto._watcher.check()
    assert restarted.store.phase is PG
    assert named(restarted.events) == ["flag-unknown"]


def test_the_same_word_is_followed_again_after_a_restart(servers: Servers) -> None:
    running, _ = bring_to_postgres(servers)
    running.stop()
    servers.store.switch(PAR, accept=CODES)

    servers.start().comes_to(PG)


@pytest.mark.parametrize("at", [EARLY, ""])
def test_a_version_that_was_followed_with_another_word_moves_nothing(
    servers: Servers, hand: redis.Redis, at: str
) -> None:
    running, _ = bring_to_postgres(servers)
    running.stop()
    hand.set(KEY, json.dumps({"phase": "json-only", "version": 2, "at": at}))

    restarted = servers.start()

    restarted.refuses("'json-only' with version 2", "version of at least 3")
    assert restarted.store.phase is PG


def test_a_bare_word_after_a_version_moves_nothing_and_says_how_to_write_one(
    servers: Servers, hand: redis.Redis
) -> None:
    running, _ = bring_to_postgres(servers)
    hand.set(KEY, "json-only")
    running.refuses("'json-only' with no version", "version of at least 3")
    running.stop()
    restarted = servers.start()
    restarted.refuses("'json-only' with no version")
    assert restarted.store.phase is PG

    hand.set(KEY, '{"phase": "parallel", "version": 3}')

    restarted.comes_to(PAR)


def test_bare_words_count_as_long_as_no_version_was_followed(
    servers: Servers, hand: redis.Redis
) -> None:
    hand.set(KEY, "parallel")
    server = servers.start()
    server.comes_to(PAR)
    hand.set(KEY, "postgres-primary")
    server.comes_to(PG)
    server.stop()
    hand.set(KEY, "parallel")
    servers.start().comes_to(PAR)

    hand.delete(KEY)  # but a word that was followed is not forgotten
    servers.start().refuses("is gone", "('parallel') was followed last")


# -- how it goes on -----------------------------------------------------------------------


def test_a_command_writes_above_what_was_followed_into_an_empty_redis(
    servers: Servers, hand: redis.Redis
) -> None:
    running, _ = bring_to_postgres(servers)
    hand.flushdb()

    written = servers.write(PAR)

    assert written.version == 3
    running.comes_to(PAR)
    running.stop()
    assert FlagMemory(servers.store).last_followed(f"redis {KEY}") is not None
    servers.start().comes_to(PAR)


def test_a_command_writes_above_the_key_where_that_is_higher(
    servers: Servers, hand: redis.Redis
) -> None:
    bring_to_postgres(servers)
    hand.set(KEY, '{"phase": "postgres-primary", "version": 40}')

    assert servers.write(PAR).version == 41


def test_a_redis_at_another_address_is_the_same_place(servers: Servers) -> None:
    running, _ = bring_to_postgres(servers)
    running.stop()
    with temporary_redis() as other:
        servers.url = other.url
        restarted = servers.start()
        restarted.refuses("is gone", "version 2 ('postgres-primary')")

        assert servers.write(PAR).version == 3
        restarted.comes_to(PAR)
        restarted.stop()


def test_a_later_write_of_a_program_counts_in_a_redis_that_was_flushed_or_restored(
    servers: Servers, hand: redis.Redis
) -> None:
    running, old = bring_to_postgres(servers)
    newer = str(hand.get(KEY))
    running.stop()
    hand.flushdb()
    assert servers.write_unaware(PAR).version == 1
    second = servers.start()
    second.comes_to(PAR)
    second.stop()

    hand.set(KEY, newer)  # and now the dump with the second word is restored
    servers.start().refuses("version 1 ('parallel') was followed last")
    hand.set(KEY, old)
    third = servers.start()
    third.refuses("version 1 ('parallel') was followed last")
    assert third.store.phase is PAR

    assert servers.write_unaware(J).version == 2
    third.comes_to(J)


def test_what_a_command_writes_is_remembered_though_no_server_follows(
    servers: Servers, hand: redis.Redis
) -> None:
    servers.write(PAR)
    old = str(hand.get(KEY))
    servers.write(PG)
    servers.store.switch(PG, accept=CODES)
    hand.set(KEY, old)

    restarted = servers.start()

    restarted.refuses("version 2 ('postgres-primary') was followed last")
    assert restarted.store.phase is PG


def test_a_word_that_a_command_finds_is_remembered_as_well(
    servers: Servers, hand: redis.Redis
) -> None:
    servers.write_unaware(PAR)
    old = str(hand.get(KEY))
    servers.write_unaware(PG)
    source = servers.flag().remembering(servers.store)

    change = change_flag(servers.store, source, read_flag(source), PG, by="ann")

    assert not change.written
    servers.store.switch(PG, accept=CODES)
    hand.set(KEY, old)
    servers.start().refuses("version 2 ('postgres-primary') was followed last")


def test_a_place_of_somebody_else_that_counts_versions_is_remembered(
    servers: Servers,
) -> None:
    class Table(VersionedFlag):
        place, writable, remembered_as = "the table", True, "table settings"
        says = DesiredPhase(PG, "the table", 2)

        @override
        def read(self) -> DesiredPhase:
            return self.says

        @override
        def write(self, phase: Phase, *, by: str, above: int = 0) -> DesiredPhase:
            self.says = DesiredPhase(
                phase, self.place, max(above, self.says.version) + 1
            )
            return self.says

    table = Table()
    server = servers.start(table)
    server.comes_to(PG)
    table.says = DesiredPhase(PAR, "the table", 1)

    server.refuses("'parallel' with version 1")
    assert table.remembering(servers.store).write(PAR, by="ann").version == 3
    server.comes_to(PAR)
    server.stop()


def test_the_memory_survives_every_switch(servers: Servers, hand: redis.Redis) -> None:
    servers.write_unaware(PAR)
    server = servers.start()
    server.comes_to(PAR)
    old = str(hand.get(KEY))
    for phase in (PG, P, PG, PAR, J, PG, P):
        servers.write_unaware(phase)
        server.comes_to(phase)
    server.stop()
    hand.set(KEY, old)

    restarted = servers.start()

    restarted.refuses("version 8 ('postgres-only') was followed last")
    assert restarted.store.phase is P


def test_another_key_does_not_inherit_it(servers: Servers) -> None:
    running, _ = bring_to_postgres(servers)
    running.stop()
    other = servers.flag("flags:pend")
    other.write(PAR, by="ann")

    servers.start(other).comes_to(PAR)

    known = servers.store.meta(FLAG_META)
    assert isinstance(known, dict)
    assert sorted(known) == ["redis flags:pend", f"redis {KEY}"]


def test_a_file_has_no_versions_and_is_not_remembered(
    servers: Servers, tmp_path: Path
) -> None:
    file = tmp_path / "pend.toml"
    for phase in (PAR, PG, PAR):
        file.write_text(f'[environments.x]\nphase = "{phase.value}"\n')
        server = servers.start(FileFlag(file, "x"))
        server.comes_to(phase)
        server.stop()

    assert servers.store.meta(FLAG_META) is None


# -- trouble ------------------------------------------------------------------------------


def test_while_the_memory_is_out_of_reach_nothing_moves(servers: Servers) -> None:
    servers.write_unaware(PAR)
    json_ = FaultyStore(Shared(servers.stores[0]))
    store = DualWriteStore(
        json=json_, postgres=Shared(servers.stores[1]), hook=lambda _: None
    )
    source = servers.flag().remembering(store)
    json_.fail("meta", times=None)
    with pytest.raises(StoreUnavailable, match="version that was followed last is not"):
        source.read()
    json_.heal()

    assert source.read() == DesiredPhase(PAR, source.place, 1)
    store.close()


class Values:
    """A pair's values, of which a test may change some at a bad moment."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.before_setting: Callable[[], object] = lambda: None

    def meta(self, name: str) -> Any:
        return self.values.get(name)

    def compare_and_set_meta(self, name: str, expected: Any, value: Any) -> bool:
        act, self.before_setting = self.before_setting, lambda: None
        act()
        if self.values.get(name) != expected:
            return False
        self.values[name] = value
        return True


def word(phase: Phase, version: int, at: str = "") -> DesiredPhase:
    return DesiredPhase(phase, "the place", version, at, "it")


def test_another_server_may_be_quicker_to_remember() -> None:
    values = Values()
    memory = FlagMemory(values)
    values.before_setting = lambda: memory.record(word(PG, 2, LATE))

    with pytest.raises(ConfigError, match="stale"):
        memory.record(word(PAR, 1, EARLY))
    memory.record(word(PG, 2, LATE))
    memory.record(word(P, 3, LATER))

    followed = memory.last_followed("it")
    assert followed is not None
    assert (followed.phase, followed.highest) == ("postgres-only", 3)


def test_a_write_that_another_one_overtakes_is_no_error(servers: Servers) -> None:
    values = Values()
    flag = servers.flag()
    values.before_setting = lambda: flag.remembering(values).write(PG, by="bob")

    written = flag.remembering(values).write(PAR, by="ann")

    followed = FlagMemory(values).last_followed(f"redis {KEY}")
    assert followed is not None
    assert (written.version, followed.version, followed.phase) == (1, 2, PG.value)


@pytest.mark.parametrize(
    ("followed", "next_one", "is_new"),
    [
        ([(PAR, 1, EARLY)], (PG, 2, LATE), True),
        ([(PAR, 1, EARLY)], (PG, 2, ""), True),
        ([(PAR, 2, LATE)], (PAR, 2, LATE), True),
        ([(PAR, 2, LATE)], (PG, 2, LATE), False),
        ([(PAR, 2, LATE)], (PG, 2, EARLY), False),
        ([(PAR, 2, LATE)], (PG, 2, LATER), True),
        ([(PAR, 2, LATE)], (PG, 1, EARLY), False),
        ([(PAR, 2, LATE)], (PAR, 1, EARLY), False),
        ([(PAR, 2, LATE)], (PG, 0, ""), False),
        ([(PAR, 2, LATE), (PG, 1, LATER)], (PAR, 2, LATE), False),
        ([(PAR, 2, LATE), (PG, 3, EARLY)], (PAR, 2, LATE), False),
        ([(PAR, 2, LATE), (PG, 3, EARLY)], (J, 1, LATE), False),
        ([(PAR, 0, "")], (PG, 0, ""), True),
        ([(PAR, 0, "")], (PG, 1, EARLY), True),
        ([(PAR, 0, ""), (PG, 1, EARLY)], (PAR, 0, ""), False),
    ],
)
def test_what_is_newer_than_what_was_followed(
    followed: list[tuple[Phase, int, str]],
    next_one: tuple[Phase, int, str],
    is_new: bool,
) -> None:
    memory = FlagMemory(Values())
    for one in followed:
        memory.record(word(*one))

    try:
        memory.record(word(*next_one))
    except ConfigError as error:
        assert not is_new, error
    else:
        assert is_new


@pytest.mark.parametrize("version", [2**53 - 1, 2**53, 2**70, -3])
def test_versions_that_cannot_be_counted_on_are_written_over(
    servers: Servers, hand: redis.Redis, version: int
) -> None:
    hand.set(KEY, json.dumps({"phase": "parallel", "version": version}))

    written = servers.write(PG)

    assert written.version == 1
    assert servers.flag().read() == written


def test_a_version_that_leaves_no_room_is_said(
    servers: Servers, hand: redis.Redis
) -> None:
    hand.set(KEY, json.dumps({"phase": "parallel", "version": 2**53 - 1}))
    servers.start().comes_to(PAR)

    with pytest.raises(ConfigError, match=r"another redis\.key"):
        servers.write(PG)


# -- a real dump --------------------------------------------------------------------------


def test_a_redis_that_is_restored_from_an_old_dump_moves_nothing() -> None:
    with temporary_redis() as server:
        servers = Servers(server.url)
        servers.write_unaware(PAR)
        running = servers.start()
        running.comes_to(PAR)
        dump = save(server)
        servers.write_unaware(PG)
        running.comes_to(PG)

        restore(server, dump)
        running.refuses("went back from version 2")
        restarted = servers.start()
        restarted.refuses("version 2 ('postgres-primary') was followed last")
        assert restarted.store.phase is PG

        assert servers.write(P).version == 3
        running.comes_to(P)
        restarted.comes_to(P)
        servers.close()


def save(server: EmbeddedRedis) -> bytes:
    with redis.Redis.from_url(server.url) as admin:
        admin.save()
    return dump_of(server).read_bytes()


def dump_of(server: EmbeddedRedis) -> Path:
    with redis.Redis.from_url(server.url) as admin:
        settings = admin.config_get("dir")
    return Path(settings["dir"]) / "dump.rdb"


def restore(server: EmbeddedRedis, dump: bytes) -> None:
    """Have the server start with an old dump, as an operator does it."""
    path = dump_of(server)
    server.kill()
    path.write_bytes(dump)
    server.start()
