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
from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.flags.memory import VersionedFlag
from pend_storage.flags.source import DesiredPhase
from pend_storage.phases import Phase, parse_phase

__all__ = ["RedisFlag", "default_key"]

_TIMEOUT: Final = 1.0
"""Seconds to connect, and to wait for an answer."""
_RETRIES: Final = 1
_LISTEN: Final = 0.25
"""Seconds after which a listener looks whether it is still wanted."""
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
_HIGHEST: Final = 2**53 - 1
"""Of the versions: Lua counts in floating-point numbers, which are exact up to here."""
_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}\+00:00"
)
"""The form in which the time of a write is written."""

# One script, so that two writers never give one version twice. What is there already may
# be a bare word, or anything else that was set by hand. The version is above the present
# one and above the floor, which is what a pair of stores has followed. It is written by
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
    """The key of an environment's flag, unless another one is configured."""
    return f"pend:{environment}:phase"


class _Value(msgspec.Struct, frozen=True):
    """What we write; members that a later version adds are skipped."""

    phase: str
    version: Annotated[int, msgspec.Meta(ge=0, le=_HIGHEST)] = 0
    at: str = ""
    """When, in one fixed form, so that texts compare as times do."""


class RedisFlag(VersionedFlag):
    """A key that holds ``{"phase", "version", "by", "at"}``, or a word set by hand.

    A key that was there and is gone, or whose version went back, is an error and not a
    wish: that is what a Redis looks like that was restarted without its data, restored
    from a backup, or failed over. Once the flag is written again, it counts.

    This object knows what it has read itself. Who follows the flag with a pair of stores
    compares it with the versions that the pair has followed, over restarts of all
    processes, by :meth:`remembering`. They are remembered by the key, whatever the
    address of the server: a server that replaces another one is to go on from there.
    """

    def __init__(self, url: str, key: str, *, timeout: float = _TIMEOUT) -> None:
        """Know a server; nothing is connected yet.

        Args:
            url: as redis-py takes it: ``redis://``, ``rediss://`` or ``unix://``. What
                its query says wins over the settings here.
            key: of the flag.
            timeout: seconds to connect, and to wait for an answer.

        Raises:
            ConfigError: the URL makes no sense.
        """
        self.key = key
        self.channel: str = f"{key}:changed"
        self._url = url
        self._timeout = timeout
        self._seen: _Value | None = None
        self._place = f"the Redis key {key!r} at {_shown(self._connected())}"
        self._own: tuple[int, redis.Redis] | None = None

    def _connected(self) -> redis.Redis:
        try:
            client = redis.Redis.from_url(
                self._url,
                socket_timeout=self._timeout,
                socket_connect_timeout=self._timeout,
                retry=Retry(ConstantBackoff(_FIRST_PAUSE), _RETRIES),
            )
            client.connection_pool.make_connection()  # connects to nothing yet
        except (ValueError, TypeError):
            # What redis-py says may quote a password.
            raise ConfigError(
                f"the URL of the Redis with the key {self.key!r} cannot be used. Write "
                "redis://USER@HOST:PORT/NUMBER, with special characters of user and "
                "password percent-encoded, and only options that redis-py knows."
            ) from None
        return client

    def _client(self) -> redis.Redis:
        """A client of this process: a forked child must not use its parent's."""
        own = self._own
        if own is None or own[0] != os.getpid():
            own = self._own = os.getpid(), self._connected()
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
        seen = self._seen  # before the key: another thread may write in between
        with self._explained():
            raw: Any = self._client().get(self.key)
        if raw is None:
            self._require_never(seen)
            return None
        value = self._decoded(raw)
        phase = parse_phase(value.phase, place=self.place)
        self._require_newer(value, seen)
        self._seen = value
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

    def _require_never(self, seen: _Value | None) -> None:
        if seen is not None:
            raise ConfigError(
                f"{self.place} is gone; it was {seen.phase!r}, version {seen.version}. "
                "If Redis has lost its data, set the phase again: pend-storage phase set "
                "PHASE. If another place shall decide from now on, remove Redis from the "
                "configuration and restart the servers."
            )

    def _require_newer(self, value: _Value, seen: _Value | None) -> None:
        if seen and value.version < seen.version and "" < value.at < seen.at:
            raise ConfigError(
                f"{self.place} went back from version {seen.version} ({seen.phase}) to "
                f"{value.version} ({value.phase}): Redis was restored, or has failed "
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
        with self._explained():  # by the server's clock, so that all have the same one
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
        self._seen = _Value(phase.value, int(answer), at)
        return self._wanted(phase, self._seen)

    @contextlib.contextmanager
    def _explained(self, *, is_write: bool = False) -> Iterator[None]:
        """Errors of redis-py as those of the library."""
        try:
            yield
        except redis.ResponseError as error:
            if str(error).startswith("WRONGTYPE"):
                raise ConfigError(
                    f"{self.place} is not a text. Remove it, and set the flag again."
                ) from error
            raise StoreUnavailable(str(error), store=self.place) from error
        except (redis.RedisError, OSError) as error:
            raise StoreUnavailable(
                str(error), store=self.place, outcome_known=not is_write
            ) from error

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
        """One for each broadcast, and one whenever some may have been missed.

        The server's confirmation of the subscription is such an occasion, and so is the
        end of the connection.
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
        own, self._own = self._own, None
        if own is not None and own[0] == os.getpid():
            # Not those at which another thread is reading, or listening, right now.
            with contextlib.suppress(redis.RedisError, OSError):
                own[1].connection_pool.disconnect(inuse_connections=False)


def _shown(client: redis.Redis) -> str:
    """Where the server is, without user and password."""
    about: dict[str, Any] = client.connection_pool.connection_kwargs
    number = about.get("db") or 0
    if "path" in about:
        return f"{about['path']}, database {number}"
    host, port = about.get("host", "localhost"), about.get("port", 6379)
    return f"{host}:{port}, database {number}"
