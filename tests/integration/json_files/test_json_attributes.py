"""Attributes of a legacy file: kept, or reported as lost; rights never widen."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pend_storage import crashpoints
from pend_storage._files.attributes import (
    FileAttributes,
    apply,
    read,
)
from pend_storage._files.ownership import NARROW
from pend_storage.events import Event
from pend_storage.pend import LAYOUTS, SCHEMA
from pend_storage.stores.json import JsonStore
from pend_storage.testing import Child, Report
from tests.integration.json_files.conftest import WALLETS, Editor

ACL = "system.posix_acl_access"
DEFAULT_ACL = "system.posix_acl_default"
OTHER_USER = 65534
USER, GROUP, MASK, OTHERS, NAMED = 1, 4, 16, 32, 2


def acl(user: int, named: int, group: int, mask: int, others: int) -> bytes:
    entries = [(USER, user, -1), (NAMED, named, OTHER_USER), (GROUP, group, -1)]
    entries += [(MASK, mask, -1), (OTHERS, others, -1)]
    packed = (struct.pack("<HHI", t, p, i & 0xFFFFFFFF) for t, p, i in entries)
    return struct.pack("<I", 2) + b"".join(packed)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def put(store: JsonStore, number: int) -> None:
    store.legacy(WALLETS)[f"0x{number:064x}"] = f"0x{number:040x}"
    store.checkpoint()


@pytest.fixture
def file(directory: Path) -> Path:
    path = directory / WALLETS
    try:
        os.setxattr(path, "user.note", b"hi")
        os.setxattr(path, ACL, acl(6, 6, 4, 6, 0))
    except OSError as error:
        pytest.skip(f"the file system has no attributes or ACLs: {error}")
    return path


def test_attributes_acl_and_mode_are_kept(
    file: Path, open_store: Callable[..., JsonStore], events: list[Event]
) -> None:
    before = {name: os.getxattr(file, name) for name in os.listxattr(file)}
    store = open_store()

    put(store, 9)
    put(store, 10)

    assert {name: os.getxattr(file, name) for name in os.listxattr(file)} == before
    assert mode_of(file) == 0o660  # the mask; the group may only read, by the ACL
    assert "attributes-lost" not in [e.name for e in events]


def test_nothing_is_inherited_that_the_old_file_did_not_have(
    file: Path, open_store: Callable[..., JsonStore]
) -> None:
    os.removexattr(file, ACL)
    file.chmod(0o664)
    os.setxattr(file.parent, DEFAULT_ACL, acl(7, 7, 7, 7, 0))

    put(open_store(), 9)

    assert ACL not in os.listxattr(file)
    assert mode_of(file) == 0o664


@pytest.mark.parametrize("umask", [0, 0o077])
def test_a_new_version_is_for_its_owner_only_until_it_is_complete(
    umask: int,
    directory: Path,
    open_store: Callable[..., JsonStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (directory / WALLETS).chmod(0o664)
    seen: list[int] = []

    def looked_at(fd: int, wanted: FileAttributes) -> tuple[str, ...]:
        seen.append(stat.S_IMODE(os.fstat(fd).st_mode))
        return apply(fd, wanted)

    monkeypatch.setattr("pend_storage.stores.json._legacy_sync.render.apply", looked_at)
    before = os.umask(umask)
    try:
        put(open_store(), 9)
    finally:
        os.umask(before)

    assert seen == [0o600]
    assert mode_of(directory / WALLETS) == 0o664


def test_a_file_that_was_deleted_is_written_again_with_what_belonged_to_it(
    file: Path, open_store: Callable[..., JsonStore], events: list[Event]
) -> None:
    store = open_store()
    file.chmod(0o600)
    put(store, 9)
    store.checkpoint()
    file.unlink()

    put(store, 10)

    assert "file-restored" in [e.name for e in events]
    assert mode_of(file) == 0o600
    assert {ACL, "user.note"} <= {*os.listxattr(file)}


def test_other_hard_links_keep_the_old_content_and_it_is_told_once(
    directory: Path, open_store: Callable[..., JsonStore], events: list[Event]
) -> None:
    other = directory / "another-name"
    os.link(directory / WALLETS, other)
    before = other.read_bytes()
    store = open_store()

    put(store, 9)
    other.unlink()
    os.link(directory / WALLETS, other)
    put(store, 10)

    assert before not in ((directory / WALLETS).read_bytes(), other.read_bytes())
    (told,) = [e for e in events if e.name == "attributes-lost"]
    assert str(directory / WALLETS) in told.message
    assert "hard links" in told.message


# -- of one file ---------------------------------------------------------------------------


@pytest.fixture
def new(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "new", os.O_RDWR | os.O_CREAT | os.O_EXCL, NARROW)
    yield fd
    os.close(fd)


def test_what_the_system_does_not_take_is_named(new: int) -> None:
    wanted = read(new)
    odd = {"nameless.odd": b"1", "security.ima": b"2"}

    lost = apply(
        new, FileAttributes(0o640, wanted.uid, wanted.gid, 1, odd, ("user.hidden",))
    )

    assert lost == ("nameless.odd", "security.ima", "user.hidden")
    assert stat.S_IMODE(os.fstat(new).st_mode) == 0o640


@pytest.mark.parametrize(
    ("mode", "kept"),
    [(0o664, 0o644), (0o660, 0o600), (0o604, 0o600), (0o4755, 0o755), (0o646, 0o644)],
)
def test_without_its_group_a_file_gives_others_no_more_than_before(
    mode: int, kept: int, new: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "fchown", refused)
    mine = read(new)

    lost = apply(new, FileAttributes(mode, mine.uid, mine.gid + 1))

    assert lost == (f"owner {mine.uid}:{mine.gid + 1}",)
    assert stat.S_IMODE(os.fstat(new).st_mode) == kept


def test_without_its_group_an_acl_gives_that_of_others(
    file: Path, new: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = os.open(file, os.O_RDONLY)
    wanted = read(fd)
    os.close(fd)
    wanted.extended[ACL] = acl(6, 4, 6, 6, 4)
    monkeypatch.setattr(os, "fchown", lambda *_: None)

    apply(
        new, FileAttributes(wanted.mode, wanted.uid, wanted.gid + 1, 1, wanted.extended)
    )

    assert os.getxattr(new, ACL) == acl(6, 4, 4, 6, 4)


def test_where_the_acl_cannot_be_set_the_group_gets_what_the_acl_gave_it(
    file: Path, new: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = os.open(file, os.O_RDONLY)
    wanted = read(fd)  # its mode shows the mask: rw, and the group may only read
    os.close(fd)
    set_really = os.setxattr

    def refused(fd: int, name: str, value: bytes) -> None:
        if name == ACL:
            raise PermissionError
        set_really(fd, name, value)

    monkeypatch.setattr(os, "setxattr", refused)

    assert apply(new, wanted) == (ACL,)
    assert stat.S_IMODE(os.fstat(new).st_mode) == 0o640
    assert os.getxattr(new, "user.note") == b"hi"


# -- files of another user -------------------------------------------------------------------


def write_as_nobody(report: Report, directory: Path) -> None:
    os.setgroups([])
    os.setgid(OTHER_USER)
    os.setuid(OTHER_USER)
    told: list[Event] = []
    with JsonStore(
        SCHEMA, directory, layouts=LAYOUTS, hook=told.append, checkpoint_interval=None
    ) as store:
        put(store, 9)
        put(store, 10)
    report([e.message for e in told if e.name == "attributes-lost"])


def test_an_owner_that_cannot_be_kept_is_told_once(reachable: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    os.chown(reachable, OTHER_USER, OTHER_USER)
    Editor(reachable).save(WALLETS, {})
    file = reachable / WALLETS
    os.chown(file, 12345, 12346)
    file.chmod(0o664)

    with Child(write_as_nobody, reachable) as child:
        (told,) = child.finish().reports

    assert len(told) == 1
    assert "owner 12345:12346" in told[0]
    assert str(file) in told[0]
    assert (file.stat().st_uid, mode_of(file)) == (OTHER_USER, 0o644)


def test_root_gives_a_new_version_to_the_owner_of_the_old_one(
    directory: Path, open_store: Callable[..., JsonStore], events: list[Event]
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to give a file away")
    file = directory / WALLETS
    os.chown(file, 12345, 12346)
    file.chmod(0o640)
    passed: list[tuple[int, int]] = []

    def look(point: str) -> None:
        new = file.with_name(f".{file.name}.pend-new")
        if point == "json.file-written" and new.exists():  # not for other files
            status = new.stat()
            passed.append((status.st_uid, stat.S_IMODE(status.st_mode)))

    with crashpoints.handled(look):
        put(open_store(), 9)

    assert passed == [(12345, 0o640)]
    assert (file.stat().st_uid, file.stat().st_gid) == (12345, 12346)
    assert "attributes-lost" not in [e.name for e in events]
