"""Table formats: columns, cards on a narrow terminal, CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from pend_storage._escaping import escaped, formula_free
from pend_storage._shown import one_line

__all__ = [
    "Cell",
    "as_cards",
    "as_columns",
    "as_csv",
    "cells",
    "right_columns",
    "width_of",
]

Cell: TypeAlias = str | int | float | None

_LONGEST_CELL: Final = 60
"""Characters of a text in a table."""
_LONGEST_LAST_CELL: Final = 500
"""Characters of the last text in a row, which shifts no other column."""
_GAP: Final = "  "


def cells(row: Sequence[Cell], *, whole: bool) -> list[str]:
    """Format the cells of a row, escaped; long ones are cut unless all is wanted."""
    texts = [_shown(cell) for cell in row]
    if whole:
        return [*map(escaped, texts)]
    *most, last = texts
    shown = [one_line(text, _LONGEST_CELL) for text in most]
    return [*shown, one_line(last, _LONGEST_LAST_CELL)]


def _shown(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return f"{cell:,}" if isinstance(cell, int | float) else cell


def right_columns(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[bool]:
    """Find the columns that are aligned to the right: those with a number."""
    return [
        any(isinstance(row[i], int | float) for row in rows)
        for i in range(len(columns))
    ]


def width_of(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Return the characters of the widest line of a table in columns."""
    return sum(_widths(columns, rows)) + len(_GAP) * (len(columns) - 1)


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [
        max(len(column), *(len(row[i]) for row in rows), 0)
        for i, column in enumerate(columns)
    ]


def as_columns(
    columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]
) -> Iterator[str]:
    """Yield the lines of a table in columns; its titles first, if there are any."""
    widths = _widths(columns, rows)
    head = [list(columns)] if any(columns) else []
    for row in (*head, *rows):
        padded = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        yield _GAP.join(padded).rstrip()


def as_cards(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table as cards: a block for each row, a line for each cell."""
    width = max(map(len, columns))
    for number, row in enumerate(rows):
        if number:
            yield ""
        for column, cell in zip(columns, row, strict=True):
            yield f"{column.ljust(width)}{_GAP}{cell}"


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Return a table as CSV, its titles first, its values whole.

    Hidden characters are escaped, and an apostrophe stands before what a spreadsheet would
    evaluate as a formula.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_csv_cell(cell) for cell in row])
    return text.getvalue()


def _csv_cell(cell: Cell) -> str | int | float:
    if cell is None:
        return ""
    return formula_free(escaped(cell)) if isinstance(cell, str) else cell
