"""Phase flag in a Redis key, with a broadcast to all processes that subscribe."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from typing_extensions import override

from pend_storage._retry import Backoff
from pend_storage._secrets import hidden, may_hold_secret
from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.flags.memory import VersionedFlag
from pend_storage.flags.source import DesiredPhase
from pend_storage.phases import Phase, parse_phase

__all__ = ["RedisFlag", "default_key"]

_TIMEOUT: Final = 1.0
"""Seconds to connect, and to wait for an answer."""
_RETRIES: Final = 1
_LISTEN: Final = 0.25
"""Seconds between two checks of a listener whether its subscription has ended."""
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
_HIGHEST: Final = 2**53 - 1
"""Highest version: Lua counts in floating-point numbers, which are exact up to here."""
_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}\+00:00"
)
"""Format of the time of a write."""

# One script, so that two writers never assign one version twice. The present value may be
# a bare word, or any other text that was set by hand. The new version is above the present
# one and above the floor, the highest that a pair of stores has followed. It is written by
# format(), because cjson makes an exponent of a long number.
_WRITE: Final = """
local old = redis.pcall('GET', KEYS[1])
local version = tonumber(ARGV[5])
if type(old) == 'string' then
  local is_json, value = pcall(cjson.decode, old)
  if is_json and type(value) == 'table' and type(value.version) == 'number'
    and value.version > version and value.version < tonumber(ARGV[6]) then
    version = math.floor(value.version)
  end
end
version = string.format('%.0f', version + 1)
redis.call('SET', KEYS[1], '{"phase":' .. cjson.encode(ARGV[1])
  .. ',"version":' .. version
  .. ',"by":' .. cjson.encode(ARGV[2])
  .. ',"at":' .. cjson.encode(ARGV[3]) .. '}')
redis.call('PUBLISH', ARGV[4], version)
return version
"""


def default_key(environment: str) -> str:
    """Return the key of an environment's flag, unless another one is configured."""
    return f"pend:{environment}:phase"


class _Value(msgspec.Struct, frozen=True):
    """Value of the key. Members that a later version of the library adds are skipped."""

    phase: str
    version: Annotated[int, msgspec.Meta(ge=0, le=_HIGHEST)] = 0
    at: str = ""
    """Time of the write, in one fixed format, so that texts compare as times do."""


class RedisFlag(VersionedFlag):
    """Phase flag in a Redis key: ``{"phase", "version", "by", "at"}``, or a bare word.

    A key that was there and is gone, or whose version went back, is an error and moves
    nothing: that is the state of a Redis that was restarted without its data, restored
    from a backup, or failed over. Once the flag is written again, it counts.

    This object compares with its own last reading. With :meth:`remembering`, the flag is
    compared with the versions that a pair of stores has followed, over restarts of all
    processes. They are remembered by the key, not by the address of the server: a server
    that replaces another one must go on from there.
    """

    def __init__(self, url: str, key: str, *, timeout: float = _TIMEOUT) -> None:
        """Configure the client; nothing is connected yet.

        Args:
            url: as redis-py takes it: ``redis://``, ``rediss://`` or ``unix://``. Options
                in its query win over the settings here.
            key: of the flag.
            timeout: seconds to connect, and to wait for an answer.

        Raises:
            ConfigError: the URL is malformed.
        """
        self.key = key
        self.channel: str = f"{key}:changed"
        self._url = url
        self._timeout = timeout
        self._last_read: _Value | None = None
        self._place = f"the Redis key {key!r} at {_address(self._new_client())}"
        self._client_of_process: tuple[int, redis.Redis] | None = None

    def _new_client(self) -> redis.Redis:
        try:
            client = redis.Redis.from_url(
                self._url,
                socket_timeout=self._timeout,
                socket_connect_timeout=self._timeout,
                retry=Retry(ConstantBackoff(_FIRST_PAUSE), _RETRIES),
            )
            client.connection_pool.make_connection()  # connects to nothing yet
            _require_place(client)
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
        return f"redis {self.key}"

    @override
    def read(self) -> DesiredPhase | None:
        # Taken before the key is read: another thread may write in between, and what it
        # wrote is newer than the answer.
        before = self._last_read
        with self._explained():
            raw: Any = self._client().get(self.key)
        if raw is None:
            self._require_never_read(before)
            return None
        value = self._decoded(raw)
        phase = parse_phase(value.phase, place=self.place)
        self._require_newer(value, before)
        self._last_read = value
        return self._wanted(phase, value)

    def _wanted(self, phase: Phase, value: _Value) -> DesiredPhase:
        at = value.at if _TIME.fullmatch(value.at) else ""
        return DesiredPhase(phase, self.place, value.version, at)

    def _decoded(self, raw: bytes | str) -> _Value:
        try:
            text = raw if isinstance(raw, str) else raw.decode()
            word = text.strip()
            if not word.startswith("{"):
                return _Value(word)
            return msgspec.json.decode(word, type=_Value)
        except (UnicodeDecodeError, msgspec.DecodeError) as error:
            raise ConfigError(f"{self.place} holds no phase: {error}.") from None

    def _require_never_read(self, before: _Value | None) -> None:
        if before is not None:
            raise ConfigError(
                f"{self.place} is gone; it was {before.phase!r}, version {before.version}. "
                "If Redis has lost its data, set the phase again: pend-storage phase set "
                "PHASE. If another place shall decide from now on, remove Redis from the "
                "configuration and restart the servers."
            )

    def _require_newer(self, value: _Value, before: _Value | None) -> None:
        # A lower version alone is no proof: after a flush, Redis counts from 1 again, and
        # a word that is written then is newer by its time.
        if before and value.version < before.version and "" < value.at < before.at:
            raise ConfigError(
                f"{self.place} went back from version {before.version} ({before.phase}) "
                f"to {value.version} ({value.phase}): Redis was restored, or has failed "
                "over. Set the phase again: pend-storage phase set PHASE."
            )

    @override
    def write(self, phase: Phase, *, by: str, above: int = 0) -> DesiredPhase:
        if not 0 <= above < _HIGHEST:
            raise ConfigError(
                f"{self.place} cannot have a version above {above}. Configure another "
                "redis.key."
            )
        client = self._client()
        with self._explained():  # the server's clock, which all writers share
            now: Any = client.time()
        moment = datetime.fromtimestamp(now[0], UTC).replace(microsecond=now[1])
        at = moment.isoformat(timespec="microseconds")
        with self._explained(is_write=True):
            answer: Any = client.eval(
                _WRITE,
                1,
                self.key,
                phase.value,
                by.encode(errors="replace"),
                at,
                self.channel,
                above,
                _HIGHEST,
            )
        self._last_read = _Value(phase.value, int(answer), at)
        return self._wanted(phase, self._last_read)

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


def _require_place(client: redis.Redis) -> None:
    """Refuse a place with an ``@``: a part of a password that is not percent-encoded.

    Raises:
        ValueError: the host or the path has one.
    """
    about: dict[str, Any] = client.connection_pool.connection_kwargs
    if any("@" in str(about.get(name, "")) for name in ("host", "path")):
        raise ValueError


def _address(client: redis.Redis) -> str:
    """Return the address of the server, without user and password."""
    about: dict[str, Any] = client.connection_pool.connection_kwargs
    number = about.get("db") or 0
    if "path" in about:
        return f"{about['path']}, database {number}"
    host, port = about.get("host", "localhost"), about.get("port", 6379)
    return f"{host}:{port}, database {number}"
