"""JsonStore against other stores in files."""

from __future__ import annotations

from typing import Final

from benchmarks.case import Aim, Case, Contender

__all__ = ["CASES"]

_OURS: Final = "JsonStore"
_TINYDB: Final = "TinyDB"
_SQLITEDICT: Final = "sqlitedict"
_DISKCACHE: Final = "diskcache"
_SQLITE: Final = "sqlite3, synced"
_WHOLE_FILE: Final = "json.dump of the file"

_PUTS: Final = (
    Contender(
        _OURS, "json_store:puts", "checked, typed; synced before the call returns"
    ),
    Contender(
        _TINYDB,
        "tinydb_file:puts",
        "upsert by field; synced, but a crash leaves half a file",
    ),
    Contender(_SQLITEDICT, "sqlitedict_file:puts", "autocommit; not synced"),
    Contender(_DISKCACHE, "diskcache_file:puts", "not synced at each put"),
    Contender(_SQLITE, "sqlite_file:puts", "key and JSON text; synced"),
    Contender(_WHOLE_FILE, "whole_file:puts", "not synced; a crash leaves half a file"),
)
_PUT_TEXT: Final = (
    "One record that exists is written again. JsonStore, `sqlite3, synced` and TinyDB "
    "have it on the disk when the call returns; the others do not."
)


def _puts(records: int, quick_records: int, tinydb: float) -> Case:
    return Case(
        name=f"json-put-{records}",
        title=f"Put into a JSON directory of {records:,} records",
        unit="puts",
        server=False,
        records=records,
        quick_records=quick_records,
        contenders=_PUTS,
        aims=(
            Aim(_OURS, _TINYDB, tinydb),
            Aim(_OURS, _WHOLE_FILE),
            Aim(_OURS, _SQLITEDICT, 2.0),
            Aim(_OURS, _DISKCACHE, 0.8),
            Aim(_OURS, _SQLITE),
        ),
        text=_PUT_TEXT,
    )


CASES: Final = (
    _puts(200, 200, 25.0),
    _puts(10_000, 2_000, 500.0),
    Case(
        name="json-put-16",
        title="Put into a JSON directory in 16 threads",
        unit="puts",
        server=False,
        records=10_000,
        quick_records=2_000,
        contenders=(
            Contender("16 threads", "json_store:puts_together", "share their syncs"),
            Contender("1 thread", "json_store:puts", "a sync for each put"),
        ),
        aims=(Aim("16 threads", "1 thread"),),
        text=(
            "Waiting commits are synced together. The slower the disk, the more that "
            "is worth."
        ),
    ),
    Case(
        name="json-get",
        title="Get from a JSON directory of 10,000 records",
        unit="gets",
        server=False,
        records=10_000,
        quick_records=2_000,
        contenders=(
            Contender(
                _OURS,
                "json_store:gets",
                "typed record; looks whether another process has written",
            ),
            Contender(_DISKCACHE, "diskcache_file:gets", "unpickled dict"),
            Contender(_SQLITE, "sqlite_file:gets", "parsed dict"),
            Contender(_SQLITEDICT, "sqlitedict_file:gets", "unpickled dict"),
            Contender(_TINYDB, "tinydb_file:gets", "by field; reads the file"),
            Contender(
                "TinyDB, by number",
                "tinydb_file:gets_by_number",
                "by its own document number; reads the file",
            ),
            Contender("json.load of the file", "whole_file:gets", "reads the file"),
        ),
        aims=(
            Aim(_OURS, _DISKCACHE, 2.0),
            Aim(_OURS, _SQLITEDICT, 10.0),
            Aim(_OURS, _TINYDB),
            Aim(_OURS, _SQLITE),
            Aim(_OURS, None, 60_000),
        ),
        text="One record by key. Every contender sees what other processes wrote.",
    ),
)
