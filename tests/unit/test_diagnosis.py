"""Diagnosis of files that no parser reads."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import zipfile

import pytest

from pend_storage import _diagnosis as diagnosis
from pend_storage._diagnosis import diagnose
from pend_storage.pend import LAYOUTS, SCHEMA
from pend_storage.stores.json._legacy_sync.one_record_per_line.layout import (
    RecordPerLineLayout,
)

GOOD = json.dumps({"a": {"b": [1, 2, "x"]}, "k": "v"}, indent=2)
RAW = GOOD.encode()


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.json", RAW)
    return stream.getvalue()


TABLE: dict[str, tuple[bytes, str]] = {
    "0 bytes": (b"", "0 bytes"),
    "white space": (b" \r\n\t", "white space"),
    "mark alone": (codecs.BOM_UTF8, "white space"),
    "UTF-16": (GOOD.encode("utf-16"), "iconv -f UTF-16 "),
    "UTF-16, big": (codecs.BOM_UTF16_BE + GOOD.encode("utf-16-be"), "iconv -f UTF-16 "),
    "UTF-16LE, no mark": (
        GOOD.encode("utf-16-le"),
        "UTF-16LE without a byte order mark",
    ),
    "UTF-16BE, no mark": (GOOD.encode("utf-16-be"), "UTF-16BE without"),
    "UTF-32": (GOOD.encode("utf-32"), "iconv -f UTF-32 "),
    "UTF-32LE, no mark": (GOOD.encode("utf-32-le"), "UTF-32LE without"),
    "UTF-32BE, no mark": (GOOD.encode("utf-32-be"), "UTF-32BE without"),
    "NUL bytes": (bytes(200), "filled with NUL bytes"),
    "NUL tail": (RAW[:20] + bytes(100), "a part of it is NUL bytes"),
    "gzip": (gzip.compress(RAW), "gunzip"),
    "zip": (zipped(), "unzip"),
    "zstd": (b"\x28\xb5\x2f\xfd\x00", "unzstd"),
    "HTML": (b"<!DOCTYPE html><html></html>", "HTML"),
    "comment": (b'{\n  // of 2024\n  "a": 1\n}', "comment in line 2"),
    "block comment": (b'{"a": 1 /* one */}', "comment in line 1"),
    "hash": (b'# of 2024\n{"a": 1}', "comment in line 1"),
    "trailing comma": (
        b'{\n  "a": [1, 2],\n}',
        "comma behind the last item, in line 2",
    ),
    "conflict": (
        b'{\n<<<<<<< HEAD\n "a": 1\n=======\n "a": 2\n>>>>>>> b\n}',
        "merge conflict, in line 2",
    ),
    "two documents": (RAW + b"\n" + RAW, "the second begins in line 11"),
    "JSON lines": (b'{"a": 1}\n{"b": 2}\n', "JSON lines"),
    "garbage at the end": (RAW + b'9"\n}', "behind the end of the JSON, in line 10"),
    "cut off": (RAW[:-10], "ends in the middle"),
    "cut off in a text": (b'{"u": "http://x', "ends in the middle"),
    "cut off in a letter": ('{"a": "\u00e9'.encode()[:-1], "ends in the middle"),
    "single quotes": (b"{'a': 'b'}", "single quotation marks, in line 1"),
    "Python": (b'{"a": None}', "Python value"),
    "NaN": (b'{"a":\n NaN}', "NaN or Infinity in line 2"),
    "no quotes": (b"{a: 1}", "without quotation marks"),
    "mark": (codecs.BOM_UTF8 + RAW, "begins with a byte order mark"),
    "two marks": (codecs.BOM_UTF8 * 2 + RAW, "two byte order marks"),
    "Latin-1": ('{\n"a": "\u00e9"}'.encode("latin-1"), "byte 0xe9 in line 2"),
}


@pytest.mark.parametrize(("raw", "said"), TABLE.values(), ids=TABLE)
def test_a_broken_file_is_said_to_look_like(raw: bytes, said: str) -> None:
    found = diagnose(raw, half_written="ends in the middle" in said)

    assert found is not None
    assert said in str(found)
    assert found.looks
    assert found.remedy


@pytest.mark.parametrize("raw", [RAW, b"[1, 2]", b'"text"', b'{"a" 1}'])
def test_nothing_is_made_up(raw: bytes) -> None:
    assert diagnose(raw) is None


def test_what_stands_inside_of_texts_is_no_sign() -> None:
    raw = b'{"a": "// None, NaN \' }", "b": "x\\", ]", "c" 1}'

    assert diagnose(raw) is None


def test_a_large_file_is_not_gone_through_bracket_by_bracket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(diagnosis, "_LARGE", 8)

    assert diagnose(b'{"a": 1,}' * 2) is None
    assert diagnose(GOOD.encode("utf-16")) is not None


@pytest.mark.parametrize("name", ["UTF-16", "trailing comma", "two documents"])
def test_the_entry_in_quarantine_says_it(name: str) -> None:
    raw, said = TABLE[name]
    layouts = (LAYOUTS[0], RecordPerLineLayout(SCHEMA["users"], "users.json"))

    for layout in layouts:
        (entry,) = layout.parse(SCHEMA, raw).entries
        assert said in entry.home.record.reason
