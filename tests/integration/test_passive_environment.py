"""One way to look at an environment: stores that are away, come back, or do not belong."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pend_storage._model.snapshots import RESTORED_META
from pend_storage._restored import RestoreNote
from pend_storage.config import Settings
from pend_storage.errors import ConfigError, CorruptFile, StoreUnavailable
from pend_storage.factory import (
    ENVIRONMENT_META,
    PassiveEnvironment,
    has_begun,
    open_json,
    open_passive,
    open_passive_json,
    open_postgres,
)
from pend_storage.factory import _passive as module
from pend_storage.operations.status import EnvironmentStatus, StatusProbe
from pend_storage.pend import SCHEMA
from pend_storage.phases import Phase, Role
from pend_storage.stores.postgres._connection.connection import (
    LibpqConnection,
    Statement,
)
from tests.front_door.conftest import Site, make_server, put, sample, server
from tests.integration.cli.stages import DOWN, bring_to, settings_of
from tests.looking import state_of

__all__ = ["make_server", "sample", "server"]

J, PAR, PG, P = Phase


def looked_at(server: Site, **environ: str) -> Any:
    return open_passive(settings_of(server, **environ))


def away(server: Site) -> Settings:
    return settings_of(server, PEND_DATABASE_URL=DOWN)


def test_a_fresh_environment_stays_fresh(server: Site) -> None:
    before, rows = state_of(server.data), server.rows()

    with looked_at(server) as seen:
        assert (seen.json, seen.pair, seen.pair_error) == (None, None, None)
        assert seen.is_fresh
        assert seen.is_unopened
        assert seen.problem("json") is seen.problem("postgres") is None
        assert list(seen.stores) == ["postgres"]
        with pytest.raises(ConfigError, match="no server has opened"):
            seen.primary()
    assert not has_begun(settings_of(server))
    assert (state_of(server.data), server.rows()) == (before, rows)


@pytest.mark.parametrize("phase", [PAR, PG])
def test_the_primary_is_found(server: Site, phase: Phase) -> None:
    bring_to(server, phase)

    with looked_at(server) as seen:
        assert seen.pair.phase is phase
        assert seen.primary() is (seen.json if phase is PAR else seen.postgres)
        assert seen.primary().role().role is Role.PRIMARY
    assert has_begun(settings_of(server))


def test_no_thread_of_a_relay_or_checkpointer_is_started(server: Site) -> None:
    bring_to(server, PAR)
    before = {thread.name for thread in threading.enumerate()}

    with looked_at(server) as seen:
        seen.pair.lag(), seen.pair.readiness(PG)
        names = {thread.name for thread in threading.enumerate()} - before

    assert not [n for n in names if "relay" in n or "checkpoint" in n or "switch" in n]


@pytest.mark.parametrize("phase", [PAR, PG])
def test_with_the_database_away_the_rest_is_shown(server: Site, phase: Phase) -> None:
    bring_to(server, phase)

    with open_passive(away(server)) as seen:
        assert seen.postgres is None
        assert "127.0.0.1" in (seen.problem("postgres") or "")
        assert seen.json is not None
        assert seen.pair is not None
        if phase is PAR:
            assert seen.pair.phase is PAR
            assert seen.pair.history()
            assert seen.pair.lag().secondary_up is False
        else:
            with pytest.raises(StoreUnavailable):
                _ = seen.pair.phase


def test_with_the_directory_away_the_rest_is_shown(server: Site) -> None:
    bring_to(server, PG)
    path = next((server.data / ".pend-storage").glob("snapshot-*"))
    path.write_bytes(path.read_bytes()[:-20])

    with looked_at(server) as seen:
        assert "snapshot" in (seen.problem("json") or "")
        assert seen.pair.phase is PG
        assert seen.primary() is seen.postgres
        assert seen.pair.history()
        with pytest.raises(CorruptFile):
            seen.require("json")


def test_a_database_that_comes_back_is_seen_at_the_next_look(server: Site) -> None:
    bring_to(server, PAR)

    with open_passive(away(server)) as seen:
        assert list(seen.stores) == ["json"]
        seen.settings, seen._postgres = settings_of(server), None  # as if it came back
        seen.refresh()
        assert seen.postgres is not None
        assert seen.pair is not None
        assert seen.pair.lag().secondary_up


def test_a_directory_that_goes_away_is_a_problem_and_comes_back(server: Site) -> None:
    bring_to(server, PAR)

    with looked_at(server) as seen:
        server.data.rename(server.path / "away")
        seen.refresh()
        assert seen.json is None
        assert "does not exist" in (seen.problem("json") or "")
        (server.path / "away").rename(server.data)
        seen.refresh()

        assert seen.problem("json") is None
        assert seen.pair.phase is PAR


def test_an_attempt_that_took_long_is_not_repeated_at_once(
    server: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring_to(server, PAR)
    attempts: list[float] = []

    def slow(self: PassiveEnvironment) -> None:
        attempts.append(time.monotonic())
        time.sleep(0.05)
        raise StoreUnavailable("no answer", store="it")

    monkeypatch.setattr(PassiveEnvironment, "_look_at_postgres", slow)
    monkeypatch.setattr(module, "_SLOW", 0.02)
    with looked_at(server) as seen:
        for _ in range(10):
            seen.refresh()
        assert len(attempts) == 1
        assert seen.problem("postgres").startswith("it: no answer")
        time.sleep(0.3)
        seen.refresh()
        assert len(attempts) == 2


def test_the_database_of_another_environment_is_no_part_of_the_pair(
    server: Site,
) -> None:
    bring_to(server, PAR)
    with open_postgres(settings_of(server)) as store:
        found = store.meta(ENVIRONMENT_META)
        assert store.compare_and_set_meta(ENVIRONMENT_META, found, "staging")

    with looked_at(server) as seen:
        assert seen.pair is None
        assert "belongs to the environment" in str(seen.pair_error)
        with pytest.raises(ConfigError, match="belongs to the environment"):
            seen.primary()


@pytest.mark.parametrize("side", ["json", "postgres"])
def test_a_sealed_store_is_refused_as_by_the_pair(server: Site, side: str) -> None:
    bring_to(server, PAR)
    note = RestoreNote(
        source="s",
        epoch=1,
        sequence=1,
        above=2,
        at="2026-01-01T00:00:00+00:00",
        backup="b",
        target="latest",
    )
    opener = open_json if side == "json" else open_postgres
    with opener(settings_of(server)) as store:
        assert store.compare_and_set_meta(RESTORED_META, None, note.to_meta())

    with looked_at(server) as seen:
        assert seen.pair is None
        assert seen.pair_error is not None
        assert "was restored" in str(seen.pair_error)
        with pytest.raises(ConfigError):
            seen.primary()


def test_a_copy_of_the_directory_is_looked_at(server: Site) -> None:
    bring_to(server, PAR)
    copy = Path(shutil.copytree(server.data, server.path / "copy"))
    before = state_of(copy)

    with open_passive_json(settings_of(server), copy) as reader:
        count = reader.collection("users").count()
    with open_passive_json(settings_of(server), server.data) as reader:
        assert reader.collection("users").count() == count > 0
    assert state_of(copy) == before


# -- a status -----------------------------------------------------------------------------


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows that each statement of this process returns."""
    found: list[int] = []
    real = LibpqConnection.execute

    def counted(self: LibpqConnection, statement: Statement, values: Any = ()) -> Any:
        result = real(self, statement, values)
        found.append(result.ntuples)
        return result

    monkeypatch.setattr(LibpqConnection, "execute", counted)
    return found


def fill_log(server: Site, phase: Phase, commits: int) -> None:
    """Commit at the primary alone, as while the secondary is away."""
    settings = settings_of(server)
    opener = open_json if phase is PAR else open_postgres
    users = SCHEMA["documents"]
    with opener(settings) as store:
        row = next(store.scan("documents"))
        batches = [
            SCHEMA.batch([SCHEMA.put("documents", row.record)]) for _ in range(commits)
        ]
        for start in range(0, commits, 500):
            store.commit_each(batches[start : start + 500])
    assert users.name == "documents"


@pytest.mark.parametrize("phase", [PAR, PG])
def test_a_status_costs_the_same_at_any_backlog(
    server: Site, phase: Phase, statements: list[int]
) -> None:
    bring_to(server, phase)
    with StatusProbe(settings_of(server)) as probe:

        def cost() -> tuple[int, int, EnvironmentStatus]:
            probe.status()  # once open: what is walked along once is known
            statements.clear()
            found = probe.status()
            return len(statements), sum(statements), found

        few, rows, _ = cost()
        fill_log(server, phase, 3_000)
        many, more_rows, found = cost()

    assert found.details is not None
    assert found.details.lag is not None
    assert found.details.lag.commits == 3_000
    assert many <= few + 2
    assert more_rows <= rows + 20
    assert few <= 16


def test_a_status_sees_what_is_new(server: Site) -> None:
    bring_to(server, PAR)
    with StatusProbe(settings_of(server)) as probe:
        before = probe.status()
        put(server.data / "wallet-db.json", {f"0x{1:064x}": f"0x{1:040x}"})
        unchanged = probe.status()
        fill_log(server, PAR, 3)  # which adopts the edit
        after = probe.status()

    assert before.details is not None
    assert unchanged.details is not None
    assert after.details is not None
    assert unchanged.details.lag == before.details.lag
    assert after.details.lag is not None
    assert after.details.lag.commits >= 3
