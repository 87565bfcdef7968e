"""Read-only connection: each statement in a read-only transaction of its own.

For a pooler in transaction mode, which keeps no setting of a session. Elsewhere one setting
makes every transaction of a session read-only, at no cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from psycopg.pq.abc import PGresult
from typing_extensions import override

from pend_storage.stores.postgres._connection.connection import (
    LibpqConnection,
    Statement,
)
from pend_storage.stores.postgres._connection.server_errors import ServerRefusal
from pend_storage.stores.postgres._connection.wire_format import Value

__all__ = ["ReadOnlyConnection"]

_BEGIN: Final = Statement(b"begin isolation level read committed read only")
_COMMIT: Final = Statement(b"commit")
_ROLLBACK: Final = Statement(b"rollback")


class ReadOnlyConnection(LibpqConnection):
    """Connection on which the server refuses every statement that writes."""

    @override
    def execute(self, statement: Statement, values: Sequence[Value] = ()) -> PGresult:
        super().execute(_BEGIN)
        try:
            result = super().execute(statement, values)
        except ServerRefusal:
            super().execute(_ROLLBACK)
            raise
        super().execute(_COMMIT)
        return result
