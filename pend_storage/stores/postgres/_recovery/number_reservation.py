"""Number reservation: later sequence numbers above those that were given before.

A restored database holds fewer numbers than were given: those of the future that was
lost. Feeds, caches and other stores know them, so none may be given twice.
"""

from __future__ import annotations

from typing import Final

from pend_storage.stores.postgres._connection.connection import (
    LibpqConnection,
    Statement,
)
from pend_storage.stores.postgres._connection.own_names import (
    GE,
    LT,
    MEMBER_TEXT,
    OWN,
    TIMES,
)
from pend_storage.stores.postgres._functions.sequence_numbers import (
    NUMBERS_PER_TRANSACTION,
    OFFSET,
    OFFSET_META,
)

__all__ = ["RESERVED_META", "reserve_numbers"]

RESERVED_META: Final = "postgres.reserved"
"""Meta entry with the highest reserved number, as a position: ``pend_renumber`` reads all
positions, so the numbers hold when the database moves to another server.
"""
_ID: Final = "pg_catalog.pg_current_xact_id()::text::bigint"
"""Later transactions have higher ids than this one."""
_RAISE: Final = Statement(
    f"""insert into {OWN}store_meta as m (name, value)
select '{OFFSET_META}', pg_catalog.to_jsonb(
         $1::bigint operator(pg_catalog./) {NUMBERS_PER_TRANSACTION}::bigint
         operator(pg_catalog.-) {_ID})
 where $1::bigint {GE} ((coalesce({OFFSET}, 0::bigint) operator(pg_catalog.+) {_ID}
                         operator(pg_catalog.+) 1::bigint)
                        {TIMES} {NUMBERS_PER_TRANSACTION}::bigint)
on conflict (name) do update set value = excluded.value
 where (m.value {MEMBER_TEXT} '{{}}'::text[])::bigint
       {LT} (excluded.value {MEMBER_TEXT} '{{}}'::text[])::bigint""".encode()
)
_NOTE: Final = Statement(
    f"""insert into {OWN}store_meta as m (name, value)
values ('{RESERVED_META}', pg_catalog.jsonb_build_object('head'::text, $1::bigint))
on conflict (name) do update set value = excluded.value
 where (m.value {MEMBER_TEXT} '{{head}}'::text[])::bigint
       {LT} (excluded.value {MEMBER_TEXT} '{{head}}'::text[])::bigint""".encode()
)


def reserve_numbers(connection: LibpqConnection, above: int) -> None:
    """Raise the offset of the numbers, where the next one would not lie above a number.

    Args:
        connection: in a transaction that holds the store lock exclusively, so that no
            commit is under way with the former offset.
        above: the highest number that may have been given.
    """
    value = (b"%d" % above,)
    connection.execute(_NOTE, value)
    connection.execute(_RAISE, value)
