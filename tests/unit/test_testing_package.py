from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from _pytest.assertion.rewrite import AssertionRewritingHook

from pend_storage import testing
from pend_storage.testing import StoreContract, contract
from pend_storage.testing.contract._harness import Harness
from pend_storage.testing.plugin import REWRITTEN

HOME = Path(testing.__file__).parent


def test_every_public_name_can_be_had_and_is_listed() -> None:
    for name in testing.__all__:
        assert getattr(testing, name) is not None
        assert name in dir(testing)
    assert sorted(testing.__all__) == sorted(testing._HOMES)


def test_another_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = testing.nonsense


@pytest.mark.parametrize(
    "imports",
    [
        "import pend_storage.testing",
        "from pend_storage.testing import Child, FaultyStore, run_until_crash",
        "import pend_storage.testing.domain",
    ],
)
def test_pytest_and_hypothesis_are_imported_only_when_needed(imports: str) -> None:
    program = (
        f"{imports}\nimport sys\nprint({{'pytest', 'hypothesis'}} & set(sys.modules))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "set()"


def contract_classes() -> dict[str, type[Any]]:
    return {
        name: value
        for module in pkgutil.iter_modules(contract.__path__, f"{contract.__name__}.")
        for name, value in vars(importlib.import_module(module.name)).items()
        if inspect.isclass(value) and issubclass(value, Harness)
    }


def test_the_contract_is_made_of_all_its_parts() -> None:
    parts = set(contract_classes().values())

    assert parts == set(StoreContract.__mro__) - {StoreContract, object}


def test_no_test_of_the_contract_hides_another() -> None:
    names = [
        name
        for part in contract_classes().values()
        for name in vars(part)
        if name.startswith("test_")
    ]

    assert len(names) == len(set(names)) > 250


def test_every_capability_that_a_test_requires_is_declared() -> None:
    required = {
        capability
        for part in contract_classes().values()
        for function in vars(part).values()
        for capability in getattr(function, "capabilities", ())
    }

    assert required == {
        "durable",
        "multi_process",
        "has_role",
        "has_locks",
        "can_purge",
        "can_snapshot",
        "can_load",
        "can_reserve",
    }
    defaults = {name: getattr(Harness, name) for name in required}
    assert defaults == {
        "durable": False,
        "multi_process": False,
        "has_role": True,
        "has_locks": False,
        "can_purge": False,
        "can_snapshot": False,
        "can_load": True,
        "can_reserve": False,
    }


@pytest.mark.parametrize("method", ["make_store", "reopen", "peek", "opener"])
def test_what_a_backend_forgets_to_write_is_told(method: str) -> None:
    parameters = inspect.signature(getattr(Harness, method)).parameters
    arguments = [None] * (len(parameters) - 1)

    with pytest.raises(NotImplementedError):
        getattr(Harness(), method)(*arguments)


def test_the_assertions_of_shipped_tests_are_rewritten() -> None:
    asserting = {
        path.relative_to(HOME).with_suffix("").parts[0]
        for path in HOME.rglob("*.py")
        if re.search(r"^ +assert ", path.read_text(), re.MULTILINE)
    }

    assert {name.rpartition(".")[2] for name in REWRITTEN} == asserting
    for name in (*REWRITTEN, "pend_storage.testing.contract._writing"):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert isinstance(spec.loader, AssertionRewritingHook), (
            "the entry point is not known: install pend_storage again"
        )
