"""Chained flag: several flag sources, of which the first that is set decides."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal, Protocol

from typing_extensions import override

from pend_storage._extras import with_packages
from pend_storage.errors import ConfigError
from pend_storage.flags._fixed import EnvironmentFlag
from pend_storage.flags.file import FileFlag
from pend_storage.flags.source import DesiredPhase, FlagSource, PairValues
from pend_storage.phases import Phase

__all__ = [
    "ChainedFlag",
    "FlagSettings",
    "OpenFeaturePlace",
    "RedisPlace",
    "flag_source",
]


class RedisPlace(Protocol):
    """Address of a Redis server."""

    @property
    def url(self) -> str:
        """Its URL."""

    @property
    def key(self) -> str | None:
        """Key of the flag; None: ``pend:ENVIRONMENT:phase``."""

    @property
    def signing_key(self) -> str | None:
        """Keys that sign the flag, separated by commas; None: it is not signed."""

    @property
    def unsigned(self) -> Literal["follow", "wake-up"]:
        """Treatment of unsigned values, where there is no signing key."""


class OpenFeaturePlace(Protocol):
    """Flag of an OpenFeature provider."""

    @property
    def flag_key(self) -> str:
        """Key of the flag."""

    @property
    def domain(self) -> str:
        """Domain of the provider."""

    @property
    def timeout(self) -> float:
        """Seconds that an evaluation may take."""


class FlagSettings(Protocol):
    """Settings of an environment that name the sources of its phase flag."""

    @property
    def environment(self) -> str:
        """Its name."""

    @property
    def file(self) -> Path | None:
        """Its configuration file."""

    @property
    def redis(self) -> RedisPlace | None:
        """Its Redis, if it has one."""

    @property
    def openfeature(self) -> OpenFeaturePlace | None:
        """Its flag of an OpenFeature provider, if it has one; then Redis has none."""

    @property
    def absent(self) -> Mapping[str, str]:
        """Environment variables that should have a server's URL, and are not set."""

    @property
    def place(self) -> str:
        """Place of these settings, for messages: a table of a file, or the variables."""


class ChainedFlag(FlagSource):
    """Chain of flag sources: the first in which the flag is set decides.

    A source that cannot be reached, or that holds no phase, stops the search: a word
    behind it is older, and would move the stores to a phase that is not wanted any more.
    """

    def __init__(self, sources: Iterable[FlagSource]) -> None:
        """Args: sources: in the order of precedence; they are closed with this one."""
        self._sources = tuple(sources)

    @property
    @override
    def place(self) -> str:
        if not self._sources:
            return "no place at all"
        return ", or else ".join(source.place for source in self._sources)

    @property
    @override
    def writable(self) -> bool:
        for source in self._sources:
            if source.writable:
                return True
            # A write to a source behind one that is set would have no effect.
            if _is_set(source):
                return False
        return False

    @override
    def read(self) -> DesiredPhase | None:
        for source in self._sources:
            wanted = source.read()
            if wanted is not None:
                return wanted
        return None

    @override
    def write(self, phase: Phase, *, by: str) -> DesiredPhase:
        """Write the phase to the source that decides now.

        If none is set, to the first one that can be written.
        """
        winner = next(filter(_is_set, self._sources), None)
        if winner is None:
            winner = next((s for s in self._sources if s.writable), None)
        if winner is None:
            raise ConfigError(
                f"there is no place where the phase {phase.value!r} can be written. "
                "Configure a file that can be, or a Redis."
            )
        return winner.write(phase, by=by)

    @override
    def subscribe(self, on_change: Callable[[], None]) -> Callable[[], None]:
        stops = [source.subscribe(on_change) for source in self._sources]

        def unsubscribe() -> None:
            for stop in stops:
                stop()

        return unsubscribe

    @override
    def remembering(self, values: PairValues) -> FlagSource:
        return ChainedFlag(source.remembering(values) for source in self._sources)

    @override
    def close(self) -> None:
        for source in self._sources:
            source.close()


def _is_set(source: FlagSource) -> bool:
    """Return whether a source is set. A wrong word counts: it must be corrected there."""
    try:
        return source.read() is not None
    except ConfigError:
        return True


def flag_source(
    settings: FlagSettings, *, environ: Mapping[str, str] = os.environ
) -> FlagSource:
    """Make the chain of an environment's sources: the variable, a service, then the file.

    The service is an OpenFeature provider where one is configured, or else Redis.

    Args:
        settings: from :func:`~pend_storage.config.load_settings`.
        environ: the environment variables.

    Raises:
        ConfigError: the configuration of Redis is unusable, or a package is not installed.
            No connection is opened.
    """
    # In the order of precedence: an operator who sets the variable for one process must
    # win over what is shared.
    sources: list[FlagSource] = [EnvironmentFlag(environ=environ)]
    if settings.openfeature is not None:
        sources.append(_openfeature_flag(settings.openfeature))
    else:
        sources += _redis_flags(settings)
    if settings.file is not None:
        sources.append(FileFlag(settings.file, settings.environment))
    return ChainedFlag(sources)


def _openfeature_flag(wanted: OpenFeaturePlace) -> FlagSource:
    with with_packages(user="a phase flag of an OpenFeature provider"):
        from pend_storage.flags.openfeature import (  # noqa: PLC0415 - an optional package
            OpenFeatureFlag,
        )
    return OpenFeatureFlag(wanted.flag_key, wanted.domain, timeout=wanted.timeout)


def _redis_flags(settings: FlagSettings) -> list[FlagSource]:
    """Return the flag in Redis, if there is one; refuse a variable that is missing."""
    if "flag" in settings.absent:
        raise ConfigError(
            f"{settings.place}: redis.flag_key_env names the environment variable "
            f"{settings.absent['flag']}, which is not set. Set it: without the key, this "
            "process can neither verify the flag nor sign it."
        )
    if settings.redis is None and "redis" in settings.absent:
        raise ConfigError(
            f"{settings.place}: redis.url_env names the environment variable "
            f"{settings.absent['redis']}, which is not set. Set it: without Redis, this "
            "process would follow another flag than the others do."
        )
    if settings.redis is None:
        return []
    return [_redis_flag(settings.redis, settings.environment)]


def _redis_flag(wanted: RedisPlace, environment: str) -> FlagSource:
    with with_packages(user="a phase flag in Redis"):
        from pend_storage.flags.redis import (  # noqa: PLC0415 - an optional package
            RedisFlag,
            default_key,
        )
    return RedisFlag(
        wanted.url,
        wanted.key or default_key(environment),
        signing_key=wanted.signing_key or "",
        unsigned=wanted.unsigned,
    )
