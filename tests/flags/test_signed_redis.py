"""The signature of the flag in Redis: what is followed, and what a stranger can do."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from pend_storage.errors import ConfigError
from pend_storage.events import Event
from pend_storage.flags import (
    FlagMemory,
    FlagWatcher,
    ForgedFlag,
    RedisFlag,
    UnsignedFlag,
)
from pend_storage.phases import Phase

from .recorder import OFTEN, Recorder, named
from .test_memory import Servers, Values

J, PAR, PG, P = Phase
KEY = "pend:production:phase"
SECRET, OTHER = "s" * 32, "o" * 40


@pytest.fixture
def hand(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def make(redis_url: str) -> Iterator[Callable[..., RedisFlag]]:
    made: list[RedisFlag] = []

    def begin(
        signing_key: str | None = SECRET, key: str = KEY, **more: Any
    ) -> RedisFlag:
        made.append(RedisFlag(redis_url, key, signing_key=signing_key, **more))
        return made[-1]

    yield begin
    for flag in made:
        flag.close()


def value(hand: redis.Redis, key: str = KEY) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(str(hand.get(key)))
    return found


# -- what is signed -----------------------------------------------------------------------


def test_a_signed_value_is_read_by_those_who_have_the_key(
    make: Callable[..., RedisFlag], hand: redis.Redis
) -> None:
    written = make().write(PAR, by='ann "é" \udc80')

    read = make().read()

    assert read == written
    assert read is not None
    assert read.is_signed
    assert SECRET not in str(hand.get(KEY))
    assert len(value(hand)["mac"]) == 64
    assert SECRET not in repr(vars(make()))


@pytest.mark.parametrize(
    "text",
    [
        "json-only",
        '{"phase": "json-only"}',
        '{"phase": "json-only", "version": 99, "at": "2026-11-01T00:00:00.000000+00:00"}',
        '{"phase": "json-only", "version": 99, "mac": ""}',
    ],
)
def test_an_unsigned_value_is_refused_where_there_is_a_key(
    make: Callable[..., RedisFlag], hand: redis.Redis, text: str
) -> None:
    hand.set(KEY, text)

    with pytest.raises(UnsignedFlag, match="without a signature"):
        make().read()

    assert make().write(PAR, by="ann") == make().read()


@pytest.mark.parametrize(
    "change",
    [
        {"phase": "json-only"},
        {"version": 2},
        {"at": "2026-11-01T00:00:00.000000+00:00"},
        {"by": "bob"},
        {"mac": "0" * 64},
        {"mac": "é" * 10},
        {"mac": "\ud800"},
    ],
)
def test_a_changed_value_is_refused(
    make: Callable[..., RedisFlag], hand: redis.Redis, change: dict[str, Any]
) -> None:
    make().write(PAR, by="ann")
    hand.set(KEY, json.dumps({**value(hand), **change}))

    with pytest.raises(ConfigError) as caught:
        make().read()

    is_text = change.get("mac") != "\ud800"  # a lone surrogate is no JSON text
    assert isinstance(caught.value, ForgedFlag) is is_text
    assert SECRET not in str(caught.value)


def test_the_value_of_another_key_is_refused(
    make: Callable[..., RedisFlag], hand: redis.Redis
) -> None:
    make(key="pend:staging:phase").write(J, by="ann")
    hand.rename("pend:staging:phase", KEY)

    with pytest.raises(ForgedFlag):
        make().read()


def test_a_value_signed_by_another_key_is_refused(
    make: Callable[..., RedisFlag],
) -> None:
    make(OTHER).write(J, by="eve")

    with pytest.raises(ForgedFlag):
        make().read()


def test_a_key_is_replaced_without_a_pause(make: Callable[..., RedisFlag]) -> None:
    old, both = make(SECRET), make(f" {SECRET} , {OTHER}")
    turned, new = make(f"{OTHER},{SECRET}"), make(OTHER)

    old.write(PAR, by="ann")
    assert both.read() == turned.read() == old.read()
    both.write(PG, by="ann")
    assert old.read() == turned.read() == both.read()
    turned.write(P, by="ann")
    assert both.read() == new.read() == turned.read()
    with pytest.raises(ForgedFlag):
        old.read()


@pytest.mark.parametrize("keys", ["short", f"{SECRET},", f",{SECRET}", "x" * 31])
def test_a_short_key_is_refused_without_quoting_it(redis_url: str, keys: str) -> None:
    with pytest.raises(ConfigError, match="at least 32") as caught:
        RedisFlag(redis_url, KEY, signing_key=keys)

    assert "xxx" not in str(caught.value)
    assert "short" not in str(caught.value)


def test_the_key_of_the_environment_counts(
    make: Callable[..., RedisFlag], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEND_FLAG_KEY", SECRET)
    make(None).write(PAR, by="ann")

    assert make(SECRET).read() == make(None).read()
    monkeypatch.setenv("PEND_FLAG_KEY", "too short")
    with pytest.raises(ConfigError, match="PEND_FLAG_KEY"):
        make(None)


def test_many_signed_writers_give_every_version_once(
    make: Callable[..., RedisFlag],
) -> None:
    flags = [make() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        written = pool.map(lambda n: flags[n % 8].write(PAR, by="me"), range(80))
        versions = sorted(wanted.version for wanted in written)

    assert versions == [*range(1, 81)]


def test_who_writes_all_the_time_does_not_keep_an_operator_from_writing(
    make: Callable[..., RedisFlag], hand: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = make()
    read = flag._read_bounded

    def read_too_early() -> bytes | None:
        found = read()
        hand.set(KEY, secrets.token_hex(8))
        return found

    monkeypatch.setattr(flag, "_read_bounded", read_too_early)

    written = flag.write(PAR, by="ann")

    assert value(hand)["version"] == written.version


# -- replays, and what a stranger could drive up ------------------------------------------


def test_a_replayed_value_moves_nothing(
    make: Callable[..., RedisFlag], hand: redis.Redis
) -> None:
    values = Values()
    writer = make().remembering(values)
    writer.write(PAR, by="ann")
    old = str(hand.get(KEY))
    writer.write(PG, by="ann")
    hand.set(KEY, old)

    with pytest.raises(ConfigError, match="stale"):
        make().remembering(values).read()


def test_a_key_begins_a_memory_that_no_stranger_has_driven_up(
    make: Callable[..., RedisFlag], hand: redis.Redis
) -> None:
    values = Values()
    hand.set(KEY, json.dumps({"phase": "parallel", "version": 2**53 - 1}))
    unsigned = make("").remembering(values).read()
    assert unsigned is not None
    FlagMemory(values).record(unsigned)

    written = make().remembering(values).write(PG, by="ann")

    assert written.version == 1
    assert make().remembering(values).read() == written


def test_an_unsigned_version_cannot_jump_to_the_end(
    make: Callable[..., RedisFlag], hand: redis.Redis
) -> None:
    values = Values()
    flag = make("").remembering(values)
    flag.write(PAR, by="ann")
    hand.set(KEY, json.dumps({"phase": "json-only", "version": 2**53 - 2}))

    with pytest.raises(ConfigError, match="jump"):
        make("").remembering(values).read()

    assert flag.write(PG, by="ann").version == 2


@pytest.mark.parametrize("signing_key", ["", SECRET])
def test_a_value_from_the_future_is_refused(
    make: Callable[..., RedisFlag],
    hand: redis.Redis,
    signing_key: str,
) -> None:
    flag = make(signing_key)
    signed = flag._values.make(J, 1, by="eve", at="9999-01-01T00:00:00.000000+00:00")
    hand.set(
        KEY, json.dumps({**{n: getattr(signed, n) for n in signed.__struct_fields__}})
    )

    with pytest.raises(ConfigError, match="in the future"):
        flag.read()


# -- sizes and rates ----------------------------------------------------------------------


@pytest.mark.parametrize("signing_key", ["", SECRET])
def test_a_huge_value_is_neither_fetched_nor_shown(
    make: Callable[..., RedisFlag], hand: redis.Redis, signing_key: str
) -> None:
    hand.set(KEY, "x" * 3_000_000)
    before = sent_by(hand)

    with pytest.raises(ConfigError, match="more than 1,024 bytes") as caught:
        make(signing_key).read()

    assert len(str(caught.value)) < 500
    assert sent_by(hand) - before < 100_000
    assert make(signing_key).write(PAR, by="ann").version == 1


def sent_by(hand: redis.Redis) -> int:
    statistics: Any = hand.info("stats")
    return int(statistics["total_net_output_bytes"])


def test_a_long_name_of_the_writer_is_cut(
    make: Callable[..., RedisFlag], hand: redis.Redis
) -> None:
    flag = make()
    flag.write(PAR, by="\U0001f600\x00" * 5_000)

    assert flag.read() is not None
    assert len(value(hand)["by"]) == 120


def test_a_flood_of_broadcasts_and_words_causes_few_readings_and_reports(
    make: Callable[..., RedisFlag], hand: redis.Redis
) -> None:
    events: Recorder[Event] = Recorder()
    changes: Recorder[Any] = Recorder()
    flag = make("")
    reads = 0
    read = flag.read

    def counted() -> Any:
        nonlocal reads
        reads += 1
        return read()

    flag.read = counted  # type: ignore[method-assign]
    watcher = FlagWatcher(flag, changes, events, interval=OFTEN)
    for n in range(3_000):
        hand.set(KEY, f"rubbish {n}")
        watcher.check()
    events.wait(lambda all_: len(all_) >= 1)
    flag.write(PAR, by="ann")
    changes.wait(lambda all_: len(all_) >= 1)
    watcher.close()

    assert reads < 1_500
    assert len(events.all) <= 20


@pytest.mark.parametrize(
    ("text", "event"),
    [
        ("json-only", "flag-unsigned"),
        ('{"phase":"json-only","mac":"x"}', "flag-forged"),
    ],
)
def test_a_watcher_reports_what_is_not_signed_once(
    make: Callable[..., RedisFlag], hand: redis.Redis, text: str, event: str
) -> None:
    events: Recorder[Event] = Recorder()
    changes: Recorder[Any] = Recorder()
    flag = make()
    flag.write(PG, by="ann")
    watcher = FlagWatcher(flag, changes, events, interval=OFTEN)
    changes.wait(lambda all_: len(all_) >= 1)
    for n in range(20):
        hand.set(KEY, text + " " * n)
        watcher.check()
    events.wait(lambda all_: len(all_) >= 1)
    make().write(P, by="ann")
    changes.wait(lambda all_: len(all_) >= 2)
    watcher.close()

    assert [wanted.phase for wanted in changes.all] == [PG, P]
    assert named(events) == [event, "flag-back"]


# -- without a key: a hint, for a wish that is in the pair --------------------------------


def test_a_word_that_no_command_has_recorded_is_not_followed(
    make: Callable[..., RedisFlag], hand: redis.Redis
) -> None:
    values = Values()
    flag = make("", unsigned="wake-up")
    hand.set(KEY, '{"phase": "json-only", "version": 7}')
    with pytest.raises(UnsignedFlag, match="phase set"):
        flag.remembering(values).read()

    written = make("", unsigned="wake-up").remembering(values).write(PAR, by="ann")

    assert flag.remembering(values).read() == written
    make("").write(J, by="a program without the stores")
    with pytest.raises(UnsignedFlag):
        flag.remembering(values).read()


def test_a_word_is_followed_between_its_write_and_its_record(
    make: Callable[..., RedisFlag],
) -> None:
    values = Values()
    read: list[Any] = []
    flag = make("", unsigned="wake-up")
    original = flag.write

    def write(phase: Phase, *, by: str, above: int = 0) -> Any:
        found = original(phase, by=by, above=above)
        read.append(make("", unsigned="wake-up").remembering(values).read())
        return found

    flag.write = write  # type: ignore[method-assign]
    written = flag.remembering(values).write(PAR, by="ann")

    assert read == [written]


def test_a_wish_that_was_never_written_lets_the_key_be_missing(
    make: Callable[..., RedisFlag],
) -> None:
    values = Values()
    FlagMemory(values).announce(f"redis {KEY}", PAR)
    flag = make("", unsigned="wake-up").remembering(values)

    assert flag.read() is None
    assert flag.write(PAR, by="ann") == flag.read()


def test_servers_without_a_key_follow_commands_only(
    redis_url: str, make: Callable[..., RedisFlag], hand: redis.Redis
) -> None:
    servers = Servers(redis_url)
    try:
        server = servers.start(make("", unsigned="wake-up"))
        writer = make("", unsigned="wake-up").remembering(servers.store)
        writer.write(PAR, by="ann")
        server.comes_to(PAR)
        hand.set(KEY, '{"phase": "json-only", "version": 9}')
        server.events.wait(lambda all_: "flag-unsigned" in [e.name for e in all_])
        assert server.store.phase is PAR
        writer.write(PG, by="ann")
        server.comes_to(PG)
    finally:
        servers.close()
