"""A pair that an application makes itself, and the hooks of one that is configured."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pend_storage as ps
from pend_storage import dualwrite
from pend_storage.backfill import backfill
from pend_storage.flags import FileFlag
from pend_storage.testing.domain import SCHEMA, Log, a_log
from tests.dualwrite.processes import wait_until

J, PAR, PG, P = ps.Phase
MakeStores = Callable[[], tuple[ps.Store, ps.Store]]


@pytest.fixture(params=["memory", "json and postgres"])
def stores(
    request: pytest.FixtureRequest,
    new_migrated_database: Callable[[ps.Schema], str],
    tmp_path: Path,
) -> MakeStores:
    if request.param == "memory":
        return lambda: (ps.MemoryStore(SCHEMA), ps.MemoryStore(SCHEMA))
    url = new_migrated_database(SCHEMA)
    return lambda: (ps.JsonStore(SCHEMA, tmp_path), ps.PostgresStore(SCHEMA, url))


@pytest.fixture
def made(stores: MakeStores) -> Iterator[ps.DualWriteStore]:
    json, postgres = stores()
    with ps.DualWriteStore(json=json, postgres=postgres) as store:
        yield store


def test_it_moves_without_further_wiring(made: ps.DualWriteStore) -> None:
    logs = made.collection(Log)
    logs.put_many([a_log(f"{n:03}", "before") for n in range(300)])
    assert made.phase is J

    made.switch(PAR)
    logs.put(a_log("300", "after"))
    copied = made.backfill()
    checked = made.validate()

    assert copied.rows == 301
    assert (checked.ok, checked.checked) == (True, 301)
    assert {blocker.code for blocker in made.readiness(PG).blockers} <= {"backup"}
    made.switch(PG, accept=["backup"])
    assert made.phase is PG
    assert logs.count() == 301
    assert made.validate().ok
    made.switch(P, accept=["backup"])
    made.switch(J)
    assert logs.count() == 301


def test_other_jobs_can_be_passed_and_none_means_the_default() -> None:
    calls: list[str] = []

    def counted(*args: ps.Store, **settings: object) -> ps.BackfillReport:
        calls.append("backfill")
        return backfill(*args, **settings)  # type: ignore[arg-type]

    for given, expected in ((counted, ["backfill"]), (None, [])):
        calls.clear()
        with ps.DualWriteStore(
            json=ps.MemoryStore(SCHEMA),
            postgres=ps.MemoryStore(SCHEMA),
            backfill=given,
            validate=None,
        ) as store:
            store.collection(Log).put(a_log("a"))
            store.switch(PAR)
            assert store.backfill().rows == 1
            assert store.validate().ok
        assert calls == expected


def test_the_pair_that_knows_only_the_contract_says_what_it_lacks() -> None:
    with dualwrite.DualWriteStore(
        json=ps.MemoryStore(SCHEMA), postgres=ps.MemoryStore(SCHEMA)
    ) as store:
        store.switch(PAR)
        for job in (store.backfill, store.validate):
            with pytest.raises(ps.ConfigError, match=r"pend_storage\.DualWriteStore"):
                job()

    assert issubclass(ps.DualWriteStore, dualwrite.DualWriteStore)


# -- hooks --------------------------------------------------------------------------------


@pytest.fixture
def config(new_migrated_database: Callable[[ps.Schema], str], tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    path = tmp_path / "pend.toml"
    path.write_text(
        '[environments.development]\nphase = "json-only"\nauto_switch = true\n'
        'schema = "pend_storage.testing.domain"\n'
        '[environments.development.json]\ndirectory = "data"\n'
        "[environments.development.postgres]\n"
        f'url = "{new_migrated_database(SCHEMA)}"\n'
    )
    return path


def test_an_application_sees_the_events_of_every_part(
    config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ps.open_store(config) as store:
        store.collection(Log).put_many([a_log(f"{n:04}") for n in range(900)])
    (config.parent / "data" / "other.json").write_text("{}")  # which no layout claims
    names: list[str] = []
    others: list[ps.Event] = []

    with ps.open_store(
        config, hook=[lambda event: names.append(event.name), others.append]
    ) as store:
        assert isinstance(store, ps.DualWriteStore)
        FileFlag(config, "development").write(PAR, by="a test")
        wait_until(lambda: "auto-switched" in names)  # what follows the flag
        store.backfill(rate=2_000)

    assert "files-unclaimed" in names  # the JSON store
    assert "backfill-throttled" in names  # a job of the pair
    assert [event.name for event in others] == names
    assert "auto-switched" not in caplog.text


def test_a_hook_that_fails_is_logged_once_and_the_server_goes_on(
    config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    def fail(event: ps.Event) -> None:
        seen.append(event.name)
        raise ConnectionError("no pager")

    with caplog.at_level(logging.ERROR), ps.open_store(config, hook=fail) as store:
        assert isinstance(store, ps.DualWriteStore)
        flag = FileFlag(config, "development")
        for phase in (PAR, J, PAR):
            flag.write(phase, by="a test")
            wait_until(lambda wanted=phase: store.phase is wanted)  # type: ignore[misc]
            store.collection(Log).put(a_log(phase.value))
        wait_until(lambda: seen.count("auto-switched") == 3)

    assert [r.getMessage()[:11] for r in caplog.records] == ["hook-failed"]


def test_the_only_store_and_the_difference_of_phases_go_to_the_hook(
    config: Path,
) -> None:
    names: list[str] = []
    text = config.read_text().replace("auto_switch = true\n", "")
    config.write_text(text.replace("json-only", "parallel"))
    ps.open_store(config, hook=lambda event: names.append(event.name)).close()
    assert "phase-differs" in names

    names.clear()
    alone = text[: text.index("[environments.development.postgres]")]
    config.write_text(alone)
    (config.parent / "data" / "other.json").write_text("{}")
    ps.open_store(config, hook=lambda event: names.append(event.name)).close()
    assert names == ["files-unclaimed"]
