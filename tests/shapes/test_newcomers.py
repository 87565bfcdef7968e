"""A collection without a layout, over a file of its name from another program."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import pend_storage as ps
from tests.ages import age


@dataclass(frozen=True)
class Product:
    id: str
    name: str = ""
    stock: int = 0


SCHEMA = ps.Schema([ps.collection("products", Product)])


def opened(directory: Path) -> ps.JsonStore:
    return ps.JsonStore(SCHEMA, directory)


def written(directory: Path, value: Any) -> Path:
    path = directory / "products.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    age(path)
    return path


OTHERS: dict[str, tuple[Any, str, int]] = {
    "list": ([{"id": "P-1"}, {"id": "P-2"}], "ps.records(FILE, KIND, key='id')", 2),
    "numbers": ([{"id": 1, "stock": 3}], "ps.records(FILE, KIND, key='id')", 1),
    "empty list": ([], "ps.records(FILE, KIND, key='id')", 0),
    "by name": (
        {"P-1": {"stock": 5}, "P-2": {"stock": 9}},
        "ps.records(FILE, KIND, key=ps.MEMBER_NAME)",
        2,
    ),
    "wrapped": (
        {"products": [{"id": "P-1"}]},
        "ps.records(FILE, KIND, path='products')",
        1,
    ),
    "wrapped by name": (
        {"n": 1, "all": {"P-1": {"stock": 1}}},
        "ps.records(FILE, KIND, path='all', key=ps.MEMBER_NAME)",
        1,
    ),
    "more members": (
        {"P-1": {"id": "P-1", "colour": "red"}},
        "ps.records(FILE, KIND, key='id', shape=ps.MAP)",
        1,
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_it_is_refused_with_the_declaration_that_serves_it(
    case: str, tmp_path: Path
) -> None:
    value, declaration, count = OTHERS[case]
    path = written(tmp_path, value)
    declaration = declaration.replace("FILE", "'products.json'")
    with pytest.raises(ps.ConfigError) as caught:
        opened(tmp_path)
    assert declaration.replace("KIND", "Product") in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]

    layouts = [eval(declaration, {"ps": ps, "KIND": Product})]  # noqa: S307 - as told
    schema = ps.schema_of(layouts)
    with ps.JsonStore(schema, tmp_path, layouts=layouts) as store:
        products = store.collection(Product)
        assert products.count() == count
        products.put(Product("P-9", "HDMI"))
        expected = store.legacy("products.json").snapshot()
    assert json.loads(path.read_text()) == expected
    assert "P-9" in path.read_text()


@pytest.mark.parametrize("value", [3, None, '"x"'])
def test_a_lone_value_is_refused(value: Any, tmp_path: Path) -> None:
    path = written(tmp_path, value)
    before = path.read_bytes()

    with pytest.raises(ps.ConfigError, match=r"neither a list nor.*shape=ps\.SCALAR"):
        opened(tmp_path)

    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


@pytest.mark.parametrize("value", [{}, {"P-1": {"id": "P-1"}}, "", "{half"])
def test_a_file_of_the_own_shape_and_a_broken_one_are_opened(
    value: Any, tmp_path: Path
) -> None:
    written(tmp_path, value)
    with opened(tmp_path) as store:
        assert len(list(store.scan("quarantine"))) == isinstance(value, str)


def test_it_is_asked_once(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.collection(Product).put(Product("a"))
    written(tmp_path, [{"id": "a"}])
    with opened(tmp_path) as store:
        assert store.collection("quarantine").count() == 1


def test_a_collection_that_is_declared_later_is_asked_too(tmp_path: Path) -> None:
    with ps.JsonStore(ps.Schema([]), tmp_path):
        pass
    written(tmp_path, [{"id": "a"}])
    with pytest.raises(ps.ConfigError, match="a list of 1"):
        opened(tmp_path)
