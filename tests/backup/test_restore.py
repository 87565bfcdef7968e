"""Restores of an environment: journeys, refusals, damage, and processes that die."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg import sql

import pend_storage as ps
from pend_storage import crashpoints
from pend_storage._restored import note_of
from pend_storage.backup._catalog import Catalog
from pend_storage.backup._leases import holders
from pend_storage.backup._opening import open_repository
from pend_storage.backup._side_store import restore_files
from pend_storage.backup._streams import Keys
from pend_storage.backup._unclaimed import write_files
from pend_storage.config._database_url import overridden_url
from pend_storage.dualwrite import CODES
from pend_storage.errors import ConfigError, CorruptFile, StoreUnavailable
from pend_storage.operations.backup.restore import restore
from pend_storage.phases import Role, RoleState
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.json import OWN_DIRECTORY, JsonStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.crash import Report, run_until_crash
from pend_storage.testing.domain import SCHEMA, a_log

from .sites import Site, texts_of

NewDatabase = Callable[[], str]
Migrated = Callable[[Schema], str]


@pytest.fixture
def json_site(tmp_path: Path) -> Site:
    return Site.with_json(tmp_path / "site")


@pytest.fixture
def postgres_site(tmp_path: Path, new_migrated_database: Migrated) -> Site:
    return Site.with_postgres(tmp_path / "site", new_migrated_database(SCHEMA))


@pytest.fixture(params=["json", "postgres"])
def site(request: pytest.FixtureRequest) -> Site:
    made: Site = request.getfixturevalue(f"{request.param}_site")
    return made


@pytest.fixture(params=["json", "postgres"])
def into(
    request: pytest.FixtureRequest, tmp_path: Path, new_migrated_database: Migrated
) -> str:
    """A place for a restored store: a new directory, or a database without a row."""
    if request.param == "json":
        return str(tmp_path / "side")
    return new_migrated_database(SCHEMA)


def opened(into: str) -> Store:
    """The restored store, as no server opens it."""
    if "://" in into:
        return PostgresStore(SCHEMA, into)
    return JsonStore(SCHEMA, into, checkpoint_interval=None)


def a_mistake(site: Site) -> list[int]:
    """Commits: a record, a backup, a good change, the mistake and what came after it."""
    site.write(("a", "first"), ("gone", "x"), ("gone", None))
    site.back_up()
    numbers = site.write(("a", "good"), ("b", "good"), ("a", "BAD"), ("c", "late"))
    site.archive()
    return numbers


# -- journeys -------------------------------------------------------------------------------


def test_the_moment_before_a_mistake(
    site: Site, into: str, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = a_mistake(site)
    target = f"before:logs/a@{numbers[2]}"
    arguments = ("backup", "restore", "--to", target, "--into", into, "--json")
    assert site.run(*arguments, "--dry-run") == 0
    planned = json.loads(capsys.readouterr().out)["result"]
    assert (planned["report"], planned["lost"]["commits"]) == (None, 2)
    assert not Path(into).exists()

    assert site.run(*arguments) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    assert result["commit"] == str(numbers[1])
    assert result["sequence"] == str(numbers[2] - 1)
    assert result["lost"]["first"] == [["logs", "a"], ["logs", "c"]]
    assert result["lost"]["archived"] == 2
    assert result["lost"]["unknown"] is None
    assert result["report"]["changes"] == 2
    assert result["records"]["logs"] == 2
    with opened(into) as restored:
        assert texts_of(restored) == {"a": "good", "b": "good"}
        deleted = restored.read("logs", ["gone"], deleted=True)["gone"]
        assert deleted.record is None, "the tombstone is there"
        assert restored.role().role is Role.DETACHED
        assert restored.head() >= numbers[3]
    with site.open() as live:
        assert texts_of(live) == {"a": "BAD", "b": "good", "c": "late"}


def test_no_server_opens_what_was_restored(site: Site, into: str) -> None:
    a_mistake(site)
    restore(site.settings, "latest", into)
    options: dict[str, Any] = {"postgres": into, "phase": "postgres-only"}
    if "://" not in into:
        options = {"json": into}
    with pytest.raises(ConfigError, match="not promoted"):
        ps.open_store(schema=SCHEMA, **options)


def test_latest_of_what_is_archived_says_what_only_the_live_log_has(site: Site) -> None:
    a_mistake(site)
    later = site.write(("d", "not archived"))
    side = site.path / "side"
    result = restore(site.settings, "latest", str(side))
    assert (result.lost.commits, result.lost.archived) == (1, 0)
    assert result.lost.first == (("logs", "d"),)
    with opened(str(side)) as restored:
        assert restored.head() >= later[0], "no number is given twice"


def test_without_the_live_store(site: Site, into: str) -> None:
    numbers = a_mistake(site)
    if site.settings.json is not None:
        site.settings.json.directory.rename(site.path / "lost")
    else:
        text = (site.path / "pend.toml").read_text()
        url = "postgresql://absent@127.0.0.1:1/gone"
        old = site.settings.require_postgres().url
        (site.path / "pend.toml").write_text(text.replace(old, url))
    if "://" in into and site.settings.postgres is not None:
        into = str(site.path / "side")
    result = restore(site.settings, str(numbers[1]), into)
    assert result.lost.unknown is not None
    assert "cannot be reached" in result.lost.unknown
    assert result.lost.commits == 2
    with opened(into) as restored:
        assert texts_of(restored) == {"a": "good", "b": "good"}


def test_files_of_no_layout_come_back_to_a_directory(
    json_site: Site, new_migrated_database: Migrated
) -> None:
    site = json_site
    data = site.path / "data"
    (data / "notes").mkdir()
    (data / "notes" / "readme.json").write_bytes(b'{"kept": true}\n')
    a_mistake(site)
    side = site.path / "side"
    result = restore(site.settings, "latest", str(side))
    assert result.files == 1
    assert (side / "notes" / "readme.json").read_bytes() == b'{"kept": true}\n'
    for path in [side, *side.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert json.loads((side / "logs.json").read_bytes()) == json.loads(
        (data / "logs.json").read_bytes()
    ), "the legacy file is rendered"
    with opened(str(side)) as restored, site.open() as live:
        for name in ("logs", "legacy_files"):
            rows = {row.key: row for row in restored.scan(name, deleted=True)}
            assert rows == {row.key: row for row in live.scan(name, deleted=True)}
    result = restore(site.settings, "latest", new_migrated_database(SCHEMA))
    assert (result.files, result.files_left_out) == (0, 1)


def test_a_role_that_owns_its_database_only(
    tmp_path: Path, new_database: NewDatabase, postgres_server: str
) -> None:
    """No superuser anywhere: migrate, back up, archive, restore into a schema of it."""
    url = new_database()
    with psycopg.connect(url) as connection:
        name = connection.info.dbname
    role = f"tenant_{os.getpid()}_{name}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        for text in (
            "create role {role} login password 'only-for-tests' nosuperuser",
            "alter database {name} owner to {role}",
        ):
            connection.execute(
                sql.SQL(text).format(
                    role=sql.Identifier(role), name=sql.Identifier(name)
                )
            )
    own = overridden_url(url, {"user": role, "password": "only-for-tests"})
    try:
        with PostgresStore(SCHEMA, own) as store:
            store.migrate()
        site = Site.with_postgres(tmp_path / "site", own)
        numbers = a_mistake(site)
        result = restore(
            site.settings, f"before:{numbers[2]}", own, schema_name="yesterday"
        )
        assert result.into.endswith("schema yesterday")
        with PostgresStore(SCHEMA, own, database_schema="yesterday") as restored:
            assert texts_of(restored) == {"a": "good", "b": "good"}
        assert site.run("backup", "diff", own, "--schema-name", "yesterday") == 1
        with site.open() as live:
            assert texts_of(live)["a"] == "BAD"
        with pytest.raises(ConfigError, match="database in use"):
            restore(site.settings, "latest", own)
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            owned = sql.Identifier(role)
            connection.execute(
                sql.SQL("reassign owned by {} to current_user").format(owned)
            )
            connection.execute(sql.SQL("drop owned by {}").format(owned))


@pytest.mark.parametrize("into", ["json", "postgres"], indirect=True)
def test_a_pair_across_a_switch(
    tmp_path: Path, new_migrated_database: Migrated, into: str
) -> None:
    site = Site.with_both(tmp_path / "site", new_migrated_database(SCHEMA))
    with site.open() as store:
        logs = store.collection("logs")
        logs.put(a_log("a", text="json"))
    site.back_up()
    site.archive()
    with site.open() as pair:
        assert isinstance(pair, ps.DualWriteStore)
        pair.switch(ps.Phase.PARALLEL, accept=CODES)
        pair.backfill()
        pair.collection("logs").put(a_log("b", text="json, later"))
        pair.switch(ps.Phase.POSTGRES_PRIMARY, accept=CODES)
        pair.collection("logs").put(a_log("a", text="postgres"))
        bad = pair.collection("logs").put(a_log("a", text="BAD"))
    site.archive()
    result = restore(site.settings, f"before:logs/a@{bad}", into)
    assert result.segments >= 2
    assert (result.lost.commits, result.lost.unknown) == (1, None)
    with opened(into) as restored:
        assert texts_of(restored) == {"a": "postgres", "b": "json, later"}
        assert restored.role() == RoleState(Role.DETACHED, result.epoch)
    named = restore(site.settings, f"{result.backup}", str(tmp_path / "first"))
    assert named.epoch < result.epoch
    with opened(str(tmp_path / "first")) as restored:
        assert texts_of(restored) == {"a": "json"}


# -- refusals -------------------------------------------------------------------------------


def test_what_is_in_use_is_never_touched(site: Site, tmp_path: Path) -> None:
    a_mistake(site)
    settings = site.settings
    if settings.json is not None:
        data = settings.json.directory
        (tmp_path / "link").symlink_to(data)
        for into in (data, data / "side", tmp_path / "link", data / ".." / "data"):
            with pytest.raises(ConfigError, match="directory in use"):
                restore(settings, "latest", str(into))
    else:
        live = settings.require_postgres().url
        other = live + ("&" if "?" in live else "?") + "application_name=x"
        for url in (live, other):
            with pytest.raises(ConfigError, match="database in use"):
                restore(settings, "latest", url)
    with pytest.raises(ConfigError, match="repository of the backups"):
        restore(settings, "latest", str(site.path / "repository" / "side"))


def test_nothing_is_ever_replaced(
    json_site: Site, tmp_path: Path, new_migrated_database: Migrated
) -> None:
    site = json_site
    a_mistake(site)
    taken, file = tmp_path / "taken", tmp_path / "file"
    taken.mkdir()
    (taken / "mine").write_text("mine")
    file.write_text("mine")
    for into in (taken, file):
        with pytest.raises(ConfigError, match="never replaces anything"):
            restore(site.settings, "latest", str(into))
    assert (taken / "mine").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    restore(site.settings, "latest", str(tmp_path / "empty"))
    with pytest.raises(ConfigError, match="never replaces anything"):
        restore(site.settings, "latest", str(tmp_path / "empty"))
    with pytest.raises(ConfigError, match="Make that folder"):
        restore(site.settings, "latest", str(tmp_path / "no" / "side"))

    url = new_migrated_database(SCHEMA)
    Site.with_postgres(tmp_path / "other", url).write(("theirs", "x"))
    with pytest.raises(ConfigError, match=r"never replaces anything"):
        restore(site.settings, "latest", url)
    with PostgresStore(SCHEMA, url) as store:
        assert texts_of(store) == {"theirs": "x"}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create schema theirs; create table theirs.mine (x int)")
    with pytest.raises(ConfigError, match=r"not empty: it has mine"):
        restore(site.settings, "latest", url, schema_name="theirs")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("drop schema theirs cascade")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("2026-01-31T12:00:00", "has no zone"),
        ("2999-01-31T12:00:00Z", "in the future"),
        ("2001-01-31T12:00:00Z", "before everything"),
        ("0", "before everything"),
        ("9000000000000000000", "after the last archived commit"),
        ("point:never", "no mark"),
        ("20010131T120000Z-snapshot-000000", "no backup"),
        ("before:logs/a@999", "no archived commit has made version 999"),
        ("before:logs/absent@1", "no archived commit has changed"),
        ("last tuesday", "is no target"),
    ],
)
def test_targets_that_cannot_be_reached_end_with_2(
    site_with_mistake: Site,
    target: str,
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    site = site_with_mistake
    side = site.path / "side"
    assert site.run("backup", "restore", "--to", target, "--into", str(side)) == 2
    assert reason in capsys.readouterr().err
    assert [p.name for p in site.path.iterdir() if p.name.startswith("side")] == []


@pytest.fixture(scope="module")
def site_with_mistake(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site.with_json(tmp_path_factory.mktemp("mistake") / "site")
    a_mistake(site)
    return site


@pytest.mark.parametrize(
    "address",
    [
        "app:hunter2@db/x",
        "app:hun/ter2@db/x",
        "postgresql:/app:hunter2@db/x",
        "host=db user=app password=hunter2",
        "postgresql://app:hunter2@db:99999/x",
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ("restore", "--to", "latest", "--into"),
        ("restore", "--kind", "physical", "--to", "latest", "--into"),
        ("restore", "--into", "side", "--to"),
        ("drill", "--into"),
        ("diff",),
        ("promote",),
        ("show",),
        ("pin",),
    ],
)
def test_an_address_in_the_place_of_something_else_is_not_shown(
    address: str,
    command: tuple[str, ...],
    site_with_mistake: Site,
    capsys: pytest.CaptureFixture[str],
) -> None:
    site = site_with_mistake
    assert site.run("backup", *command, address) != 0
    assert "ter2" not in "".join(capsys.readouterr())
    assert not list(site.path.rglob("*ter2*"))


def test_another_version_of_the_schema(site_with_mistake: Site, tmp_path: Path) -> None:
    site = site_with_mistake
    arguments = (
        "backup",
        "restore",
        "--to",
        "latest",
        "--into",
        str(tmp_path / "side"),
    )
    assert site.run(*arguments, "--schema", "pend_storage.pend") == 2
    assert not (tmp_path / "side").exists()


def test_a_database_in_which_nothing_has_ever_been(
    postgres_site: Site, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    a_mistake(postgres_site)
    for command in (("diff", postgres_url), ("promote", postgres_url)):
        assert postgres_site.run("backup", *command) == 2
        assert "nothing was restored into it" in capsys.readouterr().err, command
    restored = ("restore", "--to", "latest", "--into", postgres_url)
    assert postgres_site.run("backup", *restored) == 0
    assert postgres_site.run("backup", "diff", postgres_url) == 0
    assert postgres_site.run("backup", "promote", postgres_url, "--yes") == 0


# -- damage ---------------------------------------------------------------------------------


def test_a_flipped_byte_anywhere_is_found_and_nothing_is_left(
    json_site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site = json_site
    a_mistake(site)
    repository = site.path / "repository"
    stored = [p for p in repository.rglob("*.zst") if p.is_file()]
    assert len(stored) >= 2
    for number, path in enumerate(stored):
        good = path.read_bytes()
        for place in {0, len(good) // 2, len(good) - 1}:
            bad = bytearray(good)
            bad[place] ^= 1
            path.write_bytes(bytes(bad))
            side = site.path / f"side-{number}"
            with pytest.raises(CorruptFile):
                restore(site.settings, "latest", str(side))
            left = [p.name for p in site.path.iterdir() if p.name.startswith("side")]
            assert left == []
        path.write_bytes(good)
    restore(site.settings, "latest", str(site.path / "side"))


def test_a_part_that_is_missing(json_site: Site) -> None:
    site = json_site
    a_mistake(site)
    for path in (site.path / "repository" / "backups").rglob("*.zst"):
        path.unlink()
    with pytest.raises(ConfigError, match=r"no snapshot|damage"):
        restore(site.settings, "latest", str(site.path / "side"))


# -- leases, and repositories that may only be read -----------------------------------------


def test_a_lease_keeps_the_backup_while_it_is_read(site_with_mistake: Site) -> None:
    site, seen = site_with_mistake, []
    repository = open_repository(str(site.path / "repository"))

    def look(point: str) -> None:
        if point in {"restore.begun", "restore.replayed"}:
            seen.append([*holders(repository, "use-")])

    with crashpoints.handled(look):
        result = restore(site.settings, "latest", str(site.path / "leased"))
    assert len(seen) == 2
    for names in seen:
        assert len(names) == 1
        assert names[0].startswith(f"use-{result.backup}-")
    assert not holders(repository, "use-")


# -- processes that die ---------------------------------------------------------------------


def restore_in_child(report: Report, path: str, target: str, into: str) -> None:
    restore(Site(Path(path)).settings, target, into)
    report("done")


QUICK = ["restore.loaded", "restore.replayed", "seal.detached", "restore.sealed"]
DEEP = [
    "restore.begun",
    "restore.rows",
    "seal.named",
    "seal.carried",
    "seal.reserved",
]
POINTS = [*QUICK, *(pytest.param(point, marks=pytest.mark.deep) for point in DEEP)]


@pytest.mark.parametrize("point", [*POINTS, "restore.closed"])
def test_a_restore_into_a_directory_that_died_is_repeated(
    site_with_mistake: Site, tmp_path: Path, point: str
) -> None:
    site, side = site_with_mistake, tmp_path / "side"
    arguments = (str(site.path), "latest", str(side))
    outcome = run_until_crash(restore_in_child, *arguments, point=point)
    assert outcome.killed, outcome
    assert not side.exists(), "nothing has the name that is not complete"
    restore(site.settings, "latest", str(side))
    assert [p.name for p in tmp_path.iterdir()] == ["side"]
    with opened(str(side)) as restored:
        assert texts_of(restored) == {"a": "BAD", "b": "good", "c": "late"}


@pytest.mark.parametrize("point", POINTS)
def test_a_restore_into_a_database_that_died_is_repeated(
    site_with_mistake: Site, new_migrated_database: Migrated, point: str
) -> None:
    site, url = site_with_mistake, new_migrated_database(SCHEMA)
    arguments = (str(site.path), "latest", url)
    outcome = run_until_crash(restore_in_child, *arguments, point=point)
    assert outcome.killed, outcome
    with pytest.raises(ConfigError, match=r"did not end|not promoted"):
        ps.open_store(schema=SCHEMA, postgres=url, phase="postgres-only")
    with PostgresStore(SCHEMA, url) as half:
        numbers = note_of(half)
        assert numbers is not None
    if point != "restore.sealed":
        with pytest.raises(ConfigError, match="Name an empty directory or"):
            restore(site.settings, str(numbers.sequence - 1), url)
    result = restore(site.settings, "latest", url)
    assert result.report is not None
    assert result.report.resumed
    with opened(url) as restored:
        assert texts_of(restored) == {"a": "BAD", "b": "good", "c": "late"}
        assert restored.meta("restore-loaded") is None
        note = note_of(restored)
        assert note is not None
        assert note.state == "sealed"


def test_two_restores_into_one_directory(
    site_with_mistake: Site, tmp_path: Path
) -> None:
    site, side = site_with_mistake, tmp_path / "side"
    refusals = []

    def second(point: str) -> None:
        if point == "restore.loaded":
            with pytest.raises(StoreUnavailable, match="at the same time") as caught:
                restore(site.settings, "latest", str(side))
            refusals.append(caught)

    with crashpoints.handled(second):
        restore(site.settings, "latest", str(side))
    assert len(refusals) == 1


# -- files that a repository may not smuggle in ---------------------------------------------


@pytest.mark.parametrize(
    "name",
    [".pend-storage/journal", "a/.PEND-storage/x.json", "../x.json", "/etc/x.json"],
)
def test_a_file_that_leads_elsewhere(json_site: Site, name: str) -> None:
    site = json_site
    a_mistake(site)
    keys = Keys()
    repository = open_repository(str(site.path / "repository"))
    (site.path / "evil").write_text("{}")
    part, digests = write_files(
        {name: site.path / "evil"}, repository, keys, folder="backups/x"
    )
    manifest = Catalog(repository).backups()[0]
    forged = msgspec.structs.replace(
        manifest, parts=(*manifest.parts, part), files=digests
    )
    (site.path / "side").mkdir()
    with pytest.raises(ConfigError, match=r"none of the data|is not the name"):
        restore_files(site.path / "side", repository, forged, keys, own=OWN_DIRECTORY)
    assert not any((site.path / "side").iterdir())
