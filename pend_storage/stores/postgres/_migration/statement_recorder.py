"""What a migration runs, told as SQL text: without the values of records."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, event

from pend_storage.stores.postgres._schema.literals import quoted_text

__all__ = ["told"]

_LOOKS: Final = ("select", "show", "set ", "lock ", "savepoint", "release")
_TEMPORARY: Final = "pend_converted"
_PLACE: Final = re.compile(r"%\(\w+\)s")


@contextmanager
def told(connection: Connection) -> Iterator[list[str]]:
    """Collect the statements that change something, in the order in which they are run."""
    found: list[str] = []

    def tell(
        _connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any
    ) -> None:
        text = statement.strip()
        if not text.lower().startswith(_LOOKS):
            found.append(_written_out(text, parameters))

    event.listen(connection, "before_cursor_execute", tell)
    try:
        yield found
    finally:
        event.remove(connection, "before_cursor_execute", tell)


def _written_out(statement: str, parameters: Any) -> str:
    if isinstance(parameters, list) or _TEMPORARY in statement:
        hidden = _PLACE.sub("...", statement)
        first = " ".join(hidden.replace("%%", "%").split())
        return f"-- for each record: {first}" if parameters else f"{first};"
    values = parameters if isinstance(parameters, Mapping) else {}
    for name, value in values.items():
        shown = "null" if value is None else quoted_text(str(value))
        statement = statement.replace(f"%({name})s", shown)
    return statement.replace("%%", "%") + ";"
