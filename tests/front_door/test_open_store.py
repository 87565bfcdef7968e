"""``open_store`` opens what exists, and takes everything as arguments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

import pend_storage as ps
from pend_storage.errors import ConfigError
from pend_storage.pend import LAYOUTS, SCHEMA
from pend_storage.phases import Phase
from tests.front_door.conftest import Site, put


@dataclass(frozen=True)
class Note:
    """A record of a server with a schema of its own."""

    id: str
    text: str = ""


NOTES = ps.Schema([ps.collection("notes", Note)])


def test_a_missing_directory_is_an_error_and_is_not_made(site: Site) -> None:
    with pytest.raises(ConfigError, match=r"data does not exist.*create=True"):
        ps.open_store(site.config)
    assert not site.data.exists()


def test_a_file_in_the_place_of_the_directory_is_an_error(site: Site) -> None:
    site.data.write_text("")

    with pytest.raises(ConfigError, match="data: this is not a directory"):
        ps.open_store(site.config, create=True)


def test_it_is_made_where_that_is_wanted(site: Site) -> None:
    with ps.open_store(site.config, create=True) as store:
        assert store.collection("users").count() == 0

    assert site.data.is_dir()
    ps.open_store(site.config).close()  # it exists now


def test_arguments_are_enough_for_json_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEND_DATABASE_URL", "postgresql://127.0.0.1:1/none")
    monkeypatch.setenv("PEND_PHASE", "postgres-only")
    monkeypatch.chdir(tmp_path)

    with ps.open_store(schema=NOTES, json="data", create=True) as store:
        store.collection(Note).put(Note("a", "text"))
    with ps.open_store(schema=NOTES, json=tmp_path / "data") as store:
        assert isinstance(store, ps.JsonStore)
        assert store.collection(Note).get("a") == Note("a", "text")


def test_arguments_are_enough_for_both_stores(
    tmp_path: Path, postgres_url: str
) -> None:
    put(tmp_path / "data" / "wallet-db.json", {f"0x{1:064x}": f"0x{1:040x}"})
    with ps.PostgresStore(SCHEMA, postgres_url) as database:
        database.migrate()

    with ps.open_store(
        schema=SCHEMA,
        layouts=LAYOUTS,
        json=tmp_path / "data",
        postgres=postgres_url,
        phase="parallel",
        environment="staging",
    ) as store:
        assert isinstance(store, ps.DualWriteStore)
        assert store.phase is Phase.JSON_ONLY
        assert dict(store.legacy("wallet-db.json")) == {f"0x{1:064x}": f"0x{1:040x}"}


def test_a_schema_may_be_the_name_of_a_module(tmp_path: Path) -> None:
    put(tmp_path / "wallet-db.json", {f"0x{1:064x}": f"0x{1:040x}"})

    with ps.open_store(schema="pend_storage.pend", json=tmp_path) as store:
        assert len(store.legacy("wallet-db.json")) == 1


def test_arguments_take_the_place_of_what_the_file_says(
    site: Site, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    site.configure(
        '[environments.development.json]\ndirectory = "data"\ncheckpoint_interval = 9.0\n'
    )

    with ps.open_store(site.config, schema=NOTES, json=tmp_path / "other") as store:
        assert isinstance(store, ps.JsonStore)
        assert store.directory == tmp_path / "other"
        assert [spec.name for spec in store.schema.declared] == ["notes"]


def test_layouts_alone_take_the_place_of_the_modules(site: Site) -> None:
    site.data.mkdir()
    site.configure('[environments.development.json]\ndirectory = "data"\n')

    with ps.open_store(site.config, layouts=LAYOUTS[:1]) as store:
        assert LAYOUTS[0] in store.layouts
        assert LAYOUTS[1] not in store.layouts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"json": "data"}, "a store is given, and no schema"),
        ({"postgres": "mysql://h/d", "schema": NOTES}, "postgres=: .*postgresql://"),
        (
            {"json": "data", "schema": NOTES, "phase": "paralel"},
            "phase=: unknown phase 'paralel'; did you mean 'parallel'",
        ),
        ({"json": "data", "schema": "no.such.module"}, "schema=: there is no module"),
        (
            {"json": "data", "schema": NOTES, "phase": "parallel"},
            "the arguments of open_store: no database is configured",
        ),
        ({"json": "gone", "schema": NOTES}, "the arguments of open_store: .*not exist"),
    ],
)
def test_wrong_arguments_are_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: dict[str, object],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()

    with pytest.raises(ConfigError, match=message):
        ps.open_store(**arguments)  # type: ignore[arg-type]
