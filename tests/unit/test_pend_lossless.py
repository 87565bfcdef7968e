"""Any record whatever: placed without loss or quarantined whole, never anything else."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pend_storage.legacy import LIST, MAP, WRAPPED, ObjectMapping, RecordLayout
from pend_storage.pend import LAYOUTS, SCHEMA
from pend_storage.records import Put
from pend_storage.schema import QUARANTINE
from pend_storage.testing import strategies
from pend_storage.validation._exact_json_compare import unequal

HASHES = [f"{digit:x}" * 64 for digit in range(4)]
ADDRESSES = [f"{digit:x}" * 40 for digit in range(4)]
SPELLINGS = (str.upper, str.lower, str.title, lambda text: f" {text} ")
OBJECTS = [layout for layout in LAYOUTS if isinstance(layout.mapping, ObjectMapping)]


def quoted(texts: Iterable[str]) -> list[str]:
    return [json.dumps(text) for text in texts]


hexadecimal = st.builds(
    lambda digits, prefix, spell: json.dumps(spell(prefix + digits)),
    st.sampled_from(HASHES + ADDRESSES),
    st.sampled_from(["0x", "0X", ""]),
    st.sampled_from(SPELLINGS),
)
odd = st.sampled_from(
    [
        *("1e21", "-0.0", "1.50", "1e400", "0.12345678901234567890123456789", "NaN"),
        *(
            "1" * 30,
            "44123.0",
            "-Infinity",
            "1e-400",
            "9007199254740993.5",
            "1" * 4_200,
        ),
        *('"a\\u0000"', '"\\ud800"', '"\\ud83d\\ude00"', '"\\u0041"'),
        *(
            '{"a":1,"a":2}',
            '{"$legacy":1}',
            '{"":[{}]}',
            "[[[]]]",
            '"' + "x" * 300 + '"',
        ),
    ]
)
usual = st.sampled_from(
    [
        *quoted(
            [
                *("2025-06-19T07:58:56.380Z", "2025-06-19T07:58:56Z", "2025-06-19"),
                *("2025-06-19T07:58:56.380456+02:00", "1750319936380", "yesterday", ""),
                *(
                    "250",
                    "100.0",
                    "1,250,000.50",
                    "EGP 5",
                    "1e21",
                    "0005.00",
                    "-5",
                    ".5",
                ),
                *("active", "Under Review", "Interest-only", "draft", "unknown to all"),
                *("203.0.113.9", "::ffff:192.0.2.7", "unknown", "17", "007", "9-13%"),
            ]
        ),
        *(
            "0",
            "1",
            "5",
            "7",
            "1750319936",
            "1750319936380",
            "-1",
            "2.5",
            "true",
            "null",
        ),
    ]
)
anything = strategies.json_values().map(json.dumps)
leaves = usual | hexadecimal | odd | anything
wholes = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]"),
    max_leaves=3,
)


def names_of(layout: RecordLayout) -> list[str]:
    known = ["ip", "address", "walletAddress", "identityHash", "phoneNumber", "$legacy"]
    if isinstance(layout.mapping, ObjectMapping):
        known += [member.name for member in layout.mapping.members]
    return known


def required(layout: RecordLayout) -> list[tuple[str, str]]:
    """Members without which a record cannot be placed, in a form that can be read."""
    if not isinstance(layout.mapping, ObjectMapping):
        return [("address", f'"0x{ADDRESSES[0]}"')]
    return [
        (member.name, '"2025-06-19T07:58:56.380Z"' if member.usual else '"USER"')
        for member in layout.mapping.members
        if member.required
    ]


@st.composite
def objects(
    draw: st.DrawFn, layout: RecordLayout, must: Sequence[tuple[str, str]] = ()
) -> str:
    name = st.sampled_from(names_of(layout)) | st.text(max_size=3)
    pairs = [*draw(st.lists(st.tuples(name, wholes), max_size=12)), *must]
    chance = draw(st.tuples(st.integers(0, 3), st.integers(0, 9)))
    if must or chance[0]:
        there = chance[1] % (len(pairs) + 1)
        pairs[there:there] = required(layout)
    if must or chance[1]:  # names that come twice are tried now and then
        pairs = list(dict(pairs).items())
    members = (f"{json.dumps(name)}: {text}" for name, text in pairs)
    return f"{{ {','.join(members)} }}"


@st.composite
def files(draw: st.DrawFn, layout: RecordLayout) -> tuple[bytes, int]:
    shape = draw(st.sampled_from(layout.shapes))
    texts = draw(st.lists(objects(layout) | wholes, max_size=4))
    if shape == MAP:
        keys = hexadecimal | st.text(max_size=3).map(json.dumps)
        texts = [f"{draw(keys)}:{text}" for text in texts]
    inside = ", ".join(texts)
    if shape == MAP:
        return f"{{{inside}}}".encode(), len(texts)
    if shape == LIST:
        return f"[{inside}]".encode(), len(texts)
    assert shape == WRAPPED
    beside = draw(st.sampled_from(["", '"version": 1.50, ']))
    text = f'{{{beside}{json.dumps(layout.wrapper)}: [{inside}], "after": null}}'
    return text.encode(), len(texts)


def stored(put: Put) -> Any:
    """A record as it comes back from a database that does not keep members in order."""
    record = SCHEMA[put.collection].codec.decode(put.body)
    return dataclasses.replace(
        record,
        **{
            f.name: disordered(getattr(record, f.name))
            for f in dataclasses.fields(record)
        },
    )


def disordered(value: Any) -> Any:
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: (len(name), name))
        return {name: disordered(value[name]) for name in names}
    if isinstance(value, list):
        return [disordered(item) for item in value]
    return value


def rendered(layout: RecordLayout, raw: bytes) -> tuple[bytes, list[Any]]:
    parsed = layout.parse(SCHEMA, raw)
    records = [stored(entry.home) for entry in parsed.entries]
    header = stored(SCHEMA.put("legacy_files", parsed.header))
    ordered = sorted(records, key=lambda record: layout.order(record, 1))
    texts = (layout.render_one(header, record) for record in ordered)
    return b"".join(layout.assemble(header, texts)), records


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.file)
@settings(suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_records_whatever_come_back_equal_by_value(
    layout: RecordLayout, data: st.DataObject
) -> None:
    raw, count = data.draw(files(layout))

    again, records = rendered(layout, raw)

    assert list(unequal(raw, again)) == []
    assert len(records) == count
    assert len({SCHEMA[type(record)].key_of(record) for record in records}) == count


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.file)
@settings(suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_same_bytes_give_the_same_records(
    layout: RecordLayout, data: st.DataObject
) -> None:
    raw, _ = data.draw(files(layout))

    first, second = (list(layout.parse(SCHEMA, raw).entries) for _ in range(2))

    assert first == second


@pytest.mark.parametrize("layout", OBJECTS, ids=lambda layout: layout.file)
@settings(suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_new_code_writes_to_a_column_is_never_shadowed_by_an_old_spelling(
    layout: RecordLayout, data: st.DataObject
) -> None:
    mapping = layout.mapping
    assert isinstance(mapping, ObjectMapping)
    typed = [m for m in mapping.members if m.parse is not None]
    member = data.draw(st.sampled_from(typed))
    spelled = data.draw(usual | hexadecimal)
    text = data.draw(objects(layout, [(member.name, spelled)]))
    name = f'"0x{HASHES[0]}":' if layout.shapes[0] == MAP else ""
    frame = f"{{{name}{text}}}" if name else f"[{text}]"
    entry = next(iter(layout.parse(SCHEMA, frame.encode()).entries))
    if entry.home.collection == QUARANTINE:
        return
    before = stored(entry.home)
    spec = SCHEMA[layout.collection].fields[member.column]
    value = data.draw(strategies.values(spec))

    changed = stored(
        SCHEMA.put(
            layout.collection, dataclasses.replace(before, **{member.column: value})
        )
    )
    again = f"{{{name}%b}}" if name else "[%b]"
    raw = again.encode() % layout.render_one(layout.missing(), changed).removeprefix(
        f"{name[:-1]}: ".encode() if name else b""
    )
    after = next(iter(layout.parse(SCHEMA, raw).entries)).home.record

    if member.required and value is None:
        return
    for other in typed:
        assert getattr(after, other.column) == getattr(changed, other.column), (
            other.name
        )


@pytest.mark.parametrize("id_", ['"250"', "250", '"0250"', '"x"'])
def test_an_id_comes_back_as_text_or_number_as_it_was(id_: str) -> None:
    (layout,) = (x for x in LAYOUTS if x.file == "explorer-data/transactions-log.json")
    raw = (
        b'[{"type":"USER","timestamp":"2025-06-19T07:58:56.380Z","id":%b}]'
        % id_.encode()
    )
    parsed = layout.parse(SCHEMA, raw)

    texts = [
        layout.render_one(parsed.header, entry.home.record) for entry in parsed.entries
    ]

    assert b"".join(layout.assemble(parsed.header, texts)) == raw
