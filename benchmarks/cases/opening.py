"""Opening a JSON directory, against parsing its files."""

from __future__ import annotations

from typing import Final

from benchmarks.case import Aim, Case, Contender

__all__ = ["CASES"]

_OPEN: Final = "open"
_GET: Final = "open, first get"
_PUT: Final = "open, first put"
_CHECKPOINT: Final = "open, first checkpoint"
_ADOPT: Final = "first adoption"
_LOAD: Final = "json.load of the files"

CASES: Final = (
    Case(
        name="opening",
        title="Open a JSON directory of 100,000 records",
        unit="openings",
        server=False,
        records=100_000,
        quick_records=5_000,
        contenders=(
            Contender(_OPEN, "opening:opens", "adopted before"),
            Contender(_GET, "opening:opens_and_gets", "adopted before"),
            Contender(_PUT, "opening:opens_and_puts", "adopted before; indexes built"),
            Contender(
                _CHECKPOINT,
                "opening:opens_and_checkpoints",
                "adopted before; otherwise in the background",
            ),
            Contender(_ADOPT, "opening:adopts", "never seen before; once in its life"),
            Contender(_LOAD, "opening:loads", "dicts, nothing checked"),
        ),
        aims=(
            Aim(_OPEN, _LOAD, 4.0),
            Aim(_GET, _LOAD),
            Aim(_PUT, _LOAD),
            Aim(_CHECKPOINT, _LOAD),
            Aim(_ADOPT, _LOAD),
        ),
        most_rounds=7,
        text=(
            "The files are those of a Pend server; almost all records are in its "
            "transaction log. Opening reads rows that stay encoded until they are asked "
            "for them."
        ),
    ),
)
