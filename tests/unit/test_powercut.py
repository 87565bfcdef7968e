from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pend_storage.testing import Recorder


def write(path: Path, data: bytes, *, sync: bool) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(fd, data)
    if sync:
        os.fsync(fd)
    os.close(fd)


def sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def found(
    directory: Path, work: Callable[[Recorder], None]
) -> list[tuple[str, object]]:
    """Content and acknowledgement of each directory that may be found."""
    with Recorder(directory) as recorder:
        work(recorder)
    result = []
    for number, cut in enumerate(recorder.cuts()):
        place = directory.with_name(f"cut{number}")
        cut.build(place)
        path = place / "file"
        content = path.read_text() if path.exists() else "none"
        result.append((content, (*cut.acknowledged, "nothing")[0]))
        shutil.rmtree(place)
    return result


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir()
    (made / "file").write_text("old")
    return made


def replacing(
    directory: Path, *, file: bool, names: bool
) -> Callable[[Recorder], None]:
    def work(recorder: Recorder) -> None:
        write(directory / "new", b"new", sync=file)
        (directory / "new").replace(directory / "file")
        if names:
            sync_directory(directory)
        recorder.acknowledge("new")

    return work


def test_what_is_synced_is_there_and_the_old_or_the_new_before(directory: Path) -> None:
    seen = found(directory, replacing(directory, file=True, names=True))

    assert {content for content, _ in seen} == {"old", "new"}
    assert {content for content, told in seen if told == "new"} == {"new"}


def test_a_content_that_is_not_synced_may_be_missing(directory: Path) -> None:
    seen = found(directory, replacing(directory, file=False, names=True))

    assert {"", "\0\0\0"} <= {content for content, told in seen if told == "new"}


def test_a_name_that_is_not_synced_may_be_the_old_one(directory: Path) -> None:
    seen = found(directory, replacing(directory, file=True, names=False))

    assert "old" in {content for content, told in seen if told == "new"}


def test_a_write_is_torn_at_the_blocks_of_the_disk(directory: Path) -> None:
    def work(_: Recorder) -> None:
        fd = os.open(directory / "file", os.O_RDWR)
        os.pwrite(fd, b"x" * 600, 3)
        os.close(fd)

    contents = {content for content, _ in found(directory, work)}

    assert "old" + "x" * 509 in contents
    assert "old" + "\0" * 509 + "x" * 91 in contents
    assert "old" + "x" * 509 + "\0" * 91 in contents


def test_operations_may_come_to_the_disk_in_another_order(directory: Path) -> None:
    def work(_: Recorder) -> None:
        write(directory / "second", b"2", sync=True)
        (directory / "file").unlink()

    with Recorder(directory) as recorder:
        work(recorder)
    states = set()
    for number, cut in enumerate(recorder.cuts()):
        place = directory.with_name(f"cut{number}")
        cut.build(place)
        states.add(tuple(sorted(path.name for path in place.iterdir())))
        shutil.rmtree(place)

    assert states == {("file",), ("file", "second"), ("second",), ()}


def test_the_functions_of_the_system_are_put_back(directory: Path) -> None:
    before = os.open, os.fsync, os.rename
    with Recorder(directory):
        assert os.open is not before[0]
    assert (os.open, os.fsync, os.rename) == before
