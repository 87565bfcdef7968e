"""Sessions of commands: one connection of the driver, with the errors of the library."""

from __future__ import annotations

import math
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from pend_storage.stores.postgres._connection.address import Address
from pend_storage.stores.postgres._connection.connect_errors import connect_error

__all__ = ["open_session"]


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
