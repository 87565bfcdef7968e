"""Round trip: files that are inspected, declared, adopted and made again are equal."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pend_storage.inspect import Shape, inspect_directory
from tests.inspect.test_module import adopted

_TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12
)
_WORD = st.sampled_from(
    [
        "id",
        "name",
        "userId",
        "created_at",
        "n",
        "tags",
        "class",
        "é",
        "count",
        "price",
        "date",
        "expiresAt",
        "timestamp",
    ]
)
_NUMBER = st.integers(-(10**20), 10**20) | st.floats(
    allow_nan=False, allow_infinity=False, width=64
)
_SCALAR = st.none() | st.booleans() | _NUMBER | _TEXT
_ANY = st.recursive(
    _SCALAR,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3)
    ),
    max_leaves=5,
)
_TIMES = st.datetimes().map(lambda t: f"{t.isoformat(timespec='milliseconds')}Z")
_AMOUNTS = st.decimals(-(10**12), 10**12, places=4).map(str) | st.just("1e3")
_SECONDS = st.integers(946_684_800, 4_102_444_800) | st.floats(10**9, 2 * 10**9)
_DAYS = st.dates().map(lambda d: d.isoformat())
_SPELLED = st.one_of(_AMOUNTS), _SECONDS, _SECONDS.map(lambda s: int(s * 1_000))
_COLUMNS = st.sampled_from(
    [
        st.booleans(),
        st.integers(0, 10**6),
        _NUMBER,
        _TEXT,
        _TIMES,
        _DAYS,
        *_SPELLED,
        _ANY,
    ]
)


@st.composite
def _records(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Records of one random schema, some of which lack or spoil a member."""
    schema = draw(st.dictionaries(_WORD | _TEXT, _COLUMNS, min_size=1, max_size=6))
    made = []
    for _ in range(draw(st.integers(1, 12))):
        record = {name: draw(column) for name, column in schema.items()}
        if draw(st.integers(0, 5)) == 0:
            name = draw(st.sampled_from(sorted(record)))
            if draw(st.booleans()):
                del record[name]
            else:
                record[name] = draw(_ANY)
        made.append(record)
    return made


def _with_ids(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"id": n, **{k: v for k, v in r.items() if k != "id"}}
            for n, r in enumerate(records)]  # fmt: skip


def _map(records: list[Any]) -> dict[str, Any]:
    return {f"{10**16 + n}": record for n, record in enumerate(records)}


def _lines(records: list[Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


_FILE = st.one_of(
    _records(),
    _records().map(_with_ids),
    _records().map(_map),
    _records().map(lambda r: {"items": _with_ids(r), "version": 1}),
    _records().map(lambda r: {"meta": {"n": 1}, "items": _map(r)}),
    st.tuples(_records(), _records()).map(
        lambda pair: {"posts": _with_ids(pair[0]), "users": pair[1]}
    ),
    st.lists(_SCALAR, max_size=5),
    st.lists(_SCALAR, max_size=5).map(_map),
    _records().map(lambda r: _map([_map(r), _map(r)])),
    st.dictionaries(_TEXT, _ANY, max_size=5),
    _ANY,
)
_SETTINGS = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    deadline=None,
    max_examples=30,
)


@given(files=st.lists(_FILE, min_size=1, max_size=4), lines=_records(), data=st.data())
@_SETTINGS
def test_files_come_back_equal_by_value(
    files: list[Any], lines: list[dict[str, Any]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "data").mkdir()
        for number, content in enumerate(files):
            indent = data.draw(st.sampled_from([None, 2, 4]))
            text = json.dumps(content, indent=indent)
            (place / "data" / f"file{number}.json").write_text(text)
        (place / "data" / "lines.jsonl").write_text(_lines(lines))

        _, results = adopted(place / "data", place)

    waiting = results.pop("quarantined")
    assert len(results) == len(files) + 1
    assert set(results.values()) <= {"identical", "equal"}, results
    assert waiting == "0"


@given(content=_FILE)
@_SETTINGS
def test_any_shape_that_is_said_holds_as_well(content: Any) -> None:
    """A wrong ``--set`` may put records aside, and loses none."""
    for shape in Shape:
        if shape in {Shape.BROKEN, Shape.FILES}:
            continue
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            (place / "data").mkdir()
            (place / "data" / "file.json").write_text(json.dumps(content))
            said = {"file.json": shape}

            report = inspect_directory(place / "data", shapes=said)

        assert len(report.files) == 1
