"""Connector: opens connections with timeouts and session settings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Literal

import psycopg
import tenacity
from psycopg.conninfo import make_conninfo

from pend_storage import _jitter as jitter
from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.stores.postgres._connection.address import Address
from pend_storage.stores.postgres._connection.connect_errors import (
    connect_error,
    find_advice,
)
from pend_storage.stores.postgres._connection.connection import LibpqConnection
from pend_storage.stores.postgres._connection.own_names import (
    DEFAULT_SCHEMA,
    SEARCH_PATH,
    check_schema_name,
)
from pend_storage.stores.postgres._connection.read_only import ReadOnlyConnection
from pend_storage.stores.postgres._connection.server_errors import ConnectionLost

__all__ = ["OLDEST_SERVER", "Address", "Connector"]

OLDEST_SERVER: Final = 15
_ATTEMPTS: Final = 3
_ATTRIBUTES: Final = "target_session_attrs"
_GRACE: Final = 2.0  # seconds by which the server's own timeout comes first


@dataclass(frozen=True, kw_only=True)
class Connector:
    """Factory of connections to one database."""

    address: Address
    connect_timeout: float
    """Seconds."""
    statement_timeout: float
    """Seconds after which the server cancels a statement."""
    pooler: Literal["transaction"] | None
    """``"transaction"`` behind a pooler that keeps no session: nothing is prepared, and
    no session setting is made.
    """
    application_name: str
    schema: str = DEFAULT_SCHEMA
    """Schema of the database with the tables and functions of the store."""
    read_only: bool = False
    """Whether every transaction is a read-only one."""

    def __post_init__(self) -> None:
        """Check the name of the schema, which stands in every statement."""
        check_schema_name(self.schema)

    @property
    def response_timeout(self) -> float:
        """Seconds after which a silent server counts as dead."""
        return self.statement_timeout + (_GRACE if self.pooler is None else 0.0)

    def conninfo(self) -> str:
        """Connection string with all settings. Holds the password: never show it."""
        ours: dict[str, Any] = {
            "connect_timeout": math.ceil(self.connect_timeout),
            "application_name": self.application_name,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": math.ceil(self.response_timeout * 1000),
            "client_encoding": "utf8",
        }
        settings = {**ours, **self.address.effective, "client_encoding": "utf8"}
        if self.read_only and settings.get(_ATTRIBUTES) == "read-write":
            settings[_ATTRIBUTES] = "primary"  # this session takes no writes by itself
        if self.pooler is None:
            own = settings.get("options")
            settings["options"] = " ".join(filter(None, (own, self._options())))
        return make_conninfo(**settings)

    def _options(self) -> str:
        milliseconds = math.ceil(self.statement_timeout * 1000)
        read_only = ["default_transaction_read_only=on"] if self.read_only else []
        return " ".join(
            f"-c {setting}"
            for setting in (
                f"statement_timeout={milliseconds}",
                # Deferred constraints are checked in the commit, where PostgreSQL does
                # not count the time of the statement any more.
                f"lock_timeout={milliseconds}",
                f"idle_in_transaction_session_timeout={2 * milliseconds}",
                # Functions rely on a new snapshot for each of their statements.
                r"default_transaction_isolation=read\ committed",
                "extra_float_digits=1",
                "jit=off",
                "quote_all_identifiers=off",
                f"search_path={SEARCH_PATH.replace(' ', '')}",
                *read_only,
            )
        )

    def open(self) -> LibpqConnection:
        """Open a connection; retried where the failure is temporary.

        Raises:
            ConnectionLost: no connection within ``connect_timeout``.
            StoreUnavailable: the server does not let this user in.
            ConfigError: the server is too old, or the address itself is wrong.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_retryable),
            stop=tenacity.stop_any(
                tenacity.stop_after_attempt(_ATTEMPTS),
                tenacity.stop_after_delay(self.connect_timeout),
            ),
            wait=jitter.growing(first=0.05, most=0.5),
            reraise=True,
        )
        try:
            connection = retrying(self._connect)
        except psycopg.Error as error:
            # Without its cause: a traceback of the driver shows settings.
            raise self._error_for(error) from None
        self._check_version(connection)
        # Behind a pooler no setting of a session holds.
        by_transaction = self.read_only and self.pooler is not None
        return (ReadOnlyConnection if by_transaction else LibpqConnection)(
            connection,
            prepare=self.pooler is None,
            response_timeout=self.response_timeout,
            schema=self.schema,
        )

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self.conninfo(), autocommit=True, prepare_threshold=None)

    def _error_for(self, error: psycopg.Error) -> Exception:
        secrets = self.address.secrets
        public = connect_error(error, str(self.address), secrets=secrets)
        if isinstance(public, StoreUnavailable) and find_advice(error) is None:
            return ConnectionLost(public.reason, sent=False)
        return public

    def _check_version(self, connection: psycopg.Connection[Any]) -> None:
        version = connection.info.server_version
        if version // 10_000 < OLDEST_SERVER:
            connection.close()
            raise ConfigError(
                f"{self.address} is version {version // 10_000}; pend_storage needs "
                f"PostgreSQL {OLDEST_SERVER} or newer. Upgrade the server."
            )


def _is_retryable(error: BaseException) -> bool:
    return isinstance(error, psycopg.OperationalError) and find_advice(error) is None
