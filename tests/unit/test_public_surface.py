"""The public names: one list, reachable in every order of imports, and complete."""

from __future__ import annotations

import functools
import importlib
import inspect
import itertools
import subprocess
import sys
import typing
from collections.abc import Iterator
from typing import Any, Final

import pytest

import pend_storage as ps
from pend_storage import errors, flags
from pend_storage.collection import Collection
from pend_storage.records import Row

PUBLIC: Final[list[str]] = importlib.import_module("pend_storage").__all__
LAZY: Final = ("pend_storage", "pend_storage.flags", "pend_storage.instrumentation")
"""Packages whose stub is the list of their public names."""
CALLABLE: Final = ("collection", "records")
"""Functions that share their name with a module."""
ORDERS: Final = tuple(
    itertools.permutations(
        ["import pend_storage as ps", "import {0} as m", "import pend_storage.pend"]
    )
)
SPECIAL: Final = {"__call__", "__enter__", "__getitem__", "__init__", "__iter__"}
NOT_EXPORTED: Final = {
    "Backend",  # of constructors that only AsyncStore calls
    "Reads",  # pend_storage.legacy._mapping, for those who write a mapping
    "Source",  # pend_storage.legacy, likewise
    "UnitOfWork",  # of a constructor that only Transaction.collection calls
}
"""Of signatures, and not exported."""


@pytest.mark.parametrize("package", LAZY)
def test_every_public_name_can_be_had(package: str) -> None:
    module = importlib.import_module(package)

    for name in module.__all__:
        assert getattr(module, name) is not None
    assert set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize("package", LAZY)
def test_a_star_import_brings_every_public_name(package: str) -> None:
    names: dict[str, Any] = {}
    exec(f"from {package} import *", names)  # noqa: S102 - allowed at module level only

    assert set(importlib.import_module(package).__all__) <= set(names)


@pytest.mark.parametrize("package", LAZY)
def test_an_unknown_name_is_an_attribute_error(package: str) -> None:
    with pytest.raises(AttributeError, match=f"'{package}' has no .* 'no_such_name'"):
        _ = importlib.import_module(package).no_such_name


def test_every_error_is_public() -> None:
    assert set(errors.__all__) <= set(PUBLIC)


# -- modules with the name of a function -------------------------------------------------


@pytest.mark.parametrize(
    "order",
    ORDERS,
    ids=lambda order: " ".join(text[7:21].strip() for text in order),
)
@pytest.mark.parametrize("name", CALLABLE)
@pytest.mark.parametrize("touch", [True, False])
def test_module_and_function_work_in_every_order_of_imports(
    name: str, order: tuple[str, ...], touch: bool
) -> None:
    module = f"pend_storage.{name}"
    lines = [line.format(module) for line in order]
    if touch:
        lines.insert(lines.index("import pend_storage as ps") + 1, f"ps.{name}")
    lines += [
        "import sys, types",
        f"from pend_storage import {name} as f",
        f"assert callable(ps.{name}) and callable(f)",
        f"assert isinstance(m, types.ModuleType) and m is sys.modules[{module!r}]",
        f"import {module}",
        f"assert pend_storage.{name} is m",
    ]

    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)


@pytest.mark.parametrize("first", ["pend_storage.store", "pend_storage.legacy"])
def test_the_function_works_whatever_was_imported_first(first: str) -> None:
    probe = (
        f"import {first}\nfrom dataclasses import dataclass\nimport pend_storage as ps\n"
        "from pend_storage.collection import Collection\n"
        "@dataclass(frozen=True)\nclass Note:\n    id: str\n"
        "assert ps.collection('notes', Note).name == 'notes'\n"
        "assert ps.records('notes.json', Note).file == 'notes.json'\n"
    )

    subprocess.run([sys.executable, "-c", probe], check=True)


def test_a_callable_module_has_the_signature_of_its_function() -> None:
    from pend_storage.legacy._record_files import records
    from pend_storage.schema import collection

    assert inspect.signature(ps.collection) == inspect.signature(collection)
    assert inspect.signature(ps.records) == inspect.signature(records)


def test_public_modules_have_the_classes_that_the_package_has() -> None:
    assert Collection is ps.Collection
    assert Row is ps.Row
    assert flags.FlagSource is not None


# -- what signatures mention -------------------------------------------------------------


def hints_of(thing: Any) -> dict[str, Any]:
    """The resolved annotations of a function or a class, without those of ``self``."""
    hints = typing.get_type_hints(thing, localns=vars(ps) | known_names())
    hints.pop("self", None)
    return hints


@functools.cache
def known_names() -> dict[str, Any]:
    """Names that modules import for type checkers only."""
    return {name: getattr(ps, name) for name in PUBLIC} | {
        name: getattr(importlib.import_module(module), name)
        for module, name in (
            ("pend_storage.dualwrite._roles", "RolePair"),
            ("pend_storage.aio", "AsyncStore"),
        )
    }


def classes_in(hint: Any) -> Iterator[type]:
    """The classes of this package that a type is made of."""
    origin = typing.get_origin(hint) or hint
    if isinstance(origin, type) and origin.__module__.startswith("pend_storage"):
        yield origin
    for part in typing.get_args(hint):
        for each in part if isinstance(part, list) else (part,):
            yield from classes_in(each)


def functions_of(owner: type) -> Iterator[Any]:
    for name, member in vars(owner).items():
        if name.startswith("_") and name not in SPECIAL:
            continue
        found = member
        if isinstance(member, property):
            found = member.fget
        elif isinstance(member, functools.cached_property):
            found = member.func
        elif isinstance(member, classmethod | staticmethod):
            found = member.__func__
        if inspect.isfunction(found):
            yield inspect.unwrap(found)


def mentioned_by(thing: Any) -> Iterator[type]:
    """The classes that the signatures of a function or a class mention."""
    if inspect.isfunction(thing):
        for hint in hints_of(thing).values():
            yield from classes_in(hint)
    elif isinstance(thing, type):
        for base in thing.__mro__:
            if base.__module__.startswith("pend_storage"):
                for name, hint in hints_of(base).items():
                    if not name.startswith("_"):
                        yield from classes_in(hint)
                for function in functions_of(base):
                    yield from mentioned_by(function)


def test_every_class_in_a_public_signature_is_public() -> None:
    exported = [inspect.unwrap(getattr(ps, name)) for name in PUBLIC]
    found: dict[type, str] = {}
    waiting = list(exported)
    while waiting:
        thing = waiting.pop()
        for mentioned in mentioned_by(thing):
            if mentioned not in found:
                found[mentioned] = thing.__qualname__
                waiting.append(mentioned)

    public = {thing for thing in exported if isinstance(thing, type)}
    missing = {t.__qualname__: by for t, by in found.items() if t not in public}
    missing = {n: by for n, by in missing.items() if n not in NOT_EXPORTED}

    assert not missing, f"add these to pend_storage/__init__.pyi: {missing}"


@pytest.mark.parametrize(
    ("former", "name"), [("FirstSet", "ChainedFlag"), ("Wanted", "DesiredPhase")]
)
def test_a_former_name_still_works_and_says_the_new_one(former: str, name: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"is {name} now"):
        found = getattr(flags, former)

    assert found is getattr(flags, name)
