"""The door for files: links, other kinds, other names, owners, sizes, modes."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pend_storage._files import paths
from pend_storage._files.by_path import (
    make_directories,
    read_file,
    read_linked,
    replace_file,
)
from pend_storage._files.directory import Directory
from pend_storage._files.linked import LinkedFile
from pend_storage._files.names import TEMPORARY
from pend_storage._files.ownership import sibling_mode
from pend_storage.errors import ConfigError
from tests.security.conftest import OTHER_USER, as_other_user

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# -- kinds, names, sizes ---------------------------------------------------------------------


def a_link(path: Path) -> None:
    (path.parent / "target").write_bytes(b"there")
    path.symlink_to("target")


def a_dangling_link(path: Path) -> None:
    path.symlink_to("nothing")


def a_loop(path: Path) -> None:
    path.symlink_to(path.name)


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


def a_directory(path: Path) -> None:
    path.mkdir()


def a_second_name(path: Path) -> None:
    path.write_bytes(b"there")
    os.link(path, path.parent / "other-name")


ODD = [
    (a_link, "is a symbolic link"),
    (a_dangling_link, "is a symbolic link"),
    (a_loop, "is a symbolic link"),
    (a_pipe, "is a named pipe"),
    (a_socket, "is a socket"),
    (a_directory, "is a directory"),
    (a_second_name, "has 2 names"),
]


@pytest.mark.parametrize(("plant", "text"), ODD, ids=[p.__name__ for p, _ in ODD])
@pytest.mark.parametrize("write", [False, True])
def test_an_own_file_is_a_regular_file_of_one_name(
    plant: Callable[[Path], None], text: str, write: bool, tmp_path: Path
) -> None:
    plant(tmp_path / "own")
    before = sorted(p.name for p in tmp_path.iterdir())

    with Directory(tmp_path) as directory:
        with pytest.raises(ConfigError, match=text) as refused:
            directory.open_file("own", write=write)
        with pytest.raises(ConfigError, match=text):
            directory.open_or_create("own")

    assert str(tmp_path / "own") in str(refused.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize("plant", [a_link, a_dangling_link, a_pipe, a_directory])
def test_a_new_file_never_takes_a_name_that_is_there(
    plant: Callable[[Path], None], tmp_path: Path
) -> None:
    plant(tmp_path / "own")

    with Directory(tmp_path) as directory, pytest.raises(FileExistsError):
        directory.create("own")

    assert not (tmp_path / "nothing").exists()


def test_a_file_is_replaced_where_a_link_stands(tmp_path: Path) -> None:
    a_link(tmp_path / "own")

    replace_file(tmp_path / "own", [b"new"])

    assert (tmp_path / "target").read_bytes() == b"there"
    assert not (tmp_path / "own").is_symlink()
    assert read_file(tmp_path / "own") == b"new"


@pytest.mark.parametrize("read", [read_file, read_linked])
def test_no_more_is_read_than_the_limit(
    read: Callable[..., bytes], tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100)

    assert read(file, limit=100) == b"x" * 100
    with pytest.raises(ConfigError, match="100 bytes, and at most 99"):
        read(file, limit=99)


@pytest.mark.parametrize(
    ("plant", "text"),
    [
        (a_loop, "symbolic links"),
        (a_pipe, "named pipe"),
        (a_socket, "socket"),
        (a_directory, "dir"),
    ],
)
def test_no_other_kind_is_read_in_the_place_of_a_file_of_others(
    plant: Callable[[Path], None], text: str, tmp_path: Path
) -> None:
    plant(tmp_path / "file")

    with pytest.raises((ConfigError, OSError), match=text):
        read_linked(tmp_path / "file")


def test_a_device_is_not_read_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").symlink_to("/dev/zero")

    with pytest.raises(ConfigError, match="is a device"):
        read_linked(tmp_path / "file")


# -- temporary names, modes ------------------------------------------------------------------


def test_a_file_is_readable_by_its_owner_only_until_it_is_complete(
    tmp_path: Path,
) -> None:
    tmp_path.chmod(0o770)
    seen: list[tuple[str, int]] = []

    def chunks() -> Iterator[bytes]:
        for text in (b"one", b"two"):
            (new,) = [p for p in tmp_path.iterdir() if p.name.endswith(TEMPORARY)]
            seen.append((new.name, mode_of(new)))
            yield text

    for _ in range(2):
        replace_file(tmp_path / "own", chunks())

    assert [mode for _, mode in seen] == [0o600] * 4
    assert len({name for name, _ in seen}) == 2
    assert mode_of(tmp_path / "own") == 0o660
    assert [p.name for p in tmp_path.iterdir()] == ["own"]


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_nothing_else(
    tmp_path: Path,
) -> None:
    replace_file(tmp_path / "own", [b"old"])

    def chunks() -> Iterator[bytes]:
        yield b"new"
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - the one above
        replace_file(tmp_path / "own", chunks())

    assert (tmp_path / "own").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["own"]


def test_a_file_keeps_the_mode_of_its_model(tmp_path: Path) -> None:
    old = tmp_path / "pend.toml"
    old.write_text("old")
    old.chmod(0o640)

    replace_file(old, [b"new"], model=old.stat())

    assert (mode_of(old), old.read_text()) == (0o640, "new")


@pytest.mark.parametrize(
    ("modes", "expected"),
    [
        ((), 0o600),
        ((0o644,), 0o640),
        ((0o644, 0o600), 0o600),
        ((0o666, 0o664), 0o660),
        ((0o400,), 0o600),
    ],
)
def test_a_new_file_allows_what_all_its_siblings_allow_but_nothing_to_others(
    modes: tuple[int, ...], expected: int, tmp_path: Path
) -> None:
    for number, mode in enumerate(modes):
        file = tmp_path / f"{number}.json"
        file.touch()
        file.chmod(mode)
    (tmp_path / "notes.txt").touch(0o600)

    with Directory(tmp_path) as directory:
        group = directory.status().st_gid
        assert sibling_mode(directory.fd, ".json", group) == expected
        if modes:
            assert sibling_mode(directory.fd, ".json", group + 1) == 0o600


def test_directories_are_made_for_their_owner_and_not_behind_a_dangling_link(
    tmp_path: Path,
) -> None:
    make_directories(tmp_path / "a" / "b")
    make_directories(tmp_path / "a" / "b")
    (tmp_path / "gone").symlink_to(tmp_path / "lost")

    with pytest.raises(ConfigError, match="is a symbolic link"):
        make_directories(tmp_path / "gone" / "c")

    assert mode_of(tmp_path / "a" / "b") == 0o700
    assert not (tmp_path / "lost").exists()


def test_a_file_without_a_name_leaves_nothing(tmp_path: Path) -> None:
    with Directory(tmp_path) as directory:
        fd = directory.anonymous()
    try:
        assert os.write(fd, b"x") == 1
        assert os.fstat(fd).st_nlink == 0
        assert not list(tmp_path.iterdir())
    finally:
        os.close(fd)


# -- other users -----------------------------------------------------------------------------


@needs_root
def test_root_follows_no_link_of_another_user_to_what_is_not_theirs(
    theirs: Path, secret: Path
) -> None:
    with as_other_user():
        (theirs / "file.json").symlink_to(secret)
        (theirs / "folder").symlink_to(secret.parent)
        (theirs / "chain").symlink_to(theirs / "folder" / "secret")

    for name in ("file.json", "folder/secret", "chain"):
        with pytest.raises(ConfigError, match=f"symbolic link of user {OTHER_USER}"):
            read_linked(theirs / name)
    with pytest.raises(ConfigError, match="symbolic link"):
        replace_file(theirs / "folder" / "made", [b"x"])
    with pytest.raises(ConfigError, match="symbolic link"):
        make_directories(theirs / "folder" / "made")
    with (
        pytest.raises(ConfigError, match=f"symbolic link of user {OTHER_USER}"),
        LinkedFile(theirs / "folder" / "missing") as file,
    ):
        file.status()
    assert not (secret.parent / "made").exists()


@needs_root
def test_links_of_root_and_to_what_belongs_to_the_same_user_are_followed(
    theirs: Path, secret: Path
) -> None:
    with as_other_user():
        (theirs / "file").write_bytes(b"theirs")
        (theirs / "link").symlink_to("file")
        (theirs / "there").symlink_to(theirs)
    (theirs / "of-root").symlink_to(secret)

    assert read_linked(theirs / "link") == b"theirs"
    assert read_linked(theirs / "there" / "there" / "link") == b"theirs"
    assert read_linked(theirs / "of-root") == b"ROOT-ONLY"
    with LinkedFile(theirs / "there" / ".." / "theirs" / "link") as file:
        assert file.path == theirs / "file"


@needs_root
def test_root_reads_no_other_name_of_a_file_of_root_in_a_directory_of_another_user(
    theirs: Path, secret: Path
) -> None:
    os.link(secret, theirs / "file.json")
    (theirs / "moved.json").write_bytes(b"ROOT-ONLY")
    (theirs / "moved.json").chmod(0o600)
    (theirs / "open.json").write_bytes(b"readable")

    for read in (read_file, read_linked):
        with pytest.raises(ConfigError, match="has 2 names"):
            read(theirs / "file.json")
    with pytest.raises(ConfigError, match=f"chown {OTHER_USER}"):
        read_linked(theirs / "moved.json")
    assert read_linked(theirs / "open.json") == b"readable"


@needs_root
def test_root_takes_no_own_file_of_a_third_user(theirs: Path) -> None:
    (theirs / "own").write_bytes(b"x")
    os.chown(theirs / "own", 1, 1)

    with pytest.raises(ConfigError, match="belongs to user 1"):
        read_file(theirs / "own")
    with as_other_user():
        theirs.chmod(0o770)
        (theirs / "own").exists()
    with pytest.raises(ConfigError, match="belongs to user 1"):
        read_file(theirs / "own")


@needs_root
def test_what_root_makes_belongs_to_the_owner_of_the_directory(theirs: Path) -> None:
    with Directory(theirs) as directory:
        os.close(directory.create("lock"))
    replace_file(theirs / "format", [b"3"])
    make_directories(theirs / "a" / "b")

    for name in ("lock", "format", "a", "a/b"):
        status = (theirs / name).stat()
        assert (status.st_uid, status.st_gid) == (OTHER_USER, OTHER_USER), name


def test_a_path_that_changes_leads_nowhere_else(tmp_path: Path) -> None:
    """Between the check of a directory and the opening of a file in it."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / "file").write_bytes(b"one")
    (tmp_path / "two" / "file").write_bytes(b"two")

    with LinkedFile(tmp_path / "one" / "file") as file:
        (tmp_path / "one").rename(tmp_path / "moved")
        (tmp_path / "one").symlink_to("two")

        assert file.read() == b"one"
        file.directory.replace("file", [b"three"])

    assert (tmp_path / "moved" / "file").read_bytes() == b"three"
    assert (tmp_path / "two" / "file").read_bytes() == b"two"


def test_a_path_is_resolved_as_the_system_does(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").touch()
    (tmp_path / "up").symlink_to("a/b/..")
    (tmp_path / "here").symlink_to(".")
    (tmp_path / "whole").symlink_to(tmp_path / "a" / "b" / "file")
    (tmp_path / "chain").symlink_to("here/whole")

    for way in ("up/b/file", "here/a/./b/file", "whole", "chain", "up/../a/b/file"):
        found = paths.resolve(tmp_path / way)
        os.close(found.fd)
        assert found.path == Path(os.path.realpath(tmp_path / way))
        assert found.links == ({os.geteuid()} if way != "a/b/file" else frozenset())
    for way in ("whole/x", "gone/x"):
        with pytest.raises(OSError, match=way) as refused:
            paths.resolve(tmp_path / way)
        assert refused.value.filename == str(tmp_path / way)
