"""Promotion of restored directories and databases, by the operation and the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pend_storage as ps
from pend_storage import crashpoints
from pend_storage._restored import note_of
from pend_storage.cli._app import run as run_command
from pend_storage.config import JsonSettings, PostgresSettings, Settings
from pend_storage.config._settings import Declared
from pend_storage.dualwrite import CODES
from pend_storage.errors import ConfigError
from pend_storage.factory import DualWriteStore, open_json, open_pair, open_postgres
from pend_storage.operations.backup.promote import PromotionReport, promote
from pend_storage.phases import Phase, Role
from pend_storage.schema import AUDIT, Schema
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing import run_until_crash
from pend_storage.testing.crash import Report
from pend_storage.testing.domain import SCHEMA, Log, a_log

from .restored_stores import restored

NewDatabase = Callable[[Schema], str]


def settings_of(directory: Path, url: str | None) -> Settings:
    return Settings(
        environment="test",
        file=None,
        declared=Declared(schema=SCHEMA, layouts=()),
        json=JsonSettings(directory=directory, unclaimed="ignore"),
        postgres=None if url is None else PostgresSettings(url=url),
        is_from_code=True,
    )


def put(store: Store, key: str, text: str) -> int:
    return store.collection(Log).put(a_log(key, text))


def text_of(store: Store, key: str) -> str | None:
    found = store.collection(Log).get(key)
    return None if found is None else found.text


@pytest.fixture
def live(tmp_path: Path, new_migrated_database: NewDatabase) -> Settings:
    """A pair in the phase postgres-primary, with two records."""
    settings = settings_of(tmp_path / "live", new_migrated_database(SCHEMA))
    with open_pair(settings, create=True) as pair:
        put(pair, "l1", "first")
        pair.switch(Phase.POSTGRES_PRIMARY, accept=CODES)
        put(pair, "l2", "second")
        pair.catch_up()
    return settings


def restored_database(live: Settings, url: str) -> str:
    """The present state of the database, restored into another one."""
    with open_postgres(live) as source, PostgresStore(SCHEMA, url) as target:
        restored(source, target)
    return url


def restored_directory(live: Settings, directory: Path) -> Path:
    with (
        open_postgres(live) as source,
        JsonStore(SCHEMA, directory, checkpoint_interval=None) as target,
    ):
        restored(source, target)
    return directory


def lose(live: Settings) -> int:
    """A commit after the backup."""
    with open_pair(live) as pair:
        put(pair, "l2", "lost")
        pair.catch_up()
        put(pair, "l3", "lost, too")
        pair.catch_up()
        return max(change.sequence for change in pair.postgres.changes())


def with_database(settings: Settings, url: str) -> Settings:
    return settings_of(settings.require_json().directory, url)


def test_a_database_is_promoted(
    live: Settings, new_migrated_database: NewDatabase
) -> None:
    side = restored_database(live, new_migrated_database(SCHEMA))
    last = lose(live)
    plan = promote(live, side, dry_run=True)
    assert plan.done is None
    assert plan.plan.lost.commits == 2
    with open_pair(live) as pair:
        assert text_of(pair, "l2") == "lost"
    report = promote(live, side)
    assert report.phase is Phase.POSTGRES_ONLY
    assert report.configuration is not None
    assert "url" in report.configuration
    with pytest.raises(ConfigError, match="disagree about who is primary"):
        open_pair(live)
    moved = with_database(live, side)
    with open_pair(moved) as pair:
        assert text_of(pair, "l2") == "second"
        assert pair.phase is Phase.POSTGRES_ONLY
        after = put(pair, "l2", "after")
        # Above every number of the database that was lost: the entry of the promotion,
        # and the commit.
        entry, mine = pair.postgres.changes(last)
        assert last < entry.sequence < mine.sequence == after
        noted = {row.version: row.record.action for row in pair.scan(AUDIT)}
        assert noted[entry.sequence] == "promote"
    with pytest.raises(ConfigError, match="not restored"):
        promote(moved, live.require_postgres().url)


def test_a_promotion_is_in_the_history_with_its_author_and_reason(
    live: Settings, new_migrated_database: NewDatabase
) -> None:
    side = restored_database(live, new_migrated_database(SCHEMA))
    moved = with_database(live, side)
    for by in ("ann", "bob"):  # called again, as after an interruption
        promote(live, side, by=by, reason="records were deleted")
    with open_pair(moved) as pair:
        last = pair.history()[-1]
        assert (last.kind, last.by, last.reason) == (
            "promotion",
            "ann",
            "records were deleted",
        )
        assert (last.before, last.after) == (
            Phase.POSTGRES_PRIMARY,
            Phase.POSTGRES_ONLY,
        )
        assert [s.kind for s in pair.history()].count("promotion") == 1
        assert last.epoch == pair.postgres.role().epoch


def test_a_directory_is_promoted_from_a_backup_of_the_database(
    live: Settings, tmp_path: Path
) -> None:
    side = restored_directory(live, tmp_path / "side")
    last = lose(live)
    promote(live, str(side))
    moved = settings_of(side, live.require_postgres().url)
    with open_pair(moved) as pair:
        assert pair.phase is Phase.JSON_ONLY
        assert text_of(pair, "l2") == "second"
        assert put(pair, "l2", "after") > last


def test_the_directory_brings_what_the_database_lost(
    live: Settings, new_migrated_database: NewDatabase
) -> None:
    side = restored_database(live, new_migrated_database(SCHEMA))
    last = lose(live)
    gone = settings_of(
        live.require_json().directory, "postgresql://127.0.0.1:1/gone?user=x"
    )
    report = promote(gone, side, roll_forward="json")
    assert report.done is not None
    assert report.done.unreachable == ("postgres",)
    assert report.done.brought == 2
    moved = with_database(live, side)
    with open_pair(moved) as pair:
        assert (text_of(pair, "l2"), text_of(pair, "l3")) == ("lost", "lost, too")
        assert put(pair, "l4", "new") > last
        pair.switch(Phase.POSTGRES_PRIMARY, accept=CODES)
        assert pair.validate().ok
        pair.switch(Phase.PARALLEL, accept=CODES)
        assert text_of(pair, "l2") == "lost"


def test_a_sealed_store_that_is_configured_is_refused_until_promoted(
    live: Settings, tmp_path: Path, new_migrated_database: NewDatabase
) -> None:
    side = restored_database(live, new_migrated_database(SCHEMA))
    moved = with_database(live, side)
    openings: list[Callable[[], object]] = [
        lambda: ps.open_store(
            schema=SCHEMA, layouts=(), json=live.require_json().directory, postgres=side
        ),
        lambda: ps.open_store(
            schema=SCHEMA, layouts=(), postgres=side, phase="postgres-only"
        ),
    ]
    for opening in openings:
        with pytest.raises(ConfigError, match="backup promote"):
            opening()
    with open_json(moved) as one, open_postgres(moved) as two:  # noqa: SIM117
        with pytest.raises(ConfigError, match="backup promote"):
            DualWriteStore(json=one, postgres=two)
    report = promote(moved, side)
    assert report.configuration is None
    with open_pair(moved) as pair:
        assert text_of(pair, "l2") == "second"


def test_a_store_alone_is_promoted(tmp_path: Path) -> None:
    alone = settings_of(tmp_path / "live", None)
    with open_json(alone, create=True) as source:
        put(source, "l1", "first")
        side = JsonStore(SCHEMA, tmp_path / "side", checkpoint_interval=None)
        restored(source, side)
        side.close()
        last = put(source, "l1", "lost")
    report = promote(alone, str(tmp_path / "side"))
    assert report.plan.lost.commits == 1
    moved = settings_of(tmp_path / "side", None)
    with open_json(moved) as store:
        assert put(store, "l1", "after") > last
    with pytest.raises(ConfigError, match="is detached"):
        ps.open_store(schema=SCHEMA, layouts=(), json=tmp_path / "live")


def promote_in_child(report: Report, directory: Path, url: str, side: str) -> None:
    settings = settings_of(directory, url)
    done: PromotionReport = promote(settings, side, roll_forward="json")
    report(done.plan.epoch)


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(name, marks=() if name == "promote.retired" else pytest.mark.deep)
        for name in sorted(crashpoints.points("promote."))
    ],
)
def test_a_killed_promotion_is_finished(
    live: Settings, new_migrated_database: NewDatabase, point: str
) -> None:
    side = restored_database(live, new_migrated_database(SCHEMA))
    lose(live)
    place = (live.require_json().directory, live.require_postgres().url)
    run_until_crash(promote_in_child, *place, side, point=point)
    moved = with_database(live, side)
    with (
        open_json(live) as one,
        open_postgres(live) as two,
        open_postgres(moved) as new,
    ):
        roles = [store.role().role for store in (one, two, new)]
        assert roles.count(Role.PRIMARY) <= 1
    promote(live, side, roll_forward="json")
    with open_postgres(moved) as new:
        note = note_of(new)
        assert note is not None
        assert note.state == "promoted"
    with open_pair(moved) as pair:
        assert text_of(pair, "l2") == "lost"
        pair.switch(Phase.POSTGRES_PRIMARY, accept=CODES)
        assert pair.validate().ok


def test_the_command_shows_the_plan_and_asks(
    live: Settings,
    tmp_path: Path,
    new_migrated_database: NewDatabase,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    side = restored_database(live, new_migrated_database(SCHEMA))
    lose(live)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PEND_SCHEMA", "pend_storage.testing.domain")
    monkeypatch.setenv("PEND_JSON_DIRECTORY", str(live.require_json().directory))
    monkeypatch.setenv("PEND_DATABASE_URL", live.require_postgres().url)
    monkeypatch.setenv("PEND_ENV", "test")

    def run(*arguments: str) -> tuple[int, str]:
        code = run_command(["backup", "promote", side, *arguments])
        return code, capsys.readouterr().out

    code, text = run("--dry-run")
    assert code == 0, text
    assert "2 later commits are lost" in text
    code, _ = run()
    assert code == 2
    code, text = run("--yes", "--json")
    assert code == 0, text
    document: Any = json.loads(text)
    assert document["result"]["done"]["lost"]["commits"] == 2
    assert document["result"]["phase"] == "postgres-only"
