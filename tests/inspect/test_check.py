"""The trial on a copy: adopted, migrated to PostgreSQL, and made again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import psycopg
import pytest

from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.inspect import inspect_directory
from pend_storage.inspect._code_writer import render_module
from pend_storage.operations.inspect import InspectCheck, check_module
from pend_storage.operations.new_file import write_new
from pend_storage.sample_data import generate
from tests.inspect.servers import SERVERS
from tests.inspect.zoo import put

_MODULE = "import pend_storage as ps\nLAYOUTS = {}\nSCHEMA = ps.schema_of(LAYOUTS)\n"


def tried(directory: Path, url: str, module: str | None = None) -> InspectCheck:
    """The outcome for a directory, with the module that is written for it."""
    report = inspect_directory(directory)
    path = directory.parent / "tried_schema.py"
    path.write_text(render_module(report) if module is None else module)
    return check_module(path, directory, report, database=url)


@pytest.mark.parametrize("kind", SERVERS)
def test_files_of_a_server_come_back_from_postgresql(
    kind: str, tmp_path: Path, postgres_server: str
) -> None:
    data = tmp_path / "data"
    SERVERS[kind](data)
    before = _digest(data)

    trial = tried(data, postgres_server)

    assert trial.ok, trial
    assert (trial.quarantined, trial.lost) == (0, 0)
    assert trial.placed > 0
    assert not trial.undeclared
    assert _digest(data) == before


def test_irregular_records_are_quarantined_with_reasons_and_come_back(
    tmp_path: Path, postgres_server: str
) -> None:
    data = tmp_path / "data"
    generate(data, users=30, irregular=0.05, seed=5)

    trial = tried(data, postgres_server)

    assert trial.ok, trial
    assert len(trial.files) == 16
    assert trial.quarantined == sum(sum(f.reasons.values()) for f in trial.files) > 0
    assert trial.lost == 0


def test_uneven_records_under_a_member_are_kept_one_by_one(
    tmp_path: Path, postgres_server: str
) -> None:
    logs = [{"at": n, "what": "x"} for n in range(40)]
    uneven = [*logs, "a text", None, [1], 5]
    put(tmp_path / "data", "logs.json", {"logs": uneven, "n": 3})
    things = {f"{10**16 + n}": item for n, item in enumerate(uneven)}
    put(tmp_path / "data", "things.json", {"meta": {"n": 1}, "things": things})

    trial = tried(tmp_path / "data", postgres_server)

    assert trial.ok, trial
    assert trial.quarantined == 0
    assert {file.file: file.placed for file in trial.files} == {
        "logs.json": 44,
        "things.json": 44,
    }


def test_a_broken_file_is_quarantined_as_it_is(
    tmp_path: Path, postgres_server: str
) -> None:
    put(tmp_path / "data", "good.json", [{"id": 1}])
    (tmp_path / "data" / "torn.json").write_text('[{"id": 1}, {"i')

    trial = tried(tmp_path / "data", postgres_server)

    torn = next(file for file in trial.files if file.file == "torn.json")
    assert (torn.placed, torn.quarantined, torn.result) == (0, 1, "identical")
    assert torn.reasons == {"half-written": 1}
    assert trial.ok


def test_a_module_that_leaves_a_file_out_fails(
    tmp_path: Path, postgres_server: str
) -> None:
    put(tmp_path / "data", "a.json", [1])
    put(tmp_path / "data", "b.json", [2])

    trial = tried(
        tmp_path / "data", postgres_server, _MODULE.format('ps.documents("a.json")')
    )

    assert trial.undeclared == ("b.json",)
    assert not trial.ok


def test_no_database_is_left_behind(tmp_path: Path, postgres_server: str) -> None:
    put(tmp_path / "data", "a.json", [1])

    trial = tried(tmp_path / "data", postgres_server)

    with psycopg.connect(postgres_server) as connection:
        rows = connection.execute("select datname from pg_database").fetchall()
    assert trial.ok
    assert not [name for (name,) in rows if name.startswith("pend_inspect_")]


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("import nothing_of_the_kind", "cannot be imported"),
        ("x = ", "cannot be imported"),
        ("LAYOUTS = ()", "has no SCHEMA"),
    ],
)
def test_a_module_that_is_not_fit_is_refused(
    module: str, message: str, tmp_path: Path, postgres_server: str
) -> None:
    put(tmp_path / "data", "a.json", [1])

    with pytest.raises(ConfigError, match=message):
        tried(tmp_path / "data", postgres_server, module)


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    put(tmp_path / "data", "a.json", [1])

    with pytest.raises(StoreUnavailable):
        tried(tmp_path / "data", "postgresql://127.0.0.1:1/nothing")


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "schema.py"
    path.write_text("mine")

    with pytest.raises(ConfigError, match="not overwritten"):
        write_new(path, "theirs")

    assert path.read_text() == "mine"


def _digest(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
