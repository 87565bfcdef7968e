"""Copies of a directory: complete, verified, and never half."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from pend_storage.backup import _copied_file as copied_file
from pend_storage.backup import _directory_copy as directory_copy
from pend_storage.backup import copy_directory, verify_copy
from pend_storage.backup._tree import Keeps, Tree, scan_tree
from pend_storage.errors import ConfigError, CorruptFile, StoreUnavailable


@pytest.fixture
def source(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    (made / "deep" / "deeper").mkdir(parents=True)
    (made / "empty").mkdir()
    (made / "a.json").write_text("{}")
    (made / "deep" / "deeper" / "b.json").write_text("[1, 2]")
    (made / "nothing.json").write_bytes(b"")
    return made


def contents(path: Path) -> dict[str, bytes | None]:
    return {
        str(p.relative_to(path)): p.read_bytes() if p.is_file() else None
        for p in path.rglob("*")
    }


def test_everything_is_in_the_copy(source: Path) -> None:
    copy = copy_directory(source)

    assert copy.path.parent == source.parent
    assert copy.path.name.startswith("data-backup-")
    assert contents(copy.path / "data") == contents(source)
    assert (copy.files, copy.bytes) == (3, 8)
    assert verify_copy(copy.path) == 3
    assert copy.path.stat().st_mode & 0o777 == 0o700


def test_times_are_kept_and_modes_are_noted(source: Path) -> None:
    (source / "a.json").chmod(0o440)
    os.utime(source / "a.json", ns=(1, 1_600_000_000_123_456_789))

    copy = copy_directory(source)

    kept = (copy.path / "data" / "a.json").stat()
    assert kept.st_mode & 0o777 == 0o400
    assert kept.st_mtime_ns == 1_600_000_000_123_456_789
    manifest = json.loads((copy.path / "manifest.json").read_text())
    assert manifest["files"]["data/a.json"]["mode"] == "0440"


def test_a_copy_stays_private_where_it_is_moved_to(
    source: Path, tmp_path: Path
) -> None:
    for path in source.rglob("*"):
        path.chmod(0o777)
    outside = tmp_path / "wallets.json"
    outside.write_text("{}")

    copy = copy_directory(source, extra={"x/w.json": outside})

    modes = {path.stat().st_mode & 0o077 for path in copy.path.rglob("*")}
    assert modes == {0}


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "..", "", "a\0b"])
def test_no_name_leads_out_of_a_copy(source: Path, tmp_path: Path, name: str) -> None:
    wallets = tmp_path / "wallets.json"
    wallets.write_text("{}")
    copy = copy_directory(source)
    manifest = json.loads((copy.path / "manifest.json").read_text())
    manifest["files"][name] = {"size": 2, "sha256": "0" * 64}
    (copy.path / "manifest.json").write_text(json.dumps(manifest))
    before = sorted(tmp_path.iterdir())

    with pytest.raises(ConfigError, match="is not the name of a file below"):
        copy_directory(source, extra={name: wallets})
    with pytest.raises(ConfigError, match="is not the name of a file below"):
        verify_copy(copy.path)
    assert sorted(tmp_path.iterdir()) == before


def test_a_copy_is_verified_through_no_link(source: Path, tmp_path: Path) -> None:
    copy = copy_directory(source)
    (copy.path / "data").rename(tmp_path / "elsewhere")
    (copy.path / "data").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ConfigError, match="symbolic link"):
        verify_copy(copy.path)


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_what_takes_the_place_of_a_file_after_the_scan_is_not_followed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    secret = tmp_path / "secret"
    (secret / "deeper").mkdir(parents=True)
    (secret / "deeper" / "b.json").write_text("secret")

    def then_exchanged(*arguments: Any) -> Tree:
        found = scan_tree(*arguments)
        if not (tmp_path / "moved").exists():
            place = source / "deep" if kind == "folder" else source / "a.json"
            place.rename(tmp_path / "moved")
            place.symlink_to(secret if kind == "folder" else secret / "deeper/b.json")
        return found

    monkeypatch.setattr(directory_copy, "scan_tree", then_exchanged)

    with pytest.raises(ConfigError, match="symbolic link"):
        copy_directory(source)
    assert not list(tmp_path.glob("*backup*"))


def test_the_lock_of_an_unfinished_copy_is_not_made_through_a_link(
    source: Path, tmp_path: Path
) -> None:
    left = tmp_path / "data-backup-20200101T000000Z.partial"
    left.mkdir()
    (left / "in-progress.lock").symlink_to(tmp_path / "made")
    linked = tmp_path / "data-backup-20200102T000000Z.partial"
    linked.symlink_to(source)

    copy_directory(source)

    assert not (tmp_path / "made").exists()
    assert (source / "a.json").exists()


def test_links_are_copied_as_links_and_never_followed(
    source: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("do not copy")
    (source / "out").symlink_to(secret)
    (source / "gone").symlink_to("nowhere")

    copy = copy_directory(source)

    assert set(copy.links) == {"data/out", "data/gone"}
    assert (copy.path / "data" / "out").readlink() == secret
    manifest = json.loads((copy.path / "manifest.json").read_text())
    assert not any("key" in name for name in manifest["files"])


def test_pipes_are_left_out_and_told(source: Path) -> None:
    os.mkfifo(source / "pipe")

    copy = copy_directory(source)

    assert copy.left_out == ("data/pipe",)


def test_single_files_from_elsewhere_come_along(source: Path, tmp_path: Path) -> None:
    wallets = tmp_path / "wallets.json"
    wallets.write_text('{"a": "b"}')
    linked = tmp_path / "linked.json"
    linked.symlink_to(wallets)

    copy = copy_directory(
        source, extra={"w.json": wallets, "x/l.json": linked, "no": tmp_path / "no"}
    )

    outside = copy.path / "outside"
    assert (outside / "w.json").read_bytes() == wallets.read_bytes()
    assert (outside / "x" / "l.json").read_bytes() == wallets.read_bytes()
    assert not (outside / "no").exists()


def test_a_second_copy_in_the_same_second_has_its_own_name(source: Path) -> None:
    copies = {copy_directory(source).path for _ in range(3)}

    assert len(copies) == 3


@pytest.mark.parametrize("damage", [b"{x", b"{", b""])
def test_a_damaged_copy_does_not_verify(source: Path, damage: bytes) -> None:
    copy = copy_directory(source)
    (copy.path / "data" / "a.json").write_bytes(damage)

    with pytest.raises(CorruptFile, match=r"a\.json"):
        verify_copy(copy.path)


def test_a_copy_that_lacks_a_file_does_not_verify(source: Path) -> None:
    copy = copy_directory(source)
    (copy.path / "data" / "a.json").unlink()

    with pytest.raises(CorruptFile, match="lacks"):
        verify_copy(copy.path)


@pytest.mark.parametrize("manifest", [None, "{", "{}", "[]", '{"files": []}'])
def test_what_is_no_copy_is_told_apart(tmp_path: Path, manifest: str | None) -> None:
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)

    with pytest.raises(ConfigError, match="not a copy"):
        verify_copy(tmp_path)


def test_what_is_written_back_wrong_is_noticed(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = directory_copy._verify

    def spoil_first(tree: Any, name: str, *rest: Any, **options: Any) -> None:
        path = tree.root.path / name
        path.chmod(0o600)
        path.write_bytes(path.read_bytes() + b"!")
        whole(tree, name, *rest, **options)

    monkeypatch.setattr(directory_copy, "_verify", spoil_first)

    with pytest.raises(CorruptFile):
        copy_directory(source)

    assert [p.name for p in source.parent.iterdir()] == ["data"]


def test_a_directory_that_is_written_meanwhile_is_copied_as_it_ends(
    source: Path,
) -> None:
    running = threading.Event()
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set() and number < 40:
            number += 1
            (source / "a.json").write_text(f'{{"n": {number}}}')
            (source / f"new-{number % 5}.json").write_text("[]")
            running.set()
            stop.wait(0.005)

    writer = threading.Thread(target=write)
    writer.start()
    running.wait()
    copy = copy_directory(source)
    stop.set()
    writer.join()

    manifest = json.loads((copy.path / "manifest.json").read_text())
    assert verify_copy(copy.path) == len(manifest["files"])
    assert json.loads((copy.path / "data" / "a.json").read_text())["n"] >= 1


def test_an_edit_meanwhile_whose_time_is_put_back_is_in_the_copy(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited = source / "deep" / "deeper" / "b.json"
    copied: list[str] = []

    def copy_file(origin: Any, target: Any, name: str, tell: Any) -> Any:
        found = copied_file.copy_file(origin, target, name, tell)
        copied.append(name)
        if copied.count(name) == 1 and name == "data/deep/deeper/b.json":
            before = edited.stat()
            with edited.open("r+") as file:
                file.write("[3, 4]")
            os.utime(edited, ns=(before.st_atime_ns, before.st_mtime_ns))
        return found

    monkeypatch.setattr(directory_copy, "copy_file", copy_file)
    copy = copy_directory(source)

    assert (copy.path / "data/deep/deeper/b.json").read_text() == "[3, 4]"


def test_a_directory_that_never_holds_still_is_given_up(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_copy, "_PAUSE", 0)

    def changing(place: Path, extra: dict[str, Path], keeps: Keeps) -> Tree:
        seen = scan_tree(place, extra, keeps)
        (source / f"n{len(list(source.iterdir()))}").touch()
        return seen

    monkeypatch.setattr(directory_copy, "scan_tree", changing)

    with pytest.raises(StoreUnavailable, match="changes all the time"):
        copy_directory(source)
    assert not list(source.parent.glob("*backup*"))


def test_without_room_nothing_is_begun(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 100

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)

    with pytest.raises(StoreUnavailable, match="100 are free"):
        copy_directory(source)
    assert not list(source.parent.glob("*backup*"))


def test_an_unfinished_copy_of_a_dead_process_is_removed(source: Path) -> None:
    left = source.parent / "data-backup-20200101T000000Z.partial"
    left.mkdir()
    (left / "in-progress.lock").touch()

    copy_directory(source)

    assert not left.exists()


def test_an_unfinished_copy_of_a_living_process_is_left(source: Path) -> None:
    theirs = source.parent / "data-backup-20200101T000000Z.partial"
    theirs.mkdir()
    with (theirs / "in-progress.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        copy_directory(source)

    assert theirs.exists()


def test_what_is_not_a_directory_cannot_be_copied(source: Path) -> None:
    with pytest.raises(ConfigError, match="not a directory"):
        copy_directory(source / "a.json")


def test_progress_tells_of_writing_and_of_verifying(source: Path) -> None:
    seen: list[tuple[int, int]] = []

    copy_directory(source, progress=lambda *pair: seen.append(pair))

    assert seen[-1] == (16, 16)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
