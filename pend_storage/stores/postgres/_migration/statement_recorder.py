"""Statement recorder: SQL text of a migration, without the values of records."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, event

from pend_storage.stores.postgres._connection.own_names import with_names
from pend_storage.stores.postgres._migration.column_changes import CONVERTED_TABLE
from pend_storage.stores.postgres._schema.literals import quoted_text

__all__ = ["recorded_statements"]

_READ_ONLY: Final = ("select", "show", "set ", "lock ", "savepoint", "release")
_PARAMETER: Final = re.compile(r"%\(\w+\)s")


@contextmanager
def recorded_statements(connection: Connection, namespace: str) -> Iterator[list[str]]:
    """Record the statements that change something, in order of execution.

    Args:
        connection: of the migration.
        namespace: schema of the database, which the text shows.
    """
    found: list[str] = []

    def record(
        _connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any
    ) -> None:
        text = with_names(statement, namespace).strip()
        if not text.lower().startswith(_READ_ONLY):
            found.append(_render(text, parameters))

    event.listen(connection, "before_cursor_execute", record)
    try:
        yield found
    finally:
        event.remove(connection, "before_cursor_execute", record)


def _render(statement: str, parameters: Any) -> str:
    if isinstance(parameters, list) or CONVERTED_TABLE in statement:
        hidden = _PARAMETER.sub("...", statement)
        first = " ".join(hidden.replace("%%", "%").split())
        return f"-- for each record: {first}" if parameters else f"{first};"
    values = parameters if isinstance(parameters, Mapping) else {}
    for name, value in values.items():
        shown = "null" if value is None else quoted_text(str(value))
        statement = statement.replace(f"%({name})s", shown)
    return statement.replace("%%", "%") + ";"
