"""Repository in a bucket of objects, of S3 or of a server that speaks its protocol.

An object of unknown length is uploaded in parts, and appears when all are there. What must
not replace another one is uploaded at once, with ``If-None-Match``; then it is read back. No
ACL is set: that of the bucket holds. Every request has an end, and so has its repetition.
"""

from __future__ import annotations

import os
import secrets
import threading
from builtins import list as list_of
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from ipaddress import ip_address
from time import sleep
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from typing_extensions import override

from pend_storage._extras import with_packages
from pend_storage._retry import Backoff
from pend_storage._shown import shown
from pend_storage.backup._leases import hold
from pend_storage.backup._object_errors import explained
from pend_storage.backup._repository import (
    SMALL,
    Lease,
    Repository,
    StoredObject,
    require_name,
)
from pend_storage.errors import ConfigError, StoreUnavailable

with with_packages(user="a backup repository in a bucket"):
    import obstore
    from obstore.exceptions import BaseError, PreconditionError
    from obstore.store import S3Store

__all__ = ["ObjectRepository", "open_bucket"]


T = TypeVar("T")

_PART: Final = 16 << 20
"""Bytes that are transferred at a time; of 10,000 parts at most, 160 GB."""
_UPLOADS: Final = 3
"""Parts under way at the same time: memory is bounded by them."""
_CLIENT: Final[dict[str, Any]] = {
    "connect_timeout": timedelta(seconds=5),
    "read_timeout": timedelta(seconds=30),
    "timeout": timedelta(seconds=120),
}
_RETRIES: Final[dict[str, Any]] = {
    "max_retries": 4,
    "retry_timeout": timedelta(seconds=60),
}
_NO_RETRIES: Final[dict[str, Any]] = {"max_retries": 0}
_ATTEMPTS: Final = 4
"""Times that a create-only upload is tried; each repetition knows of those before."""
_NO_RANGE: Final = "status code: 416"
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")

_process: int | None = None
"""Process that has used the client; its threads are in no forked child."""


def open_bucket(
    bucket: str, prefix: str, environment: Mapping[str, str] = os.environ
) -> ObjectRepository:
    """Prepare a repository in a bucket; no request is sent yet.

    Args:
        bucket: its name.
        prefix: of all names in it, without a slash at either end; may be empty.
        environment: with the endpoint of a server that is not Amazon's. Region and
            credentials are those of the environment of the process.

    Raises:
        ConfigError: a setting is wrong, or the endpoint is not encrypted.
    """
    if prefix:
        require_name(prefix)
    endpoint = next(filter(None, map(environment.get, _ENDPOINTS)), None)
    client, config = dict(_CLIENT), dict[str, Any]()
    if endpoint is not None:
        config["endpoint"] = endpoint
        client["allow_http"] = _is_plain_loopback(endpoint)

    def made(retries: dict[str, Any]) -> Any:
        kind: Any = S3Store  # its types are for type checkers only
        return kind(
            bucket,
            prefix=prefix or None,
            config=config,
            client_options=client,
            retry_config=retries,
        )

    url = f"s3://{bucket}/{prefix}".rstrip("/")
    with explained(url):
        return ObjectRepository(url, made(_RETRIES), made(_NO_RETRIES))


def _is_plain_loopback(endpoint: str) -> bool:
    """Return whether an endpoint is without encryption, as one of this machine may be."""
    parts = urlsplit(endpoint)
    if parts.scheme == "https" and parts.hostname:
        return False
    if parts.scheme == "http" and _is_loopback(parts.hostname or ""):
        return True
    raise ConfigError(
        f"the endpoint {shown(parts.hostname)} of the bucket has to be an address with "
        "https: backups and requests would be readable on the way. Correct "
        "AWS_ENDPOINT_URL; http is for this machine only."
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class ObjectRepository(Repository):
    """Repository in a bucket."""

    def __init__(self, url: str, store: Any, once: Any) -> None:
        """Use a bucket.

        Args:
            url: without anything secret.
            store: client of the bucket, which repeats requests.
            once: the same, without repetitions.
        """
        self.url = url
        self._store = store
        self._once = once

    # -- writing -----------------------------------------------------------------------

    @override
    def put(
        self, name: str, content: Iterable[bytes], *, create_only: bool = False
    ) -> int:
        require_name(name)
        _require_same_process()
        if create_only:
            data = _joined(name, content)
            self._create(name, data)
            return len(data)
        source = _Source(content)
        try:
            with explained(self.url, name, writes=True):
                obstore.put(
                    self._store,
                    name,
                    source,
                    chunk_size=_PART,
                    max_concurrency=_UPLOADS,
                )
        except BaseException:
            if source.error is not None:
                raise source.error from None  # of the content: as it is
            raise
        self._require_size(name, source.size)
        return source.size

    def _create(self, name: str, data: bytes) -> None:
        """Upload an object that must not exist, and read it back."""
        pauses = Backoff(0.2, 5.0, share=0.5)
        is_known = True
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with explained(self.url, name, writes=True):
                    _asked(lambda: obstore.put(self._once, name, data, mode="create"))
                break
            except FileExistsError:
                found = self._found(name)
                if found is not None and (is_known or found != data):
                    raise  # another writer's, or of an earlier call
                if found is not None:
                    return  # ours: the answer to an earlier attempt was lost
            except StoreUnavailable:
                is_known = False
                if attempt == _ATTEMPTS:
                    raise
            sleep(pauses.next())
        if self._found(name) != data:
            raise StoreUnavailable(
                f"{name} cannot be read back as it was written",
                store=self.url,
                outcome_known=False,
            )

    def _found(self, name: str) -> bytes | None:
        try:
            return self.read(name)
        except FileNotFoundError:
            return None

    def _require_size(self, name: str, size: int) -> None:
        with explained(self.url, name):
            found = _asked(lambda: obstore.head(self._store, name))["size"]
        if found != size:
            raise StoreUnavailable(
                f"{name} has {found:,} bytes after {size:,} were written",
                store=self.url,
                outcome_known=False,
            )

    @override
    def delete(self, name: str) -> None:
        require_name(name)
        _require_same_process()
        with suppress(FileNotFoundError), explained(self.url, name, writes=True):
            _asked(lambda: obstore.delete(self._store, name))

    # -- reading -----------------------------------------------------------------------

    @override
    def get(self, name: str) -> Iterator[bytes]:
        require_name(name)
        _require_same_process()
        return self._ranges(name)

    def _ranges(self, name: str) -> Iterator[bytes]:
        """Yield an object in ranges: each is a request that can be repeated."""
        start, size = 0, 1
        options: dict[str, Any] = {}
        while start < size:
            options["range"] = (start, start + _PART)
            with explained(self.url, name):
                try:
                    meta, piece = _asked(lambda: self._range(name, options))
                except PreconditionError as error:
                    raise _changed(self.url, name) from error
                except BaseError as error:
                    if start == 0 and _NO_RANGE in str(error):
                        return  # an empty object has none
                    raise
            size = meta["size"]
            if tag := meta["e_tag"]:
                options["if_match"] = tag
            start += len(piece)
            yield piece

    def _range(self, name: str, options: Any) -> tuple[Any, bytes]:
        found = obstore.get(self._store, name, options=options)
        return found.meta, found.bytes().to_bytes()

    @override
    def list(self, prefix: str) -> list_of[StoredObject]:
        names = "/".join(require_name(prefix.rstrip("/"))) if prefix else None
        _require_same_process()
        with explained(self.url):
            pages = _asked(lambda: [*obstore.list(self._store, names)])
        found = [
            StoredObject(each["path"], each["size"], each["last_modified"])
            for page in pages
            for each in page
        ]
        return sorted(found, key=lambda each: each.name)

    @override
    def free_bytes(self) -> int | None:
        return None

    @override
    def lease(
        self, name: str, *, seconds: float = 120.0, wait: float = 0.0
    ) -> AbstractContextManager[Lease]:
        return hold(self, name, seconds=seconds, wait=wait)

    @override
    def require_exclusive_creation(self) -> None:
        name = f"leases/probe-{secrets.token_hex(8)}/000000000001.json"
        self.put(name, [b"{}"], create_only=True)
        try:
            self.put(name, [b"[]"], create_only=True)
        except FileExistsError:
            return
        finally:
            self.delete(name)
        raise ConfigError(
            f"the server of {self.url} ignores If-None-Match, so that two processes could "
            "replace each other's backups. Use a server that honours it, such as Amazon "
            "S3, MinIO or Ceph of the last years."
        )


class _Source:
    """Content as the client takes it; it keeps the size, and the error of the content."""

    def __init__(self, content: Iterable[bytes]) -> None:
        self._pieces = iter(content)
        self.size = 0
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            piece = next(self._pieces)
        except StopIteration:
            raise
        except BaseException as error:
            self.error = error
            raise
        self.size += len(piece)
        return piece


def _asked(request: Callable[[], T]) -> T:
    """Return the answer to a request; the wait for it can be interrupted.

    The client waits in code that no signal reaches, until its last repetition.
    """
    if threading.current_thread() is not threading.main_thread():
        return request()
    answer: Future[T] = Future()

    def ask() -> None:
        try:
            answer.set_result(request())
        except BaseException as error:  # noqa: BLE001 - raised by the other thread
            answer.set_exception(error)

    threading.Thread(target=ask, name="pend-backup-request", daemon=True).start()
    return answer.result()


def _joined(name: str, content: Iterable[bytes]) -> bytes:
    pieces: list_of[bytes] = []
    size = 0
    for piece in content:
        size += len(piece)
        if size > SMALL:
            raise ConfigError(
                f"{name} has more than {SMALL:,} bytes: it cannot be created in a bucket "
                "without replacing another object. Give it a name that is unique."
            )
        pieces.append(piece)
    return b"".join(pieces)


def _changed(url: str, name: str) -> StoreUnavailable:
    return StoreUnavailable(f"{name} was replaced while it was read", store=url)


def _require_same_process() -> None:
    """Require the process that has used the client first.

    Raises:
        ConfigError: this is a forked child of it, and would wait for ever.
    """
    global _process  # noqa: PLW0603 - the threads of the client are the process's
    if _process is None:
        _process = os.getpid()
    if _process != os.getpid():
        raise ConfigError(
            "a process that was forked from one which uses a bucket cannot use it. Start "
            "a new process: subprocess, or the start method spawn of multiprocessing."
        )
