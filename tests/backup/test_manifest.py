"""Manifests: their own hash finds every changed byte; newer formats are refused."""

from __future__ import annotations

import msgspec
import pytest

from pend_storage._model.snapshots import StoredRow
from pend_storage.backup._manifest import (
    FORMAT,
    BackupManifest,
    SegmentManifest,
    pack,
    packed,
    require_format,
    unpack,
)
from pend_storage.backup._row_digest import RowDigest
from pend_storage.errors import ConfigError, CorruptFile
from tests.backup.snapshots_made import a_manifest, harbour


def test_a_manifest_is_read_as_it_was_written() -> None:
    manifest, text = packed(a_manifest("20260131T120000Z-snapshot-1a2b3c"))
    assert unpack(text, BackupManifest, place="m") == manifest
    assert len(manifest.digest) == 64
    assert pack(manifest) == text


def test_every_changed_byte_is_found() -> None:
    text = pack(a_manifest("20260131T120000Z-snapshot-1a2b3c"))
    for place in range(len(text)):
        for bit in (1, 32):
            changed = bytearray(text)
            changed[place] ^= bit
            with pytest.raises(CorruptFile, match="manifest"):
                unpack(bytes(changed), BackupManifest, place="manifest")


def test_every_truncation_is_found() -> None:
    text = pack(a_manifest("20260131T120000Z-snapshot-1a2b3c"))
    for size in range(len(text)):
        with pytest.raises(CorruptFile):
            unpack(text[:size], BackupManifest, place="manifest")


def test_a_newer_format_is_refused_with_the_way_out() -> None:
    newer = msgspec.structs.replace(a_manifest("x"), format=FORMAT + 1)
    with pytest.raises(ConfigError, match=r"written by a newer version .* Upgrade it"):
        unpack(pack(newer), BackupManifest, place="m")


def test_a_line_without_a_format_is_damage() -> None:
    for line in (b"", b"{}", b"[]", b'{"format":1}', b'{"format":"2"}', b"\xff"):
        with pytest.raises(CorruptFile):
            require_format(line, place="rows")


def test_a_manifest_of_another_kind_is_damage() -> None:
    with pytest.raises(CorruptFile):
        unpack(pack(a_manifest("x")), SegmentManifest, place="m")


def test_the_digest_of_rows_depends_on_each_part_of_a_row_and_on_no_order() -> None:
    rows = harbour()["ships"]
    wanted = RowDigest("ships").add_all(rows).facts()
    assert RowDigest("ships").add_all(reversed(rows)).facts() == wanted
    changed = [
        RowDigest("berths").add_all(rows),
        RowDigest("ships").add_all(rows[1:]),
        RowDigest("ships").add_all([*rows, rows[0]]),
        RowDigest("ships").add_all([rows[0]._replace(key="s01"), *rows[1:]]),
        RowDigest("ships").add_all([rows[0]._replace(version=99), *rows[1:]]),
        RowDigest("ships").add_all([rows[0]._replace(body=b"{}"), *rows[1:]]),
        RowDigest("ships").add_all([rows[0]._replace(body=None), *rows[1:]]),
        RowDigest("ships").add_all([*rows[:-1], rows[-1]._replace(body=b"")]),
    ]
    digests = {wanted.digest, *(digest.hexdigest() for digest in changed)}
    assert len(digests) == 1 + len(changed)


def test_the_digest_of_rows_depends_on_no_order_of_members() -> None:
    row = StoredRow("s", 1, b'{"b":1,"a":{"zz":[1,{"d":1e3,"c":10}],"y":2}}')
    other = StoredRow("s", 1, b'{"a":{"y":2,"zz":[1,{"c":10,"d":1e3}]},"b":1}')
    digests = {RowDigest("ships").add_all([r]).hexdigest() for r in (row, other)}
    assert len(digests) == 1


def test_a_row_that_is_taken_away_leaves_no_trace() -> None:
    rows = harbour()["ships"]
    digest = RowDigest("ships").add_all(rows)
    for row in rows[5:]:
        digest.remove(row)
    assert digest.facts() == RowDigest("ships").add_all(rows[:5]).facts()
