"""The first primary of a fresh pair in a configured environment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import pend_storage as ps
from pend_storage.config import Settings, load_settings
from pend_storage.factory import open_json, open_pair, open_postgres
from pend_storage.phases import Phase, Role
from pend_storage.testing.domain import SCHEMA, Log, a_log

J, PAR, PG, P = Phase
Configure = Callable[..., Settings]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Writes a configuration; gives its settings."""

    def write(url: str, phase: Phase) -> Settings:
        (tmp_path / "data").mkdir(exist_ok=True)
        path = tmp_path / "pend.toml"
        path.write_text(
            f'[environments.development]\nphase = "{phase.value}"\n'
            'schema = "pend_storage.testing.domain"\n'
            '[environments.development.json]\ndirectory = "data"\n'
            f'[environments.development.postgres]\nurl = "{url}"\n'
        )
        return load_settings(path, environ={})

    return write


@pytest.fixture
def url(new_migrated_database: Callable[[ps.Schema], str]) -> str:
    return new_migrated_database(SCHEMA)


def write(settings: Settings, *sides: str) -> None:
    for side in sides:
        opened = open_json if side == "json" else open_postgres
        with opened(settings) as store:
            store.collection(Log).put(a_log(side, "alone"))


@pytest.mark.parametrize(
    "case",
    [
        ((), J, J),
        ((), PAR, J),
        ((), PG, J),
        ((), P, P),
        (("json",), J, J),
        (("json",), P, J),
        (("postgres",), J, P),
        (("postgres",), P, P),
        (("json", "postgres"), J, J),
        (("json", "postgres"), PAR, J),
        (("json", "postgres"), PG, P),
        (("json", "postgres"), P, P),
    ],
)
def test_a_fresh_pair_begins_where_the_data_is(
    configure: Configure,
    url: str,
    caplog: pytest.LogCaptureFixture,
    case: tuple[tuple[str, ...], Phase, Phase],
) -> None:
    sides, phase, begins = case
    settings = configure(url, phase)
    write(settings, *sides)

    with open_pair(settings) as pair:
        assert pair.phase is begins
        pair.collection(Log).put(a_log("a", "b"))

    assert ("both written to" in caplog.text) is (len(sides) > 1)


def test_a_database_that_comes_later_joins_a_store_that_began_alone(
    configure: Configure, new_database: Callable[[], str]
) -> None:
    settings = configure(new_database(), J)
    with open_pair(settings) as pair:
        pair.collection(Log).put(a_log("a", "before there was a database"))
        assert pair.phase is J
        assert pair.roles().postgres is None

    with open_postgres(settings) as database:
        database.migrate()

    with open_pair(settings) as pair:
        view = pair.roles()
        assert view.json is not None
        assert view.postgres is not None
        assert (view.json.role, view.postgres.role) == (Role.PRIMARY, Role.DETACHED)
        pair.switch(PAR)
        pair.backfill()
        assert pair.validate().ok
        assert pair.postgres.collection(Log).count() == 1


def test_a_database_that_turns_out_to_be_primary_is_not_overwritten(
    configure: Configure, url: str, tmp_path: Path
) -> None:
    settings = configure(url, P)
    with open_pair(settings) as pair:
        pair.collection(Log).put(a_log("a", "the truth"))
    data = tmp_path / "data"
    data.rename(tmp_path / "lost")
    out_of_reach = configure("postgresql://127.0.0.1:1/none", J)
    with open_pair(out_of_reach) as pair:
        pair.collection(Log).put(a_log("b", "a mistake"))

    with pytest.raises(ps.ConfigError, match="--elect"):
        open_pair(configure(url, J))

    with open_postgres(settings) as database:
        assert [row.key for row in database.scan("logs")] == ["a"]
