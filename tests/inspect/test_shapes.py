"""Shapes: what is guessed, how sure it is, and when it is a doubt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pend_storage.errors import ConfigError
from pend_storage.inspect import Shape, inspect_directory
from pend_storage.sample_data import FILES, generate
from tests.inspect.zoo import AMBIGUOUS, SHAPES, put

_PEND = {
    **dict.fromkeys(
        [
            "admin-logs.json",
            "admin-opportunities.json",
            "explorer-data/full-chain-history.json",
            "server-logs.json",
        ],
        Shape.WRAPPED_LIST,
    ),
    **dict.fromkeys(
        [
            "explorer-data/persistent-transactions.json",
            "explorer-data/transactions-log.json",
            "explorer-data/wallets-directory.json",
        ],
        Shape.LIST,
    ),
    "explorer-data/live-stats.json": Shape.OBJECT,
}
"""The others are maps."""


@pytest.mark.parametrize("name", SHAPES)
def test_the_shape_of_a_file_is_recognised(name: str, tmp_path: Path) -> None:
    content, shape = SHAPES[name]
    put(tmp_path, name, content)

    (file,) = inspect_directory(tmp_path).files

    assert (file.shape, file.is_sure) == (shape, True), file.guesses


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_nobody_can_tell_is_a_doubt_with_a_runner_up(
    name: str, tmp_path: Path
) -> None:
    put(tmp_path, name, AMBIGUOUS[name])

    (file,) = inspect_directory(tmp_path).files

    assert not file.is_sure
    assert file.runner_up is not None
    assert {file.shape, file.runner_up.shape} == {Shape.MAP, Shape.OBJECT}


@pytest.mark.parametrize("irregular", [0.0, 0.05])
@pytest.mark.parametrize("users", [5, 20, 60])
@pytest.mark.parametrize("seed", range(3))
def test_all_files_of_a_pend_server_are_recognised(
    seed: int, users: int, irregular: float, tmp_path: Path
) -> None:
    generate(tmp_path, users=users, irregular=irregular, seed=seed)

    found = {f.file: f for f in inspect_directory(tmp_path).files}

    wrong = {
        name: file.guesses
        for name, file in found.items()
        if file.shape is not _PEND.get(name, Shape.MAP) or not file.is_sure
        if file.shape is not Shape.EMPTY  # of a few users none has a credential
    }
    assert len(found) == len(FILES) == 16
    assert not wrong


def test_a_folder_with_a_file_for_each_record_is_one_report(tmp_path: Path) -> None:
    for name in ("ann", "bob", "eve", "kim"):
        put(tmp_path, f"users/{name}.json", {"name": name, "age": 3, "tags": []})
    put(tmp_path, "config.json", {"port": 1, "host": "x", "debug": True})

    found = {f.file: f for f in inspect_directory(tmp_path).files}

    assert found.keys() == {"users/*.json", "config.json"}
    users = found["users/*.json"]
    assert (users.shape, users.records, users.files) == (Shape.FILES, 4, 4)
    assert users.is_sure
    assert not users.hazards


def test_the_files_of_a_folder_may_be_declared_one_by_one(tmp_path: Path) -> None:
    for name in ("ann", "bob", "eve"):
        put(tmp_path, f"users/{name}.json", {"name": name, "age": 3, "tags": []})

    said = {"users/*.json": Shape.DOCUMENTS}
    report = inspect_directory(tmp_path, shapes=said)

    assert [file.file for file in report.files] == [
        f"users/{name}.json" for name in ("ann", "bob", "eve")
    ]
    assert {file.shape for file in report.files} == {Shape.DOCUMENTS}
    assert not report.has_doubts


def test_files_that_are_not_alike_are_no_records(tmp_path: Path) -> None:
    put(tmp_path, "conf/web.json", {"port": 1, "host": "x", "debug": True})
    put(tmp_path, "conf/mail.json", {"smtp": "a", "from": "b", "tls": True})
    put(tmp_path, "conf/bot.json", {"prefix": "!", "owner": 5, "intents": []})

    assert len(inspect_directory(tmp_path).files) == 3


def test_a_shape_that_is_said_is_taken(tmp_path: Path) -> None:
    put(tmp_path, "alice.json", {"alice": 3})

    report = inspect_directory(tmp_path, shapes={"alice.json": Shape.MAP})

    (file,) = report.files
    assert (file.shape, file.confidence) == (Shape.MAP, 1.0)
    assert file.records == 1
    assert not report.has_doubts


def test_a_key_that_is_said_is_taken(tmp_path: Path) -> None:
    rows = [{"code": f"c{n}", "id": n, "name": "x"} for n in range(9)]
    put(tmp_path, "rooms.json", rows)

    report = inspect_directory(tmp_path, keys={"rooms.json": ("code",)})

    assert report.files[0].parts[0].key == ("code",)


@pytest.mark.parametrize(
    "said", [{"no.json": Shape.MAP}, {"other/*.json": Shape.FILES}]
)
def test_a_file_that_is_not_there_cannot_be_said(
    said: dict[str, Shape], tmp_path: Path
) -> None:
    put(tmp_path, "rooms.json", [])

    with pytest.raises(ConfigError, match=r"no file.*rooms\.json"):
        inspect_directory(tmp_path, shapes=said)


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        inspect_directory(tmp_path / "dat")


def test_wrapped_records_are_found_where_they_stand(tmp_path: Path) -> None:
    put(tmp_path, "lowdb.json", SHAPES["lowdb.json"][0])

    (file,) = inspect_directory(tmp_path).files

    assert [(part.path, part.shape, part.records) for part in file.parts] == [
        (("posts",), Shape.LIST, 4),
        (("users",), Shape.LIST, 3),
    ]


def test_a_large_map_is_recognised_by_a_sample(tmp_path: Path) -> None:
    content = {f"{n:x}": {"n": n, "m": [n]} for n in range(5_000)}
    (tmp_path / "map.json").write_text(json.dumps(content))

    (file,) = inspect_directory(tmp_path).files

    assert (file.shape, file.records) == (Shape.MAP, 5_000)


@pytest.mark.parametrize("twice", [0, 3])
def test_what_is_different_is_counted_in_large_files_too(
    twice: int, tmp_path: Path
) -> None:
    rows = [{"id": max(n, twice), "n": n % 7} for n in range(70_000)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))

    (part,) = inspect_directory(tmp_path).files[0].parts

    ids, sevens = part.fields
    assert (ids.distinct, sevens.distinct) == (70_000 - twice, 7)
    assert part.duplicate_keys == twice
    assert ids.is_unique is (twice == 0)


def test_an_empty_text_is_no_key(tmp_path: Path) -> None:
    rows = [{"id": "" if n == 3 else f"i{n}", "slug": f"s{n}"} for n in range(9)]
    put(tmp_path, "rows.json", rows)

    (part,) = inspect_directory(tmp_path).files[0].parts

    assert part.key == ("slug",)
