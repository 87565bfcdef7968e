"""Scan of legacy files: offsets at which records begin and end."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pend_storage.legacy._scan import BrokenFileError, name_at, top_level

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


def parts(raw: bytes) -> list[bytes]:
    top = top_level(raw)
    assert top is not None
    return [raw[slice(*top.span(i))] for i in range(len(top))]


def test_items_of_a_list_are_cut_out_byte_for_byte() -> None:
    raw = b' [ {"a" : "]}\\"" } ,\n2,"x, y" , [ ] ]\n'

    assert parts(raw) == [b'{"a" : "]}\\"" }', b"2", b'"x, y"', b"[ ]"]


def test_members_of_an_object_are_cut_out_with_their_names_and_twice_if_they_are() -> (
    None
):
    raw = b'{"a": 1, "a" :{"b":[{}]},"c":NaN}'

    assert parts(raw) == [b'"a": 1', b'"a" :{"b":[{}]}', b'"c":NaN']


def test_one_record_that_is_not_json_does_not_take_the_others_with_it() -> None:
    raw = b'[{"a": 1}, {"b" 2}, {"c": NaN}, {"d": "NaN"}]'

    assert parts(raw) == [b'{"a": 1}', b'{"b" 2}', b'{"c": NaN}', b'{"d": "NaN"}']


def test_faults_of_single_records_do_not_shift_the_others() -> None:
    texts = [
        rb'"\ud800"',
        rb'"\\ud800"',
        b"NaN",
        b"-Infinity",
        rb'["\uDfff\ud83d\ude00", 1]',
        b"7",
    ]

    assert parts(b"[" + b" , ".join(texts) + b"]") == texts


@pytest.mark.parametrize("raw", [b"", b" \r\n\t", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_a_file_of_nothing_but_white_space_has_no_value(raw: bytes) -> None:
    assert top_level(raw) is None


@pytest.mark.parametrize("raw", [b"[]", b"{}", b" [ \n ] ", b"\xef\xbb\xbf{\t}\n"])
def test_an_empty_container_has_no_parts(raw: bytes) -> None:
    assert parts(raw) == []


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b'[{"a": 1}, {"b": ', "half-written"),
        (b'[{"a": 1},', "half-written"),
        (b'[{"a": 1}', "half-written"),
        (b'{"a": "b', "half-written"),
        (b'{"a', "half-written"),
        (b'{"a"', "half-written"),
        (b'{"a":', "half-written"),
        (b"[", "half-written"),
        (b"{", "half-written"),
        (b"[1] [2]", "not-json"),
        (b"[1 2]", "not-json"),
        (b"[1,]", "not-json"),
        (b'{"a" 1}', "not-json"),
        (b"{a: 1}", "not-json"),
        (b'"undefined"', "wrong-shape"),
        (b"42", "wrong-shape"),
        (b"null", "wrong-shape"),
        (b"\x00\x00\x00", "wrong-shape"),
        (b'["\xff"]', "not-utf8"),
        (b'["\xed\xa0\x80"]', "not-utf8"),
        (b'["\xc3', "not-utf8"),
    ],
)
def test_a_broken_file_is_refused_with_a_code(raw: bytes, code: str) -> None:
    with pytest.raises(BrokenFileError) as caught:
        top_level(raw)

    assert caught.value.code == code


def test_every_prefix_of_a_file_is_broken_and_nothing_else_goes_wrong() -> None:
    raw = json.dumps([{"a": [1, {"b": 'x"]'}]}, "é", None], indent=2).encode()

    for end in range(1, len(raw)):
        with pytest.raises(BrokenFileError):
            top_level(raw[:end])


@given(st.lists(json_values), st.sampled_from([None, 1, 2, "\t"]))
def test_any_list_comes_apart_as_the_parser_says(
    values: list[object], indent: int | str | None
) -> None:
    raw = json.dumps(values, indent=indent, ensure_ascii=True).encode()

    assert [repr(json.loads(p)) for p in parts(raw)] == [repr(v) for v in values]


@given(st.dictionaries(st.text(), json_values), st.booleans())
def test_any_object_comes_apart_as_the_parser_says(
    values: dict[str, object], spaced: bool
) -> None:
    raw = json.dumps(values, indent=1 if spaced else None).encode()
    top = top_level(raw)
    assert top is not None

    found = {
        name_at(raw, start): json.loads(raw[value:end])
        for start, value, end in zip(top.starts, top.values, top.ends, strict=True)
    }

    assert repr(found) == repr(values)


@given(st.binary(max_size=60) | st.text(alphabet='[]{}",:1aN \\', max_size=30))
def test_no_bytes_whatever_make_it_fail_otherwise(raw: bytes | str) -> None:
    if isinstance(raw, str):
        raw = raw.encode()
    try:
        found = top_level(raw)
    except BrokenFileError as error:
        assert error.reason
    else:
        assert found is None or found.end <= len(raw)


@pytest.mark.parametrize("name", [rb"0\2", rb"a\x", rb"\u12g4", rb"\ud8", rb"\'"])
def test_a_member_name_with_an_unknown_escape_breaks_the_file(name: bytes) -> None:
    with pytest.raises(
        BrokenFileError, match="the member name at byte 1 has an escape"
    ):
        top_level(b'{"%b":1}' % name)


def test_every_escape_of_json_may_stand_in_a_member_name() -> None:
    found = top_level(rb'{"\"\\\/\b\f\n\r\t\u00e9\ud800":1}')

    assert found is not None
    assert len(found) == 1


@pytest.mark.parametrize("name", ["\x00", "\x00\x00\x00a", "a\x00", "\x01", "\n"])
def test_a_member_name_with_a_control_character_is_read_as_text(name: str) -> None:
    assert name_at(f'{{"{name}":1}}'.encode(), 1) == name
