"""Damage that the generator of Pend data does to whole files."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from pend_storage.sample_data import FILES, Damage, SampleReport, generate

NAMES: Final = [file.name for file in FILES]
LOG: Final = "explorer-data/transactions-log.json"


class Members(list[tuple[str, Any]]):
    """An object as the file has it: names that come twice are both there."""


def exact(text: str) -> Any:
    return json.loads(text, object_pairs_hook=Members)


def texts(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*.json")
    }


def damaged(tmp_path: Path, name: str, kind: str) -> tuple[bytes, bytes, SampleReport]:
    """Content of a file without the damage and with it."""
    generate(tmp_path / "whole", users=26, events=30, irregular=0.1)
    report = generate(
        tmp_path / "hurt", users=26, events=30, irregular=0.1, damage={name: kind}
    )
    path = tmp_path / "hurt" / name
    hurt = path.read_bytes() if path.exists() else b"missing"
    whole, others = texts(tmp_path / "whole"), texts(tmp_path / "hurt")
    assert {n: t for n, t in whole.items() if n != name} == {
        n: t for n, t in others.items() if n != name
    }, "no other file is touched"
    return whole[name], hurt, report


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("missing", b"missing"),
        ("empty", b""),
        ("bare-list", b"[]\n"),
        ("bare-map", b"{}\n"),
        ("no-records", b'{\n  "logs": []\n}'),
        ("other-top", b'"undefined"'),
    ],
)
def test_a_file_can_be_left_without_records(
    tmp_path: Path, kind: str, content: bytes
) -> None:
    _, hurt, report = damaged(tmp_path, "admin-logs.json", kind)

    assert hurt == content
    assert report.records["admin-logs.json"] == 0
    assert not any(name.startswith("admin-logs/") for name in report.irregular)
    assert report.damage == {"admin-logs.json": Damage(kind)}


@pytest.mark.parametrize("name", NAMES)
def test_a_half_written_file_is_cut_within_a_line(tmp_path: Path, name: str) -> None:
    whole, hurt, _ = damaged(tmp_path, name, "half-written")

    assert whole.startswith(hurt)
    assert 0 < len(hurt) < len(whole)
    assert not hurt.endswith((b"\n", b",", b"{", b"}"))
    with pytest.raises(ValueError, match=r"line"):
        json.loads(hurt)


@pytest.mark.parametrize("name", NAMES)
def test_a_byte_that_is_not_utf8_replaces_one_byte(tmp_path: Path, name: str) -> None:
    whole, hurt, _ = damaged(tmp_path, name, "not-utf8")

    changed = [at for at, byte in enumerate(whole) if hurt[at] != byte]
    assert len(hurt) == len(whole)
    assert len(changed) == 1
    assert hurt[changed[0]] == 0xE9
    with pytest.raises(UnicodeDecodeError):
        hurt.decode()


def test_a_bare_list_is_the_wrapped_one_without_its_wrapper(tmp_path: Path) -> None:
    whole, hurt, _ = damaged(tmp_path, "admin-opportunities.json", "bare")

    inner = dict(exact(whole.decode()))["opportunities"]
    assert repr(exact(hurt.decode())) == repr(inner)
    assert hurt.startswith(b"[\n  {\n    ")
    assert hurt.endswith(b"\n  }\n]")


def test_a_wrapper_can_have_other_members(tmp_path: Path) -> None:
    whole, hurt, _ = damaged(tmp_path, "admin-logs.json", "other-members")

    members = exact(hurt.decode())
    assert [name for name, _ in members] == ["version", "logs", "lastUpdated"]
    assert repr(dict(members)["logs"]) == repr(dict(exact(whole.decode()))["logs"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["crlf", "tabs", "compact", "trailing-newline", "bom"])
def test_another_spelling_of_a_file_is_still_the_same_json(
    tmp_path: Path, name: str, kind: str
) -> None:
    whole, hurt, _ = damaged(tmp_path, name, kind)

    assert hurt != whole
    assert repr(exact(hurt.decode("utf-8-sig"))) == repr(exact(whole.decode()))


def test_each_spelling_is_what_it_is_called(tmp_path: Path) -> None:
    spellings = {}
    for kind in ("crlf", "tabs", "compact", "trailing-newline", "bom", "zeros"):
        generate(tmp_path / kind, users=9, irregular=0, damage={LOG: kind})
        spellings[kind] = (tmp_path / kind / LOG).read_bytes()

    assert spellings["crlf"].startswith(b'[\r\n  {\r\n    "id": 36,\r\n')
    assert spellings["tabs"].startswith(b'[\n\t{\n\t\t"id": 36,\n')
    assert spellings["compact"].startswith(b'[{"id":36,"type":"')
    assert spellings["trailing-newline"].endswith(b"}\n]\n")
    assert spellings["bom"].startswith(b"\xef\xbb\xbf[\n")
    assert set(spellings["zeros"]) == {0}
