"""What a command shows: one JSON document, or text, coloured on a terminal."""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pend_storage.shown import cut

if TYPE_CHECKING:
    from rich.console import Console

    from pend_storage.events import Progress

__all__ = ["Cell", "Output", "plain"]

Cell: TypeAlias = str | int | float | None

_MOST_IN_CELL: Final = 60
"""Characters of a text in a table."""
_MOST_AT_END: Final = 500
"""Characters of the last text in a row, which widens nothing."""
_STYLES: Final = {
    "ok": "green",
    "warn": "yellow",
    "fail": "bold red",
    "title": "bold",
    "quiet": "dim",
}


def plain(value: Any) -> Any:
    """A result as JSON shows it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(member) for name, member in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value) if isinstance(value, Path) else value


class Output:
    """Where a command writes to."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._rich = not as_json and sys.stdout.isatty()

    @property
    def is_terminal(self) -> bool:
        """Whether somebody looks at a terminal that can show moving pictures."""
        return self._rich

    # -- the result ------------------------------------------------------------------

    def document(self, content: Mapping[str, Any]) -> None:
        """The one JSON document; nothing unless JSON is wanted."""
        if self.as_json:
            import msgspec

            text = msgspec.json.encode(plain(content), enc_hook=str)
            sys.stdout.write(text.decode() + "\n")

    def line(self, text: str = "", *, style: str | None = None) -> None:
        """A line of text; nothing if JSON is wanted."""
        if self.as_json:
            return
        if self._rich:
            self._console().print(
                text, style=_STYLES.get(style or ""), markup=False, highlight=False
            )
        else:
            sys.stdout.write(text + "\n")

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[Cell]],
        *,
        title: str | None = None,
        styles: Sequence[str | None] = (),
        whole: bool = False,
    ) -> None:
        """A table; nothing if JSON is wanted. Numbers stand to the right.

        Args:
            columns: their titles.
            rows: a cell for each column.
            title: a line above.
            styles: of each row.
            whole: show long texts to their end; else they are cut, so that one row does
                not widen all others.
        """
        if self.as_json:
            return
        content = [_texts(row) if whole else _cells(row) for row in rows]
        kinds = [*map(list, rows)] if isinstance(rows, Sequence) else []
        right = [
            any(isinstance(row[i], int | float) for row in kinds)
            for i in range(len(columns))
        ]
        if title is not None:
            self.line(title, style="title")
        if self._rich:
            self._rich_table(columns, content, right, styles)
        else:
            self._plain_table(columns, content, right)

    def _plain_table(
        self, columns: Sequence[str], rows: list[list[str]], right: Sequence[bool]
    ) -> None:
        widths = [
            max(len(column), *(len(row[i]) for row in rows), 0)
            for i, column in enumerate(columns)
        ]
        for row in (list(columns), *rows):
            cells = [
                cell.rjust(width) if to_right else cell.ljust(width)
                for cell, width, to_right in zip(row, widths, right, strict=True)
            ]
            sys.stdout.write("  ".join(cells).rstrip() + "\n")

    def _rich_table(
        self,
        columns: Sequence[str],
        rows: list[list[str]],
        right: Sequence[bool],
        styles: Sequence[str | None],
    ) -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column, to_right in zip(columns, right, strict=True):
            table.add_column(
                column, justify="right" if to_right else "left", overflow="fold"
            )
        for number, row in enumerate(rows):
            style = styles[number] if number < len(styles) else None
            table.add_row(*map(Text, row), style=_STYLES.get(style or ""))
        self._console().print(table)

    def _console(self) -> Console:
        from rich.console import Console

        return Console()

    # -- beside the result -----------------------------------------------------------

    def note(self, text: str) -> None:
        """A line for whoever watches, never part of the result."""
        if not self.as_json:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    @contextmanager
    def progress(
        self, label: str, *, unit: str = "records"
    ) -> Iterator[Progress | None]:
        """A progress bar with rate and ETA while the block runs; on a terminal only."""
        if self.as_json or not sys.stderr.isatty():
            yield None
            return
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        started = time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[counts]}"),
            TimeRemainingColumn(),
        )
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(label, total=None, counts="")

            def tell(done: int, total: int) -> None:
                rate = done / max(time.monotonic() - started, 0.001)
                counts = f"{done:,} of {total:,} {unit}, {rate:,.0f}/s"
                bar.update(task, completed=done, total=total, counts=counts)

            yield tell


def seconds(value: float) -> str:
    """A duration for people; infinite where it is not known."""
    if math.isinf(value):
        return "for an unknown time"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:  # noqa: PLR2004 - a minute
        return f"{value:.1f} s"
    return str(timedelta(seconds=round(value)))


def _texts(row: Sequence[Cell]) -> list[str]:
    return [_shown(cell) for cell in row]


def _cells(row: Sequence[Cell]) -> list[str]:
    *texts, last = _texts(row)
    return [*(cut(text, _MOST_IN_CELL) for text in texts), cut(last, _MOST_AT_END)]


def _shown(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return f"{cell:,}" if isinstance(cell, int | float) else cell
