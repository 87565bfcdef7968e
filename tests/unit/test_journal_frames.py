from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pend_storage.stores.json._journal.log_frames import (
    HEADER_SIZE,
    Damage,
    diagnose,
    encode_frame,
    read_frame,
    wanted_size,
)

PAYLOADS = st.binary(max_size=200).filter(lambda b: b"\0" not in b)
ZEROS = b"\0"


def chained(*payloads: bytes) -> tuple[bytes, list[int]]:
    """The frames of some payloads in a row, and where each begins."""
    data, chain, starts = b"", 0, []
    for payload in payloads:
        starts.append(len(data))
        frame, chain = encode_frame(payload, chain)
        data += frame
    return data, starts


@given(st.lists(PAYLOADS, min_size=1, max_size=5))
def test_frames_are_read_back_in_order(payloads: list[bytes]) -> None:
    data, _ = chained(*payloads)

    found, place, chain = [], 0, 0
    while (frame := read_frame(data, place, chain)) is not None:
        found.append(frame.payload)
        place, chain = frame.end, frame.chain

    assert (found, place) == (payloads, len(data))


def test_a_frame_is_a_line_of_text_with_its_payload_as_it_is() -> None:
    frame, chain = encode_frame(b'{"a":1}', 0)

    assert frame.endswith(b' {"a":1}\n')
    assert frame[:8] == b"00000007"
    assert chain == zlib.crc32(b'{"a":1}')


def test_a_frame_is_not_read_after_another_one_than_it_was_written_after() -> None:
    data, starts = chained(b"first", b"second")

    assert read_frame(data, starts[1], 0) is None


def test_every_cut_of_a_frame_is_torn() -> None:
    frame, _ = encode_frame(b'{"effects":[]}', 7)

    for size in range(1, len(frame)):
        assert read_frame(frame[:size], 0, 7) is None
        assert diagnose(frame[:size], 0).torn, size


@pytest.mark.parametrize("bit", [0x01, 0x10])
def test_every_changed_byte_of_a_frame_is_found_and_is_not_torn(bit: int) -> None:
    frame, _ = encode_frame(b'{"effects":[]}', 7)

    for place in range(len(frame)):
        changed = bytearray(frame)
        changed[place] ^= bit
        assert read_frame(bytes(changed), 0, 7) is None
        assert not diagnose(bytes(changed), 0).torn, place


def test_a_length_that_was_changed_is_not_taken_for_a_frame_cut_off() -> None:
    frame, _ = encode_frame(b"x" * 10, 0)
    longer = b"%08x" % 1000 + frame[8:]

    assert wanted_size(longer, 0) is None
    assert not diagnose(longer, 0).torn


@pytest.mark.parametrize("offset", [0, 100, 512])
def test_blocks_that_never_reached_the_disk_are_torn(offset: int) -> None:
    frame, _ = encode_frame(b"x" * 3000, 0)
    block = 512 - offset % 512

    lost_all = ZEROS * len(frame)
    lost_end = frame[:block] + ZEROS * (len(frame) - block)
    lost_start = ZEROS * block + frame[block:]
    lost_middle = frame[:block] + ZEROS * 1024 + frame[block + 1024 :]

    for tail in (lost_all, lost_end, lost_start, lost_middle):
        assert diagnose(tail, offset).torn


def test_a_single_nul_in_a_whole_frame_is_damage() -> None:
    frame, _ = encode_frame(b"x" * 3000, 0)
    changed = frame[:1000] + ZEROS + frame[1001:]

    assert diagnose(changed, 0) == Damage(
        torn=False, reason="the checksum of a frame is wrong"
    )


def test_lost_blocks_with_a_frame_behind_them_are_damage() -> None:
    data, starts = chained(b"x" * 1000, b"second")
    in_payload = data[:512] + ZEROS * 100 + data[612:]
    in_header = ZEROS * HEADER_SIZE + data[HEADER_SIZE:]

    assert starts[1] < len(data)
    assert not diagnose(in_payload, 0).torn
    assert not diagnose(ZEROS * 512 + data[512:], 0).torn
    assert not diagnose(in_header, 0).torn
