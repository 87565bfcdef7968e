"""Sessions of commands: one connection of the driver, with the errors of the library."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg.conninfo import make_conninfo

from pend_storage.stores.postgres._connection.address import Address
from pend_storage.stores.postgres._connection.connect_errors import connect_error
from pend_storage.stores.postgres._connection.own_names import SEARCH_PATH

__all__ = ["inspection", "open_session"]

_PIN: Final = f"set local search_path = {SEARCH_PATH}".encode()


def open_session(
    url: str, *, connect_timeout: float = 5.0, application_name: str = "pend_storage"
) -> psycopg.Connection[tuple[Any, ...]]:
    """Open a connection in autocommit mode, for looking at a server of any version.

    Args:
        url: of the database.
        connect_timeout: seconds.
        application_name: shown in ``pg_stat_activity``.

    Raises:
        ConfigError: the URL is malformed, or the settings have to be corrected.
        StoreUnavailable: the server cannot be reached, or refuses the user.
    """
    address = Address.parse(url)
    ours: dict[str, Any] = {
        "connect_timeout": math.ceil(connect_timeout),
        "application_name": application_name,
    }
    try:
        return psycopg.connect(
            make_conninfo(**{**ours, **address.effective}),
            autocommit=True,
            prepare_threshold=None,
        )
    except psycopg.Error as error:
        # Without its cause: a traceback of the driver shows settings.
        raise connect_error(error, str(address), secrets=address.secrets) from None


@contextmanager
def inspection(
    url: str, *, connect_timeout: float = 5.0, application_name: str = "pend_storage"
) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """Look at a server within one transaction, in which names are PostgreSQL's own.

    Administrators look with many privileges: a function of another role that fits a call
    better than the server's must not run. Arguments and errors as :func:`open_session`.
    """
    with (
        open_session(
            url, connect_timeout=connect_timeout, application_name=application_name
        ) as connection,
        connection.transaction(),
    ):
        connection.execute(_PIN)
        yield connection
