"""Opening of a repository by its address, and the making of a new one."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from pend_storage._files.by_path import make_directories
from pend_storage._files.directory import Directory
from pend_storage._files.failures import translate
from pend_storage._files.names import TEMPORARY
from pend_storage._shown import shown
from pend_storage.backup._folder_repository import FolderRepository
from pend_storage.backup._repository import LAYOUT, Repository
from pend_storage.errors import ConfigError, CorruptFile

__all__ = ["open_repository"]

_DESCRIPTION: Final = "repository.json"
_LARGEST: Final = 1 << 16
_EMPTY: Final = frozenset({"lost+found", ".snapshot", ".DS_Store"})
"""Names that an empty file system has of itself."""
_FORMS: Final = "file:///PATH, or s3://BUCKET/PREFIX"


class _Description(msgspec.Struct, kw_only=True):
    """Content of ``repository.json``."""

    layout: int
    id: str = ""
    created_at: str = ""


def open_repository(url: str, *, create: bool = False) -> Repository:
    """Open a repository. Nothing is written, and no right to write is needed.

    Args:
        url: ``file:///path``, an absolute path, or ``s3://bucket/prefix``.
            Endpoint, region and credentials of a bucket are those of the environment:
            ``AWS_...``.
        create: make it where there is none.

    Raises:
        ConfigError: the address is wrong, there is no repository, a permission is missing,
            a newer version of the library made it, or the place is used for something else.
        CorruptFile: its description is damaged.
        StoreUnavailable: it cannot be reached.
    """
    parts = _split(url)
    if parts.scheme == "s3":
        return _opened(_bucket(parts), create=create)
    path = _path(url, parts)
    if create:
        _make_folder(path)
    try:
        root = Directory(path)
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(path.as_uri()) from None
    except OSError as error:
        raise translate(error, path) from error
    try:
        return _opened(FolderRepository(root), create=create, root=root)
    except BaseException:
        root.close()
        raise


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        host = parts.hostname  # raises, too
    except ValueError:
        parts, host = SplitResult("", "", "", "", ""), None
    if parts.username or parts.password:
        raise ConfigError(
            "the address of the repository has a user or a password in it. Take it out, "
            "and put credentials into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    known = {"file", "s3", ""}
    if parts.scheme not in known or (parts.scheme == "s3" and not host):
        raise ConfigError(
            f"{shown(url)} is not the address of a repository. Use {_FORMS}."
        )
    return parts


def _path(url: str, parts: SplitResult) -> Path:
    path = Path(unquote(parts.path) if parts.scheme else url)
    if parts.scheme and parts.netloc not in {"", "localhost"}:
        raise ConfigError(f"{shown(url)} names a host. Use {_FORMS}.")
    if not path.is_absolute() or "\0" in str(path):
        raise ConfigError(f"{shown(url)} is not an absolute path. Use {_FORMS}.")
    return path


def _bucket(parts: SplitResult) -> Repository:
    from pend_storage.backup import _object_repository  # noqa: PLC0415 - optional

    return _object_repository.open_bucket(parts.netloc, parts.path.strip("/"))


def _make_folder(path: Path) -> None:
    try:
        make_directories(path)
    except OSError as error:
        raise translate(error, path) from error


def _opened(
    repository: Repository, *, create: bool, root: Directory | None = None
) -> Repository:
    """Verify the description of a repository, or write it."""
    try:
        text = repository.read(_DESCRIPTION, limit=_LARGEST)
    except FileNotFoundError:
        if not create:
            raise _missing(repository.url) from None
        text = _created(repository, root)
    try:
        layout = msgspec.json.decode(text, type=_Description).layout
    except msgspec.DecodeError as error:
        place = f"{repository.url}/{_DESCRIPTION}"
        raise CorruptFile(f"it is no description ({error})", path=place) from error
    if layout > LAYOUT:
        raise ConfigError(
            f"the repository {repository.url} was written by a newer version of "
            f"pend_storage (layout {layout}; this one knows {LAYOUT}). Upgrade it."
        )
    if layout < LAYOUT:
        raise ConfigError(
            f"the repository {repository.url} has layout {layout}, which this version of "
            "pend_storage cannot read. Name another place for the repository."
        )
    return repository


def _created(repository: Repository, root: Directory | None) -> bytes:
    """Write the description of a new repository, and return the one that is there then."""
    _require_empty(repository, root)
    repository.require_exclusive_creation()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    made = _Description(layout=LAYOUT, id=secrets.token_hex(16), created_at=now)
    text = msgspec.json.encode(made)
    try:
        repository.put(_DESCRIPTION, [text], create_only=True)
    except FileExistsError:  # another process was faster
        return repository.read(_DESCRIPTION, limit=_LARGEST)
    return text


def _require_empty(repository: Repository, root: Directory | None) -> None:
    if root is None:
        found = [each.name for each in repository.list("")]
        names = [name for name in found if not name.startswith("leases/")]
    else:
        try:
            names = root.names()
        except OSError as error:
            raise translate(error, root.path) from error
    strange = sorted(
        name
        for name in names
        if name not in _EMPTY | {_DESCRIPTION} and not name.endswith(TEMPORARY)
    )
    if strange:
        raise ConfigError(
            f"{repository.url} has {shown(strange[0])} in it, and is no repository of "
            "backups. Name an empty place, or one that does not exist yet."
        )


def _missing(url: str) -> ConfigError:
    return ConfigError(
        f"there is no repository of backups at {url}. Is its disk mounted, and the address "
        "right? pend-storage backup create makes a new one."
    )
