"""Phase flag in a Redis key, with a broadcast to all processes that subscribe."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, TypeAlias

import msgspec
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from typing_extensions import override

from pend_storage._retry import Backoff
from pend_storage._secrets import hidden, may_hold_secret
from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.flags._redis_value import (
    HIGHEST_VERSION,
    LONGEST_VALUE,
    FlagValue,
    RedisValues,
    time_text,
)
from pend_storage.flags._signature import FLAG_KEY_VARIABLE, FlagKeys
from pend_storage.flags.memory import VersionedFlag
from pend_storage.flags.source import DesiredPhase
from pend_storage.phases import Phase

__all__ = ["RedisFlag", "Unsigned", "default_key"]

Unsigned: TypeAlias = Literal["follow", "wake-up"]
"""What a pair does with values that are not signed, where there is no key."""

_TIMEOUT: Final = 1.0
"""Seconds to connect, and to wait for an answer."""
_RETRIES: Final = 1
_LISTEN: Final = 0.25
"""Seconds between two checks of a listener whether its subscription has ended."""
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
_ATTEMPTS: Final = 500
"""Times that a write is repeated while others write."""

# The value is made outside of Redis, because Redis must not have the key that signs it. So
# the script compares the present value with the one that was read, and two writers never
# assign one version twice. A key of another type is written over, like any wrong value.
_WRITE: Final = """
local old = redis.pcall('GET', KEYS[1])
if type(old) ~= 'string' then old = '' end
if ARGV[5] == '1' and string.sub(old, 1, tonumber(ARGV[4])) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('PUBLISH', ARGV[3], '1')
return 1
"""


def default_key(environment: str) -> str:
    """Return the key of an environment's flag, unless another one is configured."""
    return f"pend:{environment}:phase"


class RedisFlag(VersionedFlag):
    """Phase flag in a Redis key: ``{"phase", "version", "by", "at", "mac"}``.

    With a signing key, only values with the signature of one are taken: a writer
    without the key can at most stop the flag. Without one, every value is taken, also a
    bare word, and :class:`~pend_storage.flags.AutoSwitch` bounds what they can do.

    A key that was there and is gone, or whose version went back, is an error and moves
    nothing: that is the state of a Redis that was restarted without its data, restored
    from a backup, or failed over. Once the flag is written again, it counts.

    This object compares with its own last reading. With :meth:`remembering`, the flag is
    compared with the versions that a pair of stores has followed, over restarts of all
    processes. They are remembered by the key, not by the address of the server: a server
    that replaces another one must go on from there.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        timeout: float = _TIMEOUT,
        signing_key: str | None = None,
        unsigned: Unsigned = "follow",
    ) -> None:
        """Configure the client; nothing is connected yet.

        Args:
            url: as redis-py takes it: ``redis://``, ``rediss://`` or ``unix://``. Options
                in its query win over the settings here.
            key: of the flag.
            timeout: seconds to connect, and to wait for an answer.
            signing_key: signs and verifies values: 32 bytes at least; or several, separated
                by commas, of which the first signs. None: that of the environment variable
                ``PEND_FLAG_KEY``; an empty one, or no such variable: values are not signed.
            unsigned: what a pair does with values where there is no signing key.
                ``follow``: it follows them. ``wake-up``: it follows those that were written
                by a command, or through :meth:`remembering`, which records them in the pair;
                any other value is an error.

        Raises:
            ConfigError: the URL is malformed, or the signing key is too short.
        """
        self.key = key
        self.channel: str = f"{key}:changed"
        self._url = url
        self._timeout = timeout
        self._last_read: FlagValue | None = None
        self._place = f"the Redis key {key!r} at {_address(self._new_client())}"
        keys = _signing_keys(signing_key)
        self.is_signed: bool = keys is not None
        self.is_wake_up: bool = keys is None and unsigned == "wake-up"
        self._values = RedisValues(self._place, key, keys)
        self._client_of_process: tuple[int, redis.Redis] | None = None

    def _new_client(self) -> redis.Redis:
        try:
            client = redis.Redis.from_url(
                self._url,
                socket_timeout=self._timeout,
                socket_connect_timeout=self._timeout,
                retry=Retry(ConstantBackoff(_FIRST_PAUSE), _RETRIES),
            )
            # Values are bytes until their length was checked, whatever the URL asks for.
            client.connection_pool.connection_kwargs.pop("decode_responses", None)
            client.connection_pool.make_connection()  # connects to nothing yet
            _require_place(client, self._url)
        except (ValueError, TypeError):
            # The message of redis-py may quote a password.
            raise ConfigError(
                f"the URL of the Redis with the key {self.key!r} cannot be used. Write "
                "redis://USER@HOST:PORT/NUMBER, with special characters of user and "
                "password percent-encoded, and only options that redis-py knows."
            ) from None
        return client

    def _client(self) -> redis.Redis:
        """Return the client of this process.

        A forked child must not use the sockets of its parent: both would read from one
        stream of answers.
        """
        own = self._client_of_process
        if own is None or own[0] != os.getpid():
            own = self._client_of_process = os.getpid(), self._new_client()
        return own[1]

    @property
    @override
    def place(self) -> str:
        return self._place

    @property
    @override
    def writable(self) -> bool:
        return True

    @property
    @override
    def remembered_as(self) -> str:
        # Signed values begin a memory of their own. A stranger may have driven up the version
        # and the time of the other one before there was a key.
        return f"redis {self.key}" + (", signed" if self.is_signed else "")

    @override
    def read(self) -> DesiredPhase | None:
        # Taken before the key is read: another thread may write in between, and what it
        # wrote is newer than the answer.
        before = self._last_read
        raw = self._read_bounded()
        if raw is None:
            self._require_never_read(before)
            return None
        value = self._values.parse(raw)
        self._require_newer(value, before)
        self._last_read = value
        return self._values.desired(value)

    def _read_bounded(self) -> bytes | None:
        """Read the value, and one byte more than it may have at most."""
        client: Any = self._client()
        with self._explained():
            try:
                raw: bytes = client.getrange(self.key, 0, LONGEST_VALUE)
            except redis.exceptions.NoPermissionError:
                # A user that an earlier version of the documentation has described.
                raw = b""
            # An empty answer is an empty value, or none at all.
            return raw or client.get(self.key)

    def _require_never_read(self, before: FlagValue | None) -> None:
        if before is not None:
            raise ConfigError(
                f"{self.place} is gone; it was {before.phase!r}, version {before.version}. "
                "If Redis has lost its data, set the phase again: pend-storage phase set "
                "PHASE. If another place shall decide from now on, remove Redis from the "
                "configuration and restart the servers."
            )

    def _require_newer(self, value: FlagValue, before: FlagValue | None) -> None:
        # A lower version alone is no proof: after a flush, Redis counts from 1 again, and
        # a word that is written then is newer by its time.
        if before and value.version < before.version and "" < value.time < before.time:
            raise ConfigError(
                f"{self.place} went back from version {before.version} ({before.phase}) "
                f"to {value.version} ({value.phase}): Redis was restored, or has failed "
                "over. Set the phase again: pend-storage phase set PHASE."
            )

    @override
    def write(self, phase: Phase, *, by: str, above: int = 0) -> DesiredPhase:
        if not 0 <= above < HIGHEST_VERSION:
            raise ConfigError(
                f"{self.place} cannot have a version above {above}. Configure another "
                "redis.key."
            )
        written = None
        for remaining in reversed(range(_ATTEMPTS)):
            written = self._try_write(phase, by, above, is_last=not remaining)
            if written is not None:
                break
        assert written is not None  # noqa: S101 - the last attempt compares nothing
        self._last_read = written
        return self._values.desired(written)

    def _try_write(
        self, phase: Phase, by: str, above: int, *, is_last: bool
    ) -> FlagValue | None:
        """Write unless the value has changed since it was read; None where it has.

        The last attempt compares nothing: someone who writes all the time must not be able
        to keep an operator from writing.
        """
        client: Any = self._client()
        with self._explained():  # the server's clock, which all writers share
            now: Any = client.time()
        try:
            old = self._read_bounded() or b""
        except ConfigError:
            old = b""  # of another type
        version = max(above, self._values.present_version(old, above)) + 1
        value = self._values.make(phase, version, by=by, at=time_text(*now))
        self._values.require_past(value)
        text = msgspec.json.encode(value)
        with self._explained(is_write=True):
            size = LONGEST_VALUE + 1
            answer: Any = client.eval(
                _WRITE,
                1,
                self.key,
                old[:size],
                text,
                self.channel,
                size,
                int(not is_last),
            )
        return value if answer else None

    @contextlib.contextmanager
    def _explained(self, *, is_write: bool = False) -> Iterator[None]:
        """Translate the errors of redis-py."""
        try:
            yield
        except redis.ResponseError as error:
            if str(error).startswith("WRONGTYPE"):
                raise ConfigError(
                    f"{self.place} is not a text. Remove it, and set the flag again."
                ) from error
            raise self._unavailable(error) from error
        except (redis.RedisError, OSError) as error:
            raise self._unavailable(error, outcome_known=not is_write) from error

    def _unavailable(
        self, error: Exception, *, outcome_known: bool = True
    ) -> StoreUnavailable:
        """Translate an error of redis-py, without the secrets of the URL."""
        settings = self._client().connection_pool.connection_kwargs
        secrets = [str(v) for k, v in settings.items() if v and may_hold_secret(k)]
        reason = hidden(str(error), secrets)
        return StoreUnavailable(reason, store=self.place, outcome_known=outcome_known)

    @override
    def subscribe(self, on_change: Callable[[], None]) -> Callable[[], None]:
        stop = threading.Event()
        thread = threading.Thread(
            target=self._listen,
            args=(on_change, stop),
            name="pend-flag-redis",
            daemon=True,
        )
        thread.start()

        def unsubscribe() -> None:
            stop.set()
            if thread is not threading.current_thread():
                thread.join(self._timeout * 4)

        return unsubscribe

    def _listen(self, on_change: Callable[[], None], stop: threading.Event) -> None:
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        while not stop.is_set():
            with contextlib.suppress(redis.RedisError, OSError):
                for _ in self._messages(stop):
                    on_change()
                    backoff.reset()
            stop.wait(backoff.next())

    def _messages(self, stop: threading.Event) -> Iterator[None]:
        """Yield once for each broadcast, and whenever one may have been missed.

        Broadcasts may have been missed before the server confirms the subscription, and
        when the connection ends.
        """
        is_subscribed = False
        try:
            client: Any = self._client()
            with client.pubsub() as pubsub:
                pubsub.subscribe(self.channel)
                while not stop.is_set():
                    if pubsub.get_message(timeout=_LISTEN) is not None:
                        is_subscribed = True
                        yield
        except (redis.RedisError, OSError):
            if is_subscribed:
                yield
            raise

    @override
    def close(self) -> None:
        own, self._client_of_process = self._client_of_process, None
        if own is not None and own[0] == os.getpid():
            # Not the connections that another thread is reading from right now.
            with contextlib.suppress(redis.RedisError, OSError):
                own[1].connection_pool.disconnect(inuse_connections=False)


def _signing_keys(given: str | None) -> FlagKeys | None:
    place = "signing_key"
    if given is None:
        given = os.environ.get(FLAG_KEY_VARIABLE, "")
        place = f"the environment variable {FLAG_KEY_VARIABLE}"
    return FlagKeys.parse(given, place=place) if given else None


def _require_place(client: redis.Redis, url: str) -> None:
    """Refuse a place with an ``@``: a part of a password that is not percent-encoded.

    Raises:
        ValueError: the host, the path or what follows it has one.
    """
    about: dict[str, Any] = client.connection_pool.connection_kwargs
    _, _, beyond = url.partition(
        "?"
    )  # of unix://app:/secret?@/socket, the password's end
    if any("@" in str(text) for text in (about.get("host"), about.get("path"), beyond)):
        raise ValueError


def _address(client: redis.Redis) -> str:
    """Return the address of the server, without user and password."""
    about: dict[str, Any] = client.connection_pool.connection_kwargs
    number = about.get("db") or 0
    if "path" in about:
        return f"{about['path']}, database {number}"
    host, port = about.get("host", "localhost"), about.get("port", 6379)
    return f"{host}:{port}, database {number}"
