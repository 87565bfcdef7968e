"""Faults of a directory: each has its own error, and nothing is changed."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pend_storage._files.directory import Directory
from pend_storage.errors import (
    ConfigError,
    CorruptFile,
    LockTimeout,
    PendStorageError,
    SchemaOutOfDate,
    StoreUnavailable,
)
from pend_storage.events import Event
from pend_storage.stores.json import JsonStore
from pend_storage.stores.json._journal.process_locks import FileLock
from pend_storage.stores.json._journal.snapshot import FORMAT
from pend_storage.testing import Child, Report
from pend_storage.testing.domain import SCHEMA, Log, Tally, a_log, a_tally

KIBIBYTE = 1024


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def used(directory: Path) -> Path:
    with JsonStore(SCHEMA, directory, checkpoint_interval=None) as store:
        store.collection(Tally).put_many([a_tally("t", 1), a_tally("u", 2)])
        store.collection(Tally).put(a_tally("t", 2))
    return directory


def own(directory: Path, pattern: str) -> Path:
    (found,) = (directory / ".pend-storage").glob(pattern)
    return found


def refuses(directory: Path, kind: type[PendStorageError], text: str) -> None:
    before = {p: p.stat() for p in directory.rglob("*") if p.is_file()}

    with pytest.raises(kind, match=text):
        JsonStore(SCHEMA, directory, lock_timeout=0.05)

    after = {p: p.stat() for p in directory.rglob("*") if p.is_file()}
    assert {p: s.st_mtime_ns for p, s in after.items() if p in before} == {
        p: s.st_mtime_ns for p, s in before.items()
    }


# -- the place ------------------------------------------------------------------------------


def test_a_missing_directory_is_made_but_not_its_parents(tmp_path: Path) -> None:
    JsonStore(SCHEMA, tmp_path / "a").close()
    assert (tmp_path / "a" / ".pend-storage").is_dir()

    with pytest.raises(ConfigError, match="parent directory does not exist"):
        JsonStore(SCHEMA, tmp_path / "b" / "c")
    assert not (tmp_path / "b").exists()


def test_a_file_is_not_a_directory(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("{}")

    with pytest.raises(ConfigError, match="not a directory"):
        JsonStore(SCHEMA, tmp_path / "f")
    with pytest.raises(ConfigError, match="Not a directory"):
        JsonStore(SCHEMA, tmp_path / "f" / "g")


def open_as_nobody(report: Report, directory: Path) -> None:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    try:
        JsonStore(SCHEMA, directory).close()
    except PendStorageError as error:
        report((type(error).__name__, str(error)))
    else:
        report(("none", ""))


@pytest.fixture
def reachable(tmp_path: Path) -> Iterator[Path]:
    """A directory of another user, that everybody may enter."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    place = Path("/tmp").resolve() / f"pend-json-{os.getpid()}"  # noqa: S108
    place.mkdir()
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


def test_a_directory_of_somebody_else_is_told_as_such(reachable: Path) -> None:
    with Child(open_as_nobody, reachable) as child:
        ((name, text),) = child.finish().reports

    assert name == "ConfigError"
    assert "permission denied" in text
    assert "65534" in text


def test_an_administrator_does_not_lock_the_server_out(reachable: Path) -> None:
    os.chown(reachable, 65534, 65534)
    with JsonStore(SCHEMA, reachable, allow_foreign_owner=True) as store:  # as root
        store.collection(Tally).put(a_tally("t", 1))
        store.checkpoint()
        store.compact()

    with Child(open_as_nobody, reachable) as child:
        assert child.finish().reports == (("none", ""),)
    owners = {p.stat().st_uid for p in (reachable / ".pend-storage").rglob("*")}
    assert owners == {65534}


def test_what_is_in_the_own_directory_is_for_the_owner_only(used: Path) -> None:
    assert (used / ".pend-storage").stat().st_mode & 0o077 == 0


def test_a_lock_held_by_another_process_is_a_timeout(
    directory: Path, used: Path
) -> None:
    shutil.rmtree(used / ".pend-storage")

    with FileLock(directory / ".pend-storage.lock").held(5):
        refuses(directory, LockTimeout, "still locked by another process")


READ_ONLY = """
import sys
from pend_storage.errors import PendStorageError
from pend_storage.stores.json import JsonStore
from pend_storage.testing.domain import SCHEMA
try:
    JsonStore(SCHEMA, sys.argv[1])
except PendStorageError as error:
    print(type(error).__name__, error)
"""


def in_namespace(script: str, program: str, directory: Path) -> str:
    """Run Python after a shell script, in a mount namespace of its own."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare, to mount a file system")
    command = f'{script}\nexec "$0" -c "$2" "$1"'
    done = subprocess.run(
        ["unshare", "-m", "bash", "-ec", command, sys.executable, directory, program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("fresh", [True, False])
def test_a_read_only_file_system_is_told_as_such(
    fresh: bool, used: Path, directory: Path
) -> None:
    if fresh:
        shutil.rmtree(used / ".pend-storage")

    told = in_namespace(
        'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1"', READ_ONLY, directory
    )

    assert told.startswith("StoreUnavailable")
    assert "the file system is read-only" in told


# -- damage -----------------------------------------------------------------------------------


def test_a_directory_without_its_format_is_not_opened(used: Path) -> None:
    own(used, "format").unlink()

    refuses(used, CorruptFile, "format: the file is missing")


def test_a_newer_format_is_not_opened(used: Path) -> None:
    own(used, "format").write_text(f'{{"format": {FORMAT + 1}}}')

    told = f"on-disk format {FORMAT + 1}, this version knows {FORMAT}"
    refuses(used, SchemaOutOfDate, told)


def test_a_changed_byte_of_a_snapshot_is_found(used: Path) -> None:
    with JsonStore(SCHEMA, used, checkpoint_interval=None) as store:
        store.compact()
    path = max((used / ".pend-storage").glob("snapshot-*"))
    whole = path.read_bytes()

    for place in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[place] ^= 0x04
        path.write_bytes(changed)
        with pytest.raises(CorruptFile) as caught:
            JsonStore(SCHEMA, used, checkpoint_interval=None)
        assert caught.value.path == str(path)
        assert caught.value.offset is not None
        assert caught.value.offset <= place
        assert path.read_bytes() == changed


def test_a_snapshot_that_was_cut_is_found(used: Path) -> None:
    path = own(used, "snapshot-*")
    path.write_bytes(path.read_bytes()[:-10])

    refuses(used, CorruptFile, "damaged or not complete")


def test_damage_in_the_journal_is_told_and_nothing_is_overwritten(used: Path) -> None:
    path = own(used, "journal-*")
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 0x01
    path.write_bytes(whole)

    refuses(used, CorruptFile, str(path))


def test_a_torn_last_commit_is_dropped_and_told(used: Path) -> None:
    path = own(used, "journal-*")
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines(keepends=True)[-1][:-20])
    events: list[Event] = []

    with JsonStore(SCHEMA, used, checkpoint_interval=None, hook=events.append) as store:
        assert store.collection(Tally).get("t") == a_tally("t", 2)
        store.collection(Tally).put(a_tally("v", 3))

    assert [e.name for e in events] == ["torn-tail-dropped"]
    with JsonStore(SCHEMA, used) as store:
        assert {t.name: t.value for t in store.collection(Tally).scan()} == {
            "t": 2,
            "u": 2,
            "v": 3,
        }


@pytest.mark.parametrize("cut", [20, 100_000])
def test_an_acknowledged_commit_that_is_missing_is_corruption(
    cut: int, used: Path
) -> None:
    path = own(used, "journal-*")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:-1], lines[-1][: max(0, len(lines[-1]) - cut)]]))
    before = path.read_bytes()

    refuses(used, CorruptFile, "acknowledged")

    assert path.read_bytes() == before


def test_a_running_process_takes_no_commit_on_top_of_one_that_is_missing(
    used: Path,
) -> None:
    with (
        JsonStore(SCHEMA, used, checkpoint_interval=None) as store,
        JsonStore(SCHEMA, used, checkpoint_interval=None) as other,
    ):
        path = own(used, "journal-*")
        size = path.stat().st_size
        other.collection(Tally).put(a_tally("v", 3))
        os.truncate(path, size)

        for _ in range(2):
            with pytest.raises(CorruptFile, match="acknowledged"):
                store.collection(Tally).get("t")
            with pytest.raises(CorruptFile, match="acknowledged"):
                store.collection(Tally).put(a_tally("w", 4))


def test_snapshots_that_fail_leave_one_segment(
    used: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with JsonStore(SCHEMA, used, checkpoint_interval=None) as store:
        with monkeypatch.context() as patched:
            patched.setattr(Directory, "replace", _no_space)
            for _ in range(3):
                with pytest.raises(StoreUnavailable, match="space"):
                    store.compact()
        assert len(list((used / ".pend-storage").glob("journal-*"))) == 2
        store.compact()
        store.collection(Tally).put(a_tally("v", 3))

    with JsonStore(SCHEMA, used) as store:
        assert store.collection(Tally).get("v") == a_tally("v", 3)


def test_without_room_for_a_snapshot_no_segment_is_begun_though_commits_go_on(
    used: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with JsonStore(SCHEMA, used, checkpoint_interval=None) as store:
        with monkeypatch.context() as patched:
            patched.setattr(shutil, "disk_usage", _full)
            for n in range(3):
                store.collection(Tally).put(a_tally("v", n))
                with pytest.raises(StoreUnavailable, match="space"):
                    store.compact()
            assert len(list((used / ".pend-storage").glob("journal-*"))) == 1
        store.compact()

    with JsonStore(SCHEMA, used) as store:
        assert store.collection(Tally).get("v") == a_tally("v", 2)


def test_snapshots_that_fail_are_tried_less_and_less_often(
    used: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with JsonStore(SCHEMA, used, checkpoint_interval=None) as store:
        checkpointer = store._session.checkpointer
        assert checkpointer is not None
        tried: list[float] = []
        clock = SimpleNamespace(now=0.0)
        with monkeypatch.context() as patched:
            patched.setattr(
                "pend_storage.stores.json._checkpointer.time",
                SimpleNamespace(monotonic=lambda: clock.now),
            )

            def compact() -> None:
                tried.append(clock.now)
                _no_space()

            patched.setattr(checkpointer, "_compact_if_due", compact)
            checkpointer._syncs = []
            for _ in range(24 * 60):
                clock.now += 60
                checkpointer.round()

    assert tried[:5] == [60, 120, 240, 480, 960]
    assert len(tried) < 35


def _full(_: object) -> SimpleNamespace:
    return SimpleNamespace(free=0)


def test_a_commit_that_another_process_made_meanwhile_is_not_cut_off(
    used: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        JsonStore(SCHEMA, used, checkpoint_interval=None) as store,
        JsonStore(SCHEMA, used, checkpoint_interval=None) as other,
    ):
        with monkeypatch.context() as patched:
            patched.setattr("pend_storage._files.durability._fdatasync", _fails)
            patched.setattr(os, "fsync", _fails)
            with pytest.raises(StoreUnavailable) as caught:
                store.collection(Tally).put(a_tally("v", 3))
            assert not caught.value.outcome_known
        other.collection(Tally).put(a_tally("w", 4))
        store.collection(Tally).put(a_tally("x", 5))

        with JsonStore(SCHEMA, used, checkpoint_interval=None) as fresh:
            found = {t.name for t in fresh.collection(Tally).scan()}
    assert found >= {"w", "x"}


def _fails(_: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def _no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_views_that_are_lost_are_made_again(used: Path) -> None:
    for path in (used / ".pend-storage" / "views").iterdir():
        path.write_bytes(b"damaged")
    before = (used / "tallies.json").read_text()

    with JsonStore(SCHEMA, used) as store:
        assert store.collection(Tally).count() == 2
        store.collection(Tally).put(a_tally("v", 3))

    assert (used / "tallies.json").read_text().startswith(before[:-4])


def test_what_a_newer_schema_wrote_is_kept(directory: Path) -> None:
    from pend_storage.schema import Schema

    older = Schema([spec for spec in SCHEMA.declared if spec.name != "tallies"])
    JsonStore(older, directory).close()
    with JsonStore(SCHEMA, directory) as store:
        store.collection(Tally).put_many([a_tally("t", 1), a_tally("u", 2)])

    with JsonStore(older, directory) as store:
        store.collection(Log).put(a_log("l"))
        store.compact()
        with pytest.raises(SchemaOutOfDate, match=r"newer program"):
            next(store.changes())

    with JsonStore(SCHEMA, directory) as store:
        assert store.collection(Tally).count() == 2
        assert store.collection(Log).count() == 1
        assert [len(change.records) for change in store.changes()] == [2, 1]


# -- a full disk --------------------------------------------------------------------------------


FILL = """
import os, sys
from pathlib import Path
from pend_storage.errors import StoreUnavailable
from pend_storage.stores.json import JsonStore
from pend_storage.testing.domain import SCHEMA, Log, a_log
directory = Path(sys.argv[1])
store = JsonStore(SCHEMA, directory, checkpoint_interval=None, hook=lambda event: None)
logs = store.collection(Log)
written = 0
ballast = directory / "ballast"
ballast.write_bytes(b"x" * 400_000)
for n in range(10_000):
    try:
        logs.put(a_log(f"{n:05}", "y" * 3_000))
    except StoreUnavailable as error:
        print(error)
        assert error.outcome_known
        break
    written += 1
assert 0 < written < 1_000, written
assert logs.count() == written
ballast.unlink()
logs.put(a_log("after", ""))
with JsonStore(SCHEMA, directory, checkpoint_interval=None) as other:
    assert other.collection(Log).count() == written + 1
print("survived", written)
"""


def test_a_full_disk_changes_nothing_and_work_goes_on_when_there_is_space(
    directory: Path,
) -> None:
    directory.mkdir()

    told = in_namespace(
        'mount -t tmpfs -o size=1m none "$1"',
        FILL,
        directory,
    )

    assert "there is not enough space on the disk" in told
    assert "survived" in told


def fill(report: Report, directory: Path) -> None:
    with JsonStore(SCHEMA, directory, checkpoint_interval=None) as store:
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (64 * KIBIBYTE, resource.RLIM_INFINITY)
        )
        logs = store.collection(Log)
        written = 0
        try:
            while written < 1_000:
                logs.put(a_log(f"{written:05}", "y" * 3_000))
                written += 1
        except StoreUnavailable as error:
            report((written, logs.count(), error.outcome_known))
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        )
        logs.put(a_log("after"))


def test_a_limit_on_file_size_is_met_without_loss(directory: Path) -> None:
    with Child(fill, directory) as child:
        ((written, seen, known),) = child.finish().reports

    assert (seen, known) == (written, True)
    with JsonStore(SCHEMA, directory) as store:
        assert store.collection(Log).count() == written + 1


def test_a_disk_that_fails_while_adopting_leaves_everything_as_it_was(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.mkdir()
    (directory / "tallies.json").write_text('{"t": {"name": "t", "value": 7}}')

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr("pend_storage._files.durability._fdatasync", fail)
    with pytest.raises(StoreUnavailable, match="I/O error"):
        JsonStore(SCHEMA, directory)
    monkeypatch.undo()

    assert not (directory / ".pend-storage").exists()
    # What was written so far would keep a full disk full.
    assert not (directory / ".pend-storage.new").exists()
    with JsonStore(SCHEMA, directory) as store:
        assert store.collection(Tally).get("t") == a_tally("t", 7)
