"""Code writer: a schema module, formatted, typed, and deterministic.

The same files give the same bytes, so that a module can be generated again and compared.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Final

from pend_storage._escaping import escaped_lines
from pend_storage._shown import cut, one_line, shown
from pend_storage.inspect._markdown_report import described
from pend_storage.inspect._model import DirectoryReport, Part, Shape
from pend_storage.inspect._schema_plan import (
    DocumentFile,
    Field,
    Plan,
    RecordFile,
    meaning,
    plan_of,
)

__all__ = ["render_module"]

_WIDTH: Final = 88
_INDENT: Final = "    "
_PLAIN_NAME: Final = re.compile("[a-z][a-z0-9_]*").fullmatch
_HEAD: Final = '''"""The JSON files of a server, as ``pend-storage inspect`` found them.

Read it before you use it: what the files mean is guessed, and the comments say by what.
Members that are not declared here are kept all the same, and written back as they were.
"""

from __future__ import annotations
'''
_BIG_INT: Final = '''
BigInt: TypeAlias = Annotated[int, ps.Limit(ge=-(2**63), le=2**63 - 1)]
"""An integer of 64 bits, as a database stores it best."""
'''
_ZERO: Final = {
    "str": '""',
    "BigInt": "0",
    "int": "0",
    "bool": "False",
    "float": "0.0",
    "Decimal": "Decimal(0)",
}


def render_module(report: DirectoryReport) -> str:
    """Render a module with ``LAYOUTS`` and ``SCHEMA`` for the files of a directory."""
    plan = plan_of(report)
    classes = [_class(declared) for declared in plan.records]
    tail = "\n".join(_tail(plan))
    body = "\n".join(classes)
    text = _HEAD + _imports(body) + "\nimport pend_storage as ps\n"
    text += _spellings(tail)
    if "BigInt" in body:
        text += _BIG_INT
    for declared in classes:
        text += f"\n\n{declared}"
    gap = "\n\n" if classes else "\n"
    return escaped_lines(f"{text}{gap}{tail}\n")


def _imports(body: str) -> str:
    lines = []
    if body:
        more = ", field" if "field(" in body else ""
        lines.append(f"from dataclasses import dataclass{more}")
    times = [name for name in ("date", "datetime") if f": {name} " in body]
    if times:
        lines.append(f"from datetime import {', '.join(times)}")
    if ": Decimal" in body:
        lines.append("from decimal import Decimal")
    if "BigInt" in body:
        lines.append("from typing import Annotated, TypeAlias")
    return "\n" + "\n".join(lines) + "\n" if lines else ""


def _spellings(tail: str) -> str:
    names = sorted(name for name in _SPELLED.values() if f"{name}(" in tail)
    return f"from pend_storage.legacy import {', '.join(names)}\n" if names else ""


# -- record types -----------------------------------------------------------------------


def _class(declared: RecordFile) -> str:
    lines = [
        "@dataclass(frozen=True, kw_only=True)",
        f"class {declared.type_name}:",
        *_docstring(declared),
        "",
    ]
    if declared.is_named:
        lines += [f"{_INDENT}# The member name.", f"{_INDENT}id: str"]
    for field in _keys_first(declared):
        lines += _comments(field, declared.part)
        lines.append(f"{_INDENT}{field.name}: {_annotation(field)}")
    return "\n".join(lines) + "\n"


def _keys_first(declared: RecordFile) -> list[Field]:
    return sorted(declared.fields, key=lambda field: not field.is_key)


def _docstring(declared: RecordFile) -> list[str]:
    part, file = declared.part, declared.file
    where = f", in its member {_quoted(part.path[-1])}" if part.path else ""
    first = f"A record of the file {_quoted(file.file)}{where}."
    if len(first) > _WIDTH - len(_INDENT) - 6:
        first = "A record of a file of the server."
    sure = f"({file.confidence:.0%} sure)"
    paragraphs = [f"{part.records:,} records, shape {file.shape.value} {sure}."]
    if declared.undeclared:
        paragraphs.append(f"{declared.undeclared:,} rare members are not declared.")
    paragraphs += _reference_lines(declared)
    lines = [f'{_INDENT}"""{first}', ""]
    for paragraph in paragraphs:
        lines += textwrap.wrap(
            paragraph,
            _WIDTH,
            initial_indent=_INDENT,
            subsequent_indent=_INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return [*lines, f'{_INDENT}"""']


def _reference_lines(declared: RecordFile) -> Iterator[str]:
    for reference in declared.references:
        what = "its key" if reference.field is None else _quoted(reference.field)
        yield (
            f"Of {what}, {reference.share:.0%} of the values are keys of "
            f"{_quoted(reference.target)}."
        )


def _quoted(text: str) -> str:
    """Return a name for a docstring or a comment, which it cannot end."""
    return shown(cut(text, 40)).replace('"', "'").replace("\\", "/")


def _comments(field: Field, part: Part) -> list[str]:
    """Render the statistics of a field as comments above it."""
    text = described(field.report)
    absent = part.records - field.report.present
    if absent:
        text = _joined(text, f"absent in {absent / part.records:.1%}")
    if field.report.nulls:
        text = _joined(text, f"null in {field.report.nulls / part.records:.1%}")
    if len(field.report.types) > 1:
        kinds = ", ".join(f"{share:.1%} {kind}" for kind, share in field.report.types)
        text = _joined(text, kinds)
    return textwrap.wrap(
        _ascii(text),
        _WIDTH,
        initial_indent=f"{_INDENT}# ",
        subsequent_indent=f"{_INDENT}# ",
        break_on_hyphens=False,
    )


def _joined(*texts: str) -> str:
    return ", ".join(text for text in texts if text)


def _annotation(field: Field) -> str:
    """Render the annotation of a field, with its default."""
    if field.is_key:
        return "int" if field.report.kind == "integer" else "str"
    hint = _HINTS[meaning(field.report)]
    if hint == "ps.JSON":
        return f"{hint} = None"
    default = None if field.is_optional else _default(hint)
    return f"{hint} | None = None" if default is None else f"{hint} = {default}"


def _default(hint: str) -> str | None:
    """Return the default of a field whose member was present in every record."""
    if hint.startswith("dict"):
        return "field(default_factory=dict)"
    if hint.startswith("list"):
        return "field(default_factory=list)"
    return _ZERO.get(hint)


_HINTS: Final = {
    "any": "ps.JSON",
    "text": "str",
    "amount": "Decimal",
    "decimal": "Decimal",
    "time": "datetime",
    "seconds": "datetime",
    "milliseconds": "datetime",
    "date": "date",
    "integer": "BigInt",
    "large": "int",
    "number": "float",
    "bool": "bool",
    "object": "dict[str, ps.JSON]",
    "list": "list[ps.JSON]",
}
_SPELLED: Final = {
    "amount": "amount_member",
    "seconds": "seconds_member",
    "milliseconds": "milliseconds_member",
}
"""Functions that declare a member whose type in the file is not that of its field."""


# -- declarations -----------------------------------------------------------------------


def _tail(plan: Plan) -> Iterator[str]:
    if not plan.records and not plan.documents:
        yield "LAYOUTS: tuple[ps.Layout, ...] = ()"
    else:
        yield "LAYOUTS = ("
        for declared in plan.records:
            yield from _records_call(declared)
        yield from _documents_call(plan.documents)
        yield ")"
    for left in plan.left_out:
        yield f"# Not declared: {_quoted(left.file.file)}, {one_line(left.reason)}."
    yield ""
    yield "SCHEMA = ps.schema_of(LAYOUTS)"


def _records_call(declared: RecordFile) -> Iterator[str]:
    yield f"{_INDENT}ps.records("
    inner = 2 * _INDENT
    yield f"{inner}{_literal(declared.file.file)},"
    yield f"{inner}{declared.type_name},"
    yield f"{inner}key={_key(declared)},"
    if declared.collection != _default_collection(declared):
        yield f"{inner}collection={_literal(declared.collection)},"
    if declared.file.shape is Shape.JSON_LINES:
        yield f"{inner}shape=ps.JSON_LINES,"
    if declared.part.path:
        yield f"{inner}path={_literal(declared.part.path[-1])},"
    given = [
        (field.name, text) for field in declared.fields if (text := _member(field))
    ]
    if declared.is_plain:
        yield f"{inner}value={_literal(declared.fields[0].name)},"
    if given and not (declared.is_plain and given[0][1].startswith('"')):
        yield f"{inner}members={{"
        for name, text in given:
            yield f"{inner}{_INDENT}{_literal(name)}: {text},"
        yield f"{inner}}},"
    yield f"{_INDENT}),"


def _member(field: Field) -> str | None:
    """Render the declaration of a field's member; None where the default is right."""
    spelled = None if field.is_key else _SPELLED.get(meaning(field.report))
    member = _literal(field.member)
    if spelled is not None:
        call = f"{spelled}({member}, {_literal(field.name)})"
        if len(call) + len(field.name) + 20 <= _WIDTH:
            return call
        inner = 4 * _INDENT
        return f"{spelled}(\n{inner}{member},\n{inner}{_literal(field.name)},\n{3 * _INDENT})"
    return None if field.name == field.member else member


def _key(declared: RecordFile) -> str:
    if declared.is_named:
        return "ps.MEMBER_NAME"
    if not declared.key:
        return "None"
    if len(declared.key) == 1:
        return _literal(declared.key[0])
    return f"({', '.join(map(_literal, declared.key))})"


def _default_collection(declared: RecordFile) -> str | None:
    """Return the default name of the collection, if it is a plain name."""
    path = declared.part.path
    stem = (
        path[-1] if path else declared.file.file.rpartition("/")[2].rpartition(".")[0]
    )
    return stem if _PLAIN_NAME(stem) else None


def _documents_call(documents: tuple[DocumentFile, ...]) -> Iterator[str]:
    if not documents:
        return
    yield f"{_INDENT}*ps.documents("
    inner = 2 * _INDENT
    for document in documents:
        yield from textwrap.wrap(
            _ascii(document.reason),
            _WIDTH,
            initial_indent=f"{inner}# ",
            subsequent_indent=f"{inner}# ",
        )
        yield f"{inner}{_literal(document.file.file)},"
    yield f"{_INDENT}),"


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()


def _literal(text: str) -> str:
    """Render a text as a Python literal in double quotes, which a formatter keeps."""
    escaped = "".join(
        rf"\x{ord(c):02x}"
        if c == '"' or (not c.isprintable() and ord(c) < 0x100)  # noqa: PLR2004 - one byte
        else rf"\u{ord(c):04x}"
        if not c.isprintable() and ord(c) < 0x10000  # noqa: PLR2004 - two bytes
        else rf"\U{ord(c):08x}"
        if not c.isprintable()
        else r"\\"
        if c == "\\"
        else c
        for c in text
    )
    return f'"{escaped}"'
