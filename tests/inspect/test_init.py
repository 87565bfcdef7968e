"""``init`` inspects the files of the directory before it names a schema."""

from __future__ import annotations

from pathlib import Path

import pytest

from pend_storage.cli._app import run
from pend_storage.config import load_settings
from pend_storage.errors import ConfigError
from pend_storage.factory import load_schema
from pend_storage.operations.doctor._directory import directory_findings
from pend_storage.operations.doctor._findings import State
from pend_storage.operations.init import write_config
from tests.inspect.zoo import put

_MODULE = """
from dataclasses import dataclass
import pend_storage as ps

@dataclass(frozen=True)
class Order:
    id: int
    total: float = 0.0

@dataclass(frozen=True)
class Room:
    id: str

LAYOUTS = (ps.records("orders.json", Order), *ps.documents("economy.json"))
SCHEMA = ps.schema_of(LAYOUTS, ps.collection("rooms", Room))
"""

_PARTS = """
from dataclasses import dataclass
import pend_storage as ps

@dataclass(frozen=True)
class Room:
    id: str

@dataclass(frozen=True)
class User:
    id: str

@dataclass(frozen=True)
class Guest:
    id: str
    age: int = 0

LAYOUTS = (
    ps.records("db.json", Room, path="rooms"),
    ps.records("db.json", User, path="users"),
    ps.records("guests/*.json", Guest),
)
SCHEMA = ps.schema_of(LAYOUTS)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("PEND_DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_pends_schema_is_never_written_for_another_server(place: Path) -> None:
    put(place, "data/economy.json", {"1": {"wallet": 5}})
    put(place, "data/orders.json", [{"id": 1}])

    with pytest.raises(ConfigError) as caught:
        write_config(place / "pend.toml", directory=place / "data")

    message = str(caught.value)
    assert "has 2 JSON files, none of which is a Pend server's" in message
    assert "economy.json, orders.json" in message
    assert f"pend-storage inspect {place / 'data'} --out schema.py" in message
    assert not (place / "pend.toml").exists()


def test_one_file_that_is_called_as_pends_makes_no_pend_server(place: Path) -> None:
    for name in ("server-logs", "users", "orders"):
        put(place, f"data/{name}.json", [])

    with pytest.raises(ConfigError, match="only 1 of which are a Pend server's"):
        write_config(place / "pend.toml", directory=place / "data")


def test_an_empty_directory_needs_a_schema(place: Path) -> None:
    (place / "data").mkdir()

    with pytest.raises(ConfigError, match=r"no JSON file.*--schema MODULE"):
        write_config(place / "pend.toml", directory=place / "data")
    made = write_config(
        place / "pend.toml", directory=place / "data", schema="pend_storage.pend"
    )

    assert made.schema == "pend_storage.pend"


@pytest.mark.parametrize("given", ["orders_schema", "orders_schema.py"])
def test_a_given_schema_is_written_with_what_it_claims(place: Path, given: str) -> None:
    (place / "orders_schema.py").write_text(_MODULE)
    for name in ("economy", "orders", "rooms", "more"):
        put(place, f"data/{name}.json", [])

    made = write_config(place / "pend.toml", directory=place / "data", schema=given)

    assert 'schema = "orders_schema"' in (place / "pend.toml").read_text()
    assert set(made.legacy_files) == {"orders.json", "economy.json", "rooms.json"}
    assert made.unclaimed == ("more.json",)


def test_a_file_in_parts_counts_once_and_a_folder_too(place: Path) -> None:
    (place / "parts_schema.py").write_text(_PARTS)
    put(place, "data/db.json", {"rooms": [{"id": "r"}], "users": [{"id": "u"}], "n": 1})
    put(place, "data/guests/ann.json", {"age": 3})
    put(place, "data/guests/bob.json", {"age": 4})

    made = write_config(
        place / "pend.toml", directory=place / "data", schema="parts_schema"
    )
    settings = load_settings(made.file, environ={})
    assert settings.json is not None
    module = load_schema(settings)
    found = list(directory_findings(settings, module, settings.json))

    assert sorted(made.legacy_files) == ["db.json", "guests/*.json"]
    assert made.unclaimed == ()
    said = {finding.check: finding for finding in found}
    assert said["legacy files"].message.startswith("2 of 2 are there, not adopted")
    assert {finding.state for finding in found} == {State.OK}


def test_a_folder_with_a_broken_file_is_read_by_the_doctor(place: Path) -> None:
    (place / "parts_schema.py").write_text(_PARTS)
    put(place, "data/guests/ann.json", {"age": 3})
    (place / "data/guests/bob.json").write_text("{")
    made = write_config(
        place / "pend.toml", directory=place / "data", schema="parts_schema"
    )
    settings = load_settings(made.file, environ={})
    assert settings.json is not None

    found = list(directory_findings(settings, load_schema(settings), settings.json))

    said = {finding.check: finding for finding in found}
    assert said["legacy files"].message.startswith("1 of 2 are there")


def test_a_schema_that_is_not_there_is_refused_before_anything_is_written(
    place: Path,
) -> None:
    put(place, "data/orders.json", [])

    with pytest.raises(ConfigError, match="no module 'orders_shema'"):
        write_config(
            place / "pend.toml", directory=place / "data", schema="orders_shema"
        )

    assert not (place / "pend.toml").exists()


def test_a_directory_that_is_not_there_is_refused(place: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        write_config(place / "pend.toml", directory=place / "dat")
    put(place, "file.json", [])
    with pytest.raises(ConfigError, match="is not a directory"):
        write_config(place / "pend.toml", directory=place / "file.json")
    with pytest.raises(
        ConfigError, match=r"no directory of a Pend server.*--directory DIR"
    ):
        write_config(place / "pend.toml")


def test_a_url_in_the_environment_is_named_and_not_copied(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEND_DATABASE_URL", "postgresql://pend:hunter2@db/pend")
    (place / "data").mkdir()

    made = write_config(
        place / "pend.toml", directory=place / "data", schema="pend_storage.pend"
    )

    text = (place / "pend.toml").read_text()
    assert 'url_env = "PEND_DATABASE_URL"' in text
    assert "hunter2" not in text
    assert made.url_from == "PEND_DATABASE_URL"


def test_the_command_ends_with_2_and_says_how_to_go_on(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(place, "data/economy.json", {"1": {"wallet": 5}})

    code = run(["init", "--directory", "data"])

    assert code == 2
    assert "pend-storage inspect data --out schema.py" in capsys.readouterr().err
