"""The module that is written: formatted, typed, stable; and what it declares holds."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pend_storage as ps
from pend_storage.inspect import Shape, inspect_directory
from pend_storage.inspect._code_writer import render_module
from pend_storage.sample_data import generate
from pend_storage.validation import render_check
from tests.inspect.zoo import AMBIGUOUS, SHAPES, put

ROOT = Path(__file__).parents[2]


def loaded(text: str, place: Path) -> ModuleType:
    """The module of a text, imported as a server would."""
    path = place / "written_schema.py"
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("written_schema", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["written_schema"] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules["written_schema"]
    return module


def adopted(data: Path, place: Path, **said: Any) -> tuple[ModuleType, dict[str, str]]:
    """Inspect, import, adopt a copy, make the files again; and how they compare."""
    module = loaded(render_module(inspect_directory(data, **said)), place)
    work = place / "work"
    shutil.copytree(data, work)
    with ps.JsonStore(module.SCHEMA, work, layouts=module.LAYOUTS) as store:
        made = render_check(store, data)
        waiting = store.collection("quarantine").count()
        store.checkpoint()
    results: dict[str, str] = {}
    for check in made:
        if not check.ok or check.file.partition("#")[0] not in results:
            results[check.file.partition("#")[0]] = check.result
    results["quarantined"] = str(waiting)
    return module, results


def _ruff(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ruff", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def assert_clean(path: Path) -> None:
    """As the formatter leaves it, and without a finding of the linter."""
    formatted = _ruff("format", "--isolated", "--diff", str(path))
    assert formatted.returncode == 0, formatted.stdout + formatted.stderr
    linted = _ruff(
        "check",
        "--isolated",
        "--no-cache",
        "--target-version=py311",
        "--select=E4,E7,E9,F,I,N,UP,D,B,RUF,PIE,SIM,ISC,Q,W",
        "--ignore=D203,D213,RUF001,RUF002,RUF003",
        str(path),
    )
    assert linted.returncode == 0, linted.stdout


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """A directory with a file of every shape."""
    data = tmp_path / "data"
    for name, (content, _) in SHAPES.items():
        put(data, name, content)
    for name, content in AMBIGUOUS.items():
        put(data, name, content)
    return data


def test_a_module_for_files_of_all_shapes_is_clean_and_holds(
    zoo: Path, tmp_path: Path
) -> None:
    _, results = adopted(zoo, tmp_path)

    assert_clean(tmp_path / "written_schema.py")
    waiting = results.pop("quarantined")
    assert waiting == "0"
    assert results.keys() == {*SHAPES, *AMBIGUOUS}
    assert set(results.values()) <= {"identical", "equal"}, results


@pytest.mark.parametrize("irregular", [0.0, 0.05])
def test_a_module_for_a_pend_server_is_clean_and_holds(
    irregular: float, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    made = generate(data, users=40, irregular=irregular, seed=3)

    _, results = adopted(data, tmp_path)

    assert_clean(tmp_path / "written_schema.py")
    waiting = int(results.pop("quarantined"))
    assert len(results) == 16
    assert set(results.values()) <= {"identical", "equal"}, results
    assert waiting <= sum(made.irregular.values())


def test_mypy_finds_nothing_in_a_module(zoo: Path, tmp_path: Path) -> None:
    generate(zoo / "pend", users=20, irregular=0.05, seed=4)
    path = tmp_path / "schema.py"
    path.write_text(render_module(inspect_directory(zoo)), encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", str(path)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        cwd=ROOT,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_same_files_give_the_same_bytes(zoo: Path) -> None:
    first, second = (render_module(inspect_directory(zoo)) for _ in range(2))

    assert first == second


def test_another_process_writes_the_same_bytes(zoo: Path) -> None:
    """Texts have another hash in each process."""
    code = (
        "import sys; from pathlib import Path; from pend_storage.inspect import *\n"
        "from pend_storage.inspect._code_writer import render_module as r\n"
        "sys.stdout.write(r(inspect_directory(Path(sys.argv[1]))))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code, str(zoo)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env={
                "PYTHONHASHSEED": seed,
                "PYTHONPATH": ":".join(filter(None, sys.path)),
            },
        ).stdout
        for seed in ("1", "2")
    }

    assert texts == {render_module(inspect_directory(zoo))}


def test_a_class_hides_no_name_that_python_or_the_module_knows(tmp_path: Path) -> None:
    data = tmp_path / "data"
    put(data, "warnings.json", [{"id": 1, "price": "1.50"}, {"id": 2, "price": "9.10"}])
    put(data, "decimals.json", [{"id": 1, "price": "1.50"}, {"id": 2, "price": "9.10"}])

    module, results = adopted(data, tmp_path)

    assert {"DecimalRecord", "WarningRecord"} <= vars(module).keys()
    assert not hasattr(module, "Warning")
    assert module.Decimal is Decimal
    assert results.pop("quarantined") == "0"


def test_names_that_python_or_the_library_knows_are_renamed(tmp_path: Path) -> None:
    odd = {
        "class": 1,
        "match": 2,
        "extra": 3,
        "legacy_position": 4,
        "content_hash": 5,
        "occurrence": 6,
        "key": 7,
        "2fa": 8,
        "a-b": 9,
        "a_b": 10,
        "aB": 11,
        "_hidden": 12,
        "": 13,
        'quo"ted\\': 15,
        "naïve": 16,
        "名前": 17,
        "x" * 300: 18,
        "y" * 120: 19,
        "self": 20,
        "None": 21,
        "print": 22,
        **dict.fromkeys(["field", "ps", "str", "int", "list", "dict", "float"], 23),
        "date": "2025-01-01",
        "datetime": "2025-01-01T00:00:00.000Z",
        "tags": [],
        "more": {},
    }
    data = tmp_path / "data"
    put(data, "odd.json", [{"id": n, **odd} for n in range(3)])

    module, results = adopted(data, tmp_path)

    assert_clean(tmp_path / "written_schema.py")
    assert results["odd.json"] in {"identical", "equal"}
    with ps.JsonStore(
        module.SCHEMA, tmp_path / "work", layouts=module.LAYOUTS
    ) as store:
        (first, *_) = store.collection("odd").find().items
        assert first.class_ == 1
        assert first.a_b_2 == 10


def test_file_names_of_all_kinds_are_written_as_they_are(tmp_path: Path) -> None:
    data = tmp_path / "data"
    names = ['quo"ted.json', "back\\slash.json", "ünï.json", "sp ace.json", "a'b.json"]
    for name in [*names, "1.json", "same.json", "sub/same.json", "class.json"]:
        put(data, name, [{"id": n, "x": n} for n in range(3)])

    _, results = adopted(data, tmp_path)

    assert_clean(tmp_path / "written_schema.py")
    assert len(results) == 10
    assert set(results.values()) <= {"identical", "equal", "0"}, results


def test_a_doubtful_file_is_kept_as_documents_and_said_so(tmp_path: Path) -> None:
    data = tmp_path / "data"
    put(data, "alice.json", AMBIGUOUS["mail.json"])

    text = render_module(inspect_directory(data))
    decided = render_module(inspect_directory(data, shapes={"alice.json": Shape.MAP}))

    assert "the shape is uncertain" in text
    assert "ps.documents(" in text
    assert "key=ps.MEMBER_NAME" in decided


def test_sensitive_values_are_not_in_the_module(tmp_path: Path) -> None:
    data = tmp_path / "data"
    rows = [
        {"id": n, "phone": "+201001234567", "pin": 845_219, "tier": "gold"}
        for n in range(40)
    ]
    put(data, "people.json", rows)
    put(data, "logins.json", {f"ann{n}@example.org": n for n in range(40)})

    text = render_module(inspect_directory(data))

    assert "+2010" not in text
    assert "845" not in text
    assert "example.org" not in text
    assert "sensitive" in text


def test_values_of_another_type_stay_beside_and_are_written_back(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    rows: list[Any] = [
        {"id": n, "n": n, "at": "2025-01-01T00:00:00.000Z"} for n in range(60)
    ]
    rows[7] |= {"n": "seven", "at": "yesterday"}
    rows[8] |= {"n": None}
    del rows[9]["n"]
    put(data, "rows.json", rows)

    module, results = adopted(data, tmp_path)

    assert results == {"rows.json": "identical", "quarantined": "0"}
    fields = module.Row.__dataclass_fields__
    assert {name: f.type for name, f in fields.items()} == {
        "id": "int",
        "n": "BigInt | None",
        "at": "datetime | None",
    }


def test_what_old_code_writes_tomorrow_is_placed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    put(data, "rows.json", [{"id": n, "n": n, "s": "a"} for n in range(60)])
    module, _ = adopted(data, tmp_path)
    new = [
        {"id": 1},
        {"id": 2, "n": 10**30, "s": ["b"], "more": {}},
        {"id": 3, "n": None},
    ]
    (tmp_path / "work" / "rows.json").write_text(json.dumps(new))

    with ps.JsonStore(
        module.SCHEMA, tmp_path / "work", layouts=module.LAYOUTS
    ) as store:
        assert store.collection("rows").count() == 3
        assert store.collection("quarantine").count() == 0
    assert json.loads((tmp_path / "work" / "rows.json").read_text()) == new
