"""Types that are inferred, against those that people wrote for the same files."""

from __future__ import annotations

from pathlib import Path

from pend_storage._model.fields import Kind, fields_of
from pend_storage.inspect import inspect_directory
from pend_storage.inspect._schema_plan import meaning
from pend_storage.legacy import ObjectMapping, RecordLayout
from pend_storage.pend import LAYOUTS
from pend_storage.sample_data import generate

_KINDS = {
    "text": {Kind.STR, Kind.CHOICE},
    "amount": {Kind.DECIMAL},
    "decimal": {Kind.DECIMAL},
    "number": {Kind.DECIMAL, Kind.FLOAT},
    "time": {Kind.DATETIME},
    "seconds": {Kind.DATETIME},
    "milliseconds": {Kind.DATETIME},
    "date": {Kind.DATE},
    "integer": {Kind.INT},
    "large": {Kind.INT},
    "bool": {Kind.BOOL},
    "object": {Kind.OBJECT, Kind.JSON},
    "list": {Kind.LIST, Kind.JSON},
    "any": {Kind.JSON},
}
"""What a field means, to the kinds of columns that hold it."""


def _written(layout: RecordLayout) -> dict[str, Kind]:
    """Members that people gave a column of their own, to its kind."""
    mapping = layout.mapping
    if not isinstance(mapping, ObjectMapping):
        return {}
    kinds = {spec.name: spec.kind for spec in fields_of(mapping.record_type)}
    return {m.name: kinds[m.column] for m in mapping.members if m.parse is not None}


def _agreement(directory: Path) -> tuple[int, list[str]]:
    """Members of which both know the type; and those where they disagree."""
    reports = {file.file: file for file in inspect_directory(directory).files}
    count, wrong = 0, []
    for layout in LAYOUTS:
        written = _written(layout)
        for field in reports[layout.file].parts[0].fields:
            kind = written.get(field.name)
            if kind is None:
                continue
            count += 1
            if kind not in _KINDS[meaning(field)]:
                wrong.append(f"{layout.file} {field.name}: {meaning(field)}, {kind}")
    return count, wrong


def test_nine_of_ten_types_agree_with_what_people_wrote(tmp_path: Path) -> None:
    generate(tmp_path, users=120, irregular=0.0, seed=7)

    count, wrong = _agreement(tmp_path)

    assert count >= 40
    assert len(wrong) <= count / 10, wrong


def test_a_few_irregular_records_change_that_little(tmp_path: Path) -> None:
    generate(tmp_path, users=120, irregular=0.02, seed=7)

    count, wrong = _agreement(tmp_path)

    assert len(wrong) <= count / 5, wrong
