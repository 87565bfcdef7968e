"""Idioms of old code on a loaded file, by a live view."""

from __future__ import annotations

from typing import Final

from benchmarks.case import Aim, Case, Contender

__all__ = ["CASES"]

_VIEW: Final = "view of JsonStore"
_LOAD: Final = "json.load of the file"
_TINYDB: Final = "TinyDB"
_SHELVE: Final = "shelve"

_IDIOMS: Final = {
    "miss": ("if k not in d", 1.0),
    "length": ("len(d)", 1.0),
    "change": ("d[k]['n'] += 1", None),
    "items": ("list(d.items())", 1 / 3),
    "values": ("sum(v['n'] for v in d.values())", None),
    "last": ("l[-1]", 1.0),
    "resave": ("l[:] = changed", None),
}
_SIZES: Final = (500, 2_000, 8_000)


def _contenders(idiom: str) -> tuple[Contender, ...]:
    options = {"idiom": idiom}
    notes = {
        _LOAD: "another process may have written it; a change is dumped again",
        _TINYDB: "keeps nothing of it in memory",
        _SHELVE: "dbm; by key, not a file that others read",
    }
    found = [
        Contender(_VIEW, "dict_idioms:views", "", options),
        Contender(_LOAD, "dict_idioms:loads", notes[_LOAD], options),
        Contender(_TINYDB, "dict_idioms:tinydb", notes[_TINYDB], options),
    ]
    if idiom not in {"last", "resave"}:  # it knows no list
        found.append(Contender(_SHELVE, "dict_idioms:shelves", notes[_SHELVE], options))
    return tuple(found)


CASES: Final = tuple(
    Case(
        name=f"idiom-{idiom}-{size}",
        title=f"`{code}` of {size:,} members",
        unit="times",
        server=False,
        records=size,
        quick_records=size,
        contenders=_contenders(idiom),
        aims=(Aim(_VIEW, _LOAD, factor),),
        most_rounds=7,
        memory=False,
        quick=False,
        text="",
    )
    for idiom, (code, factor) in _IDIOMS.items()
    for size in _SIZES
)
