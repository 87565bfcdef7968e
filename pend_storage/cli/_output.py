"""Output of a command: one JSON document, or text, coloured on a terminal.

Every text is escaped and cut here, whatever it comes from: only the colours and the clearing
of the screen are control sequences.
"""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from pend_storage._escaping import escaped, escaped_json
from pend_storage._plain import plain
from pend_storage._shown import message_text
from pend_storage.cli._tables import (
    Cell,
    as_cards,
    as_columns,
    as_csv,
    cells,
    right_columns,
    width_of,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from pend_storage.events import Progress

__all__ = ["Cell", "Output", "plain", "visible"]

_NARROW: Final = 100
"""Columns of a narrow terminal, on which a table that does not fit is shown as cards."""
_LONGEST_LINE: Final = 4_000
"""Characters of a line of text."""
_GUTTER: Final = "| "
"""Begins each line of a foreign text, so that none can be taken for a line of the command."""
_STYLES: Final = {
    "ok": "green",
    "warn": "yellow",
    "fail": "bold red",
    "title": "bold",
    "quiet": "dim",
}


def visible(text: str) -> Text:
    """Return a text of any origin for a display of rich: escaped, without markup."""
    from rich.text import Text

    return Text(escaped(text))


class Output:
    """Writer of a command's output."""

    def __init__(
        self,
        *,
        as_json: bool = False,
        as_csv: bool = False,
        wide: bool = False,
        quiet: bool = False,
        color: bool = True,
    ) -> None:
        """Choose the format.

        Args:
            as_json: one JSON document, and nothing else.
            as_csv: tables as CSV; lines of text go to the standard error.
            wide: never show a table as cards.
            quiet: the result, without notes and progress.
            color: whether a terminal gets colours.
        """
        self.as_json = as_json
        self._csv = as_csv
        self._wide = wide
        self._quiet = quiet
        self._color = color
        self._rich = not (as_json or as_csv) and sys.stdout.isatty()
        self._has_table = False

    @property
    def is_terminal(self) -> bool:
        """True where the output is a terminal, on which lines can be redrawn."""
        return self._rich

    # -- the result ------------------------------------------------------------------

    def document(self, content: Mapping[str, Any]) -> None:
        """Write the one JSON document; nothing unless JSON is wanted."""
        if self.as_json:
            import msgspec

            text = msgspec.json.encode(plain(content), enc_hook=str)
            sys.stdout.write(escaped_json(text.decode()) + "\n")

    def line(self, text: str = "", *, style: str | None = None) -> None:
        """Write a line of text; nothing if JSON is wanted."""
        if self.as_json:
            return
        if self._csv:
            self.note(text)
        else:
            self._write(message_text(text, _LONGEST_LINE), self._style(style))

    def text(self, content: str) -> None:
        """Write a foreign text of several lines to its end; nothing if JSON is wanted."""
        if self.as_json:
            return
        for line in content.split("\n"):
            if self._csv:
                self.note(_GUTTER + line)
            else:
                self._write(_GUTTER + escaped(line))

    def statement(self, content: str) -> None:
        """Write lines that the library made, such as SQL, as they are read by a program."""
        if not self.as_json:
            for line in content.split("\n"):
                sys.stdout.write(escaped(line) + "\n")

    def _write(self, line: str, style: str | None = None) -> None:
        if self._rich:
            # Keys and texts of records are data; brackets in them are no markup.
            self._console().print(visible(line), style=style, highlight=False)
        else:
            sys.stdout.write(line + "\n")

    def facts(
        self,
        rows: Iterable[Sequence[Cell]],
        *,
        styles: Sequence[str | None] = (),
        whole: bool = False,
    ) -> None:
        """Write names and values, one pair a line; nothing if there are none.

        Args:
            rows: name and value of each.
            styles: of each.
            whole: show long values to their end.
        """
        content = list(rows)
        if self._csv:
            self.table(["name", "value"], content, whole=whole)
        elif content:
            self.table(["", ""], content, styles=styles, whole=whole)

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[Cell]],
        *,
        title: str | None = None,
        styles: Sequence[str | None] = (),
        whole: bool = False,
    ) -> None:
        """Write a table; nothing if JSON is wanted. Numbers stand to the right.

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
        given = list(rows)
        if self._csv:
            sys.stdout.write(("\n" if self._has_table else "") + as_csv(columns, given))
            self._has_table = True
            return
        content = [cells(row, whole=whole) for row in given]
        right = right_columns(columns, given)
        if title is not None:
            self.line(title, style="title")
        if self._is_too_wide(columns, content):
            for line in as_cards(columns, content):
                self.line(line)
        elif self._rich:
            self._rich_table(columns, content, right, styles)
        else:
            for line in as_columns(columns, content, right):
                sys.stdout.write(line + "\n")

    def _is_too_wide(self, columns: Sequence[str], rows: list[list[str]]) -> bool:
        """Return whether a table is too wide for a narrow terminal."""
        if not self._rich or self._wide or not any(columns):
            return False
        room = shutil.get_terminal_size().columns
        return room < _NARROW and width_of(columns, rows) > room

    def _rich_table(
        self,
        columns: Sequence[str],
        rows: list[list[str]],
        right: Sequence[bool],
        styles: Sequence[str | None],
    ) -> None:
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=any(columns))
        for column, to_right in zip(columns, right, strict=True):
            table.add_column(
                column,
                justify="right" if to_right else "left",
                overflow="fold",
                no_wrap=self._wide,
            )
        for number, row in enumerate(rows):
            style = styles[number] if number < len(styles) else None
            table.add_row(*map(visible, row), style=self._style(style))
        room = width_of(columns, rows) + 2 * len(columns) + 2  # rich pads more
        width = room if self._wide else None
        self._console(width).print(table)

    def _style(self, name: str | None) -> str | None:
        return _STYLES.get(name or "") if self._color else None

    def _console(self, width: int | None = None) -> Console:
        from rich.console import Console

        if self._color:
            return Console(width=width)
        return Console(width=width, color_system=None)

    # -- beside the result -----------------------------------------------------------

    def note(self, text: str) -> None:
        """Write a line to the standard error, never part of the result."""
        if not self.as_json and not self._quiet:
            sys.stderr.write(message_text(text, _LONGEST_LINE) + "\n")
            sys.stderr.flush()

    @contextmanager
    def progress(
        self, label: str, *, unit: str = "records"
    ) -> Iterator[Progress | None]:
        """Show a progress bar with rate and ETA while the block runs; on a terminal only."""
        if self.as_json or self._quiet or not sys.stderr.isatty():
            yield None
            return
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        started = time.monotonic()
        # On the standard error, so that the result can be redirected to a file.
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[counts]}", markup=False),
            TimeRemainingColumn(),
        )
        system: Literal["auto"] | None = "auto" if self._color else None
        console = Console(stderr=True, color_system=system)
        with Bar(*columns, console=console, transient=True) as bar:
            task = bar.add_task(escaped(label), total=None, counts="")

            def on_progress(done: int, total: int) -> None:
                rate = done / max(time.monotonic() - started, 0.001)
                counts = f"{done:,} of {total:,} {unit}, {rate:,.0f}/s"
                bar.update(task, completed=done, total=total, counts=counts)

            yield on_progress


def seconds(value: float) -> str:
    """Format a duration; infinite stands for an unknown one."""
    if math.isinf(value):
        return "for an unknown time"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:  # noqa: PLR2004 - a minute
        return f"{value:.1f} s"
    return str(timedelta(seconds=round(value)))
