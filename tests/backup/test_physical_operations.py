"""Physical backups of an environment: created, archived, restored, sealed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from pend_storage._restored import note_of
from pend_storage.backup._catalog import Catalog
from pend_storage.backup.physical._base import facts_of
from pend_storage.backup.physical._lsn import parse_lsn
from pend_storage.backup.physical._targets import OFFSET_META
from pend_storage.cli._app import run
from pend_storage.config import Settings, load_settings
from pend_storage.errors import ConfigError, StaleEpoch
from pend_storage.factory import open_postgres
from pend_storage.operations.backup.physical import (
    archive_server_log,
    create_physical,
)
from pend_storage.operations.backup.physical_restore import (
    ServerPlan,
    ServerRestored,
    restore_physical,
)
from pend_storage.operations.backup.retention import prune_backups
from pend_storage.operations.backup.side import SideAddress, open_side_postgres
from pend_storage.operations.backup.verify import verify_backups
from pend_storage.phases import Role
from pend_storage.store import Store
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.domain import SCHEMA, Log, a_log
from tests.backup.servers import (
    DEBIAN,
    Lab,
    as_server_user,
    end_servers,
    killed_at,
    lab,
)


@pytest.fixture(scope="module")
def own() -> Iterator[Lab]:
    """Server 15 of an environment: commit 1, a backup, commits 2 to 5, all archived."""
    with lab(DEBIAN) as made:
        # Here, because the server's user may not be able to read all modules.
        with PostgresStore(SCHEMA, made.server.url) as store:
            store.migrate()
        as_server_user(lambda: begin(made))
        yield made


def settings_of(made: Lab) -> Settings:
    file = made.place / "pend.toml"
    if not file.exists():
        file.write_text(
            f"""
[environments.development]
phase = "postgres-only"
schema = "pend_storage.testing.domain"
[environments.development.postgres]
url = "{made.server.url}"
[environments.development.backup]
repository = "{made.place / "repository"}"
"""
        )
    return load_settings(file, environ={})


def begin(made: Lab) -> None:
    settings = settings_of(made)
    with open_postgres(settings) as store:
        archive_server_log(settings, made.place / "spool")
        put(store, 1)
        create_physical(settings, keep=True)
        for number in range(2, 6):
            put(store, number)
    archive_server_log(settings, made.place / "spool")


def put(store: Store, number: int) -> None:
    store.collection(Log).put(a_log(f"log-{number}"))


def numbers(made: Lab) -> list[int]:
    with open_postgres(settings_of(made)) as store:
        return [change.sequence for change in store.changes()]


def contents(
    settings: Settings, restored: ServerRestored
) -> tuple[set[str], Role, int]:
    with open_side_postgres(settings, SideAddress(url=restored.url)) as store:
        note = note_of(store)
        assert note is not None
        assert note.state == "sealed"
        keys = {str(key) for key, _ in keyed(store)}
        with pytest.raises(StaleEpoch):
            put(store, 99)
        return keys, store.role().role, store.head()


def keyed(store: Store) -> Iterator[tuple[str, int]]:
    for row in store.scan("logs"):
        yield row.key, row.version


def test_a_restored_server_has_all_before_a_commit_and_is_sealed(own: Lab) -> None:
    def work() -> tuple[ServerRestored, tuple[set[str], Role, int], list[int]]:
        known = numbers(own)
        settings = settings_of(own)
        plan = restore_physical(
            settings, f"before:{known[3]}", own.place / "side", dry_run=True
        )
        assert isinstance(plan, ServerPlan)
        assert plan.log.gap is None
        restored = restore_physical(settings, f"before:{known[3]}", own.place / "side")
        assert isinstance(restored, ServerRestored)
        return restored, contents(settings, restored), known

    restored, (keys, role, head), known = as_server_user(work)
    end_servers(own.place)

    assert keys == {"log-1", "log-2", "log-3"}
    assert restored.sequence == known[2]
    assert restored.beyond == ()
    assert role is Role.DETACHED
    assert head > known[-1]


def test_what_the_backup_has_already_cannot_be_a_target(own: Lab) -> None:
    def work() -> None:
        restore_physical(settings_of(own), f"before:{numbers(own)[0]}", own.place / "x")

    with pytest.raises(ConfigError, match="not after the end of the backup"):
        as_server_user(work)
    assert not (own.place / "x").exists()


def test_moved_numbers_are_refused(own: Lab) -> None:
    def work() -> None:
        settings = settings_of(own)
        known = numbers(own)
        with open_postgres(settings) as store:
            before = store.meta(OFFSET_META)
            store.compare_and_set_meta(OFFSET_META, before, 7)
        try:
            restore_physical(settings, f"before:{known[3]}", own.place / "y")
        finally:
            with open_postgres(settings) as store:
                store.compare_and_set_meta(OFFSET_META, 7, before)

    with pytest.raises(ConfigError, match="were moved since the backup"):
        as_server_user(work)


def test_everything_stored_is_verified(own: Lab) -> None:
    def work() -> tuple[tuple[object, ...], list[str]]:
        settings = settings_of(own)
        whole = verify_backups(settings, record=False).damaged
        victim = max(
            (own.place / "repository" / "wal").rglob("*.zst"),
            key=lambda path: path.stat().st_size,
        )
        content = victim.read_bytes()
        victim.chmod(0o600)
        victim.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        damaged = verify_backups(settings, record=False).damaged
        victim.write_bytes(content)
        return whole, [damage.name for damage in damaged]

    whole, damaged = as_server_user(work)

    assert whole == ()
    assert [name.partition("/")[0] for name in damaged] == ["wal"]


@pytest.mark.parametrize("point", ["backup.base-part-written", "backup.base-verified"])
def test_an_interrupted_backup_is_never_listed(own: Lab, point: str) -> None:
    def listed() -> list[str]:
        return [each.id for each in Catalog(own.repository).backups()]

    before = as_server_user(listed)

    assert killed_at(point, lambda: create_physical(settings_of(own)))

    assert as_server_user(listed) == before


def test_a_follower_is_not_backed_up(own: Lab) -> None:
    def work() -> None:
        settings = settings_of(own)
        with open_postgres(settings) as store:
            store.compare_and_set_meta("role", None, {"role": "secondary", "epoch": 3})
            try:
                create_physical(settings)
            finally:
                found = store.meta("role")
                store.compare_and_set_meta("role", found, None)

    with pytest.raises(ConfigError, match="which has that of the primary"):
        as_server_user(work)


def called(arguments: list[str]) -> tuple[int, str]:
    """Call a command; return its exit code, and all that it wrote."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(arguments)
    return code, " ".join((out.getvalue() + err.getvalue()).split())


def test_the_commands_make_archive_and_plan(own: Lab) -> None:
    """The commands of the how-to, in the order in which they stand there."""

    def work() -> list[tuple[int, str]]:
        file = str(own.place / "pend.toml")
        settings_of(own)
        spool = str(own.place / "spool")
        calls = [
            ["backup", "archive", "--wal", spool],
            ["backup", "create", "--kind", "physical", "--label", "weekly"],
            ["backup", "create", "--kind", "incremental"],
            ["backup", "verify"],
            ["backup", "list"],
        ]
        return [called([*call, "--config", file]) for call in calls]

    archived, made, incremental, verified, listed = as_server_user(work)

    assert archived[0] == 0
    assert "max_slot_wal_keep_size" in archived[1]
    assert made[0] == 0
    assert "server 15" in made[1]
    assert incremental[0] == 2
    assert "begin with 17" in incremental[1]
    assert verified[0] == 0
    assert "physical" in listed[1]


def test_the_log_before_every_backup_of_its_server_is_pruned(own: Lab) -> None:
    def work() -> tuple[int, int, list[int], int]:
        settings = settings_of(own)
        spool = own.place / "spool"
        create_physical(settings)
        archive_server_log(settings, spool)
        size = own.facts.segment_size
        before = own.archive.segments(size)[1]
        planned = prune_backups(settings, dry_run=True).abandoned
        assert own.archive.segments(size)[1] == before
        prune_backups(settings)
        starts = [
            parse_lsn(facts_of(each).start) // size
            for each in Catalog(own.repository).backups()
        ]
        after = own.archive.segments(size)[1]
        return min(starts), before[0], after, planned

    first, oldest, after, planned = as_server_user(work)

    assert oldest < first  # there was something to delete
    assert after[0] == first
    assert planned > 0


def command_of(pid: int) -> str:
    """Command of a process; empty: it has ended. Another one may have its number by now."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("restore.base-fetched", marks=pytest.mark.deep),
        pytest.param("restore.server-fetched", marks=pytest.mark.deep),
        "restore.server-sealed",
    ],
)
def test_an_interrupted_restore_is_repeated(own: Lab, point: str) -> None:
    place = own.place / point

    def work() -> ServerRestored:
        known = numbers(own)
        done = restore_physical(settings_of(own), f"before:{known[3]}", place)
        assert isinstance(done, ServerRestored)
        return done

    assert killed_at(point, work)
    assert (place / ".pend-restoring").exists()
    left = place / "data" / "postmaster.pid"
    pid = int(left.read_text().split()[0]) if left.exists() else None
    restored = as_server_user(work)
    if pid is not None:  # the server that it left has ended
        assert str(place) not in command_of(pid)
    end_servers(own.place)

    assert restored.stopped.startswith("recovery stopping before")
    assert not (place / ".pend-restoring").exists()
    with pytest.raises(ConfigError, match="never writes over anything"):
        as_server_user(work)
