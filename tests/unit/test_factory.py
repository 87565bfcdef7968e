"""From settings to stores, and the names that the package shows."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import pend_storage as ps
from pend_storage.config import load_settings
from pend_storage.factory import load_schema, open_json, open_postgres, open_primary

WriteFile = Callable[..., Path]

_SHOP = """
from dataclasses import dataclass
import pend_storage as ps

@dataclass(frozen=True)
class Item:
    id: str

SCHEMA = ps.Schema([ps.collection("items", Item)])
"""


@pytest.fixture
def write(tmp_path: Path) -> WriteFile:
    """Writes a configuration with one environment, and a schema module beside it."""

    def write_file(phase: str = "json-only", module: str = _SHOP) -> Path:
        name = f"shop_{abs(hash((phase, module, str(tmp_path))))}"
        (tmp_path / f"{name}.py").write_text(module)
        (tmp_path / "data").mkdir(exist_ok=True)
        path = tmp_path / "pend.toml"
        path.write_text(
            f'[environments.production]\nphase = "{phase}"\nschema = "{name}"\n'
            '[environments.production.json]\ndirectory = "data"\n'
            "[environments.production.postgres]\n"
            'url = "postgresql://127.0.0.1:1/none"\n'
        )
        return path

    return write_file


def test_json_only_opens_the_directory(write: WriteFile) -> None:
    with ps.open_store(write(), environment="production") as store:
        spec = store.schema["items"]
        version = store.collection("items").put(spec.record_type("a"))

        assert isinstance(store, ps.JsonStore)
        assert version > 0


def test_postgres_only_opens_the_database_without_connecting(write: WriteFile) -> None:
    with ps.open_store(write("postgres-only"), environment="production") as store:
        assert isinstance(store, ps.PostgresStore)


def test_the_primary_store_is_the_one_that_the_phase_says(write: WriteFile) -> None:
    kinds = {
        phase: type(open_primary(load_settings(write(phase), "production", environ={})))
        for phase in ("json-only", "parallel", "postgres-primary", "postgres-only")
    }

    assert kinds == {
        "json-only": ps.JsonStore,
        "parallel": ps.JsonStore,
        "postgres-primary": ps.PostgresStore,
        "postgres-only": ps.PostgresStore,
    }


def test_settings_reach_the_stores(write: WriteFile, tmp_path: Path) -> None:
    path = write()
    text = path.read_text().replace(
        'directory = "data"', 'directory = "data"\nfiles = { "x.json" = "y.json" }'
    )
    path.write_text(text + 'pool = 3\npooler = "transaction"\n')
    settings = load_settings(path, "production", environ={})

    with open_json(settings) as json, open_postgres(settings) as postgres:
        assert json.directory == tmp_path / "data"
        assert postgres.name == "PostgreSQL at 127.0.0.1:1/none"


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("SCHEMA = 3", "has no SCHEMA"),
        ("", "has no SCHEMA"),
        (_SHOP + "LAYOUTS = 3", "LAYOUTS in that module must be a list"),
        (_SHOP + "SEED = 'abc'", "SEED in that module must be a list"),
    ],
)
def test_a_schema_module_that_does_not_fit_is_explained(
    write: WriteFile, module: str, message: str
) -> None:
    settings = load_settings(write(module=module), "production", environ={})

    with pytest.raises(ps.ConfigError, match=message):
        load_schema(settings)


def test_a_module_that_lacks_a_package_of_its_own_says_which(write: WriteFile) -> None:
    path = write(module="import no_such_package_of_the_users")

    with pytest.raises(ModuleNotFoundError, match="no_such_package_of_the_users"):
        load_schema(load_settings(path, "production", environ={}))


def test_the_path_of_the_configuration_is_not_left_behind(write: WriteFile) -> None:
    path = write()

    load_schema(load_settings(path, "production", environ={}))

    assert str(path.parent) not in sys.path


# -- the package ------------------------------------------------------------------------


def test_every_public_name_can_be_had() -> None:
    for name in ps.__all__:
        assert getattr(ps, name) is not None
    assert set(ps.__all__) <= set(dir(ps))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = ps.no_such_name


def test_every_error_is_public() -> None:
    from pend_storage import errors

    assert set(errors.__all__) <= set(ps.__all__)


@pytest.mark.parametrize(
    "first", ["pend_storage.collection", "pend_storage.store", "pend_storage.pend"]
)
def test_collection_is_the_function_whatever_was_imported_first(first: str) -> None:
    probe = (
        f"import {first}\nimport pend_storage as ps\n"
        "from pend_storage.collection import Collection\n"
        "assert callable(ps.collection), ps.collection\n"
    )

    subprocess.run([sys.executable, "-c", probe], check=True)


def test_importing_the_package_loads_next_to_nothing() -> None:
    probe = (
        "import sys, pend_storage\n"
        "own = [n for n in sys.modules if n.startswith('pend_storage.')]\n"
        "heavy = {'sqlalchemy', 'psycopg', 'click', 'msgspec'} & set(sys.modules)\n"
        "sys.exit(', '.join([*own, *heavy]) or None)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", probe], check=False, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr


def test_a_store_whose_packages_are_missing_says_what_to_install() -> None:
    probe = (
        "import sys\nsys.modules['psycopg'] = None\nimport pend_storage as ps\n"
        "try:\n    ps.PostgresStore\n"
        "except ps.ConfigError as error:\n    print(error)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", probe], check=True, capture_output=True, text=True
    )

    assert "pip install 'pend_storage[postgres]'" in done.stdout


@dataclass(frozen=True)
class Thing:
    id: str


def test_a_schema_of_ones_own_needs_nothing_but_the_package() -> None:
    schema = ps.Schema([ps.collection("things", Thing)])

    with ps.MemoryStore(schema) as store:
        store.collection(Thing).put(Thing("a"))

        assert store.collection("things").find(ps.field("id") == "a").items
