"""Repository in a folder: whole objects, or none, for their owner only."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pend_storage import crashpoints
from pend_storage._files import directory
from pend_storage.backup import _folder_repository as folder_repository
from pend_storage.backup._opening import open_repository
from pend_storage.backup._repository import Repository
from pend_storage.errors import ConfigError, CorruptFile, StoreUnavailable
from pend_storage.testing import run_until_crash
from pend_storage.testing.crash import Report


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "backups of us"


@pytest.fixture
def repository(path: Path) -> Repository:
    return open_repository(str(path), create=True)


def names(repository: Repository, prefix: str = "") -> list[str]:
    return [each.name for each in repository.list(prefix)]


def below(path: Path) -> list[str]:
    return sorted(str(each.relative_to(path)) for each in path.rglob("*"))


def test_what_is_put_can_be_read_listed_and_deleted(repository: Repository) -> None:
    assert repository.put("backups/a/rows-0001.zst", [b"one", b"", b"two"]) == 6
    repository.put("backups/b/manifest.json", [])

    assert repository.read("backups/a/rows-0001.zst") == b"onetwo"
    assert b"".join(repository.get("backups/b/manifest.json")) == b""
    listed = repository.list("backups/")
    assert [(each.name, each.size) for each in listed] == [
        ("backups/a/rows-0001.zst", 6),
        ("backups/b/manifest.json", 0),
    ]
    assert abs(listed[0].modified.timestamp() - time.time()) < 600
    assert names(repository, "backups/b/") == ["backups/b/manifest.json"]

    repository.delete("backups/a/rows-0001.zst")
    repository.delete("backups/a/rows-0001.zst")
    repository.delete("nowhere/at/all")
    assert names(repository) == ["backups/b/manifest.json", "repository.json"]


def test_what_is_not_there_is_not_found(repository: Repository) -> None:
    with pytest.raises(FileNotFoundError):
        repository.read("backups/a/manifest.json")
    assert repository.list("log/") == []
    with pytest.raises(CorruptFile, match="more than 4 bytes"):
        repository.read("repository.json", limit=4)


def test_the_folder_of_a_deleted_backup_goes_with_its_last_object(
    repository: Repository, path: Path
) -> None:
    repository.put("backups/a/one", [b"1"])
    repository.put("backups/a/two", [b"2"])
    repository.delete("backups/a/one")
    assert (path / "backups/a").is_dir()
    repository.delete("backups/a/two")
    assert below(path) == ["backups", "repository.json"]


def test_create_only_replaces_nothing(repository: Repository) -> None:
    repository.put("facts/a.json", [b"first"], create_only=True)
    with pytest.raises(FileExistsError):
        repository.put("facts/a.json", [b"second"], create_only=True)
    assert repository.read("facts/a.json") == b"first"

    repository.put("facts/a.json", [b"third"])
    assert repository.read("facts/a.json") == b"third"


def test_create_only_holds_on_a_file_system_that_only_has_links(
    repository: Repository, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "renameat2", lambda *_, **__: False)
    test_create_only_replaces_nothing(repository)
    assert below(path) == ["facts", "facts/a.json", "repository.json"]


def test_an_unfinished_file_that_was_removed_is_no_missing_object(
    repository: Repository, path: Path
) -> None:
    def content() -> Iterator[bytes]:
        yield b"x"
        for each in path.rglob(".*"):
            each.unlink()

    for create_only in (True, False):
        with pytest.raises(StoreUnavailable, match="removed by another program"):
            repository.put("x", content(), create_only=create_only)


def test_of_two_creators_at_the_same_time_one_succeeds(repository: Repository) -> None:
    # Both have seen that there is no such object, and have written theirs.
    barrier = threading.Barrier(2)
    outcomes: list[bytes | str] = []

    def content(mine: bytes) -> Iterator[bytes]:
        barrier.wait(30)
        yield mine

    def create(mine: bytes) -> None:
        try:
            repository.put("backups/a/manifest.json", content(mine), create_only=True)
            outcomes.append(mine)
        except FileExistsError:
            outcomes.append("taken")

    threads = [threading.Thread(target=create, args=(b"%d" % n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(map(type, outcomes), key=str) == [bytes, str]
    winner = next(each for each in outcomes if isinstance(each, bytes))
    assert repository.read("backups/a/manifest.json") == winner


def test_everything_is_for_its_owner_only(repository: Repository, path: Path) -> None:
    before = os.umask(0)
    try:
        repository.put("backups/a/manifest.json", [b"{}"])
        repository.put("log/1.zst", [b"{}"], create_only=True)
        with repository.lease("create"):
            pass
    finally:
        os.umask(before)
    modes = {
        str(each.relative_to(path)): stat.S_IMODE(each.stat().st_mode)
        for each in [path, *path.rglob("*")]
    }
    wanted = {name: 0o700 if (path / name).is_dir() else 0o600 for name in modes}
    assert modes == wanted


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_does_not_lock_the_owner_out(repository: Repository, path: Path) -> None:
    os.chown(path, 4321, 4321)
    repository.put("backups/a/manifest.json", [b"{}"])
    below_root = [each for each in path.rglob("*") if each.name != "repository.json"]
    assert {(each.stat().st_uid, each.stat().st_gid) for each in below_root} == {
        (4321, 4321)
    }


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../b",
        "a//b",
        "a/",
        ".hidden",
        "a/.new",
        "a\0b",
        "ä",
    ],
)
def test_a_name_leads_nowhere_else(repository: Repository, name: str) -> None:
    for act in (
        lambda: repository.put(name, [b"x"]),
        lambda: repository.read(name),
        lambda: repository.delete(name),
    ):
        with pytest.raises(ConfigError, match="not the name of an object"):
            act()


def test_no_link_is_followed(
    repository: Repository, path: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "outside").mkdir()
    repository.put("log/1", [b"x"])
    (path / "log/2").symlink_to(tmp_path / "secret")
    (path / "facts").symlink_to(tmp_path / "outside")

    with pytest.raises(ConfigError, match="symbolic link"):
        repository.read("log/2")
    with pytest.raises(ConfigError, match="symbolic link"):
        repository.put("facts/a", [b"x"])
    assert names(repository) == ["log/1", "repository.json"]
    assert not list((tmp_path / "outside").iterdir())


def fails_with(number: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("step", ["write_all", "sync"])
def test_a_full_disk_leaves_nothing(
    repository: Repository, path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = below(path)
    monkeypatch.setattr(folder_repository, step, fails_with(errno.ENOSPC))
    with pytest.raises(StoreUnavailable, match="not enough space"):
        repository.put("repository-2.json", [b"x"])
    assert below(path) == before


def test_a_file_size_limit_leaves_nothing(path: Path) -> None:
    open_repository(str(path), create=True)
    before = below(path)
    outcome = run_in_child(put_more_than_the_limit, str(path))
    assert "not enough space on the disk, or a limit on file size" in outcome
    assert below(path) == before


def put_more_than_the_limit(report: Report, path: str) -> None:
    import resource
    import signal

    repository = open_repository(path)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    try:
        repository.put("big", (b"x" * 65_536 for _ in range(100)))
    except StoreUnavailable as error:
        report(str(error))


def run_in_child(target: Callable[..., None], *args: object) -> str:
    from pend_storage.testing import Child

    with Child(target, *args) as child:
        return str(child.finish().reports[0])


def test_an_error_of_the_content_passes_as_it_is(
    repository: Repository, path: Path
) -> None:
    def content() -> Iterator[bytes]:
        yield b"a part"
        raise BrokenPipeError("of the source")

    before = below(path)
    with pytest.raises(BrokenPipeError, match="of the source"):
        repository.put("x", content())
    assert below(path) == before


def put_one(report: Report, path: str, *, create_only: bool) -> None:
    repository = open_repository(path)
    repository.put("backups/a/manifest.json", [b"{}"], create_only=create_only)


@pytest.mark.parametrize("create_only", [True, False])
@pytest.mark.parametrize("point", sorted(crashpoints.points("repository.")))
def test_a_writer_that_dies_leaves_all_or_nothing_listed(
    path: Path, point: str, create_only: bool
) -> None:
    repository = open_repository(str(path), create=True)
    if create_only:
        run_until_crash(put_created, str(path), point=point)
    else:
        run_until_crash(put_replacing, str(path), point=point)

    whole = ["backups/a/manifest.json"] if point == "repository.named" else []
    assert names(repository, "backups/") == whole
    for name in whole:
        assert repository.read(name) == b"{}"

    make_old(path)
    again = open_repository(str(path))
    if not whole:
        again.put("backups/a/manifest.json", [b"{}"], create_only=True)
    again.put("log/1", [b"x"])
    assert below(path) == [
        "backups",
        "backups/a",
        "backups/a/manifest.json",
        "log",
        "log/1",
        "repository.json",
    ]


def put_created(report: Report, path: str) -> None:
    put_one(report, path, create_only=True)


def put_replacing(report: Report, path: str) -> None:
    put_one(report, path, create_only=False)


def make_old(path: Path, seconds: float = 3_600) -> None:
    for each in path.rglob(".*"):
        os.utime(each, (time.time() - seconds,) * 2)


def test_the_file_of_a_writer_that_lives_is_no_leftover(
    repository: Repository, path: Path
) -> None:
    def content() -> Iterator[bytes]:
        yield b"one"
        make_old(path)
        assert open_repository(str(path)).remove_leftovers() == 0
        yield b"two"

    repository.put("backups/a/rows", content())
    assert repository.read("backups/a/rows") == b"onetwo"


def test_leftovers_without_locks_go_after_a_day(
    repository: Repository, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = path / ".0123456789.new"
    left.write_bytes(b"x")
    monkeypatch.setattr(fcntl, "flock", fails_with(errno.ENOLCK))
    make_old(path)
    assert repository.remove_leftovers() == 0
    make_old(path, 100_000)
    assert repository.remove_leftovers() == 1
    assert not left.exists()


def test_it_says_how_much_space_is_left(repository: Repository) -> None:
    free = repository.free_bytes()
    assert free is not None
    assert free > 0


# -- opening ---------------------------------------------------------------------------


def test_there_has_to_be_a_repository(tmp_path: Path) -> None:
    for url in (str(tmp_path), (tmp_path / "no").as_uri(), f"{tmp_path}/a/b"):
        with pytest.raises(ConfigError, match="no repository of backups at"):
            open_repository(url)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wallet-db.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"wallet-db\.json.* is no repository"):
        open_repository(str(tmp_path), create=True)
    assert below(tmp_path) == ["wallet-db.json"]


def test_an_empty_file_system_is_a_place(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    first = open_repository(tmp_path.as_uri(), create=True)
    assert names(first) == ["repository.json"]
    text = first.read("repository.json")
    again = open_repository(tmp_path.as_uri(), create=True)
    assert again.read("repository.json") == text


@pytest.mark.parametrize(
    ("layout", "message"),
    [(3, "newer version of pend_storage.*Upgrade it"), (1, "has layout 1")],
)
def test_another_layout_is_refused(path: Path, layout: int, message: str) -> None:
    path.mkdir()
    (path / "repository.json").write_text(f'{{"layout": {layout}}}')
    with pytest.raises(ConfigError, match=message):
        open_repository(str(path), create=True)


def test_a_damaged_description_is_refused(path: Path) -> None:
    path.mkdir()
    (path / "repository.json").write_text('{"layout": ')
    with pytest.raises(CorruptFile, match=r"repository\.json"):
        open_repository(str(path))


@pytest.mark.parametrize(
    "url",
    [
        "relative/path",
        "",
        "ftp://host/x",
        "file://host/x",
        "s3://",
        "file:relative",
        "[::1",
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        open_repository(url)


def test_an_address_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError) as caught:
        open_repository("s3://key:hush-hush@bucket/prefix")
    assert "hush" not in str(caught.value)


@pytest.fixture
def open_place() -> Iterator[Path]:
    """Make a directory that every user may enter."""
    place = Path(tempfile.mkdtemp(prefix="pend-open-"))
    place.chmod(0o755)
    yield place
    for each in place.rglob("*"):
        each.chmod(0o700)
    shutil.rmtree(place)


def test_looking_needs_no_right_to_write(open_place: Path) -> None:
    path = open_place / "repository"
    repository = open_repository(str(path), create=True)
    repository.put("log/1", [b"x"])
    for each in [path, *path.rglob("*")]:
        each.chmod(0o500 if each.is_dir() else 0o400)
    assert run_in_child(look, str(path)) == "[b'x', ['log/1', 'repository.json']]"


def look(report: Report, path: str) -> None:
    drop_rights(path)
    repository = open_repository(path)
    report([repository.read("log/1"), names(repository)])
    with pytest.raises(ConfigError, match="permission denied"):
        repository.put("log/2", [b"x"])


def drop_rights(path: str) -> None:
    """Become another user where this one is root, who may do everything."""
    if os.geteuid() == 0:
        for each in [Path(path), *Path(path).rglob("*")]:
            os.chown(each, 65_534, 65_534)
        os.setgroups([])
        os.setgid(65_534)
        os.setuid(65_534)
