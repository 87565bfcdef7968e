"""The command: what it shows, what it writes, and how it ends."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pend_storage.cli._app import run
from tests.inspect.test_hazards import _digest
from tests.inspect.zoo import put


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two files of certain shape."""
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "data/orders.json", [{"id": n, "total": n} for n in range(5)])
    put(tmp_path, "data/economy.json", {str(10**17 + n): {"w": n} for n in range(5)})
    return tmp_path / "data"


def _document(capsys: pytest.CaptureFixture[str]) -> Any:
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


def test_files_without_doubts_end_with_0_and_change_nothing(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _digest(data)

    code = run(["inspect", "data"])

    out = capsys.readouterr().out
    assert code == 0
    assert "orders.json   list" in out
    assert "next: pend-storage inspect data --out schema.py --check" in out
    assert _digest(data) == before
    assert [path.name for path in data.parent.iterdir()] == ["data"]


def test_a_doubt_ends_with_1_and_says_how_to_decide(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(data, "alice.json", {"alice": 3})

    code = run(["inspect", "data"])
    out = capsys.readouterr().out
    decided = run(["inspect", "data", "--set", "alice.json=map"])

    assert (code, decided) == (1, 0)
    assert "--set 'alice.json=" in out


def test_a_hazard_ends_with_1(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "torn.json").write_text('[{"id": 1')

    code = run(["inspect", "data"])

    assert code == 1
    assert "torn" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dat"], "does not exist"),
        (["data", "--set", "orders.json"], "write FILE=VALUE"),
        (["data", "--set", "orders.json=lisst"], "no shape 'lisst'; there are: list"),
        (["data", "--set", "order.json=list"], "no file order.json"),
        (["data", "--key", "orders.json="], "write FILE=VALUE"),
        (["data", "--out", "mine.py"], "not overwritten"),
        (["data", "--report", "mine.py"], "not overwritten"),
        (["data", "--check", "--database", "nonsense"], "must begin with postgresql"),
    ],
)
def test_wrong_usage_ends_with_2_and_changes_nothing(
    data: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mine = data.parent / "mine.py"
    mine.write_text("mine")

    code = run(["inspect", *arguments])

    assert code == 2
    assert message in capsys.readouterr().err
    assert mine.read_text() == "mine"


def test_a_database_that_is_not_there_ends_with_3(data: Path) -> None:
    url = "postgresql://127.0.0.1:1/nothing"

    assert run(["inspect", str(data), "--check", "--database", url]) == 3


def test_the_module_and_the_report_are_written_and_proved(
    data: Path, postgres_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    written = ["--out", "schema.py", "--report", "report.md"]
    trial = ["--check", "--database", postgres_server]

    code = run(["inspect", "data", *written, *trial])

    out = capsys.readouterr().out
    assert code == 0
    assert "10 placed, 0 quarantined, 0 lost; 2 of 2 files equal" in out
    assert "pend-storage init --directory data --schema schema" in out
    assert "class Order:" in (data.parent / "schema.py").read_text()
    assert (data.parent / "report.md").read_text().startswith("# Inspection")


def test_the_document_has_everything(
    data: Path, postgres_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["inspect", "data", "--json", "--check", "--database", postgres_server])

    document = _document(capsys)
    assert code == document["exit_code"] == 0
    files = {file["file"]: file for file in document["result"]["files"]}
    assert files["orders.json"]["shape"] == "list"
    assert files["orders.json"]["parts"][0]["key"] == ["id"]
    assert files["economy.json"]["score"] == 100
    assert document["check"]["placed"] == 10
    assert document["check"]["lost"] == 0
    assert document["result"]["expected"]["postgres_bytes"] > 0


def test_a_key_and_files_may_be_said(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = ["--files", "orders.*", "--key", "orders.json=total"]

    code = run(["inspect", "data", "--json", *said])

    (file,) = _document(capsys)["result"]["files"]
    assert code == 0
    assert file["parts"][0]["key"] == ["total"]


def test_a_trial_that_fails_ends_with_1(
    data: Path, postgres_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pend_storage.inspect import _code_writer as written

    monkeypatch.setattr(
        written,
        "render_module",
        lambda _: "import pend_storage as ps\nSCHEMA = ps.Schema([])\n",
    )

    arguments = ["inspect", "data", "--check", "--database", postgres_server]
    assert run(arguments) == 1


def test_control_characters_of_names_are_not_printed(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(data, "a\x1b[31m.json", [{"id": 1, "b\x1b[0m": 1}, {"id": 2, "b\x1b[0m": "x"}])

    run(["inspect", "data", "--out", "schema.py"])

    assert "\x1b" not in capsys.readouterr().out
    assert "\x1b" not in (data.parent / "schema.py").read_text()


def test_names_with_half_characters_can_be_shown_and_written(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "odd.json").write_text('[{"id": 1, "\\ud83d": 1}, {"id": 2, "\\u0000": 2}]')
    (data / "odd2.json").write_text('{"\\ud83d": {"a": 1}, "posts": [{"id": 1}]}')

    shown = run(["inspect", "data", "--out", "schema.py", "--report", "report.md"])
    capsys.readouterr()
    document = run(["inspect", "data", "--json"])

    assert (shown, document) == (1, 1)
    assert "\\ud83d" in json.dumps(_document(capsys))


def test_file_names_that_are_not_utf8_can_be_shown_and_written(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / os.fsdecode(b"caf\xe9.json")).write_text('[{"id": 1}]')

    shown = run(["inspect", "data", "--out", "schema.py", "--report", "report.md"])
    capsys.readouterr()

    assert shown == run(["inspect", "data", "--json"])
    assert "caf" in json.dumps(_document(capsys))
