"""Prepared queries: statements of one shape, named once they are frequent."""

from __future__ import annotations

from typing import Final

from pend_storage.stores.postgres._connection.connection import Statement

__all__ = ["PreparedQueries"]

_WORTH_PREPARING: Final = 3  # uses; the server plans each of the next five anew anyway
_MAX_PREPARED: Final = 200  # on each connection, so that no server runs out of memory
_MAX_COUNTED: Final = 2000


class PreparedQueries:
    """Counts uses of each statement, and names the frequent ones for preparing."""

    def __init__(self) -> None:
        self._named: dict[Statement, Statement] = {}
        self._uses: dict[Statement, int] = {}

    def prepare(self, statement: Statement) -> Statement:
        """Return the statement, under a name if it is worth preparing."""
        named = self._named.get(statement)
        if named is not None:
            return named
        uses = self._uses.get(statement, 0) + 1
        if uses >= _WORTH_PREPARING and len(self._named) < _MAX_PREPARED:
            named = Statement.make(statement.text.decode(), statement.formats)
            self._named[statement] = named
            self._uses.pop(statement, None)
            return named
        if len(self._uses) >= _MAX_COUNTED:
            self._uses.clear()
        self._uses[statement] = uses
        return statement
