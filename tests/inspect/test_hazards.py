"""Everything that may be wrong with files is planted once, and found once."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from pend_storage._files.linked import LinkedFile
from pend_storage.inspect import Severity, Shape, inspect_directory
from pend_storage.inspect import _file_scan as inspect_files
from pend_storage.inspect._file_reader import MOST_BYTES, read_text
from pend_storage.inspect._markdown_report import render_report
from tests.inspect.zoo import put

_ROWS = ",".join(f'{{"id": {n}, "name": "x{n}"}}' for n in range(1, 10))
_HIDDEN = "Zq8vN3-secret-value"


def _list(odd: str) -> bytes:
    return f"[{_ROWS}, {odd}]".encode()


_PLANTED: dict[str, tuple[bytes, Severity]] = {
    "duplicate-member": (_list('{"id": 77, "a": 1, "a": 2}'), Severity.RECORD),
    "half-character": (_list('{"id": 77, "name": "\\ud800"}'), Severity.RECORD),
    "nul": (_list('{"id": 77, "name": "a\\u0000b"}'), Severity.RECORD),
    "not-a-number": (_list('{"id": 77, "score": NaN}'), Severity.RECORD),
    "number-too-long": (_list(f'{{"id": 77, "n": {"9" * 5_000}}}'), Severity.RECORD),
    "too-deep": (
        _list(f'{{"id": 77, "n": {"[" * 9_000}{"]" * 9_000}}}'),
        Severity.RECORD,
    ),
    "duplicate-key": (
        json.dumps([{"id": max(n, 2)} for n in range(1, 101)]).encode(),
        Severity.RECORD,
    ),
    "duplicate-name": (
        b'{"123456789012": {"n": 1}, "123456789013": {"n": 1}, "123456789012": {"n": 2}}',
        Severity.RECORD,
    ),
    "large-integer": (_list('{"id": 77, "n": 12345678901234567890123}'), Severity.NOTE),
    "long-decimal": (_list('{"id": 77, "n": 0.123456789012345678}'), Severity.NOTE),
    "mixed-types": (_list('{"id": 77, "name": 5}'), Severity.NOTE),
    "mixed-records": (_list('"a text"'), Severity.NOTE),
    "empty-name": (
        b'{"123456789012": {"n": 1}, "123456789013": {"n": 1}, "": {"n": 2}}',
        Severity.NOTE,
    ),
    "bom": (b"\xef\xbb\xbf" + _list('{"id": 77}'), Severity.NOTE),
    "torn": (b'[{"id": 1}, {"id": 2, "na', Severity.FILE),
    "blank": (b" \n", Severity.FILE),
    "nul-bytes": (b'[{"id": 1}]' + bytes(50), Severity.FILE),
    "json5": (b'{\n  // the port\n  "port": 80\n}', Severity.FILE),
    "not-json": (b'[{"id": 1}] [{"id": 2}]', Severity.FILE),
    "not-utf8": (_list('{"id": 77, "name": "caf\\u00e9"}').replace(b"\\u00e9", b"\xe9"),
                 Severity.FILE),
}  # fmt: skip


def _codes(directory: Path) -> dict[str, Any]:
    report = inspect_directory(directory)
    return {h.code: h for f in report.files for h in f.hazards} | {
        h.code: h for h in report.hazards
    }


@pytest.mark.parametrize("code", _PLANTED)
def test_a_planted_hazard_is_found_and_nothing_else(code: str, tmp_path: Path) -> None:
    raw, severity = _PLANTED[code]
    (tmp_path / "planted.json").write_bytes(raw)

    found = _codes(tmp_path)

    assert [*found] == [code]
    assert (found[code].severity, found[code].count) == (severity, 1)


def test_a_sound_file_has_no_hazard(tmp_path: Path) -> None:
    (tmp_path / "sound.json").write_bytes(_list('{"id": 77, "name": "\\\\u0000"}'))

    report = inspect_directory(tmp_path)

    assert not report.files[0].hazards
    assert not report.has_doubts


@pytest.mark.parametrize(
    "text",
    [
        "{'a': 1}",
        "{a: 1}",
        '{"a": 1,}',
        "[1, 2, /* two */ 3]",
        '{"a": 1} // the end',
    ],
)  # fmt: skip
def test_what_json5_allows_is_called_by_its_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)

    assert [*_codes(tmp_path)] == ["json5"]


def test_utf_16_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes('{"a": 1}'.encode("utf-16"))

    assert "UTF-16" in _codes(tmp_path)["not-utf8"].sentence


def test_a_fault_is_told_by_line_and_column_and_never_by_its_text(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.json").write_text(f'{{\n  "a": 1,\n  "pin": {_HIDDEN}\n}}')

    sentence = _codes(tmp_path)["not-json"].sentence

    assert "line 3, column 10" in sentence
    assert _HIDDEN[:4] not in sentence


def test_a_file_of_two_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as stream:
        stream.truncate(MOST_BYTES)  # takes no room on the disk

    found = _codes(tmp_path)

    assert [*found] == ["too-large"]
    assert "2.0 GB" in found["too-large"].sentence


def test_a_file_that_is_written_meanwhile_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path, "a.json", [{"id": 1}])

    def read_and_be_overtaken(file: Path) -> Any:
        text = read_text(file)
        path.write_text('[{"id": 1}, {"id": 2}]')
        return text

    monkeypatch.setattr(inspect_files, "read_text", read_and_be_overtaken)

    assert [*_codes(tmp_path)] == ["written-meanwhile"]


def test_links_that_turn_in_circles_or_lead_out_are_not_followed(
    tmp_path: Path,
) -> None:
    data, outside = tmp_path / "data", tmp_path / "outside"
    put(data, "sub/a.json", [{"id": 1}])
    put(outside, "b.json", [{"id": 2}])
    (data / "sub" / "up").symlink_to(data, target_is_directory=True)
    (data / "out").symlink_to(outside, target_is_directory=True)
    (data / "out.json").symlink_to(outside / "b.json")
    (data / "none.json").symlink_to(data / "nowhere")
    (data / "self.json").symlink_to(data / "self.json")

    report = inspect_directory(data)

    assert [file.file for file in report.files] == ["sub/a.json"]
    counts = {hazard.code: hazard.count for hazard in report.hazards}
    assert counts == {"link-loop": 2, "link-outside": 2, "broken-link": 1}


def test_a_link_within_the_directory_is_looked_at(tmp_path: Path) -> None:
    put(tmp_path, "real/a.txt", [{"id": 1}])
    (tmp_path / "a.json").symlink_to(tmp_path / "real" / "a.txt")

    assert [file.file for file in inspect_directory(tmp_path).files] == ["a.json"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(tmp_path: Path) -> None:
    put(tmp_path, "a.json", []).chmod(0)
    put(tmp_path, "closed/b.json", []).parent.chmod(0)

    report = inspect_directory(tmp_path)
    (tmp_path / "closed").chmod(0o700)

    assert [(h.code, h.count) for h in report.hazards] == [("no-permission", 2)]
    assert report.has_doubts


def test_a_read_that_the_system_refuses_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a.json", [])
    put(tmp_path, "b.json", [])
    real = LinkedFile.open

    def refuse(file: LinkedFile) -> int:
        if file.name == "a.json":
            raise PermissionError(13, "Permission denied", str(file.path))
        return real(file)

    monkeypatch.setattr(LinkedFile, "open", refuse)

    report = inspect_directory(tmp_path)

    assert [f.shape for f in report.files] == [Shape.BROKEN, Shape.EMPTY]
    assert [h.code for h in report.files[0].hazards] == ["no-permission"]


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    done: list[Any] = []
    thread = threading.Thread(
        target=lambda: done.append(inspect_directory(tmp_path)), daemon=True
    )
    thread.start()
    thread.join(20)

    assert [hazard.code for hazard in done[0].hazards] == ["not-a-file"]


def test_ten_thousand_files_are_one_report(tmp_path: Path) -> None:
    folder = tmp_path / "users"
    folder.mkdir()
    for n in range(10_000):
        (folder / f"{10**17 + n}.json").write_text(f'{{"coins": {n}, "name": "x"}}')

    (file,) = inspect_directory(tmp_path).files

    assert (file.file, file.records, file.files) == ("users/*.json", 10_000, 10_000)


def test_files_of_tools_and_of_the_store_are_no_data(tmp_path: Path) -> None:
    for name in ("package.json", "node_modules/a.json", ".pend-storage/b.json"):
        put(tmp_path, name, {"name": "x"})
    put(tmp_path, "data-backup-20250101/c.json", [])
    put(tmp_path, "kept.json", [])

    assert [file.file for file in inspect_directory(tmp_path).files] == ["kept.json"]


def test_a_pattern_says_which_files(tmp_path: Path) -> None:
    put(tmp_path, "a.db", '{"_id": 1}\n{"_id": 2}\n')
    put(tmp_path, "b.json", [])

    report = inspect_directory(tmp_path, patterns=["*.db"])

    assert [(f.file, f.shape) for f in report.files] == [("a.db", Shape.JSON_LINES)]


def test_a_broken_file_of_a_folder_of_records_is_one_of_its_hazards(
    tmp_path: Path,
) -> None:
    for n in range(9):
        put(tmp_path, f"users/{10**17 + n}.json", {"coins": n, "name": "x"})
    (tmp_path / f"users/{10**17 + 9}.json").write_text('{"coins": 3, "na')

    (file,) = inspect_directory(tmp_path).files

    assert file.records == 9
    assert [(h.code, h.severity) for h in file.hazards] == [("torn", Severity.FILE)]


def test_record_files_in_the_directory_itself_are_told(tmp_path: Path) -> None:
    for n in range(9):
        put(tmp_path, f"{10**17 + n}.json", {"coins": n, "name": "x"})

    (file,) = inspect_directory(tmp_path).files

    assert file.file == "*.json"
    assert [hazard.code for hazard in file.hazards] == ["file-for-each-record"]


def test_an_empty_directory_is_a_doubt(tmp_path: Path) -> None:
    report = inspect_directory(tmp_path)

    assert report.has_doubts
    assert not report.files


def _digest(directory: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        found.update(repr((path.name, status.st_mtime_ns, status.st_mode)).encode())
        if path.is_file():
            found.update(path.read_bytes())
    return found.hexdigest()


def test_looking_changes_nothing(tmp_path: Path) -> None:
    for code, (raw, _) in _PLANTED.items():
        (tmp_path / f"{code}.json").write_bytes(raw)
    before = _digest(tmp_path)

    inspect_directory(tmp_path)

    assert _digest(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("phone", "+201001234567"),
        ("contact", "ann@example.org"),
        ("contact", "+44 20 7946 0958"),
        ("accessToken", _HIDDEN),
        ("pin", 845_219),
        ("apiKey", _HIDDEN),
        ("mobileNumber", 201_001_234_567),
    ],
)
def test_a_sensitive_value_is_shown_nowhere(
    name: str, value: Any, tmp_path: Path
) -> None:
    rows = [{"id": n, "kind": "ab"[n % 2], name: value} for n in range(40)]
    put(tmp_path, "people.json", rows)

    report = inspect_directory(tmp_path)

    field = next(f for f in report.files[0].parts[0].fields if f.name == name)
    assert field.is_sensitive
    text = repr(report) + render_report(report)
    assert str(value) not in text
    assert "'a'" in text  # while others are


def test_a_few_addresses_of_mail_hide_the_words_of_a_field(tmp_path: Path) -> None:
    words = ["new", "old", "ann@example.org"]
    rows = [{"id": n, "by": words[n % 60 // 29]} for n in range(120)]
    put(tmp_path, "rows.json", rows)

    report = inspect_directory(tmp_path)

    assert "ann@example" not in repr(report) + render_report(report)


def test_names_that_may_be_persons_are_shown_nowhere(tmp_path: Path) -> None:
    people = {f"ann{n}@example.org": {"n": n, "m": "\ud800"} for n in range(30)}
    (tmp_path / "people.json").write_text(json.dumps(people))

    report = inspect_directory(tmp_path)

    assert report.files[0].shape is Shape.MAP
    assert "example.org" not in repr(report) + render_report(report)


def test_a_report_shows_names_of_all_kinds_without_breaking(tmp_path: Path) -> None:
    rows = [{"id": n, "a|b`c\n\x1b[31m": n, "x" * 5_000: n} for n in range(5)]
    put(tmp_path, "odd.json", rows)

    text = render_report(inspect_directory(tmp_path))

    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) < 1_000
    assert len({line.count("|") - line.count("\\|") for line in text.splitlines()
                if line.startswith("| `") and "distinct" not in line}) <= 2  # fmt: skip


def test_the_same_directory_gives_the_same_report(tmp_path: Path) -> None:
    for n, (raw, _) in enumerate(_PLANTED.values()):
        (tmp_path / f"{n}.json").write_bytes(raw)

    first, second = (render_report(inspect_directory(tmp_path)) for _ in range(2))

    assert first == second
