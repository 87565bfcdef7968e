"""Record history: the changes of one key, read from the end of the log.

The version of a row is the number of the commit that wrote it, or little more. So the
newest change is found at once, however long ago it was. Those before it are searched for
in pages: the text of an entry is searched for the key, and only those that have it are
parsed.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from psycopg.pq.abc import PGresult

from pend_storage._model.snapshots import KeyChange
from pend_storage.errors import CorruptFile
from pend_storage.schema import CollectionSpec
from pend_storage.stores.postgres._client.database_client import DatabaseClient
from pend_storage.stores.postgres._connection.connection import Statement
from pend_storage.stores.postgres._connection.own_names import EQ, GE, GT, LE, OWN
from pend_storage.stores.postgres._connection.wire_format import text_array
from pend_storage.stores.postgres._queries.rows import MICROSECONDS, bytes_at
from pend_storage.stores.postgres._queries.statements import CollectionStatements

__all__ = ["record_history"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_PAGE: Final = 200
_LARGEST_PAGE: Final = 20_000
"""Entries that one statement searches."""
_HIGHEST: Final = (1 << 63) - 1
_PAGE: Final = Statement.make(
    f"""with page as materialized (
  select e.sequence from {OWN}changes as e where e.sequence {LE} $3::bigint
   order by e.sequence desc limit $4::bigint
), place (low) as (select pg_catalog.min(p.sequence) from page as p)
select place.low, c.sequence, c.epoch, {MICROSECONDS}, c."by", c.reason, c.item
  from place left join lateral (
    select e.sequence, e.epoch, e.at, e."by", e.reason, r.item, r.place
      from {OWN}changes as e
     cross join lateral pg_catalog.json_array_elements(e.records)
       with ordinality as r (item, place)
     where e.sequence {GE} place.low and e.sequence {LE} $3::bigint
       and pg_catalog.strpos(
             e.records::text, (select pg_catalog.to_json($2::text)::text)) {GT} 0
       and (r.item operator(pg_catalog.->>) 0) {EQ} $1::text
       and (r.item operator(pg_catalog.->>) 1) {EQ} $2::text
  ) as c on true
 order by c.sequence desc, c.place desc"""
)
_ITEM: Final = msgspec.json.Decoder(tuple[str, str, int, msgspec.Raw])


def record_history(
    client: DatabaseClient, known: CollectionStatements, key: str, before: int | None
) -> Iterator[KeyChange]:
    """Iterate over the changes of a key, the newest first.

    Args:
        client: executes the statements.
        known: statements of the collection.
        key: of the record.
        before: only changes of commits below this number; None: all.
    """
    upto = _HIGHEST if before is None else before - 1
    # No commit of the key has a higher number than its version.
    result = client.fetch(known.read_deleted, (text_array([key]), None))
    client.require_full_schema()
    if result.ntuples:
        upto = min(upto, int(result.get_value(0, 0) or 0))
    size = 1
    while True:
        values = (known.spec.name.encode(), key.encode(), b"%d" % upto, b"%d" % size)
        result = client.fetch(_PAGE, values)
        low = result.get_value(0, 0)
        if low is None:
            return
        for row in range(result.ntuples):
            if bytes_at(result, row, 1) is not None:
                yield _change(known.spec, result, row)
        upto = int(low) - 1
        size = _FIRST_PAGE if size == 1 else min(4 * size, _LARGEST_PAGE)


def _change(spec: CollectionSpec, result: PGresult, row: int) -> KeyChange:
    fields: list[Any] = [bytes_at(result, row, column) for column in range(1, 7)]
    sequence, epoch, micros, by, reason, item = fields
    try:
        _, _, version, body = _ITEM.decode(item)
    except msgspec.DecodeError as error:
        raise CorruptFile(str(error), path="a row of the change log") from error
    text = bytes(body)
    return KeyChange(
        sequence=int(sequence),
        epoch=int(epoch),
        at=_EPOCH + timedelta(microseconds=int(micros)),
        by=None if by is None else by.decode(),
        reason=None if reason is None else reason.decode(),
        version=version,
        record=None if text == b"null" else spec.codec.decode(text),
    )
