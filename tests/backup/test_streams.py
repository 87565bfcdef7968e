"""Sealed streams: every flipped byte and every missing one is found."""

from __future__ import annotations

import os
import random
import stat
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import pyrage
import pytest

from pend_storage.backup._age import IDENTITY_VARIABLE, read_identities
from pend_storage.backup._manifest import Part
from pend_storage.backup._opening import open_repository
from pend_storage.backup._repository import Repository
from pend_storage.backup._streams import Keys, put_stream, read_stream, verify_stored
from pend_storage.errors import ConfigError, CorruptFile

MINE: Final = pyrage.x25519.Identity.generate()
OTHER: Final = pyrage.x25519.Identity.generate()
ENCRYPTED: Final = Keys([str(MINE.to_public())], [str(MINE)])
PLAIN: Final = Keys()
BOTH: Final = pytest.mark.parametrize("keys", [PLAIN, ENCRYPTED], ids=["plain", "age"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "repository"


@pytest.fixture
def repository(path: Path) -> Repository:
    return open_repository(str(path), create=True)


def lines(count: int, seed: int = 1) -> Iterator[bytes]:
    source = random.Random(seed)
    for number in range(count):
        yield b'["users","%08x",%d]\n' % (source.getrandbits(32), number)


def content_of(repository: Repository, part: Part, keys: Keys) -> bytes:
    return b"".join(read_stream(repository, part, keys))


@BOTH
@pytest.mark.parametrize("count", [0, 1, 40_000])
def test_what_is_written_is_read(
    repository: Repository, path: Path, keys: Keys, count: int
) -> None:
    content = b"".join(lines(count))
    part = put_stream(
        repository,
        "backups/a/rows-0001",
        lines(count),
        keys,
        collection="users",
        items=9,
    )

    assert content_of(repository, part, keys) == content
    ending = ".zst.age" if keys is ENCRYPTED else ".zst"
    assert part.name == f"backups/a/rows-0001{ending}"
    assert part.encrypted == (keys is ENCRYPTED)
    assert (part.collection, part.items) == ("users", 9)
    assert part.content_size == len(content)
    stored = (path / part.name).read_bytes()
    assert part.size == len(stored)
    if count > 1:
        assert len(stored) < len(content)
    assert (b"users" in stored) is False or keys is PLAIN
    verify_stored(repository, part)


def in_place_of(part: Part, path: Path, data: bytes) -> Part:
    (path / part.name).write_bytes(data)
    return part


@BOTH
def test_a_flipped_bit_of_every_byte_is_found(
    repository: Repository, path: Path, keys: Keys
) -> None:
    part = put_stream(repository, "x", [b"one small object " * 3], keys)
    stored = (path / part.name).read_bytes()
    for place in range(len(stored)):
        changed = stored[place] ^ 1 << place % 8
        damaged = stored[:place] + bytes([changed]) + stored[place + 1 :]
        must_be_found(repository, in_place_of(part, path, damaged), keys)


@BOTH
def test_every_truncation_is_found(
    repository: Repository, path: Path, keys: Keys
) -> None:
    part = put_stream(repository, "x", [b"one small object " * 3], keys)
    stored = (path / part.name).read_bytes()
    for size in range(len(stored)):
        must_be_found(repository, in_place_of(part, path, stored[:size]), keys)


@BOTH
def test_damage_of_every_block_of_a_longer_object_is_found(
    repository: Repository, path: Path, keys: Keys
) -> None:
    noise = random.Random(2)
    part = put_stream(
        repository, "x", (noise.randbytes(65_536) for _ in range(8)), keys
    )
    stored = (path / part.name).read_bytes()
    for place in range(0, len(stored), 32_768):
        flipped = bytes([stored[place] ^ 0x80])
        for damaged in (
            stored[:place] + flipped + stored[place + 1 :],
            stored[:place],
            stored[:place] + stored[place + 32_768 :],
            stored + stored[place : place + 32_768],
        ):
            must_be_found(repository, in_place_of(part, path, damaged), keys)


def must_be_found(repository: Repository, part: Part, keys: Keys) -> None:
    with pytest.raises(CorruptFile, match=part.name):
        content_of(repository, part, keys)
    with pytest.raises(CorruptFile, match=part.name):
        verify_stored(repository, part)


def recorded_as_stored(part: Part, data: bytes) -> Part:
    """Return a part whose manifest was made for what is stored: the inner checks remain."""
    import hashlib

    return msgspec.structs.replace(
        part, size=len(data), sha256=hashlib.sha256(data).hexdigest()
    )


@BOTH
def test_the_inner_checks_find_damage_that_the_outer_hash_has_in_it(
    repository: Repository, path: Path, keys: Keys
) -> None:
    part = put_stream(repository, "x", lines(2_000), keys)
    stored = (path / part.name).read_bytes()
    middle = len(stored) // 2
    for damaged in (
        stored[:middle] + bytes([stored[middle] ^ 1]) + stored[middle + 1 :],
        stored[:-1],
        stored[:middle],
        stored + b"x",
        stored + stored,
    ):
        odd = recorded_as_stored(in_place_of(part, path, damaged), damaged)
        with pytest.raises(CorruptFile, match=part.name):
            content_of(repository, odd, keys)


@BOTH
def test_another_content_of_a_whole_object_is_found(
    repository: Repository, keys: Keys
) -> None:
    part = put_stream(repository, "x", lines(100, seed=1), keys)
    other = put_stream(repository, "x", lines(100, seed=2), keys)
    mixed = msgspec.structs.replace(
        other, content_sha256=part.content_sha256, content_size=part.content_size
    )
    with pytest.raises(CorruptFile, match="SHA-256 of its content"):
        content_of(repository, mixed, keys)
    short = msgspec.structs.replace(other, content_size=other.content_size - 1)
    with pytest.raises(CorruptFile, match="has more than its"):
        content_of(repository, short, keys)
    long = msgspec.structs.replace(other, content_size=other.content_size + 1)
    with pytest.raises(CorruptFile, match="size of its content"):
        content_of(repository, long, keys)


def test_the_last_piece_is_given_out_after_everything_was_verified(
    repository: Repository,
) -> None:
    part = put_stream(repository, "x", lines(20_000), PLAIN)
    wrong = msgspec.structs.replace(part, content_sha256="0" * 64)
    given: list[bytes] = []
    with pytest.raises(CorruptFile):
        given.extend(read_stream(repository, wrong, PLAIN))
    assert sum(map(len, given)) < part.content_size


def test_a_missing_object_is_not_found(repository: Repository) -> None:
    part = put_stream(repository, "x", [b"x"], ENCRYPTED)
    repository.delete(part.name)
    with pytest.raises(FileNotFoundError):
        content_of(repository, part, ENCRYPTED)


@pytest.mark.parametrize("keys", [PLAIN, Keys(identities=[str(OTHER)])])
def test_another_key_is_no_damage(
    repository: Repository, path: Path, keys: Keys
) -> None:
    part = put_stream(repository, "x", lines(10), ENCRYPTED)
    with pytest.raises(ConfigError, match="no identity that was given can decrypt it"):
        content_of(repository, part, keys)
    verify_stored(repository, part)

    stored = (path / part.name).read_bytes()
    in_place_of(part, path, stored[:-1])
    with pytest.raises(CorruptFile):
        content_of(repository, part, keys)


def test_one_of_several_identities_is_enough(repository: Repository) -> None:
    part = put_stream(
        repository, "x", [b"x"], Keys([str(OTHER.to_public()), str(MINE.to_public())])
    )
    assert content_of(repository, part, Keys(identities=[str(MINE)])) == b"x"
    both = Keys(identities=[str(OTHER), str(MINE)])
    assert content_of(repository, part, both) == b"x"


@BOTH
def test_an_error_of_the_content_passes_and_leaves_nothing(
    repository: Repository, keys: Keys
) -> None:
    def content() -> Iterator[bytes]:
        yield from lines(20_000)
        raise KeyError("of the source")

    with pytest.raises(KeyError, match="of the source"):
        put_stream(repository, "backups/a/x", content(), keys)
    assert repository.list("backups/") == []
    assert no_thread_is_left()


@BOTH
def test_a_reader_may_stop(repository: Repository, keys: Keys) -> None:
    part = put_stream(repository, "x", lines(100_000), keys)
    stream = read_stream(repository, part, keys)
    next(stream)
    del stream
    assert no_thread_is_left()


def no_thread_is_left() -> bool:
    return not any(
        each.name.startswith("pend-backup") for each in threading.enumerate()
    )


@BOTH
def test_memory_is_bounded(repository: Repository, keys: Keys) -> None:
    def much() -> Iterator[bytes]:
        piece = os.urandom(1 << 20)
        for number in range(32):
            yield bytes([number]) + piece

    tracemalloc.start()
    try:
        part = put_stream(repository, "x", much(), keys)
        for _ in read_stream(repository, part, keys):
            pass
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_a_bomb_is_stopped(repository: Repository) -> None:
    part = put_stream(repository, "x", (bytes(1 << 20) for _ in range(96)), PLAIN)
    assert part.size < 1 << 20
    small = msgspec.structs.replace(part, content_size=1000)
    with pytest.raises(CorruptFile, match="more than its 1,000 bytes"):
        content_of(repository, small, PLAIN)


# -- keys ------------------------------------------------------------------------------


def test_keys_that_are_none_are_refused_without_showing_secrets() -> None:
    secret = str(MINE)
    public = str(MINE.to_public())
    for encrypt_to, identities in (
        ([secret], []),
        (["nonsense"], []),
        ([public[:-1]], []),
        ([], [secret[:-1]]),
        ([], [public]),
    ):
        with pytest.raises(ConfigError) as caught:
            Keys(encrypt_to, identities)
        assert secret[20:40] not in str(caught.value)
        assert caught.value.__cause__ is None or secret[20:40] not in str(
            caught.value.__cause__
        )
    assert secret[20:40] not in repr(ENCRYPTED)
    assert secret[20:40] not in repr(vars(ENCRYPTED))


def test_identities_come_from_a_file_or_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "identity"
    file.write_text(f"# created by age-keygen\n# public key\n\n{OTHER}\n{MINE}\n")
    file.chmod(0o600)
    assert read_identities(file, {}) == [str(OTHER), str(MINE)]
    assert read_identities(None, {}) == []
    environment = {IDENTITY_VARIABLE: f"{MINE}\n"}
    assert read_identities(file, environment) == [str(MINE)]


@pytest.mark.parametrize(
    "bit", [stat.S_IRGRP, stat.S_IROTH, stat.S_IWOTH, stat.S_IWGRP]
)
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, bit: int) -> None:
    file = tmp_path / "identity"
    file.write_text(f"{MINE}\n")
    file.chmod(0o600 | bit)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_identities(file, {})


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"age1abc\n", b"\xff\xfe"])
def test_a_file_without_identities_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "identity"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="age-keygen"):
        read_identities(file, {})
    with pytest.raises(ConfigError):
        read_identities(tmp_path / "missing", {})


def test_a_file_of_secrets_that_holds_something_else_is_not_shown(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError) as caught:
        read_identities(None, {IDENTITY_VARIABLE: "hush-hush"})
    assert "hush" not in str(caught.value)
