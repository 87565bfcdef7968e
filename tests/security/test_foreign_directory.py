"""A store that root opens in a directory of another user, who plants what he likes.

Through the library itself: no command line is there to become that user.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from pend_storage import crashpoints
from pend_storage.errors import PendStorageError
from pend_storage.legacy import MAP, RecordLayout
from pend_storage.pend import SCHEMA
from pend_storage.pend._files.documents import DocumentMapping
from pend_storage.stores.json import JsonStore
from tests.security.conftest import OTHER_USER, as_other_user

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

FILE: Final = "prices.json"
NESTED: Final = "more/names.json"
OWN: Final = ".pend-storage"
SECRET: Final = b"ROOT-ONLY"


def opened(directory: Path) -> JsonStore:
    layouts = [
        RecordLayout(name, DocumentMapping(name), shapes=(MAP,))
        for name in (FILE, NESTED)
    ]
    return JsonStore(
        SCHEMA,
        directory,
        layouts=layouts,
        checkpoint_interval=None,
        allow_foreign_owner=True,
    )


def use(directory: Path) -> None:
    """Open, commit, write the files, take a snapshot, close."""
    with contextlib.suppress(PendStorageError), opened(directory) as store:
        for name in (FILE, NESTED):
            store.legacy(name)["root"] = "1"
        with contextlib.suppress(PendStorageError):
            store.checkpoint()
        store.compact()


@pytest.fixture
def used(theirs: Path) -> Path:
    """The other user's directory, with his store, and an edit of a file of his."""
    with as_other_user():
        for name in (FILE, NESTED):
            (theirs / name).parent.mkdir(exist_ok=True)
            (theirs / name).write_text('{"a": "1"}')
            os.utime(theirs / name, (1, 1))
        with opened(theirs) as store:
            store.legacy(FILE)["b"] = "2"
        (theirs / FILE).write_text('{"a": "1", "b": "2", "c": "3"}')
        os.utime(theirs / FILE, (2, 2))
    return theirs


NAMES: Final = (
    FILE,
    NESTED,
    "more",
    OWN,
    f"{OWN}.lock",
    f"{OWN}.new",
    f".{FILE}.pend-new",
    *(
        f"{OWN}/{name}"
        for name in (
            "format",
            "end",
            "lock",
            "lock.turn",
            "checkpoint.lock",
            "checkpoint.lock.turn",
            "journal-00000001.jsonl",
            "journal-00000002.jsonl",
            "snapshot-00000001.jsonl",
            "snapshot-00000002.jsonl",
            "adoption.json",
            "kept",
            "views",
            f"views/{FILE}.view",
            f"views/{FILE}.next",
            f"views/{FILE}.old",
            f"views/{FILE}.prev",
        )
    ),
)


def link_to_secret(path: Path, roots: Path) -> None:
    path.symlink_to(roots / "secret")


def link_to_nothing(path: Path, roots: Path) -> None:
    path.symlink_to(roots / "made")


def link_to_directory(path: Path, roots: Path) -> None:
    path.symlink_to(roots)


def another_name(path: Path, roots: Path) -> None:
    os.seteuid(0)  # where the system lets users link files of others
    try:
        os.link(roots / "secret", path)
    finally:
        os.seteuid(OTHER_USER)


def pipe(path: Path, _: Path) -> None:
    os.mkfifo(path)


def directory(path: Path, _: Path) -> None:
    path.mkdir()


PLANTS: Final = (
    link_to_secret,
    link_to_nothing,
    link_to_directory,
    another_name,
    pipe,
    directory,
)


def outside(roots: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Return what is beside the other user's directory."""
    return {
        path.name: (
            path.stat().st_uid,
            path.stat().st_gid,
            stat.S_IMODE(path.stat().st_mode),
            path.read_bytes() if path.is_file() else b"",
        )
        for path in roots.iterdir()
    }


def leaks(place: Path) -> list[str]:
    """Return the files of root's making that hold the secret, in whatever form."""
    forms = (SECRET, base64.b64encode(SECRET)[:11], SECRET.hex().encode())
    return [
        str(path.relative_to(place))
        for path in place.rglob("*")
        if path.is_file()
        and not path.is_symlink()
        and path.stat().st_nlink == 1
        and any(form in path.read_bytes() for form in forms)
    ]


@pytest.mark.parametrize("plant", PLANTS, ids=lambda p: p.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_outside_is_made_changed_given_away_or_read(
    name: str, plant: Callable[[Path, Path], None], used: Path, secret: Path
) -> None:
    before = outside(secret.parent)
    path = used / name
    with as_other_user():
        if path.is_dir():
            path.rename(used / "aside")
        path.unlink(missing_ok=True)
        plant(path, secret.parent)
    if name.startswith(f"{OWN}."):  # these are used at the first opening
        (used / OWN).rename(used / "aside")

    use(used)
    use(used)

    assert outside(secret.parent) == before
    assert not leaks(used)


@pytest.mark.parametrize("name", [FILE, f".{FILE}.pend-new", f"{OWN}/views", OWN])
@pytest.mark.parametrize(
    "point",
    ["json.file-written", "json.file-noted", "json.file-swapped", "json.file-settled"],
)
def test_nor_if_it_is_planted_while_a_file_is_written(
    name: str, point: str, used: Path, secret: Path
) -> None:
    before = outside(secret.parent)
    path = used / name

    def plant(reached: str) -> None:
        if reached == point and not path.is_symlink():
            with as_other_user():
                if path.exists():
                    path.rename(used / "aside")
                path.symlink_to(secret.parent if path.suffix != ".json" else secret)

    with crashpoints.handled(plant):
        use(used)
    use(used)

    assert outside(secret.parent) == before
    assert not leaks(used)


def test_what_root_writes_belongs_to_the_other_user(used: Path) -> None:
    use(used)

    assert {path.lstat().st_uid for path in used.rglob("*")} == {OTHER_USER}
    with as_other_user(), opened(used) as store:
        assert dict(store.legacy(FILE)) == {"a": "1", "b": "2", "c": "3", "root": "1"}
        store.legacy(FILE)["d"] = "4"


def test_the_rows_of_the_other_user_do_not_choose_an_owner(used: Path) -> None:
    def lose() -> None:
        (used / FILE).unlink()
        (used / OWN / "views" / f"{FILE}.view").unlink()

    with as_other_user():
        with opened(used) as store:
            permissions = store.collection("legacy_files")
            found = permissions.get(f"{FILE}#permissions")
            assert found is not None
            kept = {**found.format, "owner": "root", "group": "root"}
            permissions.put(type(found)(file=found.file, format=kept))
            lose()  # a store that finds the file records its owner again
        lose()

    use(used)

    assert json.loads((used / FILE).read_text())["root"] == "1"
    assert (used / FILE).stat().st_uid == OTHER_USER


# -- modes -----------------------------------------------------------------------------------


@pytest.fixture
def plain_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("plain_umask")
def test_what_a_store_makes_is_for_its_owner(tmp_path: Path) -> None:
    use(tmp_path / "data")

    for path in (tmp_path / "data", *(tmp_path / "data").rglob("*")):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


@pytest.mark.usefixtures("plain_umask")
@pytest.mark.parametrize(("mode", "new"), [(0o600, 0o600), (0o644, 0o640)])
def test_a_new_file_is_no_more_readable_than_those_beside_it(
    mode: int, new: int, tmp_path: Path
) -> None:
    (tmp_path / "other.json").touch()
    (tmp_path / "other.json").chmod(mode)

    use(tmp_path)

    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == new
    assert stat.S_IMODE((tmp_path / NESTED).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / NESTED).parent.stat().st_mode) == 0o700
