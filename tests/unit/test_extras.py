"""Packages that are not installed: one sentence for all of them."""

from __future__ import annotations

import pytest

import pend_storage as ps
from pend_storage._extras import missing_package, require_packages, with_packages


def test_an_import_that_fails_names_the_extra_and_the_other_way_out() -> None:
    with (
        pytest.raises(ps.ConfigError) as caught,
        with_packages(user="a flag in Redis", instead="Or use a file."),
    ):
        raise ModuleNotFoundError(name="redis.asyncio")

    assert str(caught.value) == (
        "a flag in Redis needs the package redis, which is not installed: "
        "pip install 'pend_storage[redis]'. Or use a file."
    )


def test_a_package_that_is_nobodys_extra_is_an_error_as_any_other() -> None:
    assert missing_package(ModuleNotFoundError(name="nonsense")) is None
    with pytest.raises(ModuleNotFoundError), with_packages():
        raise ModuleNotFoundError(name="nonsense")


def test_packages_that_are_there_are_not_missed() -> None:
    require_packages("click", "psycopg")
