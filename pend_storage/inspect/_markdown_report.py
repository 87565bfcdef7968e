"""Markdown report of an inspection, for people and tickets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from pend_storage._escaping import escaped_lines
from pend_storage._shown import listed, one_line, shown
from pend_storage.inspect._migration_assessment import expected, ranked_hazards, score
from pend_storage.inspect._model import (
    DirectoryReport,
    FieldReport,
    FileReport,
    Part,
    Reference,
    Shape,
)
from pend_storage.inspect._name_heuristics import name_text

__all__ = [
    "bytes_text",
    "described",
    "place_text",
    "render_report",
    "runner_up_text",
]

_MOST_FIELDS: Final = 100
_MARKUP: Final = re.compile(r"[\\`*_\[\]<>&]")


def render_report(report: DirectoryReport) -> str:
    """Render the whole report. The same directory gives the same text."""
    return escaped_lines("\n".join(_lines(report)) + "\n")


def _lines(report: DirectoryReport) -> Iterator[str]:
    yield "# Inspection"
    yield ""
    yield from _summary(report)
    yield ""
    yield from _table(
        ("file", "shape", "sure", "or else", "records", "size", "score"),
        (_file_row(file) for file in report.files),
    )
    yield from _hazards(report)
    yield from _references(report.references)
    for file in report.files:
        yield from _file(file)


def _summary(report: DirectoryReport) -> Iterator[str]:
    takes = expected(report)
    records = sum(file.records for file in report.files)
    size = sum(file.size for file in report.files)
    files = sum(file.files for file in report.files)
    doubts = sum(not file.is_sure for file in report.files)
    yield f"{files:,} files, {records:,} records, {bytes_text(size)}."
    waiting = sum(file.quarantined for file in report.files)
    broken = sum(file.shape is Shape.BROKEN for file in report.files)
    yield (
        f"Doubtful shapes: {doubts:,}. Unreadable files: {broken:,}. Records that would "
        f"wait in quarantine: {waiting:,}."
    )
    yield ""
    yield (
        f"A migration takes about {_seconds(takes.seconds)}, "
        f"{bytes_text(takes.memory_bytes)} of memory, {bytes_text(takes.json_bytes)} more "
        f"in the directory and {bytes_text(takes.postgres_bytes)} in PostgreSQL, by rates "
        "measured on another machine."
    )


def _seconds(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds >= 1 else "a second"


def _file_row(file: FileReport) -> tuple[str, ...]:
    return (
        _code(file.file),
        file.shape.value,
        f"{file.confidence:.0%}",
        runner_up_text(file),
        f"{file.records:,}",
        bytes_text(file.size),
        f"{score(file)}",
    )


def runner_up_text(file: FileReport) -> str:
    """Render the second guess of a shape."""
    other = file.runner_up
    return "" if other is None else f"{other.shape.value} {other.confidence:.0%}"


def _hazards(report: DirectoryReport) -> Iterator[str]:
    found = ranked_hazards(report)
    if not found:
        return
    yield ""
    yield "## Hazards, the worst first"
    yield ""
    yield from _table(
        ("file", "concerns", "hazard", "count", "what to do"),
        (
            (
                "the directory" if item.file is None else _code(item.file),
                item.hazard.severity.value,
                item.hazard.code,
                f"{item.hazard.count:,}",
                _plain(item.hazard.sentence),
            )
            for item in found
        ),
    )


def _references(references: Sequence[Reference]) -> Iterator[str]:
    if not references:
        return
    yield ""
    yield "## References"
    yield ""
    yield from _table(
        ("field", "refers to", "share"),
        (
            (
                f"{_code(place_text(r.file, r.path))} {_field_text(r)}",
                _code(place_text(r.target, r.target_path)),
                f"{r.share:.1%}",
            )
            for r in references
        ),
    )


def _field_text(reference: Reference) -> str:
    if reference.field is None:
        return "its member names"
    return _code(reference.field)


def place_text(file: str, path: tuple[str, ...]) -> str:
    """Render a file, and the path of the member with the records."""
    return one_line(f"{file} {'.'.join(path)}".rstrip(), 100)


def _file(file: FileReport) -> Iterator[str]:
    for part in file.parts:
        if not part.fields:
            continue
        yield ""
        yield f"## {_code(place_text(file.file, part.path))}"
        yield ""
        yield _part_sentence(file, part)
        yield ""
        yield from _table(
            ("field", "types", "absent", "null", "distinct", "what it holds"),
            (_field_row(field, part) for field in part.fields[:_MOST_FIELDS]),
        )
        more = len(part.fields) - _MOST_FIELDS + part.more_fields
        if more > 0:
            yield ""
            yield f"And {more:,} more fields."


def _part_sentence(file: FileReport, part: Part) -> str:
    counted = f"{part.records:,} records, {file.encoding}."
    if part.shape in {Shape.MAP, Shape.FILES}:
        return f"{counted} The key is the name."
    if part.key:
        names = ", ".join(_code(name) for name in part.key)
        others = [_code(name) for name in part.keys if name not in part.key]
        more = f" {listed(others, 5)} would do as well." if others else ""
        return f"{counted} The key is {names}.{more}"
    if part.shape in {Shape.LIST, Shape.JSON_LINES}:
        return f"{counted} No field identifies a record."
    return counted


def _field_row(field: FieldReport, part: Part) -> tuple[str, ...]:
    absent = part.records - field.present
    distinct = f"{field.distinct:,}" if field.distinct_is_exact else "many"
    return (
        _code(field.name),
        ", ".join(f"{kind} {share:.0%}" for kind, share in field.types) or "null",
        _share(absent, part.records),
        _share(field.nulls, part.records),
        distinct,
        _plain(described(field)),
    )


def _share(count: int, total: int) -> str:
    return f"{count / total:.1%}" if count and total else ""


def described(field: FieldReport) -> str:
    """Describe the values of a field; of a sensitive one, only format and length."""
    words = []
    if field.is_sensitive:
        words.append("sensitive")
    if field.format is not None:
        words.append(field.format)
    if field.low is not None and field.high is not None:
        words.append(f"{field.low} to {field.high}")
    if field.longest is not None and field.shortest is not None:
        spread = (
            f"{field.shortest}"
            if field.shortest == field.longest
            else f"{field.shortest} to {field.longest}"
        )
        words.append(f"{spread} long")
    if field.is_unique:
        words.append("unique")
    if field.choices:
        words.append(f"one of {listed(map(shown, field.choices))}")
    return ", ".join(words)


def _code(text: str) -> str:
    """Render a name as Markdown code; a backquote in it would end the code."""
    return f"`{name_text(text).replace('`', chr(39))}`"


def _plain(text: str) -> str:
    """Escape what Markdown, or HTML in it, would take for markup: values are cited."""
    return _MARKUP.sub(r"\\\g<0>", text)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def bytes_text(size: float) -> str:
    """Format a size in bytes, for people."""
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= least:
            return f"{size / least:.1f} {unit}"
    return f"{size:,.0f} bytes"
