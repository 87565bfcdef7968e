"""Paths of legacy files: a path that cannot be read or replaced is refused, with advice."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pend_storage import crashpoints
from pend_storage.config import load_settings
from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.events import Event
from pend_storage.legacy import MAP, RecordLayout
from pend_storage.operations.doctor import State, examine
from pend_storage.operations.doctor._places import place_findings
from pend_storage.pend import LAYOUTS, SCHEMA
from pend_storage.pend._files.documents import DocumentMapping
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.stores.json import JsonStore
from pend_storage.stores.json._legacy_sync import file_sync, preflight
from pend_storage.stores.json._legacy_sync.file_manifest import (
    manifest_path,
    signature_of,
)
from pend_storage.stores.json._legacy_sync.preflight import problems_of
from pend_storage.stores.json._legacy_sync.synced_file import SyncedFile
from tests.ages import age
from tests.integration.json_files.conftest import EVENTS, WALLETS, Editor

OTHER_USER = 65534

Open = Callable[..., JsonStore]


def key(number: int) -> str:
    return f"0x{number:064x}"


def add(store: JsonStore, number: int) -> None:
    store.legacy(WALLETS)[key(number)] = f"0x{number:040x}"


def wallets(path: Path) -> set[str]:
    return set(json.loads(path.read_text()))


def doctor(directory: Path) -> list[str]:
    """The failure, and the advice."""
    config = directory.with_name(f"{directory.name}.toml")
    config.write_text(
        '[environments.development]\nphase = "json-only"\n'
        f'[environments.development.json]\ndirectory = "{directory}"\n'
    )
    found = examine(load_settings(config, environ={})).findings
    return [f"{f.message} {f.remedy}" for f in found if f.state is State.FAIL]


# -- what is not a regular file --------------------------------------------------------------


def fifo(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def link_to_lost_directory(path: Path) -> None:
    path.symlink_to(path.parent / "gone" / "file.json")


def same_file(path: Path) -> None:
    path.symlink_to(path.parent / EVENTS)


ODD = [
    (fifo, "is a named pipe"),
    (a_socket, "is a socket"),
    (device, "is a device"),
    (folder, "is a directory, not a regular file"),
    (loop, "is a loop of symbolic links"),
    (link_to_lost_directory, "which does not exist"),
    (same_file, "are one file"),
]


@pytest.mark.parametrize(("plant", "text"), ODD, ids=[f.__name__ for f, _ in ODD])
def test_what_cannot_be_a_legacy_file_is_refused_with_advice_and_never_waited_for(
    plant: Callable[[Path], None],
    text: str,
    directory: Path,
    open_store: Open,
    events: list[Event],
) -> None:
    file = directory / WALLETS
    kept = file.rename(directory / "kept")
    plant(file)

    with pytest.raises(ConfigError, match=text) as refused:  # at the first opening
        open_store()
    assert str(file) in str(refused.value)
    assert not (directory / ".pend-storage").exists()
    assert any(text in told and str(file) in told for told in doctor(directory))

    _remove(file)
    kept.rename(file)
    store = open_store()
    add(store, 9)
    file.rename(kept)
    plant(file)
    age(directory / EVENTS)
    if plant is not same_file:
        with pytest.raises(ConfigError, match=text):  # while it is open
            store.checkpoint()
    with pytest.raises(ConfigError, match=text):  # at a later opening
        JsonStore(SCHEMA, directory, layouts=LAYOUTS, hook=events.append)
    assert any(text in told for told in doctor(directory))
    assert not list(directory.glob(".*.pend-new"))

    _remove(file)
    kept.rename(file)
    store.checkpoint()
    assert key(9) in wallets(file)


def _remove(path: Path) -> None:
    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def test_a_lost_directory_behind_a_link_is_not_made(
    directory: Path, open_store: Open
) -> None:
    shutil.rmtree(directory / "explorer-data")
    (directory / "explorer-data").symlink_to(directory / "volume" / "explorer")

    with pytest.raises(ConfigError, match="explorer-data is a symbolic link to"):
        open_store()

    assert not (directory / "volume").exists()


def test_a_link_to_a_file_that_is_not_there_yet_is_told_and_filled(
    directory: Path, open_store: Open, events: list[Event]
) -> None:
    (directory / WALLETS).unlink()
    (directory / WALLETS).symlink_to(directory / "later")

    store = open_store()
    (told,) = [e.message for e in events if e.name == "file-problem"]
    assert f"{directory / WALLETS} is a symbolic link to {directory / 'later'}" in told
    add(store, 1)
    store.checkpoint()

    assert wallets(directory / "later") == {key(1)}
    assert (directory / WALLETS).is_symlink()


def test_a_detached_store_opens_over_a_problem_and_tells_it(
    directory: Path, open_store: Open, events: list[Event]
) -> None:
    store = open_store()
    detached = RoleState(Role.DETACHED, 1).to_meta()
    store.compare_and_set_meta(ROLE_META, None, detached)
    store.close()
    (directory / WALLETS).unlink()
    os.mkfifo(directory / WALLETS)

    open_store().close()

    (told,) = [e.message for e in events if e.name == "file-problem"]
    assert "is a named pipe" in told


# -- where a rename cannot work --------------------------------------------------------------

PROGRAM = """
import subprocess, sys
from pathlib import Path
from pend_storage.errors import PendStorageError
from pend_storage.legacy import MAP, RecordLayout
from pend_storage.pend import LAYOUTS, SCHEMA
from pend_storage.pend._files.documents import DocumentMapping
from pend_storage.stores.json import JsonStore

directory, act = Path(sys.argv[1]), sys.argv[2]
store = JsonStore(SCHEMA, directory, layouts=LAYOUTS, checkpoint_interval=None)
subprocess.run(act, shell=True, check=True, cwd=directory)
try:
    with JsonStore(SCHEMA, directory, layouts=LAYOUTS, checkpoint_interval=None):
        print("opened")
except PendStorageError as error:
    print(type(error).__name__, error)
store.legacy("wallet-db.json")["0x" + "9" * 64] = "0x" + "9" * 40
try:
    store.checkpoint()
    print("written")
except PendStorageError as error:
    print(type(error).__name__, error)
print([p.name for p in directory.rglob("*pend-new")])
"""

CANNOT = {
    "mounted": (
        "cp wallet-db.json host; mount --bind host wallet-db.json",
        "is a mount point of its own",
    ),
    "mounted from elsewhere": (
        "mkdir t; mount -t tmpfs t t; cp wallet-db.json t/w; mount --bind t/w wallet-db.json",
        "Mount the directory, not the file",
    ),
    "read-only": (
        "mkdir t; mount -t tmpfs t t; mv w*.json t/w; ln -s t/w wallet-db.json; mount -o remount,ro t",
        "file system is read-only",
    ),
}


@pytest.mark.parametrize(("act", "text"), CANNOT.values(), ids=CANNOT.keys())
def test_where_a_file_cannot_be_replaced_is_refused_at_opening_and_at_a_checkpoint(
    act: str, text: str, directory: Path
) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare, to mount a file system")
    command = ["unshare", "-m", sys.executable, "-c", PROGRAM, str(directory), act]

    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )

    assert done.returncode == 0, done.stderr
    opened, written, left = done.stdout.splitlines()
    assert opened.startswith("ConfigError"), done.stdout
    assert text in opened
    assert written.startswith(("ConfigError", "StoreUnavailable")), done.stdout
    assert text in written
    assert left == "[]"


def test_a_mount_is_found_where_the_system_call_does_not_tell(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = directory / "a b\\c"
    odd.write_text("{}")
    line = (
        f"1 2 8:1 /x {str(odd).replace(chr(92), '@134').replace(' ', '@040')} rw - t t"
    )
    table = tmp_path / "mountinfo"
    table.write_text(line.replace("@", "\\") + "\n")
    monkeypatch.setattr(preflight, "_MOUNTS", table)
    monkeypatch.setattr(preflight, "_statx", lambda: None)

    (found,) = problems_of(odd)

    assert "is a mount point of its own" in found.message
    assert not list(problems_of(directory / WALLETS))


@contextmanager
def as_nobody() -> Iterator[None]:
    os.seteuid(OTHER_USER)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        (0o1777, "a sticky directory"),
        (0o755, "may not create files: permission denied"),
    ],
)
def test_where_a_user_may_not_replace_the_file_of_another(
    mode: int, text: str, reachable: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    Editor(reachable).save(WALLETS, {})
    reachable.chmod(mode)

    with as_nobody():
        (found,) = problems_of(reachable / WALLETS)
    assert found.is_fatal
    assert text in found.message
    assert f"user {OTHER_USER}" in found.message
    assert not list(problems_of(reachable / WALLETS))

    os.chown(
        reachable if mode == 0o755 else reachable / WALLETS, OTHER_USER, OTHER_USER
    )
    with as_nobody():
        assert not list(problems_of(reachable / WALLETS))


def test_a_file_that_may_not_be_read_is_told(reachable: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    Editor(reachable).save(WALLETS, {})
    (reachable / WALLETS).chmod(0o600)
    reachable.chmod(0o777)

    with as_nobody():
        (found,) = problems_of(reachable / WALLETS)

    assert "cannot be read" in found.message


def test_an_immutable_file_is_told(directory: Path) -> None:
    tool = shutil.which("chattr")
    command = [tool or "false", "+i", str(directory / WALLETS)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs root, and a file system that takes chattr +i")
    try:
        (found,) = problems_of(directory / WALLETS)
    finally:
        subprocess.run([command[0], "-i", *command[2:]], check=True)

    assert "immutable" in found.message


def test_an_own_directory_that_is_empty_is_not_filled(
    directory: Path, open_store: Open
) -> None:
    """As a volume that is mounted there is, or one that is not."""
    (directory / ".pend-storage").mkdir()

    with pytest.raises(ConfigError, match="is an empty directory"):
        open_store()

    assert not any((directory / ".pend-storage").iterdir())


def test_a_directory_under_the_name_of_a_new_version_is_told(
    directory: Path, open_store: Open
) -> None:
    open_store()
    (directory / f".{WALLETS}.pend-new").mkdir()

    with pytest.raises(ConfigError, match=r"pend-new: Is a directory\. Correct"):
        open_store()


def test_doctor_warns_of_what_a_file_loses(reachable: Path) -> None:
    Editor(reachable).save(WALLETS, {})
    paths = {WALLETS: reachable / WALLETS}
    (fine,) = place_findings(reachable, paths)
    os.link(reachable / WALLETS, reachable / "other")

    found = list(place_findings(Path("/proc"), paths))

    assert fine.state is State.OK
    assert [f.state for f in found] == [State.WARN, State.WARN]
    assert "1 more hard links" in found[0].message
    assert "on another file system than /proc" in found[1].message
    if os.geteuid() == 0:
        reachable.chmod(0o777)
        with as_nobody():
            found = list(place_findings(reachable, paths))
        assert (
            f"belongs to 0:0, which user {OTHER_USER} cannot keep" in found[1].message
        )


# -- links that lead to another file by now --------------------------------------------------


@pytest.fixture
def releases(directory: Path) -> tuple[Path, Path]:
    """Two releases; the wallets are a link to the first one's, which the second one lacks."""
    one, two = directory / "releases" / "1", directory / "releases" / "2"
    one.mkdir(parents=True)
    (directory / WALLETS).rename(one / "w.json")
    (directory / WALLETS).symlink_to(one / "w.json")
    shutil.copytree(one, two)
    old = json.loads((two / "w.json").read_text())
    (two / "w.json").write_text(json.dumps({**old, key(50): f"0x{50:040x}"}, indent=2))
    age(two / "w.json")
    return one / "w.json", two / "w.json"


def point(link: Path, target: Path) -> None:
    new = link.with_name("new-link")
    new.symlink_to(target)
    new.rename(link)


def test_a_link_to_another_file_is_followed_and_the_old_one_is_left(
    directory: Path,
    releases: tuple[Path, Path],
    open_store: Open,
    events: list[Event],
) -> None:
    one, two = releases
    store = open_store()
    add(store, 9)
    store.checkpoint()
    before = one.read_bytes()

    point(directory / WALLETS, two)
    store.checkpoint()
    assert key(50) in store.legacy(WALLETS)
    add(store, 10)
    store.checkpoint()

    assert one.read_bytes() == before
    assert wallets(two) >= {key(n) for n in (1, 2, 3, 4, 5, 10, 50)}
    (told,) = [e.message for e in events if e.name == "file-relinked"]
    assert str(one) in told
    assert str(two) in told
    store.close()
    open_store().close()
    assert [e.name for e in events].count("file-relinked") == 1


def test_so_is_a_link_on_the_way_to_a_file(directory: Path, open_store: Open) -> None:
    one, two = directory / "r1", directory / "r2"
    (directory / "explorer-data").rename(one)
    (directory / "explorer-data").symlink_to(one)
    shutil.copytree(one, two)
    store = open_store()
    before = (one / "transactions-log.json").read_bytes()

    point(directory / "explorer-data", two)
    log = store.legacy(EVENTS)
    log.insert(0, {**log[0], "id": 6})
    store.checkpoint()

    assert (one / "transactions-log.json").read_bytes() == before
    written = json.loads((two / "transactions-log.json").read_text())
    assert [item["id"] for item in written] == [6, 5, 4, 3, 2, 1]


def test_a_link_that_is_changed_right_before_the_rename_is_followed(
    directory: Path, releases: tuple[Path, Path], open_store: Open
) -> None:
    one, two = releases
    store = open_store()
    before = one.read_bytes()
    add(store, 9)

    def change(name: str) -> None:
        if name == "json.file-noted":
            point(directory / WALLETS, two)

    with crashpoints.handled(change):
        store.checkpoint()

    assert one.read_bytes() == before
    assert {key(9), key(50)} <= wallets(two)


def test_another_file_is_read_even_if_it_looks_like_the_one_before(
    directory: Path,
    releases: tuple[Path, Path],
    open_store: Open,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a file of the same size, times and inode on another file system does."""
    one, two = releases
    store = open_store()
    store.checkpoint()
    same = signature_of(one.stat())
    monkeypatch.setattr(file_sync, "signature_of", lambda _: same)

    point(directory / WALLETS, two)
    with contextlib.suppress(StoreUnavailable):  # it never finds it as it was read
        store.checkpoint()

    assert key(50) in store.legacy(WALLETS)


@pytest.mark.parametrize("late", [False, True])
def test_a_directory_that_is_a_link_to_another_one_by_now_is_refused(
    late: bool,
    directory: Path,
    events: list[Event],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link = directory.with_name(f"{directory.name}-current")
    link.symlink_to(directory)
    store = JsonStore(
        SCHEMA, link, layouts=LAYOUTS, checkpoint_interval=None, hook=events.append
    )
    other = directory.with_name(f"{directory.name}-other")
    shutil.copytree(directory, other)
    before = {p: p.read_bytes() for p in other.rglob("*") if p.is_file()}
    locate = SyncedFile.locate

    def locate_late(place: SyncedFile) -> bool:
        if not link.samefile(other):
            point(link, other)
        return locate(place)

    if late:  # after the round has looked at the directory
        monkeypatch.setattr(SyncedFile, "locate", locate_late)
    else:
        point(link, other)
    with pytest.raises(StoreUnavailable, match="moved, replaced"):
        store.checkpoint()
    store.close()

    assert {p: p.read_bytes() for p in other.rglob("*") if p.is_file()} == before


# -- long names ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["ж" * 60 + ".json", "本" * 83 + ".json", "x" * 250, "x" * 255]
)
def test_a_file_may_have_the_longest_name_there_is(
    name: str, tmp_path: Path, events: list[Event]
) -> None:
    file = tmp_path / name
    file.write_text('{"a": 1}')
    layout = RecordLayout(name, DocumentMapping(name), shapes=(MAP,))
    for number in (2, 3):
        with JsonStore(
            SCHEMA,
            tmp_path,
            layouts=[layout],
            hook=events.append,
            checkpoint_interval=None,
        ) as store:
            store.legacy(name)["a"] = number
            store.checkpoint()
            store.legacy(name)["b"] = number
        assert json.loads(file.read_text()) == {"a": number, "b": number}

    assert not {"checkpoint-failed", "outside-edit-adopted"} & {e.name for e in events}


def test_views_keep_the_names_that_fit_and_no_two_have_one() -> None:
    own = Path("own")
    names = ["a/b.json", "x" * 244, "x" * 250, "ж" * 60, "ж" * 61, "x" * 251, "x" * 252]

    found = [manifest_path(own, name).name for name in names]

    assert found[:3] == ["a%2Fb.json.view", "x" * 244 + ".view", "x" * 250 + ".view"]
    assert len(set(found)) == len(names)
    assert max(map(len, found)) <= 255
