"""Settings of the phase flag and of cursors: keys, allowed phases, pauses."""

from __future__ import annotations

from pathlib import Path

import pytest

import pend_storage as ps
from pend_storage.config import Settings, load_settings
from pend_storage.errors import ConfigError, InvalidQuery
from pend_storage.flags import ChainedFlag, RedisFlag, flag_source
from pend_storage.phases import Phase
from pend_storage.testing.domain import SCHEMA, Log, a_log

J, PAR, PG, P = Phase
REDIS = '[environments.development.redis]\nurl = "redis://cache.example/0"\n'
SECRET = "s" * 32


def load(directory: Path, text: str, **environ: str) -> Settings:
    file = directory / "pend.toml"
    file.write_text(text, encoding="utf-8")
    return load_settings(file, environ=environ)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto_switch = true", (True, None, None)),
        ("auto_switch = []", (True, (), None)),
        ('auto_switch = ["parallel", "json-only"]', (True, (PAR, J), None)),
        ("auto_switch.least_pause = 0", (True, None, 0.0)),
        (
            'auto_switch = {allowed = ["postgres-primary"], least_pause = 300}',
            (True, (PG,), 300.0),
        ),
        ("auto_switch = false", (False, None, None)),
        ("", (False, None, None)),
    ],
)
def test_auto_switch_is_a_truth_value_a_list_or_a_table(
    tmp_path: Path, text: str, expected: tuple[bool, tuple[Phase, ...] | None, float]
) -> None:
    found = load(tmp_path, f"[environments.development]\n{text}\n")

    assert (
        found.auto_switch,
        found.auto_switch_allowed,
        found.auto_switch_pause,
    ) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'auto_switch = ["paralel"]',
            r"auto_switch\.allowed: unknown phase 'paralel'; did you mean 'parallel'",
        ),
        ("auto_switch = [1]", r"auto_switch\.allowed.*expected `str`"),
        ("auto_switch.least_pause = -1", r"auto_switch\.least_pause: expected"),
        ("auto_switch.alowed = []", r"auto_switch: unknown member 'alowed'; did you"),
    ],
)
def test_a_wrong_auto_switch_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, f"[environments.development]\n{text}\n")


def test_a_word_of_any_length_is_refused_at_once_and_in_few_words(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f'[environments.development]\nphase = "{"x" * 1_000_000}"\n')

    assert len(str(caught.value)) < 700


def redis_flag(settings: Settings) -> RedisFlag:
    source = flag_source(settings, environ={})
    assert isinstance(source, ChainedFlag)
    found = source._sources[1]
    assert isinstance(found, RedisFlag)
    return found


def test_the_key_of_the_flag_comes_from_its_variable(tmp_path: Path) -> None:
    own = REDIS + 'flag_key_env = "MY_KEY"\n'

    assert redis_flag(load(tmp_path, REDIS, PEND_FLAG_KEY=SECRET)).is_signed
    assert redis_flag(load(tmp_path, own, MY_KEY=SECRET)).is_signed
    assert not redis_flag(load(tmp_path, REDIS)).is_signed
    assert SECRET not in repr(load(tmp_path, REDIS, PEND_FLAG_KEY=SECRET))


def test_a_key_that_is_named_and_not_set_is_an_error(tmp_path: Path) -> None:
    settings = load(tmp_path, REDIS + 'flag_key_env = "MY_KEY"\n', PEND_FLAG_KEY=SECRET)

    with pytest.raises(ConfigError, match="MY_KEY, which is not set"):
        flag_source(settings, environ={})


def test_a_short_key_of_the_flag_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 32"):
        redis_flag(load(tmp_path, REDIS, PEND_FLAG_KEY="short"))


def test_without_a_key_an_environment_follows_what_commands_have_recorded(
    tmp_path: Path,
) -> None:
    follow = REDIS + 'unsigned = "follow"\n'

    assert redis_flag(load(tmp_path, REDIS)).is_wake_up
    assert not redis_flag(load(tmp_path, follow)).is_wake_up
    assert not redis_flag(load(tmp_path, REDIS, PEND_FLAG_KEY=SECRET)).is_wake_up
    assert not RedisFlag("redis://cache.example/0", "a key").is_wake_up
    with pytest.raises(ConfigError, match=r"redis\.unsigned"):
        load(tmp_path, REDIS + 'unsigned = "yes"\n')


# -- cursors ------------------------------------------------------------------------------


def page_of(store: ps.Store, after: str | None = None) -> ps.Page[Log]:
    return store.collection(Log).find(limit=1, after=after)


@pytest.fixture
def unsigned(tmp_path: Path) -> str:
    """A cursor of the directory ``data``, in which there are two logs."""
    json = tmp_path / "data"
    with ps.open_store(schema=SCHEMA, json=json, create=True) as store:
        store.collection(Log).put_many([a_log("a"), a_log("b")])
        cursor = page_of(store).next
    assert cursor is not None
    return cursor


def test_a_cursor_key_is_an_argument(tmp_path: Path, unsigned: str) -> None:
    for key in (SECRET, ps.CursorKey(SECRET)):
        with ps.open_store(
            schema=SCHEMA, json=tmp_path / "data", cursor_key=key
        ) as store:
            assert page_of(store, page_of(store).next).items[0].id == "b"
            with pytest.raises(InvalidQuery):
                page_of(store, unsigned)
    with (
        pytest.raises(ConfigError, match="cursor key"),
        ps.open_store(schema=SCHEMA, json=tmp_path / "data", cursor_key="short"),
    ):
        pass


def test_a_cursor_key_is_a_variable(
    tmp_path: Path, unsigned: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pend.toml"
    file.write_text(
        '[environments.development]\nschema = "pend_storage.testing.domain"\n'
        '[environments.development.json]\ndirectory = "data"\n'
    )
    monkeypatch.setenv("PEND_CURSOR_KEY", SECRET)

    with ps.open_store(file) as store:
        assert store.cursor_key is not None
        with pytest.raises(InvalidQuery):
            page_of(store, unsigned)
