"""The word in the configuration file: read after every edit, written without harm."""

from __future__ import annotations

import builtins
import os
import stat
import threading
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pend_storage._files.directory import Directory
from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.flags import DesiredPhase, FileFlag
from pend_storage.phases import Phase

J, PAR, PG, P = Phase

COMMENTED = """\
# Ours.
[environments.production]   # the real one
# json-only, parallel, ...
phase   =  "parallel"   # since Tuesday
schema = 'my.records'

[environments.production.json]
directory = "data"

[environments.staging]
phase = "postgres-only"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pend.toml"
    path.write_text(COMMENTED)
    return path


def test_an_edit_is_seen_even_within_one_tick_of_the_clock(file: Path) -> None:
    flag = FileFlag(file, "production")
    before = file.stat()
    first = flag.read()

    file.write_text(COMMENTED.replace('"parallel"', '"json-only"', 1)[:-1])
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert first == DesiredPhase(PAR, f"{file}, environments.production.phase")
    assert flag.read() == DesiredPhase(J, f"{file}, environments.production.phase")


def test_writing_changes_one_word_and_nothing_else(file: Path) -> None:
    flag = FileFlag(file, "production")

    written = flag.write(PG, by="me")

    assert file.read_text() == COMMENTED.replace(
        "parallel", "postgres-primary", 2
    ).replace("json-only, postgres-primary", "json-only, parallel")
    assert flag.read() == written
    assert FileFlag(file, "staging").read() == DesiredPhase(
        P, f"{file}, environments.staging.phase"
    )


FORMS = {
    "no phase yet": '[environments.x]\nschema = "s"\n\n[environments.x.json]\n',
    "only tables below it": '[environments.x.json]\ndirectory = "d"\n[environments.y]\n',
    "an empty table": "[environments.x]",
    "in one line": 'environments.x.phase = "parallel"\n',
    "dotted": '[environments]\nx.phase = "parallel"\nx.json.directory = "d"\n',
    "inline": '[environments]\nx = { phase = "parallel", json = {} } # c\n',
    "out of order": '[environments.x]\nphase = "json-only"\n[environments.y]\n'
    '[environments.x.json]\ndirectory = "d"\n',
    "other quotes": "[environments.x]\nphase = 'parallel'\n",
    "many lines": '[environments.x]\nphase = """parallel"""\nfiles = [\n  1, # one\n]\n',
    "line ends of another system": '[environments.x]\r\nphase = "parallel" # c\r\n',
    "a wrong word": '[environments.x]\nphase = "paralel"\n',
    "no word at all": "[environments.x]\nphase = 7\n",
    "a name in quotes": '[environments."x"]\nphase = "parallel"\n',
}


@pytest.mark.parametrize("text", FORMS.values(), ids=[*FORMS])
def test_whatever_way_it_is_written_only_the_phase_changes(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "pend.toml"
    path.write_bytes(text.encode())
    expected: dict[str, Any] = tomllib.loads(text)
    expected["environments"]["x"]["phase"] = "postgres-only"

    FileFlag(path, "x").write(P, by="me")

    content = path.read_bytes().decode()
    assert tomllib.loads(content) == expected
    others = [line for line in text.splitlines() if "phase" not in line and line]
    assert [line for line in content.splitlines() if line in others] == others


def test_quotes_stay_what_they_were(tmp_path: Path) -> None:
    path = tmp_path / "pend.toml"
    path.write_text("[environments.x]\nphase = 'parallel' # c\n")

    FileFlag(path, "x").write(P, by="me")

    assert path.read_text() == "[environments.x]\nphase = 'postgres-only' # c\n"


def test_a_link_stays_a_link_and_permissions_stay(file: Path, tmp_path: Path) -> None:
    file.chmod(0o640)
    link = tmp_path / "elsewhere.toml"
    link.symlink_to(file)

    FileFlag(link, "production").write(PG, by="me")

    assert link.is_symlink()
    assert FileFlag(file, "production").read() == DesiredPhase(
        PG, f"{file}, environments.production.phase"
    )
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "elsewhere.toml",
        "pend.toml",
    ]


def test_the_same_word_again_writes_nothing(file: Path) -> None:
    before = file.stat().st_ino

    FileFlag(file, "production").write(PAR, by="me")

    assert file.stat().st_ino == before


def test_readers_see_the_old_file_or_the_new_one(file: Path) -> None:
    seen: set[str] = set()
    is_over = threading.Event()

    def read() -> None:
        flag = FileFlag(file, "production")
        while not is_over.is_set():
            wanted = flag.read()
            assert wanted is not None
            seen.add(wanted.phase.value)

    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            read()
        except BaseException as error:  # noqa: BLE001 - looked at below
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    flag = FileFlag(file, "production")
    for phase in [*Phase] * 10:
        flag.write(phase, by="me")
    is_over.set()
    thread.join(60)

    assert errors == []
    assert seen <= {phase.value for phase in Phase}


def test_an_edit_by_somebody_else_in_between_is_kept(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = FileFlag(file, "production")
    edits = iter([COMMENTED + "# mine\n"])
    real = FileFlag._edited

    def edited(self: FileFlag, content: bytes, phase: Phase) -> bytes:
        result = real(self, content, phase)
        for text in edits:
            file.write_text(text)
        return result

    monkeypatch.setattr(FileFlag, "_edited", edited)
    flag.write(PG, by="me")

    assert file.read_text().endswith("# mine\n")
    assert flag.read() == DesiredPhase(PG, f"{file}, environments.production.phase")


def test_a_file_that_never_stands_still_is_left_to_a_person(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FileFlag, "_replaced", lambda *_: False)

    with pytest.raises(
        ConfigError, match=r'changed by another program.*phase = "json-only"'
    ):
        FileFlag(file, "production").write(J, by="me")


def test_what_tomlkit_would_spoil_is_left_to_a_person(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tomlkit.dumps", lambda _: 'phase = "json-only"')

    with pytest.raises(ConfigError, match=r'only a person.*phase = "json-only"'):
        FileFlag(file, "production").write(J, by="me")

    assert file.read_text() == COMMENTED


def test_without_tomlkit_it_says_what_to_do(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: Any) -> Any:
        if name == "tomlkit":
            raise ModuleNotFoundError(name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)

    with pytest.raises(ConfigError, match=r"pend_storage\[cli\].*by hand"):
        FileFlag(file, "production").write(J, by="me")


def test_a_directory_that_cannot_be_written_says_what_to_do(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Directory, "create_narrow", refuse)

    with pytest.raises(ConfigError, match="cannot be written: Permission denied"):
        FileFlag(file, "production").write(J, by="me")


def test_whether_it_can_be_written_is_asked_of_the_directory(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(os, "access", lambda path, _: asked.append(path))

    assert not FileFlag(file, "production").writable
    assert asked == [file.parent]


WRONG = {
    "an unknown word": (
        '[environments.x]\nphase = "off"',
        "x.phase: unknown phase 'off'",
    ),
    "no word": ("[environments.x]\nphase = 1", "expected a word in quotes.*not 1"),
    "no environment": (
        "[environments.y]",
        r"has no environment 'x'.*\[environments\.x\]",
    ),
    "no table": ("environments = 1", "has no environment 'x'"),
    "half written": ("[environments.x", "not valid TOML"),
    "emptied": ("", "has no environment"),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=[*WRONG])
def test_what_is_no_phase_is_told_from_what_is_not_set(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "pend.toml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=message):
        FileFlag(path, "x").read()


def test_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pend.toml"
    path.write_bytes(b"# caf\xe9")

    with pytest.raises(ConfigError, match="not valid TOML"):
        FileFlag(path, "x").read()


def test_a_file_that_is_gone_cannot_be_reached(tmp_path: Path) -> None:
    flag = FileFlag(tmp_path / "pend.toml", "x")

    with pytest.raises(StoreUnavailable, match=r"pend\.toml: it cannot be read"):
        flag.read()
    with pytest.raises(StoreUnavailable):
        flag.write(PAR, by="me")
