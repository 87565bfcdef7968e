"""Search for identifying texts, in every spelling that a file may have."""

from __future__ import annotations

import base64
import errno
import json
import os
from pathlib import Path

import pytest

from pend_storage.errors import ConfigError
from pend_storage.operations.purge_search import (
    Holder,
    Needles,
    backups_of,
    holding_files,
    leftovers_of,
)

TEXT = "0xdeadbeefdeadbeef"
NAME = "J\u00e4ne R\u00f6e \U0001f600"


def in_base64(text: str, shift: int) -> bytes:
    return base64.b64encode(b"abc"[:shift] + text.encode() + b" and more")


@pytest.mark.parametrize("text", [TEXT, NAME])
@pytest.mark.parametrize("shift", [0, 1, 2])
def test_a_text_is_found_raw_escaped_and_in_base64(text: str, shift: int) -> None:
    needles = Needles([text])
    escaped = json.dumps({text: 1})
    for raw in (
        text.encode(),
        escaped.encode(),
        in_base64(text, shift),
        in_base64(escaped, shift),
    ):
        assert needles.are_in(b"before " + raw + b" after"), raw
        assert not Needles(["another text"]).are_in(raw)


def test_escapes_of_any_spelling_are_found() -> None:
    code = "".join(f"\\u{ord(letter):04X}" for letter in TEXT)
    assert Needles([TEXT]).are_in(f'{{"{code}": 1}}'.encode())
    assert Needles(["a/bc/def"]).are_in(b'"a\\/bc\\/def"')
    assert Needles([NAME]).are_in(b'"J\\u00E4ne R\\u00F6e \\uD83D\\uDE00"')
    assert not Needles([NAME]).are_in(b'"\\uD83D" \\u00')


def test_a_short_text_counts_as_a_whole_string_only() -> None:
    needles = Needles(["k1"])
    assert needles.are_in(b'{"k1": 1}')
    assert not needles.are_in(b'{"k12": 1, "ak1": 2} k1')


def test_no_text_is_found_nowhere(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"text")
    assert not Needles([]).are_in(b"text")
    assert list(holding_files(tmp_path, Needles([]))) == []


def test_a_text_across_two_blocks_is_found(tmp_path: Path) -> None:
    path = tmp_path / "large"
    for place in range((1 << 20) - 20, (1 << 20) + 2, 7):
        path.write_bytes(b"." * place + TEXT.encode() + b"." * 100)
        assert Needles([TEXT]).are_in_file(path)


def test_special_files_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    (tmp_path / "held").write_text(TEXT)
    assert list(holding_files(tmp_path, Needles([TEXT]))) == [tmp_path / "held"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(TEXT)
    data = tmp_path / "data"
    data.mkdir()
    if os.geteuid() == 0:  # a link of another user, which root does not follow
        (data / "file").symlink_to(tmp_path / "secret")
        os.lchown(data / "file", 65534, 65534)
    else:
        (data / "file").write_text(TEXT)
        (data / "file").chmod(0)
    unread: list[Holder] = []

    assert list(holding_files(data, Needles([TEXT]), unread=unread)) == []
    with pytest.raises(ConfigError):
        list(holding_files(data, Needles([TEXT])))

    (found,) = unread
    assert (found.kind, str(data / "file") in found.place) == ("unread file", True)


def test_a_folder_that_cannot_be_listed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(errno.EACCES, "no", os.fspath(tmp_path))

    monkeypatch.setattr(os, "scandir", refuse)
    unread: list[Holder] = []

    assert list(holding_files(tmp_path, Needles([TEXT]), unread=unread)) == []

    assert [found.kind for found in unread] == ["unread file"]


def test_copies_beside_the_directory_and_elsewhere_are_listed(tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    for folder in (data, other, tmp_path / "data-backup-1", other / "data-backup-2"):
        folder.mkdir()
    found = backups_of(data, [other, tmp_path / "missing"])
    assert [path.name for path in found] == ["data-backup-1", "data-backup-2"]


def test_without_a_directory_there_are_no_leftovers() -> None:
    assert list(leftovers_of(None)) == []
