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
from pend_storage.phases import ROLE_META, Role, RoleState

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


_JSON = '[environments.production.json]\ndirectory = "data"\n'
_POSTGRES = (
    '[environments.production.postgres]\nurl = "postgresql://127.0.0.1:1/none"\n'
)


def without(path: Path, part: str) -> Path:
    """The same configuration without one of its sides."""
    text = path.read_text()
    assert part in text
    path.write_text(text.replace(part, ""))
    return path


@pytest.mark.parametrize("phase", ["json-only", "parallel"])
def test_a_fresh_pair_works_on_json_while_postgres_is_down(
    write: WriteFile, phase: str
) -> None:
    for key in ("a", "b"):  # and again, when it is not fresh any more
        with ps.open_store(write(phase), environment="production") as store:
            items = store.collection("items")

            assert items.put(store.schema["items"].record_type(key)) > 0
            assert isinstance(store, ps.DualWriteStore)
            assert store.phase is ps.Phase.JSON_ONLY
            assert store.roles().postgres is None
    with ps.open_store(write(phase), environment="production") as store:
        assert store.collection("items").count() == 2


@pytest.mark.parametrize("phase", ["postgres-primary", "postgres-only"])
def test_a_fresh_pair_that_is_to_begin_on_postgres_waits_for_it(
    write: WriteFile, phase: str, tmp_path: Path
) -> None:
    with (
        ps.open_store(write(phase), environment="production") as store,
        pytest.raises(ps.StoreUnavailable, match=r"127\.0\.0\.1:1"),
    ):
        store.collection("items").count()
    with open_json(load_settings(write(phase), "production", environ={})) as json:
        assert json.meta(ROLE_META) is None


def test_json_alone_is_opened_where_there_is_no_database(write: WriteFile) -> None:
    path = without(write(), _POSTGRES)

    with ps.open_store(path, environment="production") as store:
        version = store.collection("items").put(store.schema["items"].record_type("a"))

        assert isinstance(store, ps.JsonStore)
        assert version > 0


@pytest.mark.parametrize("role", [Role.SECONDARY, Role.FENCED, Role.DETACHED])
def test_a_lone_store_that_is_not_primary_is_refused(
    write: WriteFile, role: Role
) -> None:
    path = without(write(), _POSTGRES)
    with open_json(load_settings(path, "production", environ={})) as json:
        json.compare_and_set_meta(ROLE_META, None, RoleState(role, 4).to_meta())

    with pytest.raises(ps.ConfigError, match=f"{role.value} at epoch 4.*Configure the"):
        ps.open_store(path, environment="production")


@pytest.mark.parametrize(
    ("phase", "part", "missing"),
    [
        ("parallel", _POSTGRES, "no database"),
        ("postgres-primary", _JSON, "no JSON directory"),
        ("postgres-only", _POSTGRES, "no database"),
        ("json-only", _JSON, "no JSON directory"),
    ],
)
def test_a_phase_that_needs_the_missing_side_is_refused(
    write: WriteFile, phase: str, part: str, missing: str
) -> None:
    with pytest.raises(ps.ConfigError, match=missing):
        ps.open_store(without(write(phase), part), environment="production")


def test_the_only_store_that_cannot_be_reached_says_so(write: WriteFile) -> None:
    with pytest.raises(ps.StoreUnavailable, match=r"127\.0\.0\.1:1"):
        ps.open_store(without(write("postgres-only"), _JSON), environment="production")


def test_a_phase_that_is_only_wanted_is_told(
    write: WriteFile, caplog: pytest.LogCaptureFixture
) -> None:
    ps.open_store(write("parallel"), environment="production").close()

    assert "the stores are in the phase json-only" in caplog.text
    assert "wants parallel" in caplog.text


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
        'directory = "data"', 'directory = "data"\nfiles = { "items.json" = "y.json" }'
    )
    dual = "[environments.production.dual_write]\nretention_days = 30\n"
    path.write_text(text + 'pool = 3\npooler = "transaction"\n' + dual)
    settings = load_settings(path, "production", environ={})

    with open_json(settings) as json, open_postgres(settings) as postgres:
        assert json.directory == tmp_path / "data"
        assert json._session._options.retention.seconds == 30 * 24 * 3600
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
